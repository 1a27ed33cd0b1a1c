//! What no policy may say, because its parts contradict each other. Each way of asking for capture
//! ends here.

use ipnet::Ipv4Net;
use shunt_abi::mark;

use crate::capture::{CaptureConfig, InboundMode, Port};
use crate::field::{Field, Vocabulary};

/// Parts of a policy that cannot stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Two listeners of the proxy have one port.
    SamePort {
        /// One of them.
        one: Field,
        /// The other.
        other: Field,
        /// The port of both.
        port: Port,
    },
    /// Nothing tells the proxy from the application.
    UnknownProxy,
    /// An id that no process can have.
    NoId {
        /// Where it stands.
        field: Field,
    },
    /// A mark has two meanings.
    SameMark {
        /// Where it stands.
        field: Field,
        /// The mark.
        mark: u32,
        /// The other meaning.
        meaning: &'static str,
    },
    /// The kernel's own route tables, or none.
    Table {
        /// The number.
        table: u32,
    },
    /// More than loopback would count as loopback.
    Loopback {
        /// The block.
        block: Ipv4Net,
    },
}

impl Invalid {
    /// The field that the error is about.
    #[must_use]
    pub const fn field(&self) -> Field {
        match self {
            Self::SamePort { one: field, .. }
            | Self::NoId { field }
            | Self::SameMark { field, .. } => *field,
            Self::UnknownProxy => Field::Proxy,
            Self::Table { .. } => Field::TproxyTable,
            Self::Loopback { .. } => Field::Loopback,
        }
    }

    /// What is wrong and what to do, to be read after the field's name and value.
    #[must_use]
    pub fn reason(&self, vocabulary: Vocabulary) -> String {
        match self {
            Self::SamePort { other, port, .. } => format!(
                "is also the value of {} ({port}): each listener of the proxy needs a port of its \
                 own",
                other.name(vocabulary)
            ),
            Self::UnknownProxy => format!(
                "names nobody: what the proxy sends would be captured and come back to it without \
                 end; give the proxy's user id ({})",
                Field::ProxyUids.name(vocabulary)
            ),
            Self::NoId { .. } => format!(
                "holds {}, which means \"none\" to the kernel: no process has it; take it out",
                u32::MAX
            ),
            Self::SameMark { mark, meaning, .. } => {
                format!("is {mark}, {meaning}: choose another mark")
            }
            Self::Table { table } => format!(
                "is {table}: 0 is no table, and 253 to 255 are the kernel's own, in which a local \
                 default route would take all traffic; choose another, like 133"
            ),
            Self::Loopback { block } => format!(
                "is {block}: what counts as loopback must lie in 127.0.0.0/8, or traffic to other \
                 machines would pass the mesh by; give a block like 127.0.0.1/32"
            ),
        }
    }
}

impl CaptureConfig {
    /// Whether the parts of the policy can stand together.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.different_ports()?;
        if self.proxy.is_unknown() {
            return Err(Invalid::UnknownProxy);
        }
        for (field, ids) in [
            (Field::ProxyUids, &self.proxy.uids),
            (Field::ProxyGids, &self.proxy.gids),
        ] {
            if ids.contains(&u32::MAX) {
                return Err(Invalid::NoId { field });
            }
        }
        self.different_marks()?;
        if let InboundMode::Tproxy {
            table: table @ (0 | 253..=255),
            ..
        } = self.inbound.mode
        {
            return Err(Invalid::Table { table });
        }
        let block = self.loopback_v4;
        if !block.network().is_loopback() || block.prefix_len() < 8 {
            return Err(Invalid::Loopback { block });
        }
        Ok(())
    }

    fn different_ports(&self) -> Result<(), Invalid> {
        let ports = [
            (Field::OutboundPort, Some(self.outbound.port)),
            (Field::InboundPort, Some(self.inbound.port)),
            (Field::TunnelPort, self.inbound.tunnel),
            (Field::DnsPort, self.dns.as_ref().map(|dns| dns.port)),
        ];
        for (index, (one, port)) in ports.iter().enumerate() {
            let Some(port) = *port else { continue };
            let same = ports[..index]
                .iter()
                .find(|(_, other)| *other == Some(port));
            if let Some((other, _)) = same {
                let (one, other) = (*one, *other);
                return Err(Invalid::SamePort { one, other, port });
            }
        }
        Ok(())
    }

    fn different_marks(&self) -> Result<(), Invalid> {
        let tproxy = match self.inbound.mode {
            InboundMode::Tproxy { mark, .. } => Some(mark),
            InboundMode::Redirect => None,
        };
        let same = |field, mark: u32, meaning| {
            Err(Invalid::SameMark {
                field,
                mark,
                meaning,
            })
        };
        if tproxy.is_some_and(|tproxy| tproxy.get() == mark::SELF_CALL) {
            let meaning = "which marks the proxy's calls to its own pod";
            return same(Field::TproxyMark, mark::SELF_CALL, meaning);
        }
        if tproxy.is_some_and(|tproxy| tproxy.get() == mark::CAPTURED) {
            let meaning = "which marks the connections that TPROXY captured";
            return same(Field::TproxyMark, mark::CAPTURED, meaning);
        }
        let Some(own) = self.proxy.mark else {
            return Ok(());
        };
        if own.get() == mark::SELF_CALL {
            let meaning = "which marks the proxy's calls to its own pod while TPROXY is used";
            return same(Field::ProxyMark, own.get(), meaning);
        }
        if tproxy == Some(own) {
            let meaning = "which TPROXY gives to the application's packets too, so that they would \
                           pass as the proxy's";
            return same(Field::ProxyMark, own.get(), meaning);
        }
        Ok(())
    }
}
