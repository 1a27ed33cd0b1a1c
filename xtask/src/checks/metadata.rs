//! What `cargo metadata` says of the workspace, as far as the checks ask.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::workspace::{capture, cargo};

/// The part of `cargo metadata` that is read.
#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    pub(super) workspace_members: Vec<String>,
    resolve: Resolve,
}

/// A package: of the workspace or from a registry.
#[derive(Deserialize)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    /// SPDX expression.
    pub(super) license: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
}

/// A dependency as a Cargo.toml declares it.
#[derive(Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

impl Metadata {
    /// Asks cargo, for the platform Shunt runs on.
    ///
    /// # Errors
    /// When cargo fails or answers in a shape unknown here.
    pub(super) fn read() -> Result<Self> {
        let text = capture(&mut cargo(&[
            "metadata",
            "--format-version=1",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ]))?;
        serde_json::from_str(&text).context("reading the answer of cargo metadata")
    }

    /// The packages of the workspace.
    pub(super) fn members(&self) -> impl Iterator<Item = &Package> {
        let ids = &self.workspace_members;
        self.packages
            .iter()
            .filter(|package| ids.contains(&package.id))
    }

    /// The packages that take part in a build on this platform, whatever its features.
    pub(super) fn resolved(&self) -> impl Iterator<Item = &Package> {
        let ids: BTreeSet<_> = self.resolve.nodes.iter().map(|node| &node.id).collect();
        self.packages
            .iter()
            .filter(move |package| ids.contains(&package.id))
    }
}
