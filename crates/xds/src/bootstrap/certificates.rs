//! Certificates, private keys, and whom to believe.

use super::reader::Reader;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use pb::subject_alt_name_matcher::SanType;
use shunt_proxy::model::{Identity, SanKind, SanMatcher, StringMatch, Validation};
use shunt_proxy::transport::tls::pem;
use std::fs;

/// The most that a file of certificates may hold.
const MAX_FILE: u64 = 4 << 20;

impl Reader {
    /// One certificate chain with its key.
    pub(super) fn tls_certificate(
        &mut self,
        certificate: pb::TlsCertificate,
        path: &Path<'_>,
    ) -> Option<Identity> {
        let at = path.field("certificate_chain");
        let chain = self.data(certificate.certificate_chain, &at);
        let chain = chain.and_then(|pem| self.report.check(&at, pem::certificates(&pem)));
        let at = path.field("private_key");
        let key = self.data(certificate.private_key, &at);
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
        let at = path.field("trusted_ca");
        let Some(trusted) = context.trusted_ca else {
            if !names.is_empty() {
                let message = "it is required: names in a certificate that nobody vouches for mean \
                               nothing";
                self.report.invalid(&at, message);
                return None;
            }
            return Some(None);
        };
        let pem = self.data(Some(trusted), &at)?;
        let trusted = self.report.check(&at, pem::certificates(&pem))?;
        Some(Some(Validation {
            trusted,
            names,
            announce_trusted: !context.suppress_client_ca_list,
        }))
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
    fn data(&mut self, source: Option<DataSource>, path: &Path<'_>) -> Option<Vec<u8>> {
        let bytes = match source.and_then(|source| source.specifier) {
            Some(Specifier::InlineString(text)) => text.into_bytes(),
            Some(Specifier::InlineBytes(bytes)) => bytes,
            Some(Specifier::Filename(file)) => {
                let read = read(&file);
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

fn read(file: &str) -> Result<Vec<u8>, String> {
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
