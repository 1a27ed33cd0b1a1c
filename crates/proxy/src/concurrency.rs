//! How many workers: as many as the container has CPUs to run them.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The CPU limit that Istio's injector passes on from the container's resources, in whole CPUs.
pub const CPU_LIMIT_VARIABLE: &str = "ISTIO_CPU_LIMIT";

/// Most workers that can be asked for.
const MAX_WORKERS: u16 = 1024;

/// The variable holds something else than a number of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{CPU_LIMIT_VARIABLE} is `{value}`: it must be a whole number of CPUs from 0 (all) to \
     {MAX_WORKERS}; correct it or leave it out"
)]
pub struct CpuLimitError {
    value: String,
}

/// Worker count: what was asked for, else Istio's CPU limit, else the CPU quota of our control
/// group rounded up, else the number of CPUs we may run on. At least 1; 0 asks for all CPUs.
///
/// # Errors
/// Where the CPU limit is no number.
pub fn workers(asked: Option<u16>, cpu_limit: Option<&str>) -> Result<usize, CpuLimitError> {
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let limit = match (asked, cpu_limit.map(str::trim)) {
        (Some(_), _) | (None, None | Some("")) => None,
        (None, Some(value)) => match value.parse::<u16>() {
            Ok(limit) if limit <= MAX_WORKERS => Some(limit),
            _ => {
                return Err(CpuLimitError {
                    value: value.to_owned(),
                });
            }
        },
    };
    Ok(match asked.or(limit) {
        Some(0) => cpus,
        Some(workers) => workers.into(),
        None => cgroup_quota().map_or(cpus, |quota| quota.min(cpus)).max(1),
    })
}

fn cgroup_quota() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    quota(&groups, &mounts, |path| fs::read_to_string(path).ok())
}

/// The CPU quota in whole CPUs, rounded up, from the texts of `/proc/self/cgroup` and
/// `/proc/self/mountinfo` (cgroups(7)). Knows version 1, version 2, and both side by side. A
/// container sees its own group at the root of the mount, a process outside at its path; a limit
/// on an outer group counts too, so every group on the way up is asked.
fn quota(groups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let mut smallest: Option<f64> = None;
    for group in groups.lines() {
        let mut parts = group.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let v2 = controllers.is_empty();
        if !v2 && !controllers.split(',').any(|c| c == "cpu") {
            continue;
        }
        let Some(mount) = mount_point(mounts, v2) else {
            continue;
        };
        let inner = Path::new(path.trim_start_matches('/'));
        for group in inner.ancestors() {
            let folder = mount.join(group);
            let limit = if v2 {
                v2_quota(&folder, &read)
            } else {
                v1_quota(&folder, &read)
            };
            smallest = match (smallest, limit) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    smallest.map(|cpus| {
        let whole = cpus.ceil().clamp(1.0, 4096.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 1..=4096 just before"
        )]
        let whole = whole as usize;
        whole
    })
}

fn mount_point(mounts: &str, v2: bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        // proc_pid_mountinfo(5): the mount point is the fifth field; type and super options
        // follow a lone dash.
        let (mount, options) = line.split_once(" - ")?;
        let mut after = options.split(' ');
        let (kind, _, superblock) = (after.next()?, after.next()?, after.next()?);
        let fits = if v2 {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && superblock.split(',').any(|o| o == "cpu")
        };
        fits.then(|| mount.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    })
}

fn v2_quota(folder: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let text = read(&folder.join("cpu.max"))?;
    let mut words = text.split_whitespace();
    let (quota, period) = (
        words.next()?.parse::<f64>().ok()?,
        words.next()?.parse::<f64>().ok()?,
    );
    (period > 0.0).then_some(quota / period)
}

fn v1_quota(folder: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let number = |file| read(&folder.join(file))?.trim().parse::<f64>().ok();
    let (quota, period) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
    // -1 = no limit.
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";

    fn quota_of(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<usize> {
        let files: HashMap<&Path, &str> = files.iter().map(|(p, t)| (Path::new(*p), *t)).collect();
        quota(groups, mounts, |path| {
            files.get(path).map(ToString::to_string)
        })
    }

    #[test]
    fn a_version_2_quota_is_rounded_up() {
        let files = [("/sys/fs/cgroup/cpu.max", "150000 100000\n")];
        assert_eq!(quota_of("0::/\n", V2, &files), Some(2));
    }

    #[test]
    fn an_outer_group_limits_too() {
        let files = [
            ("/sys/fs/cgroup/a/cpu.max", "100000 100000"),
            ("/sys/fs/cgroup/a/b/cpu.max", "max 100000"),
        ];
        assert_eq!(quota_of("0::/a/b\n", V2, &files), Some(1));
    }

    #[test]
    fn no_limit_is_no_quota() {
        let files = [("/sys/fs/cgroup/cpu.max", "max 100000\n")];
        assert_eq!(quota_of("0::/\n", V2, &files), None);
    }

    #[test]
    fn version_1_is_known_also_beside_version_2() {
        let files = [
            (
                "/sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us",
                "250000\n",
            ),
            (
                "/sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us",
                "100000\n",
            ),
        ];
        let groups = "4:cpu,cpuacct:/pod\n0::/\n";
        assert_eq!(quota_of(groups, &format!("{V1}\n{V2}\n"), &files), Some(3));
    }

    #[test]
    fn what_was_asked_for_comes_first_then_istios_limit() {
        assert_eq!(workers(Some(3), Some("7")), Ok(3));
        assert_eq!(workers(None, Some("7")), Ok(7));
        assert!(workers(Some(0), None).unwrap() >= 1);
        assert!(workers(None, Some("")).unwrap() >= 1);
    }

    #[test]
    fn a_cpu_limit_that_is_no_number_is_named() {
        for value in ["abc", "-1", "1.5", "100000"] {
            let error = workers(None, Some(value)).unwrap_err().to_string();
            assert!(
                error.contains("ISTIO_CPU_LIMIT") && error.contains(value),
                "{error}"
            );
        }
    }

    #[test]
    fn nonsense_is_no_quota() {
        let files = [("/sys/fs/cgroup/cpu.max", "many\n")];
        assert_eq!(quota_of("0::/\n::\nx", V2, &files), None);
    }
}
