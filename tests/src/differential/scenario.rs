//! A scenario as it stands in its file. `tests/data/differential/README.md` explains the format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::http2::{Answer as Http2Answer, Request as Http2Request};
use super::message::Kind;

/// Where listeners of a bootstrap are, unless a scenario says otherwise.
const USUAL_PORT: u16 = 8080;

/// One scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in words joined by hyphens.
    pub name: String,
    /// Where its client connects to: a port of the proxy's pod, or an address that is captured.
    #[serde(default)]
    pub connect: Option<Target>,
    /// What its only client does.
    #[serde(default)]
    client: Vec<Step>,
    /// Its clients, where there are several; all begin at once.
    #[serde(default)]
    clients: Vec<Written>,
    /// Or the requests of its only client, which speaks HTTP/2.
    #[serde(default)]
    pub(super) http2: Vec<Http2Request>,
    /// What upstreams do, by port: a list of steps for each connection, the last one for all
    /// further ones.
    #[serde(default)]
    pub upstreams: BTreeMap<u16, Vec<Vec<Step>>>,
    /// What upstreams that speak HTTP/2 answer, by port: the first request of a connection, and so
    /// on, the last answer for all further ones.
    #[serde(default)]
    pub http2_upstreams: BTreeMap<u16, Vec<Http2Answer>>,
    /// The configured time after which something must happen, in milliseconds.
    #[serde(default)]
    pub time: Option<u64>,
}

/// Where a client connects to.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// A port of the proxy's pod, from another pod.
    Port(u16),
    /// An address, from the application's user inside the proxy's pod.
    Captured(String),
}

/// One client, as it is written down.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    connect: Option<Target>,
    steps: Vec<Step>,
}

/// One client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Where it connects to.
    pub(super) target: Target,
    /// What it does.
    pub(super) steps: Vec<Step>,
}

/// One thing that a client or an upstream does on its connection.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Send bytes, one for each character.
    Send(String),
    /// Send lines, each ended by CRLF, and an empty one.
    Lines(String),
    /// Send the same many times.
    Repeat(Repeat),
    /// Send a response 200 with this body, its length, and no body to a `HEAD`.
    Answer(String),
    /// Read until something is there.
    Read(Read),
    /// Wait until an upstream has received these bytes.
    Await(String),
    /// Do nothing for this many milliseconds.
    Pause(u64),
    /// End the own side of the stream.
    End,
    /// Close the connection.
    Close,
    /// Reset the connection.
    Reset,
}

/// The same many times.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// What.
    pub text: String,
    /// How many times.
    pub times: usize,
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Read {
    /// A message's head; the body is left.
    #[serde(rename = "head")]
    Head,
    /// A request.
    #[serde(rename = "request")]
    Request,
    /// A response.
    #[serde(rename = "response")]
    Response,
    /// A response without a body, whatever its head says.
    #[serde(rename = "response to HEAD")]
    ResponseToHead,
    /// The end of the stream.
    #[serde(rename = "end")]
    End,
    /// Any byte.
    #[serde(rename = "byte")]
    Byte,
}

impl Read {
    /// The message that it reads whole.
    pub(super) fn message(self) -> Option<Kind> {
        match self {
            Self::Request => Some(Kind::Request),
            Self::Response => Some(Kind::Response),
            Self::ResponseToHead => Some(Kind::ResponseToHead),
            Self::Head | Self::End | Self::Byte => None,
        }
    }
}

impl Scenario {
    /// Its clients.
    pub(super) fn clients(&self) -> Vec<Client> {
        let usual = || self.target();
        if !self.http2.is_empty() {
            return Vec::new();
        }
        if self.clients.is_empty() {
            return vec![Client {
                target: usual(),
                steps: self.client.clone(),
            }];
        }
        let client = |written: &Written| Client {
            target: written.connect.clone().unwrap_or_else(usual),
            steps: written.steps.clone(),
        };
        self.clients.iter().map(client).collect()
    }

    /// What the upstream at a port does on its connection of this number, from 0.
    pub(super) fn script(&self, port: u16, number: usize) -> Vec<Step> {
        let scripts = self.upstreams.get(&port).map_or(&[][..], Vec::as_slice);
        let usual = || {
            vec![
                Step::Read(Read::Request),
                Step::Answer(format!("from {port}")),
            ]
        };
        scripts
            .get(number)
            .or_else(|| scripts.last())
            .cloned()
            .unwrap_or_else(usual)
    }

    /// Where its clients connect to, unless they say otherwise.
    pub(super) fn target(&self) -> Target {
        self.connect.clone().unwrap_or(Target::Port(USUAL_PORT))
    }

    /// The configured time.
    pub(super) fn time(&self) -> Option<Duration> {
        self.time.map(Duration::from_millis)
    }

    fn check(&self) -> Result<()> {
        let words = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !self.name.is_empty() && self.name.chars().all(words),
            "a name is small letters, digits and hyphens: `{}`",
            self.name
        );
        ensure!(
            [
                self.client.is_empty(),
                self.clients.is_empty(),
                self.http2.is_empty(),
            ]
            .into_iter()
            .filter(|is_empty| !is_empty)
            .count()
                == 1,
            "{}: give one of `client`, `clients` and `http2`",
            self.name
        );
        Ok(())
    }
}

/// A bootstrap with its scenarios: one folder below `tests/data/differential`.
#[derive(Debug)]
pub struct Group {
    /// The bootstrap, placeholders included.
    pub bootstrap: String,
    /// Its scenarios, of all files.
    pub scenarios: Vec<Scenario>,
}

/// The folder of all groups.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/differential")
}

impl Group {
    /// Reads a folder: `bootstrap.yaml`, and scenarios in every other `.yaml`.
    ///
    /// # Errors
    /// A file cannot be read or is not as the format wants it.
    pub fn read(name: &str) -> Result<Self> {
        let folder = folder().join(name);
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .with_context(|| format!("reading {}", folder.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        let mut group = Self {
            bootstrap: String::new(),
            scenarios: Vec::new(),
        };
        for file in files {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("reading {}", file.display()))?;
            if file.ends_with("bootstrap.yaml") {
                group.bootstrap = text;
                continue;
            }
            let scenarios: Vec<Scenario> = serde_saphyr::from_multiple(&text)
                .with_context(|| format!("in {}", file.display()))?;
            for scenario in scenarios {
                scenario
                    .check()
                    .with_context(|| format!("in {}", file.display()))?;
                if group.scenarios.iter().any(|s| s.name == scenario.name) {
                    bail!("{}: `{}` is there twice", file.display(), scenario.name);
                }
                group.scenarios.push(scenario);
            }
        }
        ensure!(
            !group.bootstrap.is_empty(),
            "{} has no bootstrap.yaml",
            folder.display()
        );
        Ok(group)
    }
}
