use super::{Secret, SecretRefs, Secrets};
use crate::model::{SanKind, SanMatcher, StringMatch, TlsParams, UpstreamTls, Validation};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

fn validation(trusted: &[u8], names: &[&str], announce_trusted: bool) -> Validation {
    let trusted = trusted.iter().map(|byte| CertificateDer::from(vec![*byte]));
    let names = names.iter().map(|name| SanMatcher {
        kind: SanKind::Uri,
        value: StringMatch::Exact {
            value: (*name).to_owned(),
            ignore_case: false,
        },
    });
    Validation {
        trusted: trusted.collect(),
        names: names.collect(),
        announce_trusted,
    }
}

fn context(own: Option<Validation>) -> UpstreamTls {
    UpstreamTls {
        params: TlsParams::default(),
        identity: None,
        alpn: Vec::new(),
        validation: own,
        secrets: SecretRefs {
            identities: Vec::new(),
            validation: Some("root".into()),
        },
        sni: None,
        resumption: true,
    }
}

fn merged(own: Option<Validation>, secret: Validation) -> Option<Validation> {
    let secrets = Secrets::from([("root".into(), Arc::new(Secret::Validation(secret)))]);
    let whole = context(own).with(&secrets);
    whole.ok().and_then(|whole| whole.validation)
}

#[test]
fn a_secret_is_merged_over_the_contexts_own_validation() {
    let rows = [
        // Alone it stands as it is.
        (
            None,
            validation(&[1], &["a"], true),
            Some(validation(&[1], &["a"], true)),
        ),
        // Names are added to one another, what is trusted is replaced.
        (
            Some(validation(&[9], &["a"], true)),
            validation(&[1], &["b"], false),
            Some(validation(&[1], &["a", "b"], false)),
        ),
        (
            Some(validation(&[9], &["a"], false)),
            validation(&[], &[], true),
            Some(validation(&[9], &["a"], false)),
        ),
        // Nothing to verify with: nobody is believed, not everybody.
        (
            Some(validation(&[], &["a"], true)),
            validation(&[], &[], true),
            None,
        ),
    ];
    for (own, secret, expected) in rows {
        assert_eq!(merged(own, secret), expected);
    }
}

#[test]
fn a_secret_that_is_missing_or_of_another_kind_leaves_no_context() {
    let error = context(None).with(&Secrets::default()).unwrap_err();
    assert_eq!(error.0, "there is no secret \"root\"");
    let mut context = context(None);
    context.secrets.identities = vec!["root".into()];
    let secret = Secret::Validation(validation(&[1], &[], true));
    let secrets = Secrets::from([("root".into(), Arc::new(secret))]);
    let error = context.with(&secrets).unwrap_err();
    assert_eq!(error.0, "the secret \"root\" is no tls_certificate");
}
