//! TLS contexts that are made anew when a secret that they need changes.
//!
//! A handshake takes what is current and keeps it; connections that were made by an earlier one go
//! on. A session of an earlier one is not resumed, so that whoever lost his trust has to shake hands
//! again.

use crate::model::{Invalid, Secret, SecretRefs, Secrets};
use arc_swap::ArcSwap;
use std::fmt;
use std::sync::Arc;

type Make<T> = Box<dyn Fn(&Secrets) -> Result<T, Invalid> + Send + Sync>;

/// A context and how it is made.
pub struct Rotating<T> {
    refs: SecretRefs,
    make: Make<T>,
    current: ArcSwap<Made<T>>,
}

/// A context of one moment.
#[derive(Debug)]
pub struct Made<T> {
    /// The context.
    pub tls: T,
    /// What it was made of.
    secrets: Vec<Arc<Secret>>,
}

impl<T> Rotating<T> {
    /// Make the first one.
    ///
    /// # Errors
    /// Where a secret is missing, or it cannot be made of them.
    pub fn new(
        refs: &SecretRefs,
        secrets: &Secrets,
        make: impl Fn(&Secrets) -> Result<T, Invalid> + Send + Sync + 'static,
    ) -> Result<Self, Invalid> {
        let first = Made {
            tls: make(secrets)?,
            secrets: refs.all().filter_map(|n| secrets.get(n).cloned()).collect(),
        };
        Ok(Self {
            refs: refs.clone(),
            make: Box::new(make),
            current: ArcSwap::from_pointee(first),
        })
    }

    /// The current one.
    pub fn current(&self) -> Arc<Made<T>> {
        self.current.load_full()
    }

    /// Make the next one, where a secret has changed; `None` = none has, or one is gone, and with
    /// it whatever needs this.
    ///
    /// # Errors
    /// Where it cannot be made of them. The current one stays.
    pub fn next(&self, secrets: &Secrets) -> Result<Option<Arc<Made<T>>>, Invalid> {
        let found: Option<Vec<_>> = self.refs.all().map(|n| secrets.get(n).cloned()).collect();
        let Some(found) = found else {
            return Ok(None);
        };
        let same = |(a, b): (&Arc<Secret>, &Arc<Secret>)| Arc::ptr_eq(a, b) || a == b;
        if found.iter().zip(&self.current.load().secrets).all(same) {
            return Ok(None);
        }
        let tls = (self.make)(secrets)?;
        Ok(Some(Arc::new(Made {
            tls,
            secrets: found,
        })))
    }

    /// Make this the current one.
    pub fn set(&self, next: Arc<Made<T>>) {
        self.current.store(next);
    }
}

impl<T: fmt::Debug> fmt::Debug for Rotating<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current.load();
        f.debug_struct("Rotating")
            .field("refs", &self.refs)
            .field("current", &current.tls)
            .finish_non_exhaustive()
    }
}
