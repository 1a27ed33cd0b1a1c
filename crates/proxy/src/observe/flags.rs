//! Response flags: why a request or connection ended as it did, in Envoy's short names and in the
//! order in which Envoy shows them (`CoreResponseFlag`).

use std::fmt;

bitflags::bitflags! {
    /// A set of response flags. docs/response-flags.md tells what to do about each.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Flags: u32 {
        /// No healthy upstream.
        const UH = 1 << 0;
        /// Upstream request timeout.
        const UT = 1 << 1;
        /// The upstream reset the stream.
        const UR = 1 << 2;
        /// Upstream connection failure.
        const UF = 1 << 3;
        /// Upstream connection termination.
        const UC = 1 << 4;
        /// Upstream overflow: a circuit breaker is open.
        const UO = 1 << 5;
        /// No route, or no filter chain.
        const NR = 1 << 6;
        /// Downstream connection termination.
        const DC = 1 << 7;
        /// Every attempt to connect failed.
        const URX = 1 << 8;
        /// Stream idle timeout.
        const SI = 1 << 9;
        /// Downstream protocol error.
        const DPE = 1 << 10;
        /// The connection lived as long as it may.
        const DT = 1 << 11;
        /// Upstream protocol error.
        const UPE = 1 << 12;
        /// No cluster of that name.
        const NC = 1 << 13;
        /// Overload: no file descriptor was left.
        const OM = 1 << 14;
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
    fn the_documentation_explains_every_flag_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/response-flags.md");
        let text = std::fs::read_to_string(path).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
        let mut explained = Vec::new();
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert!(
                cells.len() == 4 && !cells.contains(&""),
                "four cells: {row}"
            );
            explained.push(cells[0]);
        }
        let mut known: Vec<&str> = Flags::all().iter_names().map(|(name, _)| name).collect();
        explained.sort_unstable();
        known.sort_unstable();
        assert_eq!(
            explained, known,
            "docs/response-flags.md and the code differ"
        );
    }
}
