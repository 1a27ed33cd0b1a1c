//! Rules of others that redirect, too.

use std::collections::BTreeMap;

use super::Finding;
use crate::nft::{Nft, OtherChain};

/// What the names of others' chains and tables begin with.
const OTHERS: [(&str, &str, &str); 4] = [
    ("ISTIO_", "istio-iptables", "istio-iptables --cleanup-only"),
    (
        "istio-",
        "Istio's nf_tables rules",
        "nft delete table inet …",
    ),
    (
        "PROXY_INIT_",
        "Linkerd's proxy-init",
        "iptables -t nat -F and -X",
    ),
    (
        "KUBE-",
        "kube-proxy",
        "nothing, in a pod; this may be the node's network namespace",
    ),
];

pub(super) fn findings() -> Vec<Finding> {
    let chains = match Nft::open().and_then(|mut nft| nft.other_chains()) {
        Ok(chains) => chains,
        // Told by the other checks.
        Err(_) => return Vec::new(),
    };
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for OtherChain { table, name, .. } in chains {
        let other = OTHERS
            .iter()
            .position(|(prefix, ..)| name.starts_with(prefix) || table.starts_with(prefix));
        if let Some(index) = other {
            found.entry(index).or_default().push(name);
        }
    }
    if found.is_empty() {
        let text = "no rules of Istio or Linkerd are seen in nf_tables";
        return vec![Finding::good("other rules", text)];
    }
    found
        .into_iter()
        .map(|(index, chains)| {
            let (_, who, remove) = OTHERS[index];
            Finding::note(
                "other rules",
                format!(
                    "{who} has chains here ({}): connections would be redirected twice; remove \
                     them first ({remove})",
                    chains.join(", ")
                ),
            )
        })
        .collect()
}
