//! What a process has used of its core.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Time on a core of all threads of a process (first field of schedstat, nanoseconds).
///
/// # Errors
/// When the process has ended.
pub fn time(process: u32) -> Result<Duration> {
    let folder = format!("/proc/{process}/task");
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(&folder).with_context(|| format!("reading {folder}"))? {
        let path = task?.path().join("schedstat");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let on_core = text.split(' ').next().unwrap_or_default();
        nanoseconds += on_core
            .parse::<u64>()
            .with_context(|| format!("reading {}: {text:?}", path.display()))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}
