//! Certificates, private keys, and whom to believe: in place, in files, and in secrets.

use super::draft::FileSource;
use super::reader::Reader;
use crate::files::Kind;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use pb::subject_alt_name_matcher::SanType;
use shunt_proxy::model::{Identity, Name, SanKind, SanMatcher, Secret, StringMatch, Validation};
use shunt_proxy::transport::tls::{self, pem};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

/// The name of a secret, and where that is.
pub(super) enum SecretName {
    /// In `static_resources.secrets`.
    Static(Name),
    /// In a file.
    OfFile(Name),
}

/// The most that a file of certificates may hold.
const MAX_FILE: u64 = 4 << 20;

/// A file of certificates or a key, as it was read.
#[derive(Debug, Clone)]
pub(crate) struct DataFile {
    /// Where it is; any move to its directory may change it.
    pub(crate) source: FileSource,
    /// Of what it held; `None` = it could not be used.
    hash: Option<u64>,
}

impl DataFile {
    /// Whether it holds what it held.
    pub(crate) fn is_current(&self) -> bool {
        self.hash.is_some() && self.hash == read(&self.source.path).ok().map(|b| hash(&b))
    }

    /// It is to be read again, whatever it holds.
    pub(crate) fn refuse(&mut self) {
        self.hash = None;
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Reader {
    /// One secret.
    pub(crate) fn secret(&mut self, secret: pb::Secret, path: &Path<'_>) -> Option<(Name, Secret)> {
        let name = self.name(secret.name, &path.field("name"));
        let (at, secret) = match secret.r#type {
            Some(pb::secret::Type::TlsCertificate(certificate)) => {
                let at = path.field("tls_certificate");
                let identity = self.tls_certificate(certificate, &at)?;
                (at, Secret::Identity(identity))
            }
            Some(pb::secret::Type::ValidationContext(context)) => {
                let at = path.field("validation_context");
                let validation = self.validation(context, &at)?;
                (at, Secret::Validation(validation))
            }
            // The coverage table refuses the others.
            _ => {
                let message = "it needs tls_certificate or validation_context";
                self.report.invalid(path, message);
                return None;
            }
        };
        self.report.check(&at, tls::check(&secret))?;
        Some((name?, secret))
    }

    /// The secrets of a bootstrap. Their files are read once, as in Envoy.
    pub(super) fn static_secrets(&mut self, secrets: Vec<pb::Secret>, path: &Path<'_>) {
        let named: Vec<Name> = secrets.iter().map(|s| s.name.as_str().into()).collect();
        let secrets = self.each(secrets, path, Self::secret);
        self.unique("secret", &secrets, |(name, _)| name, path);
        self.data.clear();
        let secrets = secrets.into_iter().flatten();
        self.secrets = Arc::new(secrets.map(|(name, s)| (name, Arc::new(s))).collect());
        self.wrong_secrets = named;
        let usable = &self.secrets;
        self.wrong_secrets.retain(|name| !usable.contains_key(name));
    }

    /// Where a secret is, and its name there.
    pub(super) fn sds(
        &mut self,
        config: pb::SdsSecretConfig,
        path: &Path<'_>,
    ) -> Option<SecretName> {
        let name = self.name(config.name, &path.field("name"));
        if let Some(source) = config.sds_config {
            let source = self.required_file_source(source, &path.field("sds_config"))?;
            let name = name?;
            self.want(Kind::Secrets, &name, source);
            return Some(SecretName::OfFile(name));
        }
        let name = name?;
        if self.wrong_secrets.contains(&name) {
            // It is there, and was reported.
            return None;
        }
        if !self.secrets.contains_key(&name) {
            let message = format!(
                "there is no secret {name:?} in static_resources.secrets; add it, or say by \
                 sds_config which file it is in"
            );
            self.report.invalid(&path.field("name"), message);
            return None;
        }
        Some(SecretName::Static(name))
    }

    /// One certificate chain with its key.
    pub(super) fn tls_certificate(
        &mut self,
        certificate: pb::TlsCertificate,
        path: &Path<'_>,
    ) -> Option<Identity> {
        let watched = certificate.watched_directory.map(|watched| watched.path);
        let watched = watched.as_deref();
        let at = path.field("certificate_chain");
        let chain = self.data(certificate.certificate_chain, watched, &at);
        let chain = chain.and_then(|pem| self.report.check(&at, pem::certificates(&pem)));
        let at = path.field("private_key");
        let key = self.data(certificate.private_key, watched, &at);
        let key = key.and_then(|pem| self.report.check(&at, pem::private_key(&pem)));
        Some(Identity {
            chain: chain?,
            key: key?,
        })
    }

    /// Whom to believe; the inner `None` = anybody, as Envoy has it where nothing is said.
    pub(super) fn validation_context(
        &mut self,
        context: pb::CertificateValidationContext,
        path: &Path<'_>,
    ) -> Option<Option<Validation>> {
        let validation = self.validation(context, path)?;
        if !validation.trusted.is_empty() {
            return Some(Some(validation));
        }
        if !validation.names.is_empty() {
            let message = "it is required: names in a certificate that nobody vouches for mean \
                           nothing";
            self.report.invalid(&path.field("trusted_ca"), message);
            return None;
        }
        Some(None)
    }

    /// Whom to believe; what is trusted may be said elsewhere.
    pub(super) fn validation(
        &mut self,
        context: pb::CertificateValidationContext,
        path: &Path<'_>,
    ) -> Option<Validation> {
        let at = path.field("match_typed_subject_alt_names");
        let typed = self.each(
            context.match_typed_subject_alt_names,
            &at,
            Self::san_matcher,
        );
        let typed: Option<Vec<_>> = typed.into_iter().collect();
        let at = path.field("match_subject_alt_names");
        #[expect(deprecated, reason = "istiod still sends it")]
        let of_any_kind = self.each(context.match_subject_alt_names, &at, Self::san_value);
        let of_any_kind: Option<Vec<_>> = of_any_kind.into_iter().collect();
        let mut names = typed?;
        for value in of_any_kind? {
            names.extend(SanKind::ALL.map(|kind| SanMatcher {
                kind,
                value: value.clone(),
            }));
        }
        let watched = context.watched_directory.map(|watched| watched.path);
        let at = path.field("trusted_ca");
        let trusted = match context.trusted_ca {
            None => Vec::new(),
            trusted => {
                let pem = self.data(trusted, watched.as_deref(), &at)?;
                self.report.check(&at, pem::certificates(&pem))?
            }
        };
        Some(Validation {
            trusted,
            names,
            announce_trusted: !context.suppress_client_ca_list,
        })
    }

    fn san_matcher(
        &mut self,
        matcher: pb::SubjectAltNameMatcher,
        path: &Path<'_>,
    ) -> Option<SanMatcher> {
        let kind = match matcher.san_type() {
            SanType::Uri => SanKind::Uri,
            SanType::Dns => SanKind::Dns,
            SanType::Email => SanKind::Email,
            SanType::IpAddress => SanKind::Ip,
            SanType::OtherName => {
                let message = "OTHER_NAME is known to Envoy, not implemented by Shunt yet";
                self.report.refused(&path.field("san_type"), message);
                return None;
            }
            SanType::Unspecified => {
                let message = "it is required: EMAIL, DNS, URI or IP_ADDRESS";
                self.report.invalid(&path.field("san_type"), message);
                return None;
            }
        };
        let at = path.field("matcher");
        let value = self.san_value(matcher.matcher.unwrap_or_default(), &at)?;
        Some(SanMatcher { kind, value })
    }

    fn san_value(&mut self, matcher: StringMatcher, path: &Path<'_>) -> Option<StringMatch> {
        self.string_matcher(matcher, path)
    }

    /// The bytes of a data source, which must not be empty.
    fn data(
        &mut self,
        source: Option<DataSource>,
        watched: Option<&str>,
        path: &Path<'_>,
    ) -> Option<Vec<u8>> {
        let bytes = match source.and_then(|source| source.specifier) {
            Some(Specifier::InlineString(text)) => text.into_bytes(),
            Some(Specifier::InlineBytes(bytes)) => bytes,
            Some(Specifier::Filename(file)) => {
                let file = PathBuf::from(file);
                let directory = watched.map(PathBuf::from);
                let own = file.parent().filter(|own| !own.as_os_str().is_empty());
                let own = own.unwrap_or_else(|| FilePath::new("."));
                let directory = directory.or_else(|| Some(own.to_path_buf()));
                let read = read(&file);
                self.data.push(DataFile {
                    hash: read.as_ref().ok().map(|bytes| hash(bytes)),
                    source: FileSource {
                        path: file,
                        watched: directory,
                    },
                });
                self.report.check(&path.field("filename"), read)?
            }
            // The coverage table refuses the others.
            _ => {
                let message = "it is required: filename, inline_string or inline_bytes";
                self.report.invalid(path, message);
                return None;
            }
        };
        Some(bytes)
    }
}

fn read(file: &FilePath) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| {
        format!("{file:?} cannot be read: {error}; the sidecar's user must be able to read it")
    };
    // A pipe or a device could be read for ever.
    let found = fs::metadata(file).map_err(wrong)?;
    if !found.is_file() || found.len() > MAX_FILE {
        return Err(format!("{file:?} is no file of at most {MAX_FILE} bytes"));
    }
    fs::read(file).map_err(wrong)
}
