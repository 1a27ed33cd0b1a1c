//! Certificates made for a test, and peers that speak TLS.

use super::connect;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use shunt_proxy::model::{
    DownstreamTls, Identity, SanKind, SanMatcher, SecretRefs, StringMatch, TlsParams, UpstreamTls,
    Validation,
};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

pub type Client = StreamOwned<ClientConnection, TcpStream>;
pub type Server = StreamOwned<ServerConnection, TcpStream>;

/// Who vouches for the certificates of a test.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// What a certificate is to be.
pub struct Leaf {
    pub uris: Vec<&'static str>,
    pub dns: Vec<&'static str>,
    pub expired: bool,
}

pub const CLIENT: Leaf = Leaf {
    uris: vec![],
    dns: vec![],
    expired: false,
};

pub fn spiffe(uri: &'static str) -> Leaf {
    Leaf {
        uris: vec![uri],
        ..CLIENT
    }
}

pub fn host(name: &'static str) -> Leaf {
    Leaf {
        dns: vec![name],
        ..CLIENT
    }
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.as_ref().der().clone()
    }

    pub fn issue(&self, leaf: &Leaf) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "a leaf");
        let uris = leaf
            .uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let dns = leaf
            .dns
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names = uris.chain(dns).collect();
        if leaf.expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        roots
    }

    /// Believe whom this one vouches for, if a URI is one of these.
    pub fn validation(&self, uris: &[&str]) -> Validation {
        let exact = |uri: &&str| SanMatcher {
            kind: SanKind::Uri,
            value: StringMatch::Exact {
                value: (*uri).to_owned(),
                ignore_case: false,
            },
        };
        Validation {
            trusted: vec![self.certificate()],
            names: uris.iter().map(exact).collect(),
            announce_trusted: true,
        }
    }
}

/// A context that shows one certificate and asks for none.
pub fn downstream(identity: Identity) -> DownstreamTls {
    DownstreamTls {
        params: TlsParams::default(),
        identities: vec![identity],
        alpn: vec![],
        validation: None,
        secrets: SecretRefs::default(),
        require_client_certificate: false,
        require_sni: false,
        session_tickets: true,
        session_memory: true,
        prefer_client_ciphers: false,
    }
}

/// A context that believes whom `validation` says, and shows no certificate.
pub fn upstream(validation: Option<Validation>) -> UpstreamTls {
    UpstreamTls {
        params: TlsParams::default(),
        identity: None,
        alpn: vec![],
        validation,
        secrets: SecretRefs::default(),
        sni: Some("upstream.test".try_into().unwrap()),
        resumption: true,
    }
}

pub fn client_config(ca: &Ca, identity: Option<Identity>, alpn: &[&str]) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots());
    let mut config = match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// A server that asks for a certificate of `clients`, where there are any.
pub fn server_config(identity: Identity, clients: Option<&Ca>, alpn: &[&str]) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(ca) => {
            let roots = Arc::new(ca.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(identity.chain, identity.key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Shake hands as a client of this server.
pub fn shake(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Client> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut tcp = connect(address);
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(tls, tcp))
}

/// Shake hands and hear whether it was accepted: in TLS 1.3 a client learns late that its
/// certificate is refused. What is sent must be answered.
pub fn ask(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
    request: &str,
) -> io::Result<String> {
    let mut client = shake(address, config, name)?;
    client.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\nhi") {
        match client.read(&mut byte)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => answer.push(byte[0]),
        }
    }
    Ok(String::from_utf8(answer).unwrap())
}

/// Shake hands as the server of this connection.
pub fn serve(tcp: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Server> {
    let mut tcp = tcp;
    let mut tls = ServerConnection::new(Arc::clone(config)).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    // The tickets that follow the handshake.
    while tls.wants_write() {
        tls.write_tls(&mut tcp)?;
    }
    Ok(StreamOwned::new(tls, tcp))
}

/// End a stream of TLS as it should be: `close_notify`, then the end of the socket's.
pub fn end_client(client: &mut Client) {
    client.conn.send_close_notify();
    client.flush().unwrap();
    client.sock.shutdown(std::net::Shutdown::Write).unwrap();
}

/// The same of a server.
pub fn end_server(server: &mut Server) {
    server.conn.send_close_notify();
    server.flush().unwrap();
    server.sock.shutdown(std::net::Shutdown::Write).unwrap();
}

/// Believes any server, as a test that looks at other things does.
#[derive(Debug)]
struct Anybody;

pub fn anybody() -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    Arc::new(Anybody)
}

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
