//! Arguments and variables: what they mean, and the words for what is wrong with them.

mod meaning;
mod running;
mod wrong;

use std::path::PathBuf;

use clap::{Args as _, Command, FromArgMatches as _};

use super::{FLAGS, IstioArgs, VARIABLES};
use crate::arbitrary;
use crate::capture::{CaptureConfig, InboundCapture, OutboundCapture};
use crate::compat::{Accounts, ArgumentError, Request};
use crate::facts::PodFacts;
fn arguments(list: &[&str]) -> Result<IstioArgs, clap::Error> {
    let command = IstioArgs::augment_args(Command::new("istio-iptables"));
    let matches = command.try_get_matches_from(["istio-iptables"].iter().chain(list))?;
    IstioArgs::from_arg_matches(&matches)
}

fn parse_with(list: &[&str], variables: &[(&str, &str)]) -> Result<Request, ArgumentError> {
    parse_in("/nowhere", list, variables)
}

/// With the users and groups of this folder.
fn parse_in(
    folder: impl Into<PathBuf>,
    list: &[&str],
    variables: &[(&str, &str)],
) -> Result<Request, ArgumentError> {
    let environment = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).into())
    };
    arguments(list)
        .unwrap()
        .parse(environment, &Accounts::in_folder(folder))
}

fn parse(list: &[&str]) -> Result<Request, ArgumentError> {
    parse_with(list, &[])
}

fn config(list: &[&str]) -> CaptureConfig {
    parse(list).unwrap().config
}

const INJECTOR: &str = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x= -b * -d 15090,15021,15020 \
                        --log_output_level=default:info";

/// What some flag takes, more often than not.
fn value() -> impl proptest::strategy::Strategy<Value = String> {
    proptest::prop_oneof![
        "\\*|true|false|TPROXY|REDIRECT|auto|istio|always|never|nft|legacy|5s|eth[0-9]\\+?",
        "[0-9]{1,5}(,[0-9]{1,5}){0,2}",
        "[1-9]{1,2}:[0-9]{3,5}",
        "10\\.[0-9]\\.0\\.0/(8|16|24),fd00:[0-9a-f]::/(32|64)",
        "127\\.[0-9]\\.0\\.0/(8|16|32)",
    ]
}

proptest::proptest! {
    #[test]
    fn any_value_is_judged_without_panic(flag in 0..FLAGS.len(), value in "\\PC{0,20}") {
        let flag = &FLAGS[flag];
        let attached = format!("--{}={value}", flag.long);
        if let Ok(arguments) = arguments(&[&attached])
            && let Ok(request) = arguments.parse(|_variable| None, &Accounts::default())
        {
            arbitrary::is_sound(&request.config)?;
        }
    }

    #[test]
    fn what_is_accepted_of_many_flags_is_sound(
        flags in proptest::collection::btree_map(0..FLAGS.len(), value(), 0..8),
        variables in proptest::collection::vec((0..VARIABLES.len(), value()), 0..3),
    ) {
        let attached: Vec<_> = flags
            .iter()
            .map(|(flag, value)| format!("--{}={value}", FLAGS[*flag].long))
            .collect();
        let list: Vec<_> = attached.iter().map(String::as_str).collect();
        let variables: Vec<_> = variables
            .iter()
            .map(|(variable, value)| (VARIABLES[*variable], value.as_str()))
            .collect();
        if let Ok(request) = parse_with(&list, &variables) {
            arbitrary::is_sound(&request.config)?;
            let _told = request.warnings(&PodFacts::default(), &[]);
        }
    }

    #[test]
    fn ports_and_blocks_that_are_accepted_are_those_written(
        ports in proptest::collection::vec(1u16.., 1..8),
        address: std::net::Ipv4Addr,
        length in 0u8..=32,
    ) {
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let block = format!("{address}/{length}");
        let config = config(&["-b", &list, "-i", &block]);
        let written = ports.iter().map(|port| (*port, *port)).collect();
        proptest::prop_assert_eq!(config.inbound.capture, InboundCapture::Only(written));
        let block = block.parse::<ipnet::IpNet>().unwrap().trunc();
        proptest::prop_assert_eq!(config.outbound.capture, OutboundCapture::Only(vec![block]));
    }
}
