//! Rules of others that redirect, too.

use std::collections::BTreeMap;

use super::Finding;
use crate::iptables::legacy_chains;
use crate::nft::{Nft, OtherChain};

/// What the names of others' chains and tables begin with.
const OTHERS: [(&str, &str, &str); 4] = [
    (
        "ISTIO_",
        "istio-iptables",
        "`pilot-agent istio-iptables --cleanup-only` in Istio's own image, istio/proxyv2: a link of \
         that name to shunt-init takes away Shunt's rules only",
    ),
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
    const CHECK: &str = "other rules";
    // What nf_tables does not tell is told by the other checks.
    let chains = Nft::open().and_then(|mut nft| nft.other_chains());
    let mut chains: Vec<(String, String)> = chains
        .unwrap_or_default()
        .into_iter()
        .map(|OtherChain { table, name, .. }| (table, name))
        .collect();
    let mut findings = Vec::new();
    match legacy_chains() {
        Ok(legacy) => chains.extend(legacy.into_iter().map(|chain| (chain.table, chain.name))),
        Err(error) => findings.push(Finding::note(
            CHECK,
            format!("there are legacy tables, which cannot be looked into: {error}"),
        )),
    }
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (table, name) in chains {
        let other = OTHERS
            .iter()
            .position(|(prefix, ..)| name.starts_with(prefix) || table.starts_with(prefix));
        let names = other.map(|index| found.entry(index).or_default());
        if let Some(names) = names.filter(|names| !names.contains(&name)) {
            names.push(name);
        }
    }
    if found.is_empty() && findings.is_empty() {
        let text = "no rules of Istio or Linkerd are seen";
        findings.push(Finding::good(CHECK, text));
    }
    findings.extend(told(found));
    findings
}

fn told(found: BTreeMap<usize, Vec<String>>) -> impl Iterator<Item = Finding> {
    found.into_iter().map(|(index, chains)| {
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
}
