//! Exit codes of shunt-agent: one for each cause, so that who starts it can tell causes apart
//! without reading text. `docs/exit-codes.md` is the table for people.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Drained and ended.
    Success = 0,
    /// A defect of ours, or the system failed at run time.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration cannot be read.
    ConfigUnreadable = 10,
    /// The configuration is wrong, or asks for what Shunt does not do.
    ConfigInvalid = 11,
    /// A port or address cannot be had.
    Bind = 12,
    /// A second signal ended the process before its connections had (128 + SIGTERM).
    SecondSignal = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_code() {
        let document = include_str!("../../docs/exit-codes.md");
        let (_, table) = document.split_once("## shunt-agent").unwrap();
        let codes = [
            Exit::Success,
            Exit::Failed,
            Exit::Usage,
            Exit::ConfigUnreadable,
            Exit::ConfigInvalid,
            Exit::Bind,
            Exit::SecondSignal,
        ];
        for code in codes {
            let row = format!("| {} | {code:?} |", code as u8);
            assert!(table.contains(&row), "docs/exit-codes.md lacks: {row}");
        }
        assert_eq!(
            table.matches("\n| ").count(),
            codes.len() + 1,
            "rows and head of the table"
        );
    }
}
