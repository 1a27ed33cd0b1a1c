//! One file: what it holds, whatever else there is.

use super::error::{FileError, Reason};
use crate::bootstrap::certificates::DataFile;
use crate::bootstrap::draft::{ClusterDraft, ListenerDraft};
use crate::bootstrap::file;
use crate::bootstrap::reader::Reader;
use crate::bootstrap::transports::Transports;
use crate::convert::{Converter, Document};
use crate::error::{ConvertError, Problems};
use crate::path::Path;
use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use shunt_proxy::model;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path as FilePath;
use std::sync::Arc;

/// A kind of resource. In the order in which files that change together are read: what is referred
/// to comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Secrets,
    Clusters,
    Endpoints,
    Routes,
    Listeners,
}

impl Kind {
    /// What they are called in messages.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::Clusters => "clusters",
            Self::Routes => "routes",
            Self::Endpoints => "endpoints",
            Self::Secrets => "secrets",
        }
    }

    pub(crate) fn type_name(self) -> String {
        match self {
            Self::Listeners => Listener::full_name(),
            Self::Clusters => Cluster::full_name(),
            Self::Routes => RouteConfiguration::full_name(),
            Self::Endpoints => ClusterLoadAssignment::full_name(),
            Self::Secrets => Secret::full_name(),
        }
    }
}

/// What a file holds.
#[derive(Debug, Clone)]
pub(super) enum Contents {
    Listeners(Vec<ListenerDraft>),
    Clusters(Vec<ClusterDraft>),
    Routes(HashMap<String, Arc<model::RouteConfiguration>>),
    Endpoints(HashMap<String, Arc<ClusterLoadAssignment>>),
    Secrets(HashMap<String, Arc<model::Secret>>),
}

impl Contents {
    /// What a kind of file holds that holds nothing.
    pub(super) fn none(kind: Kind) -> Self {
        match kind {
            Kind::Listeners => Self::Listeners(Vec::new()),
            Kind::Clusters => Self::Clusters(Vec::new()),
            Kind::Routes => Self::Routes(HashMap::new()),
            Kind::Endpoints => Self::Endpoints(HashMap::new()),
            Kind::Secrets => Self::Secrets(HashMap::new()),
        }
    }

    /// Keep what the version before held and this one does not name: Envoy takes routes, endpoints
    /// and secrets away with what needs them, never by leaving them out.
    pub(super) fn keep(&mut self, before: &Self) {
        match (self, before) {
            (Self::Routes(now), Self::Routes(before)) => keep(now, before),
            (Self::Endpoints(now), Self::Endpoints(before)) => keep(now, before),
            (Self::Secrets(now), Self::Secrets(before)) => keep(now, before),
            _ => {}
        }
    }
}

fn keep<T>(now: &mut HashMap<String, Arc<T>>, before: &HashMap<String, Arc<T>>) {
    for (name, resource) in before {
        let known = now.entry(name.clone());
        known.or_insert_with(|| Arc::clone(resource));
    }
}

/// A file's text, known by its hash: what did not change is not converted again.
pub(super) struct Text {
    text: String,
    pub(super) hash: u64,
}

/// Read a file.
pub(super) fn read(kind: Kind, path: &FilePath) -> Result<Text, FileError> {
    let text = file::read(path).map_err(|why| FileError {
        kind,
        file: path.to_path_buf(),
        reason: Reason::Read(why),
    })?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Ok(Text {
        text,
        hash: hasher.finish(),
    })
}

/// Resources as they came, by name.
pub(super) type Wire = BTreeMap<String, Bytes>;

/// Take the text of a file apart. Files of certificates and keys that it names come along, also
/// where it is not taken.
pub(super) fn parse(
    kind: Kind,
    path: &FilePath,
    text: &Text,
    converter: Converter,
) -> (Vec<DataFile>, Result<(Contents, Wire), FileError>) {
    let mut data = Vec::new();
    let contents = convert(kind, path, text, converter, &mut data);
    (data, contents)
}

fn convert(
    kind: Kind,
    path: &FilePath,
    text: &Text,
    converter: Converter,
    data: &mut Vec<DataFile>,
) -> Result<(Contents, Wire), FileError> {
    let failed = |reason| FileError {
        kind,
        file: path.to_path_buf(),
        reason,
    };
    let wire = converter
        .to_wire(&text.text, file::format(path), Document::Resources)
        .map_err(|error| {
            failed(match error {
                ConvertError::Syntax(error) => Reason::Syntax(error),
                ConvertError::Invalid(problems) => Reason::Invalid(problems),
                ConvertError::Broken(why) => Reason::Convert(why),
            })
        })?;
    let response = DiscoveryResponse::decode(wire)
        .map_err(|e| failed(Reason::Convert(format!("the bytes cannot be decoded: {e}"))))?;
    contents(kind, response, data).map_err(|problems| failed(Reason::Invalid(problems)))
}

fn contents(
    kind: Kind,
    response: DiscoveryResponse,
    data: &mut Vec<DataFile>,
) -> Result<(Contents, Wire), Problems> {
    let mut reader = Reader::of_files();
    let mut wire = Wire::new();
    let root = Path::ROOT;
    let stated = response.type_url.rsplit('/').next().unwrap_or_default();
    if !stated.is_empty() && stated != kind.type_name() {
        let message = format!("{stated}: this is a file of {}", kind.type_name());
        reader.report.invalid(&root.field("type_url"), message);
    }
    let path = root.field("resources");
    let all = response.resources;
    let contents = match kind {
        Kind::Listeners => {
            let listeners = decode(&mut reader, kind, all, &path, &mut wire);
            let listeners = reader.listeners(listeners, &path);
            Contents::Listeners(listeners.into_iter().flatten().collect())
        }
        Kind::Clusters => {
            let clusters = decode(&mut reader, kind, all, &path, &mut wire);
            let clusters = reader.clusters(clusters, &path);
            Contents::Clusters(clusters.into_iter().flatten().collect())
        }
        Kind::Routes => {
            let configs: Vec<RouteConfiguration> = decode(&mut reader, kind, all, &path, &mut wire);
            let configs = reader.each(configs, &path, |reader, config, path| {
                reader.name(config.name.clone(), &path.field("name"))?;
                reader.route_configuration(config, false, path)
            });
            reader.unique("route configuration", &configs, |c| &c.name, &path);
            let configs = configs.into_iter().flatten();
            Contents::Routes(configs.map(|c| (c.name.clone(), Arc::new(c))).collect())
        }
        Kind::Endpoints => {
            let all: Vec<ClusterLoadAssignment> = decode(&mut reader, kind, all, &path, &mut wire);
            // Their transport is their cluster's business; whatever it is, they are checked here.
            let checked = reader.each(all, &path, |reader, assignment, path| {
                let plain = Transports::default();
                reader.load_assignment(Some(assignment.clone()), &plain, path)?;
                Some(assignment)
            });
            reader.unique("assignment", &checked, |a| &a.cluster_name, &path);
            let all = checked.into_iter().flatten();
            Contents::Endpoints(all.map(|a| (a.cluster_name.clone(), Arc::new(a))).collect())
        }
        Kind::Secrets => {
            let all: Vec<Secret> = decode(&mut reader, kind, all, &path, &mut wire);
            let secrets = reader.each(all, &path, Reader::secret);
            reader.unique("secret", &secrets, |(name, _)| name, &path);
            // Those of transport sockets are read once, as in Envoy.
            *data = std::mem::take(&mut reader.data);
            let secrets = secrets.into_iter().flatten();
            Contents::Secrets(secrets.map(|(n, s)| (n.to_string(), Arc::new(s))).collect())
        }
    };
    reader.report.finish((contents, wire))
}

/// A resource that has a name.
trait Named {
    fn named(&self) -> &str;
}

macro_rules! named {
    ($($message:ident $field:ident,)*) => {
        $(impl Named for $message {
            fn named(&self) -> &str {
                &self.$field
            }
        })*
    };
}

named! {
    Listener name,
    Cluster name,
    RouteConfiguration name,
    ClusterLoadAssignment cluster_name,
    Secret name,
}

/// Resources of one type. Where one is of another, that is reported, and the rest is not looked at.
fn decode<M: Message + Name + Default + Named>(
    reader: &mut Reader,
    kind: Kind,
    resources: Vec<Any>,
    path: &Path<'_>,
    wire: &mut Wire,
) -> Vec<M> {
    let all = reader.each(resources, path, |reader, any, path| {
        if !any.type_url.ends_with(&format!("/{}", M::full_name())) {
            let message = format!(
                "{}: this is a file of {}",
                any.type_url.rsplit('/').next().unwrap_or_default(),
                kind.type_name()
            );
            reader.report.invalid(&path.field("@type"), message);
            return None;
        }
        let message: M = reader.extension(&any, path)?;
        Some((message, any.value))
    });
    let all: Vec<(M, Vec<u8>)> = all.into_iter().collect::<Option<_>>().unwrap_or_default();
    let all = all.into_iter().map(|(message, bytes)| {
        wire.insert(message.named().to_owned(), bytes.into());
        message
    });
    all.collect()
}
