//! Values as iptables writes them: addresses with masks, ports, ids, marks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::super::model::{End, Test};
use crate::ranges::{Ranges, Scalar, v4_block, v6_block};
use crate::ruleset::Family;

/// A decimal or, after `0x`, hexadecimal number.
pub(super) fn number(text: &str) -> Option<u32> {
    let plain = |text: &str| !text.starts_with('+');
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if plain(digits) => u32::from_str_radix(digits, 16).ok(),
        None if plain(text) => text.parse().ok(),
        _ => None,
    }
}

/// `value` or `value/mask`.
pub(super) fn masked(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

/// `first`, or both ends with a separator between.
pub(super) fn range<T: Copy>(
    text: &str,
    separator: char,
    one: impl Fn(&str) -> Option<T>,
) -> Option<(T, T)> {
    match text.split_once(separator) {
        Some((first, last)) => Some((one(first)?, one(last)?)),
        None => one(text).map(|only| (only, only)),
    }
}

fn port(text: &str) -> Option<u16> {
    number(text).and_then(|port| u16::try_from(port).ok())
}

/// `80`, `80:90`, `:90` or `80:`.
pub(super) fn ports(text: &str) -> Option<(u16, u16)> {
    match text.split_once(':') {
        Some((first, last)) => {
            let first = if first.is_empty() { 0 } else { port(first)? };
            let last = if last.is_empty() {
                u16::MAX
            } else {
                port(last)?
            };
            Some((first, last))
        }
        None => port(text).map(|only| (only, only)),
    }
    .filter(|(first, last)| first <= last)
}

/// `10-20`, as targets write ranges of ports.
pub(super) fn port_span(text: &str) -> Option<(u16, u16)> {
    range(text, '-', port).filter(|(first, last)| first <= last)
}

/// `80,443:450`.
pub(super) fn port_list(text: &str) -> Option<Ranges<u16>> {
    text.split(',').map(ports).collect()
}

/// A set of one interval; `None` if its ends are swapped.
pub(super) fn interval<T: Scalar>((first, last): (T, T)) -> Option<Arc<Ranges<T>>> {
    (first <= last).then(|| Arc::new([(first, last)].into_iter().collect()))
}

/// Blocks with lengths or masks, separated by commas, of a family.
pub(super) fn blocks(text: &str, family: Family, end: End) -> Option<Test> {
    match family {
        Family::V4 => {
            let blocks: Option<Ranges<u32>> = text.split(',').map(v4).collect();
            blocks.map(|blocks| Test::V4(end, Arc::new(blocks)))
        }
        Family::V6 => {
            let blocks: Option<Ranges<u128>> = text.split(',').map(v6).collect();
            blocks.map(|blocks| Test::V6(end, Arc::new(blocks)))
        }
    }
}

/// `first-last` of a family.
pub(super) fn address_range(text: &str, family: Family, end: End) -> Option<Test> {
    match family {
        Family::V4 => {
            let one = |text: &str| text.parse::<Ipv4Addr>().ok().map(Ipv4Addr::to_bits);
            interval(range(text, '-', one)?).map(|range| Test::V4(end, range))
        }
        Family::V6 => {
            let one = |text: &str| text.parse::<Ipv6Addr>().ok().map(Ipv6Addr::to_bits);
            interval(range(text, '-', one)?).map(|range| Test::V6(end, range))
        }
    }
}

fn v4(text: &str) -> Option<(u32, u32)> {
    let (address, mask) = text.split_once('/').unwrap_or((text, "32"));
    let length = match mask.parse::<Ipv4Addr>() {
        Ok(mask) => {
            let bits = mask.to_bits();
            // What has holes is no block.
            (bits.count_ones() == bits.leading_ones()).then(|| bits.leading_ones())?
        }
        Err(_) => number(mask)?,
    };
    let length = u8::try_from(length).ok()?;
    let net = ipnet::Ipv4Net::new(address.parse().ok()?, length).ok()?;
    Some(v4_block(&net))
}

fn v6(text: &str) -> Option<(u128, u128)> {
    let (address, mask) = text.split_once('/').unwrap_or((text, "128"));
    let length = match mask.parse::<Ipv6Addr>() {
        Ok(mask) => {
            let bits = mask.to_bits();
            (bits.count_ones() == bits.leading_ones()).then(|| bits.leading_ones())?
        }
        Err(_) => number(mask)?,
    };
    let length = u8::try_from(length).ok()?;
    let net = ipnet::Ipv6Net::new(address.parse().ok()?, length).ok()?;
    Some(v6_block(&net))
}

/// An address of a family.
pub(super) fn address(text: &str, family: Family) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    (address.is_ipv4() == (family == Family::V4)).then_some(address)
}

/// The numbers (IANA) of protocols that iptables writes by name.
pub(super) fn protocol(text: &str) -> Option<u8> {
    Some(match text {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "sctp" => 132,
        "udplite" => 136,
        other => u8::try_from(number(other)?).ok()?,
    })
}
