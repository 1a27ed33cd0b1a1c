//! Transport sockets: plaintext and TLS, of filter chains and of clusters.

use super::certificates::SecretName;
use super::reader::Reader;
use super::values::{false_unless, is};
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use pb::common_tls_context::ValidationContextType;
use pb::downstream_tls_context::SessionTicketKeysType;
use pb::tls_parameters::TlsProtocol;
use shunt_proxy::model::{
    CipherSuite12, DownstreamTls, Identity, KeyExchangeGroup, NetworkFilter, SecretRefs, TlsParams,
    UpstreamTls, Validation,
};
use shunt_proxy::transport::tls::client::ClientTls;
use shunt_proxy::transport::tls::server::ServerTls;
use std::fmt;
use std::sync::Arc;

/// Cipher suites of TLS 1.2 that Envoy knows and Shunt does not: those without forward secrecy or
/// authenticated encryption. Where others are left they are not offered.
const WEAK_SUITES: &[&str] = &[
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "AES128-SHA256",
    "AES256-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
    "DES-CBC3-SHA",
];

/// What both directions have in common.
struct Common {
    params: TlsParams,
    identities: Vec<Identity>,
    alpn: Vec<String>,
    validation: Option<Validation>,
    /// Those that are in files.
    secrets: SecretRefs,
    /// Those that are in the bootstrap.
    statics: SecretRefs,
}

/// What a transport socket is.
enum Socket {
    Plaintext,
    Tls(Any),
}

impl Reader {
    /// The transport socket of a filter chain; the outer `None` = reported.
    pub(super) fn downstream_socket(
        &mut self,
        socket: Option<TransportSocket>,
        filter: Option<&NetworkFilter>,
        path: &Path<'_>,
    ) -> Option<Option<Arc<DownstreamTls>>> {
        let path = path.field("typed_config");
        match self.socket::<pb::DownstreamTlsContext>(socket, "DownstreamTlsContext", &path)? {
            Socket::Plaintext => Some(None),
            Socket::Tls(any) => {
                let context = self.extension(&any, &path)?;
                let tls = self.downstream_tls(context, &path)?;
                let not_served = filter.map(NetworkFilter::not_served).unwrap_or_default();
                // What is in secrets is checked where those are.
                if tls.secrets == SecretRefs::default() {
                    let compiled = ServerTls::compile(&tls, not_served);
                    self.report
                        .check(&path.field("common_tls_context"), compiled)?;
                }
                Some(Some(Arc::new(tls)))
            }
        }
    }

    /// The transport socket of a cluster or of some of its endpoints; the outer `None` = reported.
    pub(super) fn upstream_socket(
        &mut self,
        socket: Option<TransportSocket>,
        path: &Path<'_>,
    ) -> Option<Option<Arc<UpstreamTls>>> {
        let path = path.field("typed_config");
        match self.socket::<pb::UpstreamTlsContext>(socket, "UpstreamTlsContext", &path)? {
            Socket::Plaintext => Some(None),
            Socket::Tls(any) => {
                let context = self.extension(&any, &path)?;
                let tls = self.upstream_tls(context, &path)?;
                if tls.secrets == SecretRefs::default() {
                    let compiled = ClientTls::compile(&tls);
                    self.report
                        .check(&path.field("common_tls_context"), compiled)?;
                }
                Some(Some(Arc::new(tls)))
            }
        }
    }

    fn socket<M: prost::Name>(
        &mut self,
        socket: Option<TransportSocket>,
        tls: &str,
        path: &Path<'_>,
    ) -> Option<Socket> {
        let Some(socket) = socket else {
            return Some(Socket::Plaintext);
        };
        let any = socket
            .config_type
            .map(|transport_socket::ConfigType::TypedConfig(any)| any);
        match any {
            Some(any) if is::<RawBuffer>(&any) => Some(Socket::Plaintext),
            Some(any) if is::<M>(&any) => Some(Socket::Tls(any)),
            other => {
                self.misplaced(other.as_ref(), &format!("RawBuffer or {tls}"), path);
                None
            }
        }
    }

    fn downstream_tls(
        &mut self,
        context: pb::DownstreamTlsContext,
        path: &Path<'_>,
    ) -> Option<DownstreamTls> {
        let at = path.field("common_tls_context");
        let common = self.common_tls(context.common_tls_context, &at)?;
        let named = common.secrets.identities.len() + common.statics.identities.len();
        if common.identities.is_empty() && named == 0 {
            let message = "a server needs at least one certificate with its key";
            self.report.invalid(&at.field("tls_certificates"), message);
            return None;
        }
        let require_client_certificate = false_unless(context.require_client_certificate);
        let secrets = [&common.secrets, &common.statics];
        let believes = common.validation.is_some()
            || secrets.iter().any(|secrets| secrets.validation.is_some());
        if require_client_certificate && !believes {
            let message = "without validation_context.trusted_ca any certificate would do; name \
                           whom to trust, or leave it out";
            let at = path.field("require_client_certificate");
            self.report.invalid(&at, message);
        }
        let stateless = match context.session_ticket_keys_type {
            Some(SessionTicketKeysType::DisableStatelessSessionResumption(disabled)) => !disabled,
            _ => true,
        };
        let tls = DownstreamTls {
            params: common.params,
            identities: common.identities,
            alpn: common.alpn,
            validation: common.validation,
            secrets: common.statics,
            require_client_certificate,
            require_sni: false_unless(context.require_sni),
            session_tickets: stateless,
            session_memory: !context.disable_stateful_session_resumption,
            prefer_client_ciphers: context.prefer_client_ciphers,
        };
        let whole = self.report.check(&at, tls.with(&self.secrets))?;
        Some(DownstreamTls {
            secrets: common.secrets,
            ..whole
        })
    }

    fn upstream_tls(
        &mut self,
        context: pb::UpstreamTlsContext,
        path: &Path<'_>,
    ) -> Option<UpstreamTls> {
        let sni = match context.sni.as_str() {
            "" => None,
            name => {
                let name = name.to_owned().try_into().map_err(|_bad| {
                    format!("{name:?} cannot be sent as a server name; write a DNS name")
                });
                Some(self.report.check(&path.field("sni"), name)?)
            }
        };
        let at = path.field("common_tls_context");
        let common = self.common_tls(context.common_tls_context, &at)?;
        let named = common.secrets.identities.len() + common.statics.identities.len();
        let field = match named {
            0 => "tls_certificates",
            _ => "tls_certificate_sds_secret_configs",
        };
        if common.identities.len().max(named) > 1 {
            let message = "a client shows one certificate; leave the others out";
            self.report.invalid(&at.field(field), message);
        }
        let identity = common.identities.into_iter().next();
        let tls = UpstreamTls {
            params: common.params,
            identity,
            alpn: common.alpn,
            validation: common.validation,
            secrets: common.statics,
            sni,
            resumption: context.max_session_keys.is_none_or(|max| max.value > 0),
        };
        let whole = self.report.check(&at, tls.with(&self.secrets))?;
        Some(UpstreamTls {
            secrets: common.secrets,
            ..whole
        })
    }

    fn common_tls(
        &mut self,
        context: Option<pb::CommonTlsContext>,
        path: &Path<'_>,
    ) -> Option<Common> {
        let context = context.unwrap_or_default();
        let params = self.tls_params(
            &context.tls_params.unwrap_or_default(),
            &path.field("tls_params"),
        );
        let at = path.field("tls_certificates");
        let identities = self.each(context.tls_certificates, &at, Self::tls_certificate);
        let at = path.field("tls_certificate_sds_secret_configs");
        let configs = context.tls_certificate_sds_secret_configs;
        if !identities.is_empty() && !configs.is_empty() {
            let message = "Envoy does not look at it beside tls_certificates; keep one of them";
            self.report.invalid(&at, message);
        }
        let names = self.each(configs, &at, Self::sds);
        let (validation, secret) = self.believed(context.validation_context_type, path)?;
        let at = path.field("alpn_protocols");
        for (i, name) in context.alpn_protocols.iter().enumerate() {
            if name.is_empty() || name.len() > usize::from(u8::MAX) {
                let message = "the name of a protocol has 1 to 255 bytes";
                self.report.invalid(&at.index(i), message);
            }
        }
        let (mut secrets, mut statics) = (SecretRefs::default(), SecretRefs::default());
        for name in names.into_iter().collect::<Option<Vec<_>>>()? {
            match name {
                SecretName::Static(name) => statics.identities.push(name),
                SecretName::OfFile(name) => secrets.identities.push(name),
            }
        }
        match secret {
            Some(SecretName::Static(name)) => statics.validation = Some(name),
            Some(SecretName::OfFile(name)) => secrets.validation = Some(name),
            None => {}
        }
        Some(Common {
            params: params?,
            identities: identities.into_iter().collect::<Option<_>>()?,
            alpn: context.alpn_protocols,
            validation,
            secrets,
            statics,
        })
    }

    /// Whom to believe: what is said in place, and the secret that says the rest.
    fn believed(
        &mut self,
        context: Option<ValidationContextType>,
        path: &Path<'_>,
    ) -> Option<(Option<Validation>, Option<SecretName>)> {
        match context {
            None => Some((None, None)),
            Some(ValidationContextType::ValidationContext(context)) => {
                let validation =
                    self.validation_context(context, &path.field("validation_context"));
                Some((validation?, None))
            }
            Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
                let secret = self.sds(config, &path.field("validation_context_sds_secret_config"));
                Some((None, Some(secret?)))
            }
            Some(ValidationContextType::CombinedValidationContext(combined)) => {
                let path = path.field("combined_validation_context");
                let own = combined.default_validation_context.unwrap_or_default();
                let own = self.validation(own, &path.field("default_validation_context"));
                let at = path.field("validation_context_sds_secret_config");
                let Some(config) = combined.validation_context_sds_secret_config else {
                    self.report.invalid(&at, "it is required");
                    return None;
                };
                let secret = self.sds(config, &at);
                Some((Some(own?), Some(secret?)))
            }
            // The coverage table refuses the others: nothing that says whom to believe is ignored.
            Some(_) => {
                let message = "only validation_context, combined_validation_context and \
                               validation_context_sds_secret_config are implemented";
                self.report.refused(path, message);
                None
            }
        }
    }

    fn tls_params(&mut self, params: &pb::TlsParameters, path: &Path<'_>) -> Option<TlsParams> {
        let (min, max) = (
            params.tls_minimum_protocol_version(),
            params.tls_maximum_protocol_version(),
        );
        // What there is begins at 1.2: a lower minimum is a wish that comes true for all who
        // speak that.
        let tls12 = min != TlsProtocol::TlSv13;
        let tls13 = matches!(max, TlsProtocol::TlsAuto | TlsProtocol::TlSv13);
        let too_old = matches!(max, TlsProtocol::TlSv10 | TlsProtocol::TlSv11);
        if too_old || !(tls12 || tls13) {
            let message = "no version is left: Shunt speaks TLSv1_2 and TLSv1_3";
            let at = path.field("tls_maximum_protocol_version");
            self.report.invalid(&at, message);
        }
        let at = path.field("cipher_suites");
        let suites = self.each(params.cipher_suites.clone(), &at, Self::cipher_suites);
        let suites = suites.into_iter().collect::<Option<Vec<_>>>()?.concat();
        let chosen = !params.cipher_suites.is_empty();
        if chosen && tls12 && suites.is_empty() {
            let known = CipherSuite12::NAMES.join(", ");
            let message = format!("none of these is left; Shunt has {known}");
            self.report.refused(&at, message);
            return None;
        }
        let at = path.field("ecdh_curves");
        let groups = self.each(params.ecdh_curves.clone(), &at, |reader, name, path| {
            let found = known(
                &name,
                KeyExchangeGroup::named(&name),
                KeyExchangeGroup::NAMES,
            );
            reader.refused_unless(found, path)
        });
        let groups = groups.into_iter().collect::<Option<Vec<_>>>()?;
        Some(TlsParams {
            tls12,
            tls13,
            cipher_suites: chosen.then_some(suites),
            groups: (!groups.is_empty()).then_some(groups),
        })
    }

    /// The suites of one entry: `[A|B]` names several of equal rank.
    fn cipher_suites(&mut self, entry: String, path: &Path<'_>) -> Option<Vec<CipherSuite12>> {
        let inner = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']'));
        let names = inner.unwrap_or(&entry).split('|');
        let mut suites = Vec::new();
        for name in names.filter(|name| !WEAK_SUITES.contains(name)) {
            let found = known(name, CipherSuite12::named(name), CipherSuite12::NAMES);
            suites.push(self.refused_unless(found, path)?);
        }
        Some(suites)
    }

    fn refused_unless<T>(&mut self, found: Result<T, String>, path: &Path<'_>) -> Option<T> {
        found.map_err(|why| self.report.refused(path, why)).ok()
    }
}

fn known<T>(name: &str, found: Option<T>, names: &[&str]) -> Result<T, String> {
    let names = fmt::from_fn(|f| f.write_str(&names.join(", ")));
    found.ok_or_else(|| format!("{name:?} is none that Shunt has; it has {names}"))
}
