//! What the field's own tools say about a pod. Only tests use them; the product needs neither.

use anyhow::{Context, Result, ensure};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use crate::net::Pod;

/// Everything `shunt-init` may change in a pod, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// `nft list ruleset`.
    pub rules: String,
    /// `ip rule` of both families.
    pub policies: String,
    /// The routes of all tables and both families, multicast ones and that to `::6` itself left out:
    /// the kernel adds and removes those on its own, that to an address some time after it.
    pub routes: String,
    /// All addresses.
    pub addresses: String,
}

impl Pod {
    /// Takes down everything `shunt-init` may change.
    ///
    /// # Errors
    /// `nft` or `ip` is not installed, or fails.
    pub fn traces(&self) -> Result<Traces> {
        let ip = |args: &str| self.tool("ip", args);
        let both = |args: &str| -> Result<String> {
            Ok(format!(
                "{}{}",
                ip(&format!("-4 {args}"))?,
                ip(&format!("-6 {args}"))?
            ))
        };
        let routes = both("route show table all")?;
        Ok(Traces {
            rules: self.ruleset()?,
            policies: both("rule show")?,
            routes: routes
                .lines()
                .filter(|line| {
                    !line.starts_with("multicast") && !line.starts_with("local ::6 dev lo")
                })
                .map(|line| format!("{line}\n"))
                .collect(),
            addresses: ip("-brief address")?,
        })
    }

    /// `nft list ruleset`.
    ///
    /// # Errors
    /// `nft` is not installed, or fails.
    pub fn ruleset(&self) -> Result<String> {
        self.tool("nft", "list ruleset")
    }

    /// Loads rules from text with `nft -f`.
    ///
    /// # Errors
    /// `nft` is not installed, or refuses the text.
    pub fn load_rules(&self, text: &str) -> Result<()> {
        self.command("nft")
            .args(["-f", "-"])
            .stdin_text(text)?
            .finish()?
            .success()?;
        Ok(())
    }

    /// The generation of the pod's nf_tables: every committed transaction adds one.
    ///
    /// # Errors
    /// The kernel has no nf_tables.
    pub fn generation(&self) -> Result<u32> {
        // A request of 20 bytes: struct nlmsghdr with NFT_MSG_GETGEN of NFNL_SUBSYS_NFTABLES and
        // NLM_F_REQUEST, struct nfgenmsg. The answer has the same head, then NFTA_GEN_ID, a
        // big-endian number, as its first attribute.
        const GETGEN: [u8; 20] = [
            20, 0, 0, 0, 16, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        self.run(|| {
            let socket = Socket::new(NETLINK_NETFILTER).context("opening a netfilter socket")?;
            socket.send_to(&GETGEN, &SocketAddr::new(0, 0), 0)?;
            let (answer, _) = socket.recv_from_full()?;
            let number = answer
                .get(24..28)
                .context("the answer to NFT_MSG_GETGEN is short")?;
            Ok(u32::from_be_bytes(number.try_into()?))
        })
    }

    fn tool(&self, program: &str, args: &str) -> Result<String> {
        let finished = self.command(program).args(args.split(' ')).finish()?;
        ensure!(finished.status.success(), "{program} {args}: {finished}");
        Ok(finished.stdout)
    }
}
