//! The mount namespace of a node: the machine's file system, with folders of the cluster's own
//! where containers, network plugins and logs leave their files.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::cluster::Home;

/// Folders of the machine that the cluster has its own of, by their name in its home.
const OWN: [(&str, &str); 2] = [("var-lib", "/var/lib"), ("var-log", "/var/log")];

/// Sets the mounts up, in the calling process's own mount and process namespaces.
pub(super) fn set_up(home: &Home) -> Result<()> {
    // First apart from the machine, then shared with the containers that ask for it
    // (`mountPropagation: HostToContainer`).
    for propagation in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | propagation,
            None::<&str>,
        )
        .context("setting the propagation of mounts")?;
    }
    for (kind, target) in [("proc", "/proc"), ("tmpfs", "/run")] {
        mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("mounting {kind} on {target}"))?;
    }
    for (name, target) in OWN {
        let own = home.file(name);
        fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
        mount(
            Some(&own),
            target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .with_context(|| format!("mounting {} on {target}", own.display()))?;
    }
    Ok(())
}

/// Settings of the whole machine that a kubelet writes when it starts.
const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Files that stand in for the machine's settings: what is written to them changes nothing.
#[derive(Debug)]
pub(super) struct Decoys(Vec<(CString, CString)>);

impl Decoys {
    /// Makes the files, with the values that are in force.
    pub(super) fn new(home: &Home) -> Result<Self> {
        let folder = home.file("sysctl");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mut decoys = Vec::new();
        for key in SYSCTLS {
            let real = Path::new("/proc/sys").join(key);
            let decoy = folder.join(key.replace('/', "."));
            fs::copy(&real, &decoy).with_context(|| format!("copying {}", real.display()))?;
            decoys.push((c_path(&decoy)?, c_path(&real)?));
        }
        Ok(Self(decoys))
    }

    /// Puts them before the real ones, in a mount namespace of the calling process's own; all
    /// other mounts stay shared. Does not allocate: it is called between fork and exec.
    pub(super) fn put_in_place(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Else the node and its containers had them too.
        mount(
            None::<&CStr>,
            c"/proc",
            None::<&CStr>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&CStr>,
        )?;
        for (decoy, real) in &self.0 {
            mount(
                Some(decoy.as_c_str()),
                real.as_c_str(),
                None::<&CStr>,
                MsFlags::MS_BIND,
                None::<&CStr>,
            )?;
        }
        Ok(())
    }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .with_context(|| format!("{} has a zero byte", path.display()))
}
