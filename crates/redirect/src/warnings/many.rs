//! Long lists whose entries are all of one kind: a few are named, the others counted.

use super::{Never, Warning};
use crate::field::Field;

/// How many entries of a list are named for one reason.
const NAMED: usize = 3;

/// Why an entry is warned of, and where it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Never(Field, Never),
    Excluded(Field, Field),
}

/// Of more warnings for one reason, the first, of which the last tells how many there are.
pub(super) fn counted(warnings: Vec<Warning>) -> Vec<Warning> {
    let mut named: Vec<Warning> = Vec::new();
    // A reason, how many there are, and the last that is named.
    let mut reasons: Vec<(Reason, usize, usize)> = Vec::new();
    for warning in warnings {
        let reason = match &warning {
            Warning::NeverMatches { field, why, .. } => Reason::Never(*field, *why),
            Warning::NeverCaptured { field, by, .. } => Reason::Excluded(*field, *by),
            _ => {
                named.push(warning);
                continue;
            }
        };
        let known = reasons.iter().position(|(known, ..)| *known == reason);
        let at = known.unwrap_or(reasons.len());
        if known.is_none() {
            reasons.push((reason, 0, 0));
        }
        let (_, count, last) = &mut reasons[at];
        *count += 1;
        if *count <= NAMED {
            *last = named.len();
            named.push(warning);
        }
    }
    for (_, count, last) in reasons {
        if let Some(more @ 1..) = count.checked_sub(NAMED)
            && let Warning::NeverMatches { item, .. } | Warning::NeverCaptured { item, .. } =
                &mut named[last]
        {
            item.push_str(&format!(" (as {more} more)"));
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::capture::{CaptureConfig, OutboundCapture};
    use crate::facts::PodFacts;
    use crate::field::Vocabulary;
    use crate::routing::PodAddresses;
    use crate::warnings::warnings;

    #[test]
    fn of_many_entries_of_one_kind_three_are_named_and_all_counted() {
        let texts = |count: u16| -> Vec<String> {
            let mut config = CaptureConfig::default();
            let v6 = (0..count).map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]));
            let v4 = (0..count).map(|n| IpAddr::from([203, 0, 113, u8::try_from(n).unwrap()]));
            config.outbound.exclude_cidrs = v6.chain(v4).map(Into::into).collect();
            config.outbound.capture = OutboundCapture::Only(vec!["10.0.0.0/8".parse().unwrap()]);
            let pod = PodFacts::with_addresses(PodAddresses::default());
            let found = warnings(&config, &pod, &[]);
            found
                .iter()
                .map(|warning| warning.text(Vocabulary::Policy))
                .collect()
        };
        assert_eq!(texts(3).len(), 6);
        assert!(texts(3).iter().all(|text| !text.contains("more)")));

        let texts = texts(200);
        assert_eq!(texts.len(), 6, "{texts:#?}");
        assert!(
            texts[2].contains(" fd00::2/128 (as 197 more) never matches: IPv6 is not"),
            "{texts:#?}"
        );
        assert!(
            texts[5].contains(" 203.0.113.2/32 (as 197 more) never matches: nothing of"),
            "{texts:#?}"
        );
    }
}
