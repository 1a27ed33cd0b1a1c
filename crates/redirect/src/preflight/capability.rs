//! The capabilities of this process.

use std::fs;

/// `CAP_SETGID`.
pub const SETGID: u32 = 6;
/// `CAP_SETUID`.
pub const SETUID: u32 = 7;
/// `CAP_NET_ADMIN`.
pub const NET_ADMIN: u32 = 12;
/// `CAP_NET_RAW`.
pub const NET_RAW: u32 = 13;

/// A set of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Whether this one is in it (its number in linux/capability.h).
    #[must_use]
    pub const fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    /// These, and no others.
    #[cfg(test)]
    pub(crate) fn of(numbers: &[u32]) -> Self {
        Self(numbers.iter().fold(0, |bits, number| bits | 1 << number))
    }
}

/// What this process may use now; `None` without `/proc`.
#[must_use]
pub fn effective() -> Option<Capabilities> {
    parse(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<Capabilities> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = u64::from_str_radix(line?.trim(), 16).ok()?;
    Some(Capabilities(bits))
}

#[cfg(test)]
mod tests {
    use super::{NET_ADMIN, NET_RAW, SETUID, parse};

    #[test]
    fn what_istios_injector_gives_is_read() {
        let held = parse("Name:\tx\nCapEff:\t0000000000003000\nCapBnd:\tff\n").unwrap();
        assert!(held.has(NET_ADMIN) && held.has(NET_RAW) && !held.has(SETUID));
        assert_eq!(parse("Name:\tx\n"), None);
    }
}
