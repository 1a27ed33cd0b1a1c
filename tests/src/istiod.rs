//! What a real istiod sends, and how it is made fit to be served from files.
//!
//! A recorded resource names its sources (ADS, SDS) and hosts by name, and has fields that Shunt
//! refuses. [`Pattern::remove`] takes away what a line of `tests/data/istiod/refused.txt` names and
//! nothing else; where a source or a kind of discovery is named, what stands in comes from the
//! [`Place`].

use serde_json::{Map, Value, json};
use std::fmt;
use std::str::FromStr;

/// Every resource of every scenario.
const RESOURCES: &str = include_str!("../data/istiod/resources.jsonl");

/// Fields without which what holds them is nothing.
const NEEDED: [&str; 2] = ["redirect", "json_format"];

/// What is refused of them, with the part of Shunt that will bring it.
pub const REFUSED: &str = include_str!("../data/istiod/refused.txt");

/// A resource as istiod sent it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Who got it: `01-basic/client`.
    pub seen: Vec<String>,
    /// The resource, with its `@type`.
    pub resource: Value,
}

/// All resources.
///
/// # Panics
/// Where the recording is broken.
pub fn recorded() -> Vec<Recorded> {
    let lines = RESOURCES.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("a line of the recording is JSON");
        let seen = line["seen"].as_array().expect("it says who got it");
        let seen = seen.iter().filter_map(Value::as_str).map(str::to_owned);
        Recorded {
            seen: seen.collect(),
            resource: line["resource"].take(),
        }
    });
    lines.collect()
}

/// What a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `RouteConfiguration`.
    Routes,
    /// `ClusterLoadAssignment`.
    Endpoints,
    /// `Secret`.
    Secrets,
}

/// Where recorded resources are served.
pub trait Place {
    /// The file that stands in for the control plane.
    fn file(&self, source: Source) -> String;

    /// The address of a host that the recording names.
    fn address(&self, host: &str) -> String;
}

/// A field or an extension that is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// Full name of the message that the path begins at.
    message: String,
    /// Steps to the field; `None` = every element of a list.
    path: Vec<Option<String>>,
    /// The value, or the type of the extension; `None` = any.
    value: Option<String>,
}

impl Pattern {
    /// What is refused at this path of a resource. With `whole` its value is of no account.
    pub fn of(resource: &Value, path: &str, whole: bool) -> Self {
        let mut at = resource;
        let mut pattern = Self {
            message: String::new(),
            path: Vec::new(),
            value: None,
        };
        for step in steps(path) {
            if let Some(message) = type_of(at) {
                pattern.message = message;
                pattern.path.clear();
            }
            let next = match &step {
                Step::Name(name) => at.get(name),
                Step::Index(index) => at.get(index),
            };
            pattern.path.push(match step {
                Step::Name(name) => Some(name),
                Step::Index(_) => None,
            });
            at = next.unwrap_or(&Value::Null);
        }
        pattern.value = extension(at).or_else(|| match at {
            Value::String(text) if !whole => Some(text.clone()),
            Value::Object(_) | Value::Array(_) | Value::Null => None,
            other if !whole => Some(other.to_string()),
            _ => None,
        });
        pattern
    }

    /// Whether this is a field that the other lies in.
    pub fn holds(&self, other: &Self) -> bool {
        self.message == other.message
            && self.value.is_none()
            && self.path.len() < other.path.len()
            && other.path.starts_with(&self.path)
    }

    /// Take it out of a resource, wherever it stands; says whether it stood anywhere.
    pub fn remove(&self, resource: &mut Value, place: &dyn Place) -> bool {
        let mut found = false;
        if type_of(resource).is_some_and(|message| message == self.message) {
            found |= self.cut(resource, &self.path, place) != Cut::Nothing;
        }
        match resource {
            Value::Object(fields) => {
                for value in fields.values_mut() {
                    found |= self.remove(value, place);
                }
            }
            Value::Array(list) => {
                for value in list {
                    found |= self.remove(value, place);
                }
            }
            _ => {}
        }
        found
    }

    fn cut(&self, at: &mut Value, path: &[Option<String>], place: &dyn Place) -> Cut {
        let Some((step, rest)) = path.split_first() else {
            let matches = match &self.value {
                None => true,
                Some(value) => {
                    let plain = at.as_str().map_or_else(|| at.to_string(), str::to_owned);
                    extension(at).unwrap_or(plain) == *value
                }
            };
            return match (matches, extension(at).is_some()) {
                (false, _) => Cut::Nothing,
                // What is named and typed goes as a whole.
                (true, true) => Cut::Holder,
                (true, false) => Cut::Field,
            };
        };
        match (step, at) {
            (None, Value::Array(list)) => {
                let mut cut = Cut::Nothing;
                list.retain_mut(|element| match self.cut(element, rest, place) {
                    Cut::Nothing => true,
                    Cut::Done => {
                        cut = Cut::Done;
                        true
                    }
                    Cut::Field | Cut::Holder => {
                        cut = Cut::Done;
                        false
                    }
                });
                cut
            }
            (Some(name), Value::Object(fields)) => {
                let Some(field) = fields.get_mut(name) else {
                    return Cut::Nothing;
                };
                match self.cut(field, rest, place) {
                    Cut::Holder if name == "typed_config" => Cut::Holder,
                    Cut::Field | Cut::Holder => {
                        fields.remove(name);
                        self.stand_in(name, fields, place);
                        if NEEDED.contains(&name.as_str()) {
                            Cut::Field
                        } else {
                            Cut::Done
                        }
                    }
                    other => other,
                }
            }
            _ => Cut::Nothing,
        }
    }

    /// What must not simply be missing.
    fn stand_in(&self, removed: &str, fields: &mut Map<String, Value>, place: &dyn Place) {
        match removed {
            "ads" | "api_config_source" => {
                let holds = |name: &str| self.path.iter().flatten().any(|step| step == name);
                let source = if holds("rds") {
                    Source::Routes
                } else if holds("eds_cluster_config") {
                    Source::Endpoints
                } else {
                    Source::Secrets
                };
                let file = json!({"path": place.file(source)});
                fields.insert("path_config_source".to_owned(), file);
            }
            "type"
                if self
                    .value
                    .as_deref()
                    .is_some_and(|kind| kind.ends_with("_DNS")) =>
            {
                fields.insert("type".to_owned(), json!("STATIC"));
                if let Some(assignment) = fields.get_mut("load_assignment") {
                    resolve(assignment, place);
                }
            }
            _ => {}
        }
    }
}

/// What became of a path.
#[derive(PartialEq, Eq)]
enum Cut {
    Nothing,
    /// The caller's field or element is to be removed.
    Field,
    /// As `Field`, and if that is a `typed_config` what holds it.
    Holder,
    Done,
}

fn resolve(value: &mut Value, place: &dyn Place) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(host) if name == "address" => *host = place.address(host),
                    _ => resolve(value, place),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| resolve(value, place)),
        _ => {}
    }
}

/// The full name of a message with an `@type`.
fn type_of(value: &Value) -> Option<String> {
    let url = value.get("@type")?.as_str()?;
    Some(url.rsplit('/').next().unwrap_or(url).to_owned())
}

/// The type of an extension; of one in a `TypedStruct`, its own.
fn extension(value: &Value) -> Option<String> {
    let message = type_of(value)?;
    let inner = value.get("type_url").and_then(Value::as_str);
    Some(match inner {
        Some(url) if message.ends_with("TypedStruct") => {
            url.rsplit('/').next().unwrap_or(url).to_owned()
        }
        _ => message,
    })
}

enum Step {
    Name(String),
    Index(usize),
}

/// The steps of a path as errors write it: `a.b[0]["c.d"].e`.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]").unwrap_or((quoted, ""));
            steps.push(Step::Name(key.to_owned()));
            rest = after;
        } else if let Some(indexed) = rest.strip_prefix('[') {
            let (index, after) = indexed.split_once(']').unwrap_or((indexed, ""));
            steps.push(Step::Index(index.parse().unwrap_or_default()));
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(Step::Name(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    steps
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.message)?;
        for (i, step) in self.path.iter().enumerate() {
            match step {
                None => f.write_str("[]")?,
                Some(name) if name.contains('.') => write!(f, "[{name:?}]")?,
                Some(name) if i == 0 => f.write_str(name)?,
                Some(name) => write!(f, ".{name}")?,
            }
        }
        match &self.value {
            None => Ok(()),
            Some(value) => write!(f, " = {value}"),
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (message, rest) = line
            .split_once(": ")
            .ok_or_else(|| format!("no message: {line}"))?;
        let (path, value) = match rest.split_once(" = ") {
            Some((path, value)) => (path, Some(value.to_owned())),
            None => (rest, None),
        };
        let path = path.replace("[]", "[0]");
        let path = steps(&path).into_iter().map(|step| match step {
            Step::Name(name) => Some(name),
            Step::Index(_) => None,
        });
        Ok(Self {
            message: message.to_owned(),
            path: path.collect(),
            value,
        })
    }
}

/// The lines of [`REFUSED`]: what is refused, and what will bring it.
///
/// # Errors
/// Names a line that is none.
pub fn refused() -> Result<Vec<(Pattern, &'static str)>, String> {
    let lines = REFUSED.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (pattern, brings) = line
                .split_once(" -> ")
                .ok_or_else(|| format!("nothing will bring it: {line}"))?;
            Ok((pattern.parse()?, brings))
        })
        .collect()
}
