//! Transport sockets with TLS.

use crate::coverage::Coverage;
use crate::coverage::Verdict::{self, Implemented, Inert, Only, Partly};

const OF_SECRETS: Verdict =
    Partly("of a secret, else the directory of the file; elsewhere files are read once");

/// What of TLS is not refused.
pub(super) const TLS: &[Coverage] = &[
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        fields: &[
            ("common_tls_context", Implemented),
            (
                "require_client_certificate",
                Partly("only with `trusted_ca`: else any certificate would do"),
            ),
            ("require_sni", Implemented),
            ("disable_stateless_session_resumption", Implemented),
            ("disable_stateful_session_resumption", Implemented),
            ("prefer_client_ciphers", Implemented),
            (
                "full_scan_certs_on_sni_mismatch",
                Inert("the first certificate that the client can verify is shown in any case"),
            ),
            ("ocsp_staple_policy", Only("LENIENT_STAPLING")),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        fields: &[
            (
                "common_tls_context",
                Partly("without `trusted_ca` whoever answers is believed, as in Envoy"),
            ),
            ("sni", Implemented),
            (
                "max_session_keys",
                Partly("0, or any number: 64 sessions are remembered"),
            ),
            ("auto_host_sni", Only("false")),
            ("auto_sni_san_validation", Only("false")),
            ("allow_renegotiation", Only("false")),
            ("enforce_rsa_key_usage", Inert("it is always enforced")),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
        fields: &[
            ("tls_params", Implemented),
            (
                "tls_certificates",
                Partly(
                    "files of it are read once, when what holds it is; towards upstream at most one",
                ),
            ),
            (
                "tls_certificate_sds_secret_configs",
                Partly("towards upstream at most one"),
            ),
            ("validation_context", Implemented),
            ("validation_context_sds_secret_config", Implemented),
            ("combined_validation_context", Implemented),
            (
                "alpn_protocols",
                Partly(
                    "`istio-peer-exchange` is never offered or agreed on, because Shunt does not \
                     speak it; nor is `h2` where HTTP is served",
                ),
            ),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
        fields: &[
            ("default_validation_context", Implemented),
            ("validation_context_sds_secret_config", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
        fields: &[
            ("name", Implemented),
            (
                "sds_config",
                Partly("a file; without it the secret is one of `static_resources.secrets`"),
            ),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.Secret",
        fields: &[
            ("name", Implemented),
            ("tls_certificate", Implemented),
            ("validation_context", Implemented),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
        fields: &[
            (
                "tls_minimum_protocol_version",
                Partly("nothing below TLSv1_2 is spoken"),
            ),
            (
                "tls_maximum_protocol_version",
                Partly("`TLSv1_2`, `TLSv1_3`; where it is left out 1.3, also towards upstream"),
            ),
            (
                "cipher_suites",
                Partly(
                    "of TLS 1.2 with ECDHE and GCM or ChaCha20; those without either are not \
                     offered, and refused where nothing else is left",
                ),
            ),
            (
                "ecdh_curves",
                Partly("`X25519MLKEM768`, `X25519`, `P-256`, `P-384`"),
            ),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        fields: &[
            ("certificate_chain", Partly("PEM")),
            ("private_key", Partly("PEM, not encrypted")),
            ("watched_directory", OF_SECRETS),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        fields: &[
            ("trusted_ca", Partly("PEM")),
            ("watched_directory", OF_SECRETS),
            ("match_typed_subject_alt_names", Implemented),
            ("match_subject_alt_names", Implemented),
            ("suppress_client_ca_list", Implemented),
            ("trust_chain_verification", Only("VERIFY_TRUST_CHAIN")),
            ("allow_expired_certificate", Only("false")),
            ("only_verify_leaf_cert_crl", Only("false")),
            ("require_signed_certificate_timestamp", Only("false")),
        ],
    },
    Coverage {
        message: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
        fields: &[
            ("san_type", Partly("`EMAIL`, `DNS`, `URI`, `IP_ADDRESS`")),
            ("matcher", Implemented),
        ],
    },
];
