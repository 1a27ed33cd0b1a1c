use super::{cookie_value, query_parameter, request_hash, source_hash};
use crate::cluster::lb::hash::{xx64, xx64_from};
use crate::model::{HashCookie, HashOf, HashPolicy, HeaderMatch, RegexRewrite};
use crate::route::RequestHead;
use http::{HeaderMap, HeaderName, Method};
use std::net::IpAddr;
use std::time::Duration;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let lines = lines.iter().map(|(name, value)| {
        let value = value.parse().expect("a value");
        (HeaderName::from_static(name), value)
    });
    lines.collect()
}

fn hash(policies: &[HashPolicy], lines: &[(&'static str, &str)]) -> Option<u64> {
    let headers = headers(lines);
    let head = RequestHead {
        method: &Method::GET,
        authority: "shop",
        path: "/buy?user=ann&user=bob&empty&x=%41",
        scheme: "http",
        headers: &headers,
    };
    let client = IpAddr::from([192, 0, 2, 7]);
    request_hash(policies, &head, client, |cookie| {
        format!("made for {}", cookie.name)
    })
}

fn policy(of: HashOf) -> HashPolicy {
    HashPolicy {
        of,
        terminal: false,
    }
}

fn header(name: &'static str) -> HashPolicy {
    policy(HashOf::Header {
        name: HeaderMatch::Name(HeaderName::from_static(name)),
        rewrite: None,
    })
}

fn cookie(ttl: Option<u64>) -> HashPolicy {
    policy(HashOf::Cookie(HashCookie {
        name: "session".to_owned(),
        ttl: ttl.map(Duration::from_secs),
        path: String::new(),
        attributes: vec![],
    }))
}

#[test]
fn a_request_without_what_is_hashed_has_no_hash() {
    assert_eq!(hash(&[], &[]), None);
    assert_eq!(hash(&[header("x-user"), cookie(None)], &[]), None);
    let query = policy(HashOf::QueryParameter("missing".to_owned()));
    assert_eq!(hash(&[query], &[]), None);
}

#[test]
fn hashes_of_policies_are_turned_and_combined() {
    let lines = [("x-user", "ann"), ("x-shop", "b")];
    let (ann, b) = (xx64(b"ann"), xx64(b"b"));
    let both = [header("x-user"), header("x-none"), header("x-shop")];
    assert_eq!(hash(&both, &lines), Some(ann.rotate_left(1) ^ b));
    let twice = [header("x-user"), header("x-user")];
    assert_eq!(hash(&twice, &lines), Some(ann.rotate_left(1) ^ ann));
}

#[test]
fn after_a_terminal_policy_others_count_only_where_there_is_no_hash() {
    let mut policies = [header("x-user"), header("x-shop")];
    policies[0].terminal = true;
    let (ann, b) = (xx64(b"ann"), xx64(b"b"));
    let lines = [("x-user", "ann"), ("x-shop", "b")];
    assert_eq!(hash(&policies, &lines), Some(ann));
    assert_eq!(hash(&policies, &lines[1..]), Some(b));
}

#[test]
fn lines_of_a_header_count_in_whichever_order_they_come() {
    let one = hash(&[header("x-user")], &[("x-user", "a"), ("x-user", "b")]);
    let other = hash(&[header("x-user")], &[("x-user", "b"), ("x-user", "a")]);
    assert_eq!(one, other);
    assert_eq!(one, Some(xx64_from(xx64(b"a"), b"b")));
}

#[test]
fn pseudo_headers_are_hashed_as_well() {
    let of = |name| {
        policy(HashOf::Header {
            name,
            rewrite: None,
        })
    };
    let authority = hash(&[of(HeaderMatch::Authority)], &[]);
    assert_eq!(authority, Some(xx64(b"shop")));
    assert_eq!(hash(&[of(HeaderMatch::Method)], &[]), Some(xx64(b"GET")));
}

#[test]
fn a_value_is_rewritten_before_it_is_hashed() {
    let rewrite = RegexRewrite::new(r"^user-(\d+)-.*$", r"\1").expect("a rewrite");
    let policies = [policy(HashOf::Header {
        name: HeaderMatch::Name(HeaderName::from_static("x-user")),
        rewrite: Some(rewrite),
    })];
    let ann = hash(&policies, &[("x-user", "user-12-laptop")]);
    assert_eq!(ann, Some(xx64(b"12")));
    let other = hash(&policies, &[("x-user", "guest")]);
    assert_eq!(other, Some(xx64(b"guest")));
}

#[test]
fn a_substitution_refers_to_groups_and_nothing_else() {
    let apply = |pattern, substitution: &str, value: &str| {
        let rewrite = RegexRewrite::new(pattern, substitution).expect("a rewrite");
        String::from_utf8(rewrite.apply(value.as_bytes()).into_owned()).expect("a text")
    };
    assert_eq!(apply("(b)(c)", r"\2\1\0", "abcabc"), "acbbcacbbc");
    assert_eq!(apply("b", r"$1\\", "abc"), r"a$1\c");
    for wrong in [r"\2", r"\", r"\n"] {
        assert!(RegexRewrite::new("(b)", wrong).is_err(), "{wrong}");
    }
    assert!(RegexRewrite::new("(", "").is_err());
}

#[test]
fn a_cookie_is_made_only_where_there_is_none_and_it_has_a_time_to_live() {
    let with = |value: &str| {
        let lines = [("cookie", value)];
        (
            hash(&[cookie(None)], &lines),
            hash(&[cookie(Some(0))], &lines),
        )
    };
    let given = Some(xx64(b"abc"));
    assert_eq!(with("session=abc"), (given, given));
    let made = Some(xx64(b"made for session"));
    assert_eq!(with("other=abc"), (None, made));
    assert_eq!(with("session="), (None, made));
    assert_eq!(with("session=\"\""), (None, made));
}

#[test]
fn cookies_are_found_among_others() {
    let lines = headers(&[
        ("cookie", "a=1; nothing;  b = 2;c=\"3\";session2=x"),
        ("cookie", "; d=\"; e=a=b; a=4 "),
    ]);
    let value = |name| cookie_value(&lines, name).map(String::from_utf8_lossy);
    assert_eq!(value("a").as_deref(), Some("1"));
    assert_eq!(value("b ").as_deref(), Some(" 2"));
    assert_eq!(value("b"), None);
    assert_eq!(value("c").as_deref(), Some("3"));
    assert_eq!(value("d").as_deref(), Some("\""));
    assert_eq!(value("e").as_deref(), Some("a=b"));
    assert_eq!(value("session"), None);
}

#[test]
fn the_first_value_of_a_parameter_counts_as_it_is_written() {
    let path = "/buy?user=ann&user=bob&empty&x=%41&=y";
    assert_eq!(query_parameter(path, "user"), Some("ann"));
    assert_eq!(query_parameter(path, "empty"), Some(""));
    assert_eq!(query_parameter(path, "x"), Some("%41"));
    assert_eq!(query_parameter(path, "User"), None);
    assert_eq!(query_parameter("/user=ann", "user"), None);
}

#[test]
fn an_address_is_hashed_as_it_is_written() {
    assert_eq!(source_hash([10, 1, 2, 3].into()), xx64(b"10.1.2.3"));
    let v6: IpAddr = "2001:db8::1".parse().expect("an address");
    assert_eq!(source_hash(v6), xx64(b"2001:db8::1"));
    let longest: IpAddr = "1111:2222:3333:4444:5555:6666:7777:8888"
        .parse()
        .expect("one");
    assert_eq!(source_hash(longest), xx64(longest.to_string().as_bytes()));
    let by_policy = hash(&[policy(HashOf::SourceIp)], &[]);
    assert_eq!(by_policy, Some(xx64(b"192.0.2.7")));
}
