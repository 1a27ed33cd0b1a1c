use super::{VirtualHosts, lower_case};
use crate::model::VirtualHost;
use proptest::prelude::*;
use std::borrow::Cow;

/// Each row is one virtual host's domains.
fn compile(hosts: &[&[&str]], ignore_port: bool) -> VirtualHosts {
    let hosts: Vec<_> = hosts
        .iter()
        .map(|domains| VirtualHost {
            name: domains.join(","),
            domains: domains.iter().map(|&d| d.to_owned()).collect(),
            routes: Vec::new(),
        })
        .collect();
    VirtualHosts::compile(&hosts, ignore_port)
}

#[test]
fn the_most_specific_domain_wins_whatever_the_order() {
    let hosts = compile(
        &[
            &["*"],
            &["*.com", "reviews"],
            &["*.example.com"],
            &["*-v1.example.com"],
            &["api.*"],
            &["api.example.*"],
            &["www.Example.com", "[::1]"],
        ],
        true,
    );
    let rows = [
        ("www.example.com", 6),
        ("WWW.EXAMPLE.COM", 6),
        ("www.example.com:8080", 6),
        ("reviews", 1),
        ("a.example.com", 2),
        ("reviews-v1.example.com", 3),
        ("-v1.example.com", 2),
        ("other.com", 1),
        // A suffix before any prefix.
        ("api.example.com", 2),
        ("api.example.org", 5),
        ("api.other.org", 4),
        // A star stands for something.
        (".com", 0),
        ("api.", 0),
        ("", 0),
        ("[::1]", 6),
        ("[::1]:8080", 6),
        ("[::2]:8080", 0),
        ("r\u{e9}views.com", 1),
        ("\u{e9}", 0),
    ];
    for (authority, expected) in rows {
        assert_eq!(hosts.find(authority), Some(expected), "{authority}");
    }
}

#[test]
fn a_port_counts_unless_it_is_to_be_ignored() {
    let domains: &[&[&str]] = &[&["reviews"], &["reviews:9080"], &["[::1]:80"], &["*:81"]];
    let rows = [
        ("reviews", Some(0), Some(0)),
        ("reviews:9080", Some(1), Some(0)),
        ("reviews:80", None, Some(0)),
        ("reviews:", None, Some(0)),
        ("[::1]:80", Some(2), None),
        ("[::1]", None, None),
        ("ratings:81", Some(3), None),
    ];
    for (authority, with_port, without_port) in rows {
        let found = compile(domains, false).find(authority);
        assert_eq!(found, with_port, "{authority} with its port");
        let found = compile(domains, true).find(authority);
        assert_eq!(found, without_port, "{authority} without its port");
    }
}

#[test]
fn a_lone_catch_all_takes_every_host() {
    let hosts = compile(&[&["*"]], true);
    for authority in ["", "a", "A:80", "[::1]:80"] {
        assert_eq!(hosts.find(authority), Some(0), "{authority}");
    }
}

#[test]
fn without_a_catch_all_a_host_may_have_none() {
    let hosts = compile(&[&["a", "*.a"]], true);
    assert_eq!(hosts.find("b"), None);
    assert_eq!(hosts.find(""), None);
}

#[test]
fn a_host_in_lower_case_is_not_copied() {
    assert!(matches!(lower_case("reviews.a:80"), Cow::Borrowed(_)));
    assert!(matches!(lower_case("Reviews"), Cow::Owned(lower) if lower == "reviews"));
}

/// The virtual host whose domain fits best, by looking at every domain.
fn best_of_all(hosts: &[&[&str]], authority: &str) -> Option<usize> {
    let host = authority.to_lowercase();
    let fits = |domain: &str| {
        let domain = domain.to_lowercase();
        let len = domain.len() - 1;
        if domain == "*" {
            Some((0, 0))
        } else if let Some(suffix) = domain.strip_prefix('*') {
            (host.ends_with(suffix) && host != suffix).then_some((2, len))
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (host.starts_with(prefix) && host != prefix).then_some((1, len))
        } else {
            (host == domain).then_some((3, 0))
        }
    };
    let all = hosts.iter().zip(0..);
    all.flat_map(|(domains, position)| domains.iter().map(move |domain| (domain, position)))
        .filter_map(|(domain, position)| Some((fits(domain)?, position)))
        .max()
        .map(|(_, position)| position)
}

proptest! {
    #[test]
    fn the_virtual_host_is_the_best_of_all(
        mut domains in prop::collection::vec(
            prop::string::string_regex(r"\*|\*?[aB.]{1,4}|[aB.]{1,4}\*").expect("a pattern"),
            0..20,
        ),
        authorities in prop::collection::vec("[abAB.]{0,6}", 1..10),
        size in 1_usize..4,
    ) {
        domains.sort();
        domains.dedup();
        let domains: Vec<_> = domains.iter().map(String::as_str).collect();
        let hosts: Vec<_> = domains.chunks(size).collect();
        let compiled = compile(&hosts, true);
        for authority in &authorities {
            let expected = best_of_all(&hosts, authority);
            prop_assert_eq!(compiled.find(authority), expected, "{}", authority);
            prop_assert_eq!(compiled.find(&format!("{authority}:80")), expected);
        }
    }
}
