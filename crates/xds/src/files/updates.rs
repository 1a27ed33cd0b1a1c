//! The thread that takes changes of files to the proxy.

use super::contents::{self, Kind, Text, Usable};
use super::error::{FileError, Reason};
use super::shown::FileResources;
use super::state::{Key, Read, State};
use super::waiting::Waiting;
use super::watch::{Happened, Watcher};
use crate::bootstrap::certificates::DataFile;
use crate::bootstrap::draft::FileSource;
use crate::convert::{Converter, HeldBack};
use nix::sys::eventfd::EventFd;
use shunt_proxy::control::Control;
use shunt_proxy::observe::series::{
    CdsSeries, EdsSeries, LdsSeries, ManagerSeries, RdsSeries, SdsSeries, UpdateSeries,
};
use shunt_proxy::observe::stats::{Counter, Gauge, Registry};
use std::io;
use std::sync::Arc;
use std::thread;

/// Files that a configuration is in, to be read again when they change.
#[derive(Debug)]
pub struct Updates {
    state: State,
    converter: Converter,
    shown: FileResources,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watching {
    stop: Arc<EventFd>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Full only where it was asked for a great many times.
        let _asked_already = self.stop.write(1);
    }
}

/// What a file holds.
type Parsed = Result<Usable, FileError>;

impl Usable {
    /// With what is known of its file, and what is held back of it.
    fn read(self, hash: u64, data: Vec<DataFile>) -> (Read, Vec<HeldBack>) {
        let Self {
            contents,
            wire,
            held_back,
        } = self;
        let read = Read {
            contents,
            hash: Some(hash),
            data,
            is_whole: held_back.is_empty(),
            wire,
        };
        (read, held_back)
    }
}

impl HeldBack {
    fn error(self, (kind, source): &Key) -> FileError {
        let Self { name, problems } = self;
        FileError {
            kind: *kind,
            file: source.path.clone(),
            reason: Reason::HeldBack { name, problems },
        }
    }
}

/// What is to be told when everything is warm.
type Warm = Box<dyn FnOnce() + Send>;

impl Updates {
    /// Read all files that are needed, as far as that succeeds; the rest is read again, and
    /// reported, when they are watched.
    pub(crate) fn load(mut state: State, converter: Converter) -> Self {
        while let Some(key) = state.missing() {
            let (kind, source) = &key;
            let (data, read) = match contents::read(*kind, &source.path) {
                Err(error) => (Vec::new(), Err(error)),
                Ok(text) => {
                    let file = (*kind, &*source.path);
                    let (data, usable) = contents::parse(file, &text, converter, state.start());
                    (data, usable.map(|usable| (usable, text.hash)))
                }
            };
            let mut next = state.clone();
            if let Ok((usable, hash)) = read {
                next.put(key.clone(), usable.read(hash, data.clone()).0);
            }
            match next.build() {
                Ok(served) if next.file(&key).is_some() => {
                    next.serve(served);
                    state = next;
                }
                _ => state.refuse(&key, data),
            }
        }
        let shown = FileResources::default();
        shown.set(state.shown());
        Self {
            state,
            converter,
            shown,
        }
    }

    /// What the files hold, now and in future.
    pub fn resources(&self) -> FileResources {
        self.shown.clone()
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Watch the files from now on, on a thread of its own. `warm` is called when all of them were
    /// taken once and nothing waits for a part of it.
    ///
    /// # Errors
    /// Where the kernel gives no means to watch, or no thread.
    pub fn watch(
        self,
        control: Control,
        registry: Registry,
        warm: impl FnOnce() + Send + 'static,
    ) -> io::Result<Watching> {
        let watcher = Watcher::new().map_err(|error| {
            io::Error::other(format!(
                "watching the files of a path_config_source: {error}; is \
                 fs.inotify.max_user_instances reached?"
            ))
        })?;
        let watching = Watching {
            stop: watcher.stop(),
        };
        let worker = Worker {
            state: self.state,
            converter: self.converter,
            watcher,
            control,
            registry,
            warm: Some(Box::new(warm)),
            told: Default::default(),
            shown: self.shown,
        };
        thread::Builder::new()
            .name("configuration".into())
            .spawn(move || worker.run())?;
        Ok(watching)
    }
}

struct Worker {
    state: State,
    converter: Converter,
    watcher: Watcher,
    control: Control,
    registry: Registry,
    warm: Option<Warm>,
    /// Warming listeners and clusters, as the log and the gauges tell.
    told: (Vec<Waiting>, Vec<Waiting>),
    shown: FileResources,
}

impl Worker {
    fn run(mut self) {
        // All once more: what changed before they were watched, or could not be taken.
        let mut changed: Vec<Key> = self.state.needed().into_iter().collect();
        for key in &changed {
            for source in self.state.watched(key) {
                self.watch(&source);
            }
        }
        loop {
            for key in std::mem::take(&mut changed) {
                self.reload(&key);
            }
            self.tell();
            match self.watcher.wait() {
                Ok(Happened::Stopped) => return,
                Ok(Happened::Anything) => changed = self.state.needed().into_iter().collect(),
                Ok(Happened::Moves(moves)) => {
                    let needed = self.state.needed().into_iter();
                    let is_changed = |key: &Key| {
                        let watched = self.state.watched(key);
                        let mut seen = watched
                            .iter()
                            .flat_map(|s| moves.iter().map(move |m| (m, s)));
                        seen.any(|(moved, source)| self.watcher.is_change(moved, source))
                    };
                    changed = needed.filter(is_changed).collect();
                }
                Err(error) => {
                    tracing::error!(%error, "changes of configuration files are no longer seen");
                    return;
                }
            }
        }
    }

    /// Watch for changes of a file; says whether it was not watched before.
    fn watch(&mut self, source: &FileSource) -> bool {
        match self.watcher.watch(source) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(
                    file = %source.path.display(), %error,
                    "changes of it are not seen; is its directory there, and is \
                     fs.inotify.max_user_watches reached?"
                );
                false
            }
        }
    }

    /// Read a file again and take what it holds.
    fn reload(&mut self, key: &Key) {
        let names: Vec<String> = self
            .state
            .fed_by(key)
            .iter()
            .map(ToString::to_string)
            .collect();
        let outcome = self.take(key);
        let missing = self.state.missing_secrets(key);
        for name in names {
            let counter: fn(&UpdateSeries) -> Counter = match &outcome {
                Ok(held_back) if held_back.iter().any(|held| held.name == name) => {
                    |series| series.rejected
                }
                Ok(_) if missing.contains(&*name) => |series| series.rejected,
                Ok(_) => |series| series.success,
                Err(error) if error.is_rejection() => |series| series.rejected,
                Err(_) => |series| series.failure,
            };
            let series = series(key.0, &self.registry, &name);
            self.registry.inc_shared(series.attempt, 1);
            self.registry.inc_shared(counter(&series), 1);
        }
        let errors = match outcome {
            Ok(held_back) => held_back.into_iter().map(|held| held.error(key)).collect(),
            Err(error) => vec![error],
        };
        for error in errors {
            tracing::warn!("not taken: {error}; what was taken before stays");
        }
    }

    /// Take what a file holds; says what of it is held back.
    fn take(&mut self, key: &Key) -> Result<Vec<HeldBack>, FileError> {
        let (kind, source) = key;
        let text = contents::read(*kind, &source.path)?;
        if self.state.file(key).is_some_and(|file| file.is(text.hash)) {
            return Ok(Vec::new());
        }
        let (data, usable) = self.parse(key, &text);
        let taken = usable.and_then(|usable| {
            let (read, held_back) = usable.read(text.hash, data.clone());
            Ok((self.apply(key, read)?, held_back))
        });
        if taken.is_err() {
            self.state.refuse(key, data);
        }
        self.forget();
        let (referred, held_back) = taken?;
        tracing::info!(file = %source.path.display(), "taken: new {}", kind.what());
        for key in referred {
            self.reload(&key);
        }
        Ok(held_back)
    }

    /// Take a file apart; what it names is watched from before it is read.
    fn parse(&mut self, key: &Key, text: &Text) -> (Vec<DataFile>, Parsed) {
        loop {
            let file = (key.0, &*key.1.path);
            let parsed = contents::parse(file, text, self.converter, self.state.start());
            let mut news = false;
            for file in &parsed.0 {
                news |= self.watch(&file.source);
            }
            if !news || parsed.0.iter().all(DataFile::is_current) {
                return parsed;
            }
        }
    }

    /// Serve what was read beside all else. Returns the files that it is the first to refer to.
    fn apply(&mut self, key: &Key, read: Read) -> Result<Vec<Key>, FileError> {
        let (kind, source) = key;
        let mut next = self.state.clone();
        next.put(key.clone(), read);
        // What it refers to may be in files that were not needed before.
        let mut referred = Vec::new();
        while let Some(missing) = next.missing() {
            self.watch(&missing.1);
            next.refuse(&missing, Vec::new());
            referred.push(missing);
        }
        let apply = |reason: String| FileError {
            kind: *kind,
            file: source.path.clone(),
            reason: Reason::Apply(reason),
        };
        let served = next.build().map_err(apply)?;
        let applied = self.control.apply(&served.resources);
        applied.map_err(|error| apply(chain(&error)))?;
        next.serve(served);
        self.state = next;
        self.shown.set(self.state.shown());
        Ok(referred)
    }

    /// Watch no more than is needed.
    fn forget(&mut self) {
        let needed = self.state.needed();
        let watched: Vec<_> = needed.iter().flat_map(|k| self.state.watched(k)).collect();
        self.watcher.retain(watched.iter());
    }

    /// Tell what waits, and when nothing does.
    fn tell(&mut self) {
        let warming = &self.state.served().warming;
        if *warming != self.told {
            let before = std::mem::replace(&mut self.told, warming.clone());
            let series = ManagerSeries::new(&self.registry, "");
            self.show(
                "listener",
                series.warming_listeners,
                &before.0,
                &self.told.0,
            );
            self.show("cluster", series.warming_clusters, &before.1, &self.told.1);
        }
        if self.state.is_warm()
            && let Some(warm) = self.warm.take()
        {
            warm();
        }
    }

    fn show(&self, what: &str, gauge: Gauge, before: &[Waiting], now: &[Waiting]) {
        for waiting in now.iter().filter(|waiting| !before.contains(waiting)) {
            tracing::warn!("the {what} {waiting}");
        }
        // Beyond all workers: the counters of other threads.
        let stats = self.registry.worker(usize::MAX);
        let count = |all: &[Waiting]| i64::try_from(all.len()).unwrap_or(i64::MAX);
        stats.gauge_add(gauge, count(now) - count(before));
    }
}

fn series(kind: Kind, registry: &Registry, name: &str) -> UpdateSeries {
    match kind {
        Kind::Listeners => LdsSeries::new(registry, name).into(),
        Kind::Clusters => CdsSeries::new(registry, name).into(),
        Kind::Routes => RdsSeries::new(registry, name).into(),
        Kind::Endpoints => EdsSeries::new(registry, name).into(),
        Kind::Secrets => SdsSeries::new(registry, name).into(),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}
