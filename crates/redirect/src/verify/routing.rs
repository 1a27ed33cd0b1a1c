//! What is no rule: the routing that TPROXY needs, and the address that the proxy calls the
//! application from. TPROXY's conversations prove the routing, too; here it is read back.

use std::net::{Ipv6Addr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use shunt_abi::addr;

use super::report::{Failure, Leg, Proof};
use crate::error::KernelError;
use crate::plan::Plan;
use crate::routing::Route;
use crate::ruleset::Family;

/// The key of the leg that has failed if interface `lo` is down.
pub const LO_UP: &str = "lo/up";

/// A leg that has failed if `lo` is down: whatever the rules do, nothing that is redirected arrives.
pub(super) fn loopback() -> Option<Leg> {
    // Where this cannot be read, the packets of the other legs tell.
    let down = getifaddrs()
        .ok()?
        .any(|found| found.interface_name == "lo" && !found.flags.contains(InterfaceFlags::IFF_UP));
    down.then(|| Leg {
        title: "interface lo is up".to_owned(),
        family: None,
        key: LO_UP.to_owned(),
        proof: Proof::Failed(Failure {
            expected: "interface lo to be up".to_owned(),
            happened: "it is down, and what is redirected goes by it; set it up (`ip link set lo \
                       up`), and run this again"
                .to_owned(),
        }),
    })
}

/// The legs beside the rules.
pub(super) fn legs(plan: &Plan) -> Result<Vec<Leg>, KernelError> {
    let mut legs = Vec::new();
    if let Some(routing) = &plan.routing {
        let missing = Route::open()?.missing_policy_routing(routing)?;
        legs.push(Leg {
            title: "TPROXY: marked packets are routed to the proxy".to_owned(),
            family: None,
            key: "policy-routing".to_owned(),
            proof: if missing.is_empty() {
                Proof::ReadBack {
                    why: "the packets of the other legs show it".to_owned(),
                }
            } else {
                Proof::Failed(Failure {
                    expected: format!(
                        "a policy rule for mark {}, and a route in table {}",
                        routing.mark, routing.table
                    ),
                    happened: format!("missing: {}", missing.join(", ")),
                })
            },
        });
    }
    if plan.ipv6 {
        // Nothing is sent.
        let bound = UdpSocket::bind((addr::INBOUND_SOURCE_V6, 0));
        // Where not even this can be had, IPv6 is disabled on `lo`, which the run has told.
        let lo = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0));
        legs.push(Leg {
            title: "the proxy can call the application from ::6,".to_owned(),
            family: Some(Family::V6),
            key: "lo/inbound-source".to_owned(),
            proof: match (bound, lo) {
                (Ok(_), _) => Proof::Live,
                (Err(_), Err(error)) => Proof::NotProved {
                    why: format!("lo has no IPv6: {error}"),
                },
                (Err(error), Ok(_)) => Proof::Failed(Failure {
                    expected: "address ::6 on lo".to_owned(),
                    happened: error.to_string(),
                }),
            },
        });
    }
    Ok(legs)
}
