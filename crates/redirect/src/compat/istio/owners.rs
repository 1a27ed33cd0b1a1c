//! Who the proxy is, and whose connections are captured: ids, or names of users and groups.

use std::collections::BTreeSet;
use std::io;

use shunt_abi::identity;

use super::flags::{ENVOY_USER, OWNER_GROUPS, OWNER_GROUPS_EXCLUDE, PROXY_GID, PROXY_UID};
use crate::capture::{OwnerGroups, ProxyIdentity};
use crate::compat::accounts::Accounts;
use crate::compat::arguments::{ArgumentError, Value, Values};
use crate::compat::values::{Reason, id, ids, item, items, number};

/// The user whose id is the proxy's, if neither id nor user is given.
const PROXY_USER: &str = "istio-proxy";

/// So many groups the original takes when not all are captured.
const MAX_GROUPS: usize = 64;

impl Values {
    pub(super) fn proxy(&self, accounts: &Accounts) -> Result<ProxyIdentity, ArgumentError> {
        let uids = match self.read(PROXY_UID, ids)? {
            Some(uids) => uids,
            None => BTreeSet::from([self.default_uid(accounts)?]),
        };
        let gids = self.read(PROXY_GID, ids)?.unwrap_or_else(|| uids.clone());
        Ok(ProxyIdentity {
            uids,
            gids,
            self_calls: true,
            ..ProxyIdentity::default()
        })
    }

    fn default_uid(&self, accounts: &Accounts) -> Result<u32, ArgumentError> {
        if let Some(value) = self.filled(ENVOY_USER) {
            return value
                .read(|name| number_or_name(name, accounts.user(name), "user", "/etc/passwd"));
        }
        let found = accounts
            .user(PROXY_USER)
            .map_err(|error| self.error(PROXY_UID, unreadable("/etc/passwd", &error)))?;
        Ok(found.unwrap_or(identity::PROXY_UID))
    }

    pub(super) fn owner_groups(&self, accounts: &Accounts) -> Result<OwnerGroups, ArgumentError> {
        let groups = |text: &str| {
            items(text)
                .map(|name| {
                    let name = name?;
                    if name == "*" {
                        let what = "`*` stands alone, and only for what is captured: list groups";
                        return Err(item(name, what));
                    }
                    number_or_name(name, accounts.group(name), "group", "/etc/group")
                })
                .collect::<Result<BTreeSet<_>, _>>()
        };
        match self.only_owners() {
            None => Ok(OwnerGroups::Except(
                self.read(OWNER_GROUPS_EXCLUDE, groups)?.unwrap_or_default(),
            )),
            // Here the original tells an empty variable from none.
            Some(value) if value.text.is_empty() => Ok(OwnerGroups::Only(BTreeSet::new())),
            Some(value) => value.read(|text| {
                let groups = groups(text)?;
                if groups.len() > MAX_GROUPS {
                    return Err(Reason::Is(
                        format!(
                            "names {} groups, and at most {MAX_GROUPS} can be: exclude the others \
                             instead ({OWNER_GROUPS_EXCLUDE})",
                            groups.len()
                        )
                        .into(),
                    ));
                }
                Ok(OwnerGroups::Only(groups))
            }),
        }
    }

    /// The list of groups whose connections are captured, unless those of all are.
    fn only_owners(&self) -> Option<&Value> {
        self.get(OWNER_GROUPS).filter(|value| value.text != "*")
    }

    pub(super) fn owner_notes(&self, notes: &mut Vec<String>) {
        if let (Some(_), Some(value)) = (self.only_owners(), self.filled(OWNER_GROUPS_EXCLUDE)) {
            notes.push(format!(
                "{value} has no effect: excluded groups count only when all others are captured \
                 ({OWNER_GROUPS}='*'); leave one of the two out"
            ));
        }
    }
}

fn number_or_name(
    name: &str,
    found: io::Result<Option<u32>>,
    kind: &str,
    file: &str,
) -> Result<u32, Reason> {
    if number(name).is_some() || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return id(name).ok_or_else(|| item(name, "no process has this id"));
    }
    found
        .map_err(|error| unreadable(file, &error))?
        .ok_or_else(|| {
            item(
                name,
                format!("there is no {kind} of this name in {file}: give its number"),
            )
        })
}

fn unreadable(file: &str, error: &io::Error) -> Reason {
    Reason::Is(format!("cannot be looked up: {file}: {error}; give numbers").into())
}
