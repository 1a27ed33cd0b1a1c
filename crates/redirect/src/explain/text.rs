//! Why a text is no listing of rules.

use std::fmt;

/// A text is not what it is said to be. Nothing of it is used: a rule that is left out would make
/// every verdict wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TextError {
    line: Option<(usize, String)>,
    why: String,
}

impl TextError {
    pub(super) fn in_line(number: usize, line: &str, why: String) -> Self {
        let shown: String = line.chars().take(120).collect();
        Self {
            line: Some((number, shown)),
            why,
        }
    }

    pub(super) fn whole(why: String) -> Self {
        Self { line: None, why }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot read the rules: ")?;
        if let Some((number, line)) = &self.line {
            write!(f, "line {number}, `{}`: ", line.escape_debug())?;
        }
        write!(
            f,
            "{}; give the whole output of `iptables-save`, `ip6tables-save` or `nft -j list ruleset`",
            self.why
        )
    }
}
