//! Certificates of a mesh for the benches of TLS: an authority, a server and a client, all P-256.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair, SanType,
};

use super::folder;

/// Writes them: `ca.pem`, and for `server` and `client` a chain (`.pem`), a key (`.key`) and, for
/// HAProxy, both in one file (`.both`). Gives their folder.
///
/// # Errors
/// When one cannot be made or written.
pub(super) fn write() -> Result<PathBuf> {
    let folder = folder()?.join("certificates");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    file(&folder.join("ca.pem"), &authority.pem())?;
    for name in ["server", "client"] {
        let mut params = CertificateParams::default();
        // By default it would have the authority's name, as if it had signed itself.
        params.distinguished_name = DistinguishedName::new();
        let id = format!("spiffe://td/ns/app/sa/{name}");
        // The name is for nginx, which knows no other.
        params.subject_alt_names = vec![
            SanType::URI(id.as_str().try_into()?),
            SanType::DnsName(name.try_into()?),
        ];
        let key = KeyPair::generate()?;
        let chain = params.signed_by(&key, &authority)?.pem();
        let key = key.serialize_pem();
        file(&folder.join(format!("{name}.pem")), &chain)?;
        file(&folder.join(format!("{name}.key")), &key)?;
        file(
            &folder.join(format!("{name}.both")),
            &format!("{chain}{key}"),
        )?;
    }
    Ok(folder)
}

fn file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
