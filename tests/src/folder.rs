//! A folder of configuration files, as a sidecar reads them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

/// A folder that the sidecar's user can read. It is removed on drop.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// An empty folder.
    ///
    /// # Errors
    /// There is no place for temporary files.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        Ok(Self(folder))
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in place, as it must not be done to one that is in use.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.path(name), text)?;
        fs::set_permissions(self.path(name), Permissions::from_mode(0o644))
    }

    /// Moves a file to its place, as it has to be done.
    ///
    /// # Errors
    /// The disk is full.
    pub fn put(&self, name: &str, text: &str) -> io::Result<()> {
        self.moved(name, text).map(drop)
    }

    /// As [`Folder::put`]; returns the moment of the move, by which the file was written.
    ///
    /// # Errors
    /// As for [`Folder::put`].
    pub fn moved(&self, name: &str, text: &str) -> io::Result<Instant> {
        self.write("new", text)?;
        let now = Instant::now();
        fs::rename(self.path("new"), self.path(name))?;
        Ok(now)
    }
}
