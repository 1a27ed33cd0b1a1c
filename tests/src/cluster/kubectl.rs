//! `kubectl`, called as the administrator through the forwarded port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Home;
use crate::expect::eventually::poll;
use crate::net::Namespace;
use crate::peers;
use crate::process::{self, Finished};

/// How long pods may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Calls of `kubectl` with a cluster's administrator.
#[derive(Debug, Clone)]
pub struct Kubectl {
    home: Home,
    program: PathBuf,
    /// The namespace that it looks into if it is told no other.
    namespace: String,
}

impl Kubectl {
    pub(super) fn new(home: &Home) -> Result<Self> {
        Ok(Self {
            home: home.clone(),
            program: peers::program("kubectl")?,
            namespace: "default".to_owned(),
        })
    }

    pub(super) fn in_namespace(&self, name: &str) -> Self {
        Self {
            namespace: name.to_owned(),
            ..self.clone()
        }
    }

    fn command(&self, args: &[&str]) -> Result<process::Command> {
        let here = Namespace::current("the test's own")?;
        Ok(process::Command::new(self.program.as_os_str(), here)
            .arg("--kubeconfig")
            .arg(self.home.kubeconfig())
            .arg("--cache-dir")
            .arg(self.home.file("kubectl"))
            .args(["--namespace", &self.namespace])
            .args(args))
    }

    /// Runs it to its end, which may be a failure.
    ///
    /// # Errors
    /// It does not end within [`crate::DEADLINE`].
    pub fn finish(&self, args: &[&str]) -> Result<Finished> {
        self.command(args)?.finish()
    }

    /// Runs it and gives its standard output.
    ///
    /// # Errors
    /// It fails; what it said is in the error.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let done = self.finish(args)?.success();
        Ok(done
            .with_context(|| format!("kubectl {}", args.join(" ")))?
            .stdout)
    }

    /// As [`Kubectl::run`], with a text as standard input.
    ///
    /// # Errors
    /// As for [`Kubectl::run`].
    pub fn feed(&self, args: &[&str], text: &str) -> Result<String> {
        let done = self.command(args)?.stdin_text(text)?.finish()?.success();
        Ok(done
            .with_context(|| format!("kubectl {} with\n{text}", args.join(" ")))?
            .stdout)
    }

    /// Runs it and reads its output as JSON.
    ///
    /// # Errors
    /// As for [`Kubectl::run`], or it wrote no JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut args = args.to_vec();
        args.extend(["-o", "json"]);
        let text = self.run(&args)?;
        serde_json::from_str(&text).with_context(|| format!("reading what {args:?} gave"))
    }

    /// Follows a pod, each state as it comes, until one satisfies a condition.
    ///
    /// # Errors
    /// None does within [`PATIENCE`]; the last state is in the error. Or the condition says that
    /// it never will.
    pub(super) fn watch<T>(
        &self,
        pod: &str,
        mut condition: impl FnMut(&Value) -> Option<Result<T>>,
    ) -> Result<T> {
        let selector = format!("metadata.name={pod}");
        let watch = self
            .command(&["get", "pods", "--field-selector", &selector])?
            .args(["--watch", "-o", "jsonpath={}{\"\\n\"}"])
            .start()?;
        let mut seen = 0;
        let mut last = Value::Null;
        let found = poll(PATIENCE, || {
            let lines = watch.stdout().lines();
            for line in &lines[seen..] {
                last = match serde_json::from_str(line) {
                    Ok(state) => state,
                    Err(error) => return Some(Err(error).context("reading a pod's state")),
                };
                if let Some(outcome) = condition(&last) {
                    return Some(outcome);
                }
            }
            seen = lines.len();
            None
        });
        found.with_context(|| {
            let status = last.get("status").unwrap_or(&Value::Null);
            format!(
                "not within {PATIENCE:?}; the last status was {status:#}\n{}",
                watch.stderr().text()
            )
        })?
    }

    /// Where the program is.
    pub fn program(&self) -> &Path {
        &self.program
    }
}
