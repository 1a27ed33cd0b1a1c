//! Waiting for files to change.
//!
//! Only moves count, as in Envoy: what is being written may not be whole.

use crate::bootstrap::draft::FileSource;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Watches directories for files that are moved there.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: Inotify,
    /// Readable when there is nothing to wait for any more.
    stop: Arc<EventFd>,
    directories: HashMap<PathBuf, WatchDescriptor>,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Happened {
    /// Something was moved.
    Moves(Vec<Move>),
    /// More than the kernel remembers.
    Anything,
    /// The end was asked for.
    Stopped,
}

/// Something that was moved to a directory.
#[derive(Debug)]
pub(super) struct Move {
    directory: WatchDescriptor,
    name: std::ffi::OsString,
}

impl Watcher {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// Where the kernel gives no more instances.
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self {
            inotify,
            stop: Arc::new(stop),
            directories: HashMap::new(),
        })
    }

    /// What ends the waiting when it is written to.
    pub(super) fn stop(&self) -> Arc<EventFd> {
        Arc::clone(&self.stop)
    }

    /// Watch for changes of a file. Says whether its directory was not watched before.
    ///
    /// # Errors
    /// Where the directory is not there or the kernel watches no more.
    pub(super) fn watch(&mut self, source: &FileSource) -> io::Result<bool> {
        let directory = directory(source);
        if self.directories.contains_key(directory) {
            return Ok(false);
        }
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        let descriptor = self.inotify.add_watch(directory, flags)?;
        self.directories.insert(directory.to_path_buf(), descriptor);
        Ok(true)
    }

    /// Watch for changes of these files alone.
    pub(super) fn retain<'a>(&mut self, sources: impl Iterator<Item = &'a FileSource>) {
        let needed: HashSet<&Path> = sources.map(directory).collect();
        let unneeded: Vec<(PathBuf, WatchDescriptor)> = self
            .directories
            .extract_if(|path, _| !needed.contains(path.as_path()))
            .collect();
        for (_, descriptor) in unneeded {
            // Two paths may lead to one directory.
            if !self.directories.values().any(|d| *d == descriptor) {
                let _gone_already = self.inotify.rm_watch(descriptor);
            }
        }
    }

    /// Whether this was a change of the file.
    pub(super) fn is_change(&self, moved: &Move, source: &FileSource) -> bool {
        self.directories.get(directory(source)) == Some(&moved.directory)
            && (source.watched.is_some() || source.path.file_name() == Some(&moved.name))
    }

    /// Wait until something happens.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub(super) fn wait(&mut self) -> io::Result<Happened> {
        loop {
            let mut ready = [
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if ready[0].any() == Some(true) {
                return Ok(Happened::Stopped);
            }
            let events = match self.inotify.read_events() {
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                other => other?,
            };
            if events
                .iter()
                .any(|e| e.mask.contains(AddWatchFlags::IN_Q_OVERFLOW))
            {
                return Ok(Happened::Anything);
            }
            return Ok(Happened::Moves(self.moves(events)));
        }
    }

    fn moves(&mut self, events: Vec<InotifyEvent>) -> Vec<Move> {
        for event in &events {
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                let gone = self.directories.extract_if(|_, d| *d == event.wd);
                for (path, _) in gone {
                    tracing::error!(
                        directory = %path.display(),
                        "it was removed, so changes of files in it are no longer seen; restart \
                         the sidecar when it is there again"
                    );
                }
            }
        }
        let moves = events.into_iter().filter_map(|event| {
            Some(Move {
                directory: event.wd,
                name: event.name?,
            })
        });
        moves.collect()
    }
}

/// The directory where a file's changes are seen.
fn directory(source: &FileSource) -> &Path {
    match &source.watched {
        Some(directory) => directory,
        None => match source.path.parent() {
            Some(parent) if parent.as_os_str() != OsStr::new("") => parent,
            _ => Path::new("."),
        },
    }
}
