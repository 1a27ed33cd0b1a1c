//! Policies that nobody thought of: the kernel takes them, gives them back, and `nft` agrees.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shunt_redirect::arbitrary::{self, Leaves};
use shunt_redirect::capture::CaptureConfig;
use shunt_redirect::nft::render;
use shunt_redirect::{Change, apply};

use crate::iptables;
use crate::support::{in_pod, listed};

/// Any policy that is not refused. No cgroup, since those of this machine are not the test's.
pub(crate) fn config() -> impl Strategy<Value = CaptureConfig> {
    // With bits beyond its length, which do not count.
    let block = (any::<IpAddr>(), 0u8..=128).prop_filter_map("too long", |(address, length)| {
        IpNet::new(address, length).ok()
    });
    let leaves = Leaves::any();
    arbitrary::valid_policy(&Leaves {
        block: prop_oneof![leaves.block, block].boxed(),
        cgroup: Just(None).boxed(),
        ..Leaves::any()
    })
}

#[test]
fn any_policy_is_held_by_the_kernel_as_meant_and_listed_as_printed() {
    in_pod(|| {
        let mut runner = TestRunner::new(Config::with_cases(60));
        let checked = runner.run(&config(), |config| {
            // Writing reads back and compares; what nft says is a second opinion.
            let applied = apply(&config).unwrap();
            prop_assert_eq!(listed(), render::table(&applied.plan.ruleset));
            let again = apply(&config).unwrap();
            prop_assert_eq!(again.change, Change::Unchanged);
            Ok(())
        });
        checked.unwrap();
    });
}

#[test]
fn any_policy_is_held_by_iptables_as_printed() {
    for flavour in iptables::FLAVOURS {
        in_pod(|| {
            let mut runner = TestRunner::new(Config::with_cases(40));
            let checked = runner.run(&config(), |config| {
                iptables::applied(&config, flavour);
                let again = iptables::applied(&config, flavour);
                prop_assert_eq!(again.change, Change::Unchanged);
                Ok(())
            });
            checked.unwrap();
        });
    }
}
