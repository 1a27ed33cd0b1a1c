//! One file: what it holds, whatever else there is.

use super::error::{FileError, Reason};
use crate::bootstrap::certificates::DataFile;
use crate::bootstrap::draft::{ClusterDraft, ListenerDraft, Start};
use crate::bootstrap::file;
use crate::bootstrap::reader::{Reader, doubles};
use crate::bootstrap::transports::Transports;
use crate::convert::{Converter, Document, HeldBack};
use crate::error::ConvertError;
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

/// What can be used of a file.
pub(super) struct Usable {
    pub(super) contents: Contents,
    pub(super) wire: Wire,
    /// What cannot, and harms nothing else.
    pub(super) held_back: Vec<HeldBack>,
}

/// Take the text of a file apart. Files of certificates and keys that it names come along, also
/// where it is not taken.
pub(super) fn parse(
    (kind, path): (Kind, &FilePath),
    text: &Text,
    converter: Converter,
    start: &Start,
) -> (Vec<DataFile>, Result<Usable, FileError>) {
    let mut reader = Reader::beside(start);
    let usable = convert(kind, path, text, converter, &mut reader);
    // Those of transport sockets are read once, as in Envoy.
    let data = match kind {
        Kind::Secrets => reader.data,
        _ => Vec::new(),
    };
    (data, usable)
}

fn convert(
    kind: Kind,
    path: &FilePath,
    text: &Text,
    converter: Converter,
    reader: &mut Reader,
) -> Result<Usable, FileError> {
    let failed = |reason| FileError {
        kind,
        file: path.to_path_buf(),
        reason,
    };
    let format = file::format(path);
    let converted = match kind {
        Kind::Secrets => converter.secrets_to_wire(&text.text, format),
        _ => converter
            .to_wire(&text.text, format, Document::Resources)
            .map(|wire| (wire, Vec::new())),
    };
    let (wire, held_back) = converted.map_err(|error| {
        failed(match error {
            ConvertError::Syntax(error) => Reason::Syntax(error),
            ConvertError::Invalid(problems) => Reason::Invalid(problems),
            ConvertError::Broken(why) => Reason::Convert(why),
        })
    })?;
    let response = DiscoveryResponse::decode(wire)
        .map_err(|e| failed(Reason::Convert(format!("the bytes cannot be decoded: {e}"))))?;
    let usable = reader.apart(|reader| contents(kind, response, held_back, reader));
    usable.map_err(|problems| failed(Reason::Invalid(problems)))
}

fn contents(
    kind: Kind,
    response: DiscoveryResponse,
    mut held_back: Vec<HeldBack>,
    reader: &mut Reader,
) -> Usable {
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
            let listeners = decode(reader, kind, all, &path, &mut wire);
            let listeners = reader.listeners(listeners, &path);
            Contents::Listeners(listeners.into_iter().flatten().collect())
        }
        Kind::Clusters => {
            let clusters = decode(reader, kind, all, &path, &mut wire);
            let clusters = reader.clusters(clusters, &path);
            Contents::Clusters(clusters.into_iter().flatten().collect())
        }
        Kind::Routes => {
            let configs: Vec<RouteConfiguration> = decode(reader, kind, all, &path, &mut wire);
            let configs = reader.each(configs, &path, |reader, config, path| {
                reader.name(config.name.clone(), &path.field("name"))?;
                reader.route_configuration(config, false, path)
            });
            reader.unique("route configuration", &configs, |c| &c.name, &path);
            let configs = configs.into_iter().flatten();
            Contents::Routes(configs.map(|c| (c.name.clone(), Arc::new(c))).collect())
        }
        Kind::Endpoints => {
            let all: Vec<ClusterLoadAssignment> = decode(reader, kind, all, &path, &mut wire);
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
            let all: Vec<Secret> = decode(reader, kind, all, &path, &mut wire);
            let secrets = secrets(reader, all, &path, &mut held_back);
            wire.retain(|name, _| secrets.contains_key(name));
            Contents::Secrets(secrets)
        }
    };
    Usable {
        contents,
        wire,
        held_back,
    }
}

/// Secrets that can be used; what cannot is held back, with its reasons.
fn secrets(
    reader: &mut Reader,
    all: Vec<Secret>,
    path: &Path<'_>,
    held_back: &mut Vec<HeldBack>,
) -> HashMap<String, Arc<model::Secret>> {
    let names = all.iter().map(|secret| Some(secret.name.clone()));
    for (first, second, name) in doubles(names.map(|name| name.filter(|n| !n.is_empty()))) {
        let report = |reader: &mut Reader| {
            let message = format!("the secret at position {first} has this name too; keep one");
            reader
                .report
                .invalid(&path.index(second).field("name"), message);
        };
        if let Err(problems) = reader.apart(report) {
            held_back.push(HeldBack { name, problems });
        }
    }
    let mut usable = HashMap::new();
    for (i, secret) in all.into_iter().enumerate() {
        let (name, at) = (secret.name.clone(), path.index(i));
        if name.is_empty() {
            // Nobody could be told which it is.
            reader.secret(secret, &at);
            continue;
        }
        if held_back.iter().any(|held| held.name == name) {
            continue;
        }
        match reader.apart(|reader| reader.secret(secret, &at)) {
            Ok(Some((_, secret))) => drop(usable.insert(name, Arc::new(secret))),
            Ok(None) => {}
            Err(problems) => held_back.push(HeldBack { name, problems }),
        }
    }
    usable
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
