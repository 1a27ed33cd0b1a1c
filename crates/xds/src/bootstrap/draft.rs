//! Resources that may be incomplete: a part of them is in another file, and comes when it comes.

use super::transports::Transports;
use crate::files::Kind;
use shunt_proxy::model::{Cluster, Listener, Secrets};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What a bootstrap says: what is fixed, and where the rest is.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) listeners: Vec<ListenerDraft>,
    pub(crate) clusters: Vec<ClusterDraft>,
    /// `dynamic_resources.lds_config`.
    pub(crate) lds: Option<FileSource>,
    /// `dynamic_resources.cds_config`.
    pub(crate) cds: Option<FileSource>,
    /// `static_resources.secrets`: they never change.
    pub(crate) secrets: Arc<Secrets>,
}

/// A file of resources that is read again when it changes (`path_config_source`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileSource {
    pub(crate) path: PathBuf,
    /// `watched_directory`: read again when anything is moved there; `None` = when the file itself
    /// is moved to its place.
    pub(crate) watched: Option<PathBuf>,
}

/// A part of a resource that is in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    /// What it is.
    pub(crate) kind: Kind,
    /// The name that it has there.
    pub(crate) name: String,
    pub(crate) source: FileSource,
}

/// A listener, and the route configurations and secrets that it needs.
#[derive(Debug, Clone)]
pub(crate) struct ListenerDraft {
    pub(crate) model: Arc<Listener>,
    pub(crate) wants: Vec<Want>,
}

/// A cluster, and the endpoints and secrets that it needs.
#[derive(Debug, Clone)]
pub(crate) struct ClusterDraft {
    /// Without endpoints, where those are in a file.
    pub(crate) model: Arc<Cluster>,
    /// Where its endpoints are, and how they are reached.
    pub(crate) endpoints: Option<(Want, Transports)>,
    pub(crate) secrets: Vec<Want>,
}

impl ClusterDraft {
    /// All that it needs.
    pub(crate) fn wants(&self) -> impl Iterator<Item = &Want> {
        let endpoints = self.endpoints.as_ref().map(|(want, _)| want);
        endpoints.into_iter().chain(&self.secrets)
    }
}
