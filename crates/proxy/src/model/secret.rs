//! Secrets (`envoy.extensions.transport_sockets.tls.v3.Secret`): parts of transport sockets that
//! change by themselves, so that a certificate is renewed without a change of what uses it.

use super::{DownstreamTls, Identity, Invalid, Name, UpstreamTls, Validation};
use std::collections::HashMap;
use std::sync::Arc;

/// Secrets by their names.
pub type Secrets = HashMap<Name, Arc<Secret>>;

/// What a secret holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Secret {
    /// `tls_certificate`.
    Identity(Identity),
    /// `validation_context`; its `trusted` may be empty where that of the context which names it
    /// is not.
    Validation(Validation),
}

/// The secrets that a transport socket names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretRefs {
    /// `tls_certificate_sds_secret_configs`.
    pub identities: Vec<Name>,
    /// `validation_context_sds_secret_config`, alone or of `combined_validation_context`, whose
    /// default is the context's own validation.
    pub validation: Option<Name>,
}

impl SecretRefs {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Name> {
        self.identities.iter().chain(&self.validation)
    }

    fn identities(&self, secrets: &Secrets) -> Result<Vec<Identity>, Invalid> {
        let identities = self
            .identities
            .iter()
            .map(|name| match find(secrets, name)? {
                Secret::Identity(identity) => Ok(identity.clone()),
                Secret::Validation(_) => Err(Invalid::new(format!(
                    "the secret {name:?} is no tls_certificate"
                ))),
            });
        identities.collect()
    }

    /// Whom to believe: what the context says itself, and the secret on top of it.
    fn validation(
        &self,
        own: Option<&Validation>,
        secrets: &Secrets,
    ) -> Result<Option<Validation>, Invalid> {
        let Some(name) = &self.validation else {
            return Ok(own.cloned());
        };
        let Secret::Validation(secret) = find(secrets, name)? else {
            let message = format!("the secret {name:?} is no validation_context");
            return Err(Invalid::new(message));
        };
        let mut merged = secret.clone();
        if let Some(own) = own {
            merged.names.splice(..0, own.names.iter().cloned());
            merged.announce_trusted &= own.announce_trusted;
            if merged.trusted.is_empty() {
                merged.trusted.clone_from(&own.trusted);
            }
        }
        if merged.trusted.is_empty() {
            let message = format!(
                "the secret {name:?} has no trusted_ca, so nobody could be told from anybody"
            );
            return Err(Invalid::new(message));
        }
        Ok(Some(merged))
    }
}

fn find<'a>(secrets: &'a Secrets, name: &Name) -> Result<&'a Secret, Invalid> {
    let found = secrets.get(name).map(|secret| &**secret);
    found.ok_or_else(|| Invalid::new(format!("there is no secret {name:?}")))
}

impl DownstreamTls {
    /// With what its secrets hold in their place.
    ///
    /// # Errors
    /// Where a secret is missing or of another kind.
    pub fn with(&self, secrets: &Secrets) -> Result<Self, Invalid> {
        let mut whole = self.clone();
        whole.identities.extend(self.secrets.identities(secrets)?);
        let validation = self.secrets.validation(self.validation.as_ref(), secrets)?;
        whole.validation = validation;
        Ok(whole)
    }
}

impl UpstreamTls {
    /// With what its secrets hold in their place.
    ///
    /// # Errors
    /// Where a secret is missing or of another kind.
    pub fn with(&self, secrets: &Secrets) -> Result<Self, Invalid> {
        let mut whole = self.clone();
        let mut identities = self.secrets.identities(secrets)?.into_iter();
        whole.identity = whole.identity.or_else(|| identities.next());
        let validation = self.secrets.validation(self.validation.as_ref(), secrets)?;
        whole.validation = validation;
        Ok(whole)
    }
}

#[cfg(test)]
mod tests;
