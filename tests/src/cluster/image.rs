//! Container images made without an engine: `FROM scratch`, one layer with programs of this
//! machine and the shared libraries they load, saved in the form of `docker save`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::tar::Archive;

/// An image to be imported into a cluster.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    /// Path in the image, without the first slash, and where the file comes from.
    files: BTreeMap<String, PathBuf>,
    /// Path in the image, without the first slash, and where the link leads.
    links: BTreeMap<String, String>,
    entrypoint: Vec<String>,
}

impl Image {
    /// Begins an image with nothing in it; `name` carries a tag.
    pub fn scratch(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            entrypoint: Vec::new(),
        }
    }

    /// Puts a program of this machine at an absolute path of the image, and the shared libraries
    /// that it loads at the paths where it looks for them.
    ///
    /// # Errors
    /// There is no such program, or a library of it is missing here too.
    pub fn program(mut self, path: &str, source: &Path) -> Result<Self> {
        for library in libraries(source)? {
            self.put(&library.display().to_string(), &library)?;
        }
        self.put(path, source)?;
        Ok(self)
    }

    /// Gives a program of the image another absolute path.
    ///
    /// # Errors
    /// The path is none.
    pub fn link(mut self, path: &str, to: &str) -> Result<Self> {
        self.links.insert(inside(path)?.to_owned(), to.to_owned());
        Ok(self)
    }

    /// Sets what a container runs that says nothing else.
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Its name with the tag.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn put(&mut self, path: &str, source: &Path) -> Result<()> {
        ensure!(source.is_file(), "{} is not there", source.display());
        self.files
            .insert(inside(path)?.to_owned(), source.to_owned());
        Ok(())
    }

    /// Writes the image into a folder; gives the path of the archive.
    pub(super) fn save(&self, folder: &Path) -> Result<PathBuf> {
        let layer = folder.join(self.file_name("layer"));
        let archive = folder.join(self.file_name("tar"));
        let written = self
            .write_layer(&layer)
            .and_then(|()| self.write_archive(&archive, &layer));
        std::fs::remove_file(&layer).ok();
        written.with_context(|| format!("making the image {}", self.name))?;
        Ok(archive)
    }

    fn file_name(&self, ending: &str) -> String {
        format!("{}.{ending}", self.name.replace(['/', ':'], "_"))
    }

    fn write_layer(&self, path: &Path) -> Result<()> {
        let mut layer = Archive::new(create(path)?);
        let folders: BTreeSet<_> = self
            .files
            .keys()
            .chain(self.links.keys())
            .flat_map(|file| file.match_indices('/').map(|(end, _)| &file[..end]))
            .collect();
        for folder in folders {
            layer.folder(folder)?;
        }
        for (file, source) in &self.files {
            layer.program(file, source)?;
        }
        for (link, to) in &self.links {
            layer.link(link, to)?;
        }
        layer.finish().map(drop)
    }

    fn write_archive(&self, path: &Path, layer: &Path) -> Result<()> {
        let config = json!({
            "architecture": architecture()?,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": ["PATH=/usr/local/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer)?)]},
        });
        let manifest = json!([{
            "Config": "config.json",
            "RepoTags": [self.name],
            "Layers": ["layer.tar"],
        }]);
        let mut archive = Archive::new(create(path)?);
        archive.text("config.json", &config.to_string())?;
        archive.program("layer.tar", layer)?;
        archive.text("manifest.json", &manifest.to_string())?;
        archive.finish().map(drop)
    }
}

/// An absolute path as archives have it.
fn inside(path: &str) -> Result<&str> {
    path.strip_prefix('/')
        .with_context(|| format!("{path} is no absolute path in an image"))
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    Ok(BufWriter::new(file))
}

/// What container images call this machine's architecture.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images for {other} are not known to the harness"),
    }
}

/// The shared libraries that a program loads, its loader included; none if it is static.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("running ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        // The one failure that is none.
        ensure!(
            complaint.contains("not a dynamic executable"),
            "ldd {}: {complaint}",
            program.display()
        );
        return Ok(Vec::new());
    }
    let mut libraries = Vec::new();
    for line in said.lines() {
        // `name => path (address)`, `path (address)` for the loader, `name (address)` for what
        // the kernel brings along.
        ensure!(
            !line.contains("not found"),
            "{} does not run here: {}",
            program.display(),
            line.trim()
        );
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        libraries.extend(path.map(PathBuf::from));
    }
    Ok(libraries)
}

fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-r"])
        .arg(file)
        .output()
        .context("running openssl")?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.split_once(' ') {
        Some((digest, _)) if output.status.success() => Ok(digest.to_owned()),
        _ => bail!("openssl dgst {} failed", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_brings_its_loader_and_a_missing_one_is_named() {
        let libraries = libraries(Path::new("/bin/sh")).unwrap();
        assert!(
            libraries
                .iter()
                .any(|path| path.to_string_lossy().contains("ld-linux")),
            "{libraries:?}"
        );
        let image = Image::scratch("x:1").program("/a", Path::new("/no/such/program"));
        assert!(image.unwrap_err().to_string().contains("/no/such/program"));
    }
}
