//! TLS towards upstream: a cluster originates it.

use super::params::{provider, versions};
use super::verify::ServerVerifier;
use super::{HandshakeError, alpn, certified_key};
use crate::addr::Upstream;
use crate::model::{Invalid, UpstreamTls};
use crate::transport::stream::{Plain, Stream, TlsStream};
use rustls::client::{Resumption, WantsClientCert};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ConfigBuilder, HandshakeKind};
use std::sync::{Arc, OnceLock};
use tokio_rustls::TlsConnector;

/// Sessions that a cluster remembers, by server name.
const SESSIONS: usize = 64;

/// A compiled `UpstreamTlsContext`.
#[derive(Debug)]
pub struct ClientTls {
    /// Offers what is configured, for a stream of bytes.
    bytes: Arc<ClientConfig>,
    /// Offers what is configured, else HTTP/1.1.
    http1: Arc<ClientConfig>,
    /// Offers what is configured, else HTTP/2.
    http2: Arc<ClientConfig>,
    /// Offers what is configured, else both. Made when it is first needed.
    either: OnceLock<Arc<ClientConfig>>,
    /// Offers HTTP/1.1 alone. Made when it is first needed.
    only_http1: OnceLock<Arc<ClientConfig>>,
    sni: Option<ServerName<'static>>,
}

/// What a connection is for; it decides what is offered where the configuration leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A stream of bytes.
    Bytes,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Either version, as the upstream likes.
    EitherHttp,
    /// HTTP/1.1, whatever the configuration offers.
    OnlyHttp1,
}

impl ClientTls {
    /// Compile a context.
    ///
    /// # Errors
    /// Where certificates, keys or parameters cannot be used, or do not fit together.
    pub fn compile(config: &UpstreamTls) -> Result<Self, Invalid> {
        let provider = provider(&config.params);
        let verifier = ServerVerifier::new(config.validation.as_ref(), Arc::clone(&provider))?;
        let builder: ConfigBuilder<ClientConfig, WantsClientCert> =
            ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&versions(&config.params)?)
                .map_err(|error| Invalid::new(format!("tls_params: {error}")))?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier));
        let mut bytes = match &config.identity {
            Some(identity) => {
                let key = SingleCertAndKey::from(certified_key(identity)?);
                builder.with_client_cert_resolver(Arc::new(key))
            }
            None => builder.with_no_client_auth(),
        };
        bytes.alpn_protocols = alpn(&config.alpn, &[]);
        bytes.resumption = if config.resumption {
            Resumption::in_memory_sessions(SESSIONS)
        } else {
            Resumption::disabled()
        };
        let or_else = |protocol: &[u8]| {
            let mut config = bytes.clone();
            if config.alpn_protocols.is_empty() {
                config.alpn_protocols = vec![protocol.to_vec()];
            }
            Arc::new(config)
        };
        let (http1, http2) = (or_else(b"http/1.1"), or_else(b"h2"));
        Ok(Self {
            bytes: Arc::new(bytes),
            http1,
            http2,
            either: OnceLock::new(),
            only_http1: OnceLock::new(),
            sni: config.sni.clone(),
        })
    }

    fn offering(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.bytes);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// Shake hands with an upstream. Returns the stream, and whether an earlier session was
    /// resumed.
    ///
    /// # Errors
    /// Where it is not TLS, or the upstream is not believed or refuses us.
    pub async fn connect(
        &self,
        plain: Plain,
        upstream: Upstream,
        purpose: Purpose,
    ) -> Result<(Stream, bool), HandshakeError> {
        let config = match purpose {
            Purpose::Bytes => &self.bytes,
            Purpose::Http1 => &self.http1,
            Purpose::Http2 => &self.http2,
            Purpose::EitherHttp => {
                self.either
                    .get_or_init(|| match self.bytes.alpn_protocols[..] {
                        [] => self.offering(&[b"h2", b"http/1.1"]),
                        _ => Arc::clone(&self.bytes),
                    })
            }
            Purpose::OnlyHttp1 => self
                .only_http1
                .get_or_init(|| self.offering(&[b"http/1.1"])),
        };
        // An address is never sent as a server name (RFC 6066 §3).
        let address = || ServerName::from(upstream.0.ip());
        let name = self.sni.clone().unwrap_or_else(address);
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(name, plain)
            .await
            .map_err(|error| HandshakeError::of(&error))?;
        let kind = stream.get_ref().1.handshake_kind();
        let stream = Stream::Tls(Box::new(TlsStream::Client(stream)));
        Ok((stream, kind == Some(HandshakeKind::Resumed)))
    }
}
