//! Tar archives as POSIX 1003.1-1988 (`ustar`) lays them out: the form of a container image.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

const BLOCK: usize = 512;

/// Writes an archive: entries, then [`Archive::finish`].
pub(super) struct Archive<W> {
    to: W,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to }
    }

    /// Adds a folder that everybody may enter.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        self.header(&format!("{path}/"), b'5', 0o755, 0, "")
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, to: &str) -> Result<()> {
        self.header(path, b'2', 0o777, 0, to)
    }

    /// Adds a small file.
    pub(super) fn text(&mut self, path: &str, text: &str) -> Result<()> {
        self.content(path, 0o644, text.len() as u64, text.as_bytes())
    }

    /// Adds a file of this machine, executable by everybody.
    pub(super) fn program(&mut self, path: &str, source: &Path) -> Result<()> {
        let file = File::open(source).with_context(|| format!("opening {}", source.display()))?;
        let size = file.metadata()?.len();
        self.content(path, 0o755, size, file)
            .with_context(|| format!("adding {}", source.display()))
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn content(&mut self, path: &str, mode: u32, size: u64, from: impl Read) -> Result<()> {
        self.header(path, b'0', mode, size, "")?;
        let copied = io::copy(&mut from.take(size), &mut self.to)?;
        ensure!(copied == size, "{path} became shorter while it was read");
        let over = usize::try_from(size % BLOCK as u64)?;
        if over != 0 {
            self.to.write_all(&[0; BLOCK][over..])?;
        }
        Ok(())
    }

    fn header(&mut self, path: &str, kind: u8, mode: u32, size: u64, to: &str) -> Result<()> {
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        for name in [path, to] {
            ensure!(
                name.len() <= 100,
                "{name} is too long a name for an archive"
            );
        }
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        // Owned by root, made in 1970: the same content is the same archive.
        put(108, b"0000000\x000000000\0");
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, to.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(self.to.write_all(&header)?)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_archive_reads_back_with_tar() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("etc").unwrap();
        archive.text("etc/motd", &"x".repeat(513)).unwrap();
        archive.link("etc/issue", "/etc/motd").unwrap();
        let bytes = archive.finish().unwrap();
        let list = tar(&["--list", "--verbose"], &bytes);
        assert!(list.contains("etc/issue -> /etc/motd"), "{list}");
        let motd = tar(&["--extract", "--to-stdout", "etc/motd"], &bytes);
        assert_eq!(motd, "x".repeat(513));
    }

    fn tar(args: &[&str], archive: &[u8]) -> String {
        let mut tar = Command::new("tar")
            .arg("--file=-")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(archive).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}
