//! Versions, cipher suites and key exchange groups.

use crate::model::{CipherSuite12, Invalid, KeyExchangeGroup, TlsParams};
use rustls::crypto::aws_lc_rs::{self as provider, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};
use std::sync::Arc;

/// The provider that offers just what the parameters allow.
pub(super) fn provider(params: &TlsParams) -> Arc<CryptoProvider> {
    let mut offered = provider::default_provider();
    if let Some(suites) = &params.cipher_suites {
        let tls13 =
            |suite: &SupportedCipherSuite| suite.version().version == ProtocolVersion::TLSv1_3;
        offered.cipher_suites.retain(tls13);
        offered
            .cipher_suites
            .extend(suites.iter().map(|suite| of(*suite)));
    }
    if let Some(groups) = &params.groups {
        offered.kx_groups = groups.iter().map(|group| group_of(*group)).collect();
    }
    Arc::new(offered)
}

/// The versions that may be agreed on.
pub(super) fn versions(
    params: &TlsParams,
) -> Result<Vec<&'static SupportedProtocolVersion>, Invalid> {
    let tls12 = params.tls12.then_some(&rustls::version::TLS12);
    let tls13 = params.tls13.then_some(&rustls::version::TLS13);
    let versions: Vec<_> = tls12.into_iter().chain(tls13).collect();
    if versions.is_empty() {
        return Err(Invalid::new(
            "no version of TLS is left; there are 1.2 and 1.3",
        ));
    }
    Ok(versions)
}

fn of(suite: CipherSuite12) -> SupportedCipherSuite {
    match suite {
        CipherSuite12::EcdheEcdsaAes128 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite12::EcdheEcdsaAes256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite12::EcdheEcdsaChacha20 => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        CipherSuite12::EcdheRsaAes128 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite12::EcdheRsaAes256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite12::EcdheRsaChacha20 => {
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
    }
}

fn group_of(group: KeyExchangeGroup) -> &'static dyn SupportedKxGroup {
    match group {
        KeyExchangeGroup::X25519MlKem768 => kx_group::X25519MLKEM768,
        KeyExchangeGroup::X25519 => kx_group::X25519,
        KeyExchangeGroup::P256 => kx_group::SECP256R1,
        KeyExchangeGroup::P384 => kx_group::SECP384R1,
    }
}

/// The SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    let SupportedCipherSuite::Tls13(suite) = cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        // It is one of TLS 1.3.
        return Vec::new();
    };
    suite.common.hash_provider.hash(bytes).as_ref().to_vec()
}
