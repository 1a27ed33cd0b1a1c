//! Resources of files as `/config_dump` shows them.

use super::contents::Kind;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// One resource.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) kind: Kind,
    /// It waits for a part of it.
    pub(crate) warming: bool,
    /// It as it came.
    pub(crate) wire: Bytes,
}

/// What files hold at the moment, as far as it was taken. The same on clone.
#[derive(Debug, Clone, Default)]
pub struct FileResources(Arc<Mutex<Vec<Shown>>>);

impl FileResources {
    pub(super) fn set(&self, all: Vec<Shown>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    pub(crate) fn get(&self) -> Vec<Shown> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}
