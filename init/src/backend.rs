//! What is to be said about backends: where the rules are, and what became of an earlier one's.

use shunt_abi::name;
use shunt_redirect::{Applied, Backend, Removed};

use crate::message::Message;

/// Where a backend keeps the rules.
pub(crate) fn place(backend: Backend) -> String {
    match backend {
        Backend::Nft => format!("table inet {}", name::NFT_TABLE),
        Backend::Iptables(flavour) => format!("chains {}* of {flavour}", name::iptables::PREFIX),
    }
}

/// What an apply did beside writing the rules.
pub(crate) fn applied(applied: &Applied) -> Vec<Message> {
    let fallback = applied.fallback.iter().map(|why| {
        Message::warn(format!(
            "{} is used, because nf_tables cannot be: {why}",
            applied.backend
        ))
    });
    let replaced = applied
        .replaced
        .iter()
        .map(|backend| Message::info(format!("{} of an earlier run: removed", place(*backend))));
    let unchecked = applied.unchecked.as_ref().map(unchecked);
    fallback.chain(replaced).chain(unchecked).collect()
}

/// Which rules a remove took away.
pub(crate) fn removed(removed: &Removed) -> Vec<Message> {
    let table = place(Backend::Nft);
    let mut messages = vec![Message::info(if removed.table {
        format!("{table}: removed")
    } else {
        format!("{table}: there is none")
    })];
    let iptables = removed.iptables.iter().map(|flavour| {
        let place = place(Backend::Iptables(*flavour));
        Message::info(format!("{place}: removed"))
    });
    messages.extend(iptables);
    messages
}

/// It is not known whether legacy tables hold something of ours.
pub(crate) fn unchecked(why: &String) -> Message {
    Message::warn(format!(
        "legacy iptables tables may hold rules of an earlier run, which act beside those of now: \
         {why}"
    ))
}
