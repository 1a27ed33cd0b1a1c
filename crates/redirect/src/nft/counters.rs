//! The counters of our rules: all of them, or those of a few, which is much less to read.

use nix::errno::Errno;
use shunt_abi::name;

use super::Nft;
use super::attr::{Head, Writer};
use super::decode::{self, Counter};
use super::read::ATTEMPTS;
use super::request::{attributes, dump, malformed};
use super::socket::Reply;
use super::uapi::{NFPROTO_INET, flag, msg, rule};
use crate::error::{KernelError, Object};

const WHAT: &str = "read the counters of table inet shunt";

impl Nft {
    /// How many packets each rule of our table has decided on.
    pub(crate) fn counters(&mut self) -> Result<Vec<Counter>, KernelError> {
        for _ in 0..ATTEMPTS {
            if let Some(bodies) = dump(&mut self.0, WHAT, msg::GETRULE, rule::TABLE)? {
                let rules = bodies.iter();
                return rules
                    .map(|body| decode::counter(attributes(body)).map_err(malformed(WHAT)))
                    .collect();
            }
        }
        Err(KernelError::Busy { attempts: ATTEMPTS })
    }

    /// The same of a few, each known by its chain and handle. Those that are gone are left out.
    pub(crate) fn counters_of(
        &mut self,
        rules: &[(&str, u64)],
    ) -> Result<Vec<Counter>, KernelError> {
        let mut requests = Writer::default();
        for (chain, handle) in rules {
            let head = Head {
                kind: msg::GETRULE,
                flags: flag::REQUEST,
                sequence: self.0.reserve(1),
                family: NFPROTO_INET,
                resource: 0,
            };
            requests.message(&head, |attributes| {
                attributes.string(rule::TABLE, name::NFT_TABLE);
                attributes.string(rule::CHAIN, chain);
                attributes.be64(rule::HANDLE, *handle);
            });
        }
        let mut counters = Vec::with_capacity(rules.len());
        for numbered in self.0.exchange(&requests.into_bytes())?.iter() {
            match numbered.map_err(malformed(WHAT))?.reply {
                Reply::Message(_, body) => {
                    let counter = decode::counter(attributes(body));
                    counters.push(counter.map_err(malformed(WHAT))?);
                }
                Reply::Error(Errno::ENOENT, _) | Reply::Ack | Reply::Done => {}
                Reply::Error(errno, text) => {
                    return Err(KernelError::Refused {
                        operation: WHAT.to_owned(),
                        object: Object::Tables,
                        errno,
                        text,
                    });
                }
            }
        }
        Ok(counters)
    }
}
