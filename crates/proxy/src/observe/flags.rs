//! Response flags: why a request or connection ended as it did, in Envoy's short names.

use std::fmt;

bitflags::bitflags! {
    /// A set of response flags. docs/response-flags.md tells what to do about each.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Flags: u32 {
        /// No healthy upstream.
        const UH = 1 << 0;
        /// Upstream connection failure.
        const UF = 1 << 1;
        /// Upstream overflow: a circuit breaker is open.
        const UO = 1 << 2;
        /// No route, or no filter chain.
        const NR = 1 << 3;
        /// Upstream request timeout.
        const UT = 1 << 4;
        /// Upstream connection termination.
        const UC = 1 << 5;
        /// Every attempt to connect failed.
        const URX = 1 << 6;
        /// No cluster of that name.
        const NC = 1 << 7;
        /// Downstream connection termination.
        const DC = 1 << 8;
        /// Downstream protocol error.
        const DPE = 1 << 9;
        /// Upstream protocol error.
        const UPE = 1 << 10;
        /// Stream idle timeout.
        const SI = 1 << 11;
        /// Overload: no file descriptor was left.
        const OM = 1 << 12;
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, (name, _)) in self.iter_names().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_shown_with_commas_and_none_as_a_dash() {
        assert_eq!(Flags::empty().to_string(), "-");
        assert_eq!((Flags::URX | Flags::UF).to_string(), "UF,URX");
    }

    #[test]
    fn the_documentation_lists_every_flag() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/response-flags.md");
        let text = std::fs::read_to_string(path).unwrap();
        for (name, _) in Flags::all().iter_names() {
            assert!(
                text.contains(&format!("| {name} |")),
                "docs/response-flags.md lacks {name}"
            );
        }
    }
}
