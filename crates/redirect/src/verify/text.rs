//! What is said of a probe: the flow, what the rules should do with it, where it was seen.

use super::decide::{Outcome, Way};
use super::flows::Probe;
use super::live::Sight;
use crate::ruleset::Protocol;

/// A flow in words.
pub(super) fn flow(probe: &Probe) -> String {
    let ends = &probe.flow.ends;
    let protocol = match ends.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let to = std::net::SocketAddr::from(ends.destination);
    match probe.flow.way {
        Way::Arrived => format!("{protocol} that arrives from {} for {to}", ends.source.0),
        Way::Sent { sender, .. } => {
            let mark = if sender.mark == 0 {
                String::new()
            } else {
                format!(", mark {}", sender.mark)
            };
            format!(
                "{protocol} from uid {}, gid {}{mark} to {to}",
                sender.uid, sender.gid
            )
        }
    }
}

/// What should become of it.
pub(super) fn expected(probe: &Probe) -> String {
    let flow = flow(probe);
    match probe.decision.outcome {
        Outcome::Passes => format!("{flow} to pass"),
        Outcome::Redirected(port) => format!("{flow} to be redirected to port {port}"),
        Outcome::Transparent => format!("{flow} to be handed to the proxy's socket"),
        Outcome::Dropped => format!("{flow} to be dropped"),
    }
}

/// What did.
pub(super) fn happened(sight: Sight, probe: &Probe) -> String {
    match sight {
        Sight::Arrived(port) if port == probe.flow.ends.destination.1 => {
            "it passed uncaptured to its port".to_owned()
        }
        Sight::Arrived(port) => format!("it went to port {port}"),
        Sight::Left => "it left the pod's stack uncaptured".to_owned(),
        Sight::Nothing => "it was seen nowhere".to_owned(),
    }
}
