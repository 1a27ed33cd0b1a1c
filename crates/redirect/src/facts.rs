//! What a plan must know about the pod beside the policy: everything that is looked up.

use std::net::IpAddr;

use crate::capture::{CaptureConfig, DnsServers};
use crate::error::{Cause, KernelError};
use crate::routing::PodAddresses;
use crate::ruleset::Cgroup;
use crate::{cgroup, resolv};

/// The pod, as far as a plan depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its addresses.
    pub addresses: PodAddresses,
    /// The servers in its `/etc/resolv.conf`, if the policy asks for them.
    pub nameservers: Vec<IpAddr>,
    /// The proxy's cgroup, if the policy names one.
    pub cgroup: Option<Cgroup>,
    /// Names of the interfaces that have an address by which the pod is reached, if the policy names
    /// interfaces. No rule depends on them, but some warnings do ([`crate::warnings`]).
    pub interfaces: Vec<String>,
}

impl PodFacts {
    /// Looks up what `config` depends on, in the namespaces of the calling thread. Needs no
    /// privilege.
    ///
    /// # Errors
    /// If something that the policy names is not there or cannot be read.
    pub fn read(config: &CaptureConfig) -> Result<Self, FactsError> {
        Ok(Self::of(config, PodAddresses::read()?)?)
    }

    /// The same, with addresses that are known.
    pub(crate) fn of(config: &CaptureConfig, addresses: PodAddresses) -> Result<Self, Missing> {
        let from_file = config
            .dns
            .as_ref()
            .is_some_and(|dns| dns.servers == DnsServers::ResolvConf);
        let interfaces = &config.interfaces;
        let by_name = !(interfaces.exclude.is_empty() && interfaces.reroute.is_empty());
        Ok(Self {
            interfaces: if by_name {
                addresses.interfaces()
            } else {
                Vec::new()
            },
            addresses,
            nameservers: if from_file {
                resolv::nameservers()?
            } else {
                Vec::new()
            },
            cgroup: config.proxy.cgroup.as_ref().map(cgroup::find).transpose()?,
        })
    }

    /// For plans on paper: addresses, and nothing else.
    #[must_use]
    pub fn with_addresses(addresses: PodAddresses) -> Self {
        Self {
            addresses,
            ..Self::default()
        }
    }
}

/// Something that the policy names is not in the pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The resolvers are asked for, and cannot be read.
    #[error(
        "cannot read /etc/resolv.conf for the DNS servers whose queries are to be captured: \
         {reason}; name the servers in the policy, or capture queries to any server"
    )]
    ResolvConf {
        /// The system's word.
        reason: String,
    },
    /// There is no tree of cgroups to look into.
    #[error(
        "the proxy is to be known by cgroup {path}, but no cgroup2 file system is mounted here; \
         mount one (it is read only), or name the proxy by uid, gid or mark"
    )]
    NoCgroups {
        /// The path asked for.
        path: String,
    },
    /// The cgroup does not exist.
    #[error(
        "the proxy is to be known by cgroup {path}, but {folder} cannot be read: {reason}; the \
         cgroup must exist when the rules are written: name one that does, seen from the root of \
         the cgroup2 mount, or name the proxy by uid, gid or mark"
    )]
    Cgroup {
        /// The path asked for.
        path: String,
        /// Where it was looked for.
        folder: String,
        /// The system's word.
        reason: String,
    },
}

/// Looking at the pod failed.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Something that the policy names is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The kernel did not tell.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl FactsError {
    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Missing(_) => Cause::Missing,
            Self::Kernel(error) => error.cause(),
        }
    }
}
