//! The small bootstrap, and changes to it.

use std::fs;

use shunt_xds::{Converter, LoadError, Problem, ProblemKind, load_bootstrap};

pub(crate) const SMALL: &str = include_str!("../data/small.yaml");

pub(crate) const HCM: &str =
    "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
pub(crate) const TCP: &str =
    "static_resources.listeners[1].filter_chains[0].filters[0].typed_config";
pub(crate) const ROUTE: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config\
                     .route_config.virtual_hosts[0].routes[0]";
pub(crate) const CLUSTER: &str = "static_resources.clusters[0]";

/// A change to the small bootstrap, and the one problem that it makes.
pub(crate) struct Case {
    /// What stands in the small bootstrap, and what shall stand there. `""` appends.
    pub(crate) change: (&'static str, &'static str),
    pub(crate) kind: ProblemKind,
    /// Below which path, and the rest of it.
    pub(crate) path: (&'static str, &'static str),
    /// What the message says.
    pub(crate) says: &'static str,
}

pub(crate) fn load(text: &str, name: &str) -> Result<shunt_xds::Loaded, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    load_bootstrap(&path, &Converter::InProcess)
}

pub(crate) fn problems(text: &str) -> Vec<Problem> {
    match load(text, "bootstrap.yaml") {
        Ok(_) => Vec::new(),
        Err(LoadError::Invalid { problems, .. }) => problems.list().to_vec(),
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn changed((from, to): (&str, &str)) -> String {
    if from.is_empty() {
        return format!("{SMALL}{to}");
    }
    assert!(SMALL.contains(from), "the small bootstrap has no {from:?}");
    SMALL.replacen(from, to, 1)
}

pub(crate) fn check(cases: &[Case]) {
    for case in cases {
        let found = problems(&changed(case.change));
        let path = format!("{}{}", case.path.0, case.path.1);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        let [problem] = &found[..] else {
            panic!("{:?}: not one problem: {told:#?}", case.change)
        };
        assert_eq!(problem.path, path, "{:?}: {told:#?}", case.change);
        assert_eq!(problem.kind, case.kind, "{:?}: {told:#?}", case.change);
        assert!(
            problem.message.contains(case.says),
            "{:?}: {told:#?}",
            case.change
        );
    }
}
