//! TLS towards downstream: a filter chain terminates it.

use super::params::{provider, versions};
use super::peer::{subject_alt_names, uris};
use super::verify::{ClientVerifier, dns_matches};
use super::{HandshakeError, TlsInfo, alpn, certified_key};
use crate::model::{DownstreamTls, Invalid, SanKind};
use crate::transport::stream::{Plain, Stream, TlsStream};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig, SignatureAlgorithm};
use std::sync::Arc;
use tokio_rustls::LazyConfigAcceptor;

/// A compiled `DownstreamTlsContext`.
#[derive(Debug)]
pub struct ServerTls {
    /// Selects one of the application protocols that the client offers.
    with_alpn: Arc<ServerConfig>,
    /// For clients that offer none of ours: as Envoy we go on without one, where rustls would end
    /// the handshake.
    without_alpn: Arc<ServerConfig>,
    require_sni: bool,
    local_uris: Box<[Box<str>]>,
    /// The certificates of clients are remembered.
    keeps_chains: bool,
}

/// A downstream connection that is secured.
#[derive(Debug)]
pub struct Secured {
    /// Its bytes in both directions.
    pub stream: Stream,
    /// What is known of it.
    pub info: TlsInfo,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl ServerTls {
    /// Compile a context. `not_served` are application protocols that are offered to nobody,
    /// because what serves the connection does not speak them.
    ///
    /// # Errors
    /// Where certificates, keys or parameters cannot be used, or do not fit together.
    pub fn compile(config: &DownstreamTls, not_served: &[&str]) -> Result<Self, Invalid> {
        let provider = provider(&config.params);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(&config.params)?)
            .map_err(|error| Invalid::new(format!("tls_params: {error}")))?;
        let builder = match &config.validation {
            Some(validation) => {
                let required = config.require_client_certificate;
                let verifier = ClientVerifier::new(validation, required, provider)?;
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
            None => builder.with_no_client_auth(),
        };
        let certificates = Certificates::new(config)?;
        let leaves = config.identities.iter().filter_map(|i| i.chain.first());
        let local_uris = leaves.flat_map(uris).collect();
        let mut without_alpn = builder.with_cert_resolver(Arc::new(certificates));
        without_alpn.ignore_client_order = !config.prefer_client_ciphers;
        if config.session_tickets {
            without_alpn.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()
                .map_err(|error| Invalid::new(format!("making session tickets: {error}")))?;
        } else {
            without_alpn.send_tls13_tickets = 0;
        }
        if !config.session_memory || !config.session_tickets {
            without_alpn.session_storage = Arc::new(NoServerSessionStorage {});
        }
        let mut with_alpn = without_alpn.clone();
        with_alpn.alpn_protocols = alpn(&config.alpn, not_served);
        Ok(Self {
            with_alpn: Arc::new(with_alpn),
            without_alpn: Arc::new(without_alpn),
            require_sni: config.require_sni,
            local_uris,
            keeps_chains: false,
        })
    }

    /// Remember the certificates of clients, or only what is known of them.
    pub fn keeping_chains(self, keeps_chains: bool) -> Self {
        Self {
            keeps_chains,
            ..self
        }
    }

    /// Shake hands with a client.
    ///
    /// # Errors
    /// Where it is not TLS, or the client is refused; it was told why.
    pub async fn accept(&self, plain: Plain) -> Result<Secured, HandshakeError> {
        let failed = |error| HandshakeError::of(&error);
        let start = LazyConfigAcceptor::new(Acceptor::default(), plain)
            .await
            .map_err(failed)?;
        let config = {
            let hello = start.client_hello();
            if self.require_sni && hello.server_name().is_none() {
                let why = "the client names no server, and require_sni is set";
                return Err(HandshakeError::Protocol(why.to_owned()));
            }
            let ours = &self.with_alpn.alpn_protocols;
            let mut offered = hello.alpn().into_iter().flatten();
            if offered.any(|offered| ours.iter().any(|own| own == offered)) {
                &self.with_alpn
            } else {
                &self.without_alpn
            }
        };
        let stream = start
            .into_stream(Arc::clone(config))
            .await
            .map_err(failed)?;
        let (_, connection) = stream.get_ref();
        let mut info = TlsInfo::of(connection, connection.server_name());
        info.local_uris = self.local_uris.clone();
        if let Some(peer) = info.peer.as_mut().filter(|_| self.keeps_chains) {
            let chain = connection.peer_certificates().unwrap_or_default();
            peer.chain = chain.iter().map(|one| Box::from(&**one)).collect();
        }
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok(Secured {
            info,
            resumed,
            stream: Stream::Tls(Box::new(TlsStream::Server(stream))),
        })
    }
}

/// Chooses the certificate that is shown: the first that names the server that the client asks
/// for and that the client can verify, else the first that it can verify.
#[derive(Debug)]
struct Certificates {
    all: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl Certificates {
    fn new(config: &DownstreamTls) -> Result<Self, Invalid> {
        let mut all = Vec::with_capacity(config.identities.len());
        for identity in &config.identities {
            let key = certified_key(identity)?;
            let names = identity.chain.first().map(|leaf| subject_alt_names(leaf));
            let dns = names.into_iter().flatten();
            let dns = dns
                .filter(|name| name.kind == SanKind::Dns)
                .map(|name| name.value);
            all.push((dns.collect(), key));
        }
        // Of two that fit equally well, the cheaper: that with a key on a curve.
        all.sort_by_key(|(_, key)| key.key.algorithm() == SignatureAlgorithm::RSA);
        Ok(Self { all })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let usable = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        let named = |names: &[String]| {
            let wanted = hello.server_name();
            wanted.is_some_and(|wanted| names.iter().any(|name| dns_matches(wanted, name)))
        };
        let all = || self.all.iter().filter(|(_, key)| usable(key));
        all()
            .find(|(names, _)| named(names))
            .or_else(|| all().next())
            .map(|(_, key)| Arc::clone(key))
    }
}
