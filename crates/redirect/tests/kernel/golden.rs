//! The rules that named policies become ([`crate::cases`]), with `nft` and `iptables-save` as
//! witnesses that the kernel holds just those.

use std::fs;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use shunt_redirect::iptables::{State, render as iptables};
use shunt_redirect::nft::render as nft;
use shunt_redirect::ruleset::Family;
use shunt_redirect::{CaptureConfig, Change, Plan, apply, remove};

use crate::cases::CGROUP;
use crate::iptables::{FAMILIES, FLAVOURS, applied, ours, program};
use crate::support::{in_namespace, in_pod, ip, listed, output, shell};

/// Applies the policy by each backend; holds the rules against the golden, against what the tools
/// list, and against what the kernel holds after the tools loaded the same text.
pub(crate) fn check(name: &str, config: &CaptureConfig) {
    in_pod(|| {
        let _files = Files::new(name);
        golden(name, config);
    });
}

fn golden(name: &str, config: &CaptureConfig) {
    let plan = with_nft(name, config);
    for flavour in FLAVOURS {
        assert_eq!(applied(config, flavour).plan, plan);
        for family in FAMILIES {
            let text = state(&plan, family).text();
            let restore = program(flavour, family, "-restore");
            shell(&format!(
                "printf '*raw\\n-F\\n-X\\nCOMMIT\\n*mangle\\n-F\\n-X\\nCOMMIT\\n*nat\\n-F\\n-X\\nCOMMIT\\n' | {restore} --noflush"
            ));
            if !text.is_empty() {
                shell(&format!("{restore} --noflush <<'END'\n{text}END"));
            }
            assert_eq!(ours(flavour, family).text(), text, "loaded by {restore}");
        }
        let again = applied(config, flavour);
        assert_eq!(
            again.change,
            Change::Unchanged,
            "{flavour} reads as it writes"
        );
        remove().unwrap();
    }

    let mut text = nft::table(&plan.ruleset);
    for (family, title) in [(Family::V4, "iptables"), (Family::V6, "ip6tables")] {
        let state = state(&plan, family);
        if !state.is_empty() {
            text.push_str(&format!("\n# {title}\n{}", state.text()));
        }
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

fn with_nft(name: &str, config: &CaptureConfig) -> Plan {
    let applied = apply(config).unwrap();
    assert_eq!(applied.change, Change::Created);
    let text = nft::table(&applied.plan.ruleset);
    assert_eq!(listed(), text, "what nft lists, and what was meant");

    output("nft", &["delete", "table", "inet", "shunt"]);
    let file = std::env::temp_dir().join(format!("shunt-golden-{}-{name}.nft", std::process::id()));
    fs::write(&file, &text).unwrap();
    output("nft", &["-f", file.to_str().unwrap()]);
    fs::remove_file(&file).unwrap();
    let again = apply(config).unwrap();
    assert_eq!(
        again.change,
        Change::Unchanged,
        "nft understands the text as we do"
    );
    remove().unwrap();
    applied.plan
}

fn state(plan: &Plan, family: Family) -> State {
    if family == Family::V6 && !plan.ipv6 {
        return State::default();
    }
    iptables::state(&plan.ruleset, family)
}

/// A mount namespace for this thread, with a tree of cgroups and a `resolv.conf` that are known.
struct Files {
    cgroup: Option<PathBuf>,
    resolv: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let none = None::<&str>;
        mount(none, "/", none, private, none).unwrap();
        mount(
            Some("none"),
            "/sys/fs/cgroup",
            Some("cgroup2"),
            MsFlags::empty(),
            none,
        )
        .unwrap();
        let cgroup = PathBuf::from("/sys/fs/cgroup").join(CGROUP);
        // The tree is the whole machine's.
        let cgroup = name.contains("cgroup").then_some(cgroup);
        if let Some(cgroup) = &cgroup {
            fs::create_dir_all(cgroup).unwrap();
        }
        let file = format!("shunt-golden-{}-{name}.resolv.conf", std::process::id());
        let resolv = std::env::temp_dir().join(file);
        fs::write(&resolv, "nameserver 10.96.0.10\nnameserver fd00:96::a\n").unwrap();
        mount(
            Some(&resolv),
            "/etc/resolv.conf",
            none,
            MsFlags::MS_BIND,
            none,
        )
        .unwrap();
        Self { cgroup, resolv }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _kept = fs::remove_file(&self.resolv);
        if let Some(cgroup) = &self.cgroup {
            let _kept = fs::remove_dir(cgroup);
            let _kept = cgroup.parent().map(fs::remove_dir);
        }
    }
}

#[test]
fn injector_in_a_pod_without_ipv6() {
    in_namespace(|| {
        ip("link add eth0 type veth peer name peer0");
        ip("addr add 10.9.0.2/24 dev eth0");
        golden("injector_in_a_pod_without_ipv6", &CaptureConfig::default());
    });
}
