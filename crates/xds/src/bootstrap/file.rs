//! The file itself.

use crate::convert::Format;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest file that is read.
const LIMIT: u64 = 64 << 20;

/// The text of a file; or what is wrong with it, and the remedy.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => "there is no such file; check the path and its mount".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("{e}; it must be readable by the user that runs the proxy")
        }
        _ => e.to_string(),
    })?;
    if metadata.is_dir() {
        return Err("it is a directory; name the file in it".to_owned());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file without a true size (a pipe) is measured too.
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it is larger than {} MiB", LIMIT >> 20));
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| format!("it is not UTF-8 text ({})", e.utf8_error()))?;
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(text)
}

/// How the file is written, by its name.
pub(crate) fn format(path: &Path) -> Format {
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("json") => Format::Json,
        _ => Format::Yaml,
    }
}
