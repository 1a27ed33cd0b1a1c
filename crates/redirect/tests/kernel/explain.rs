//! What is read back from a live namespace, as netlink, as JSON or as text, means on paper what was
//! planned.

use proptest::test_runner::{Config, TestRunner};
use shunt_redirect::explain::{Fate, Flow, Protocol, Rules, counter_example, explain};
use shunt_redirect::ruleset::Family;
use shunt_redirect::{Plan, apply};

use crate::iptables::{FAMILIES, FLAVOURS, program};
use crate::random::config;
use crate::support::{in_pod, output};

/// Adds the policy routing that listings do not tell of.
fn routed(rules: Rules, plan: &Plan) -> Rules {
    match &plan.routing {
        None => rules,
        Some(routing) => {
            let rules = rules.delivering_mark(routing.mark, Family::V4);
            if routing.ipv6 {
                rules.delivering_mark(routing.mark, Family::V6)
            } else {
                rules
            }
        }
    }
}

fn agree(planned: &Rules, read: &Rules, what: &str) -> Result<(), String> {
    match counter_example(planned, read) {
        None => Ok(()),
        Some(flow) => Err(format!(
            "{what}: {flow}\nplanned: {}\nread: {}",
            explain(planned, &flow),
            explain(read, &flow)
        )),
    }
}

/// Whether anything is said at all: a verdict that depends on something is no counter-example.
fn is_certain(rules: &Rules) -> bool {
    let flow = Flow::sent(
        "eth0",
        (1000, 1000),
        Protocol::Udp,
        "10.9.0.2:40000".parse().unwrap(),
        "10.9.0.7:40001".parse().unwrap(),
    );
    explain(rules, &flow).verdict.certain().is_some()
}

#[test]
fn our_table_means_the_same_by_netlink_and_as_nft_prints_it() {
    in_pod(|| {
        let mut runner = TestRunner::new(Config::with_cases(8));
        let checked = runner.run(&config(), |config| {
            let plan = apply(&config).unwrap().plan;
            let planned = Rules::from_plan(&plan);
            let live = Rules::from_live().unwrap();
            let json = output("nft", &["-j", "list", "ruleset"]);
            let json = routed(Rules::from_nft_json(&json).unwrap(), &plan);
            for (rules, what) in [(&live, "netlink"), (&json, "nft -j")] {
                proptest::prop_assert!(is_certain(rules), "{what}");
                let agreed = agree(&planned, rules, what);
                proptest::prop_assert!(agreed.is_ok(), "{}", agreed.unwrap_err());
            }
            Ok(())
        });
        checked.unwrap();
    });
}

#[test]
fn our_chains_mean_the_same_as_iptables_prints_them() {
    for flavour in FLAVOURS {
        in_pod(|| {
            let mut runner = TestRunner::new(Config::with_cases(8));
            let checked = runner.run(&config(), |config| {
                let plan = crate::iptables::apply(&config, flavour).unwrap().plan;
                let [v4, v6] =
                    FAMILIES.map(|family| output(&program(flavour, family, "-save"), &["-c"]));
                let saved = Rules::from_iptables_save(&v4, Some(&v6)).unwrap();
                let saved = routed(saved, &plan);
                proptest::prop_assert!(is_certain(&saved));
                let agreed = agree(&Rules::from_plan(&plan), &saved, &format!("{flavour}"));
                proptest::prop_assert!(agreed.is_ok(), "{}", agreed.unwrap_err());
                Ok(())
            });
            checked.unwrap();
        });
    }
}

/// A nat chain is asked where NAT stands, whatever its priority: behind mangle.
#[test]
fn a_nat_chain_of_low_priority_still_sees_what_mangle_marked() {
    in_pod(|| {
        let rules = "add table inet t\n\
            add chain inet t n { type nat hook output priority -199; }\n\
            add chain inet t m { type route hook output priority -150; }\n\
            add rule inet t m meta mark set 7\n\
            add rule inet t n meta mark 7 tcp dport 81 redirect to :80\n";
        for line in rules.lines() {
            crate::support::nft(line);
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:80").unwrap();
        let client = std::net::TcpStream::connect("10.9.0.2:81").unwrap();
        drop((client, listener));
        let json = output("nft", &["-j", "list", "ruleset"]);
        let rules = Rules::from_nft_json(&json).unwrap();
        let flow = Flow::sent(
            "lo",
            (0, 0),
            Protocol::Tcp,
            "10.9.0.2:40000".parse().unwrap(),
            "10.9.0.2:81".parse().unwrap(),
        );
        let verdict = explain(&rules, &flow).verdict;
        assert_eq!(
            verdict.certain().unwrap().captured_by(),
            Some(80),
            "{verdict}"
        );
    });
}

/// A foreign table that accepts does not keep ours from being asked; one that drops does.
#[test]
fn foreign_tables_end_only_what_they_may() {
    in_pod(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:15001").unwrap();
        apply(&crate::support::policy(&["-i", "*", "-b", "*"])).unwrap();
        let connects_within = |limit| {
            let address = "10.9.0.77:80".parse().unwrap();
            std::net::TcpStream::connect_timeout(&address, limit).is_ok()
        };
        let flow = Flow::sent(
            "eth0",
            (0, 0),
            Protocol::Tcp,
            "10.9.0.2:40000".parse().unwrap(),
            "10.9.0.77:80".parse().unwrap(),
        );
        let fate = || {
            let json = output("nft", &["-j", "list", "ruleset"]);
            let rules = Rules::from_nft_json(&json).unwrap();
            explain(&rules, &flow)
                .verdict
                .certain()
                .unwrap()
                .fate
                .clone()
        };
        crate::support::nft("add table ip f");
        crate::support::nft("add chain ip f o { type nat hook output priority -110; }");
        crate::support::nft("add rule ip f o accept");
        assert!(connects_within(std::time::Duration::from_secs(60)));
        assert!(matches!(
            fate(),
            Fate::Redirected {
                port: Some(15001),
                ..
            }
        ));
        crate::support::nft("add chain ip f d { type filter hook output priority -160; }");
        crate::support::nft("add rule ip f d tcp dport 80 drop");
        assert!(!connects_within(std::time::Duration::from_millis(200)));
        assert_eq!(fate(), Fate::Dropped);
        drop(listener);
    });
}
