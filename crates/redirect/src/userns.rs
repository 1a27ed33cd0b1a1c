//! Which ids this user namespace has. A rule for an id that it has not is accepted, and never
//! matches: what such a proxy sends would be captured, and come back to it without end.

use std::fmt;
use std::fs;

use crate::capture::{CaptureConfig, OwnerGroups};

/// A policy names ids that no process of this user namespace can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} {id}, {whose}, is not mapped in this user namespace (its map: {map}): no process here can \
     have it, the rules for it would never match, and {harm}; name {kind}s that are mapped, or map it \
     (`hostUsers: true` gives the pod the node's)"
)]
pub struct Unmapped {
    kind: Kind,
    id: u32,
    whose: &'static str,
    harm: &'static str,
    map: String,
}

/// What an id is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Uid,
    Gid,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uid => "uid",
            Self::Gid => "gid",
        })
    }
}

/// Whether processes of the calling process's user namespace can have the ids that a policy depends
/// on. Where `/proc` cannot be read, they are taken to.
pub(crate) fn check(config: &CaptureConfig) -> Result<(), Unmapped> {
    let read = |file| fs::read_to_string(file).ok();
    let uids = read("/proc/self/uid_map");
    let gids = read("/proc/self/gid_map");
    check_with(config, uids.as_deref(), gids.as_deref())
}

fn check_with(
    config: &CaptureConfig,
    uids: Option<&str>,
    gids: Option<&str>,
) -> Result<(), Unmapped> {
    const PROXY: (&str, &str) = (
        "the proxy's",
        "what the proxy sends would be captured and come back to it without end",
    );
    const GROUP: (&str, &str) = (
        "whose connections are to be captured",
        "they would pass the mesh by",
    );
    let proxy = &config.proxy;
    let groups = match &config.outbound.owners {
        OwnerGroups::Only(groups) => Some(groups),
        _ => None,
    };
    let ids = proxy.uids.iter().map(|id| (Kind::Uid, *id, PROXY));
    let ids = ids.chain(proxy.gids.iter().map(|id| (Kind::Gid, *id, PROXY)));
    let mut ids = ids.chain(
        groups
            .into_iter()
            .flatten()
            .map(|id| (Kind::Gid, *id, GROUP)),
    );
    let unmapped = ids.find_map(|(kind, id, (whose, harm))| {
        let map = match kind {
            Kind::Uid => uids?,
            Kind::Gid => gids?,
        };
        (!holds(map, id)).then(|| Unmapped {
            kind,
            id,
            whose,
            harm,
            map: map.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    });
    match unmapped {
        Some(unmapped) => Err(unmapped),
        None => Ok(()),
    }
}

/// Whether an id stands in a map: on each line the first inside, the first outside, how many.
fn holds(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        id.checked_sub(first).is_some_and(|offset| offset < count)
    })
}

#[cfg(test)]
mod tests {
    use super::{check_with, holds};
    use crate::capture::{CaptureConfig, OwnerGroups};

    #[test]
    fn an_id_is_mapped_if_it_lies_in_a_block_of_the_map() {
        let map = "         0     100000       1000\n      2000     200000          1\n";
        for (id, mapped) in [
            (0, true),
            (999, true),
            (1000, false),
            (1999, false),
            (2000, true),
            (2001, false),
            (u32::MAX, false),
        ] {
            assert_eq!(holds(map, id), mapped, "{id}");
        }
        assert!(holds("0 0 4294967295", 1337));
        for nonsense in ["", "0", "0 0", "a b c", "-1 0 9"] {
            assert!(!holds(nonsense, 0), "{nonsense}");
        }
    }

    #[test]
    fn the_id_that_is_not_mapped_is_named_with_what_it_would_do() {
        let mut config = CaptureConfig::default();
        let whole = Some("0 0 4294967295");
        let small = Some("0 100000 1000");
        assert_eq!(check_with(&config, whole, whole), Ok(()));
        assert_eq!(check_with(&config, None, None), Ok(()));
        let told = |config: &CaptureConfig, uids, gids| {
            check_with(config, uids, gids).unwrap_err().to_string()
        };
        let uid = told(&config, small, whole);
        assert!(uid.starts_with("uid 1337, the proxy's,"), "{uid}");
        assert!(
            uid.contains("without end") && uid.contains("0 100000 1000"),
            "{uid}"
        );
        assert!(told(&config, whole, small).starts_with("gid 1337"), "a gid");
        config.proxy.uids = [7].into();
        config.proxy.gids = [7].into();
        assert_eq!(check_with(&config, small, small), Ok(()));
        config.outbound.owners = OwnerGroups::Only([5000].into());
        let group = told(&config, small, small);
        assert!(
            group.contains("gid 5000") && group.contains("pass the mesh by"),
            "{group}"
        );
    }
}
