//! Exit codes: one for each cause, so that a script or a controller can tell them apart without
//! reading text. `docs/exit-codes.md` is the table for people.

use shunt_redirect::error::Cause;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Success = 0,
    Internal = 1,
    Usage = 2,
    /// `diff` found a difference.
    Differs = 3,
    Permission = 4,
    KernelLacks = 5,
    Conflict = 6,
    KernelRefused = 7,
    ProgramMissing = 8,
    Forbidden = 9,
    UserNamespace = 10,
    /// Istio's repair controller knows this number.
    Unproved = 126,
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Cause> for Exit {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Permission => Self::Permission,
            Cause::Forbidden => Self::Forbidden,
            Cause::UserNamespace => Self::UserNamespace,
            Cause::KernelLacks => Self::KernelLacks,
            Cause::Conflict => Self::Conflict,
            Cause::KernelRefused => Self::KernelRefused,
            Cause::Invalid | Cause::Missing => Self::Usage,
            Cause::ProgramMissing => Self::ProgramMissing,
            Cause::Internal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_documented_codes_are_those_of_the_program() {
        let document = include_str!("../../docs/exit-codes.md");
        let section = document.split("## shunt-init").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let documented: Vec<(u8, &str)> = section
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
                Some((cells.next()?.parse().ok()?, cells.next()?))
            })
            .collect();
        let program = [
            Exit::Success,
            Exit::Internal,
            Exit::Usage,
            Exit::Differs,
            Exit::Permission,
            Exit::KernelLacks,
            Exit::Conflict,
            Exit::KernelRefused,
            Exit::ProgramMissing,
            Exit::Forbidden,
            Exit::UserNamespace,
            Exit::Unproved,
        ]
        .map(|exit| (exit.code(), format!("{exit:?}")));
        let program: Vec<_> = program
            .iter()
            .map(|(code, name)| (*code, name.as_str()))
            .collect();
        assert_eq!(documented, program);
    }
}
