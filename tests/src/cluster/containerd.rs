//! The little that is asked of containerd itself: to take images.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Home;
use super::image::Image;
use crate::expect::eventually::eventually;

/// Makes an image known to the cluster; pods find it without pulling.
pub(super) fn import(home: &Home, image: &Image) -> Result<()> {
    let folder = home.file("images");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let archive = image.save(&folder)?;
    let path = archive.display().to_string();
    ctr(home, &["images", "import", &path])?;
    std::fs::remove_file(&archive).with_context(|| format!("removing {path}"))?;
    // The part of containerd that serves the kubelet hears of it a moment later.
    let filter = format!("name=={}", image.name());
    eventually(
        &format!("the kubelet's side knows {}", image.name()),
        || {
            ctr(home, &["images", "list", &filter])
                .is_ok_and(|list| list.contains("io.cri-containerd.image=managed"))
        },
    )
}

fn ctr(home: &Home, args: &[&str]) -> Result<String> {
    let output = Command::new("ctr")
        .arg("--address")
        .arg(home.containerd())
        .args(["--namespace", "k8s.io"])
        .args(args)
        .output()
        .context("running ctr")?;
    ensure!(
        output.status.success(),
        "ctr {} failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
