//! Flags and variables of other people's programs: how they are given, and where each value comes
//! from.
//!
//! A program is a table of [`Flag`]s. Precedence is a flag's own variable, then its additional one,
//! then the command line. An empty variable is none.

use std::ffi::OsString;
use std::fmt;

use clap::builder::{Arg, ArgAction};
use clap::{ArgMatches, Command};

use super::values::{Reason, backend, boolean};
use crate::backend::BackendChoice;

/// Istio's flag for messages as JSON, which every verb takes.
pub(crate) const LOG_AS_JSON: &str = "log_as_json";
/// Our flag for what writes the rules, which every way of asking has.
pub(crate) const BACKEND: &str = "backend";
/// Linkerd's flag for messages as JSON.
pub(crate) const LOG_FORMAT: &str = "log-format";

/// Whether messages are wanted as JSON (`--log_as_json`, `--log-format json`). Looks at the bare
/// command line, because a message about a wrong argument should have the right form too.
#[must_use]
pub fn wants_json(arguments: &[OsString]) -> bool {
    let flags: Vec<_> = arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .collect();
    let value = |argument: &str, flag: &str| {
        let rest = argument.strip_prefix("--")?.strip_prefix(flag)?;
        (rest.is_empty() || rest.starts_with('=')).then(|| rest.trim_start_matches('=').to_owned())
    };
    flags.iter().enumerate().any(|(index, argument)| {
        let switched = value(argument, LOG_AS_JSON)
            .is_some_and(|value| value.is_empty() || boolean(&value) == Ok(true));
        let formatted = value(argument, LOG_FORMAT).is_some_and(|value| match value.as_str() {
            "" => flags.get(index + 1) == Some(&"json"),
            value => value == "json",
        });
        switched || formatted
    })
}

/// A flag of the original program.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// Whether the flag's name in capitals is a variable.
    pub(crate) own_variable: bool,
    pub(crate) additional_variable: Option<&'static str>,
    /// `--flag` alone means true.
    pub(crate) switch: bool,
    /// Given more than once, the lists are one.
    pub(crate) repeats: bool,
    pub(crate) help: &'static str,
}

impl Flag {
    pub(crate) const fn new(long: &'static str, short: Option<char>, help: &'static str) -> Self {
        Self {
            long,
            short,
            own_variable: true,
            additional_variable: None,
            switch: false,
            repeats: false,
            help,
        }
    }

    pub(crate) const fn without_variable(mut self) -> Self {
        self.own_variable = false;
        self
    }

    pub(crate) const fn or_variable(mut self, name: &'static str) -> Self {
        self.additional_variable = Some(name);
        self
    }

    pub(crate) const fn switch(mut self) -> Self {
        self.switch = true;
        self
    }

    pub(crate) const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    fn argument(&self) -> Arg {
        let action = if self.repeats {
            ArgAction::Append
        } else {
            ArgAction::Set
        };
        let argument = Arg::new(self.long)
            .long(self.long)
            .short(self.short)
            .action(action)
            .help(self.help)
            .value_name("VALUE")
            // Our own parser names the flag and the range. All hyphens would be too much: after
            // an unquoted empty variable, `-i -b 80` would take `-b` for a value.
            .allow_negative_numbers(true);
        if self.switch {
            argument
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("BOOL")
        } else {
            argument
        }
    }
}

/// Adds a table of flags to a command.
pub(crate) fn augment(command: Command, flags: &'static [Flag]) -> Command {
    flags
        .iter()
        .fold(command, |command, flag| command.arg(flag.argument()))
}

/// The command line as given, nothing looked at yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given(Vec<(&'static str, String)>);

impl Given {
    pub(crate) fn of(matches: &ArgMatches, flags: &'static [Flag]) -> Self {
        let given = flags.iter().filter_map(|flag| {
            let values = matches.get_many::<String>(flag.long)?;
            let values: Vec<_> = values.filter(|value| !value.is_empty()).cloned().collect();
            Some((flag.long, values.join(",")))
        });
        Self(given.collect())
    }

    /// Settles where each value comes from. `variables` are those that no flag has.
    ///
    /// # Errors
    /// If a variable that counts is no text.
    pub(crate) fn resolve(
        &self,
        flags: &'static [Flag],
        variables: &[&'static str],
        environment: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<Values, ArgumentError> {
        let variable = |name: &str| {
            let value = environment(name).map(|value| text_of(name, value));
            Ok(value
                .transpose()?
                .map(|text| (Origin::Variable(name.to_owned()), text)))
        };
        let filled = |name: &str| {
            let value = variable(name)?;
            Ok(value.filter(|(_, text): &(_, String)| !text.is_empty()))
        };
        let mut values = Vec::new();
        for flag in flags {
            let name = flag.long;
            let given = self.0.iter().find(|(long, _)| *long == name);
            let mut found = given.map(|(_, value)| (Origin::Flag(flag), value.clone()));
            let own = flag
                .own_variable
                .then(|| name.to_uppercase().replace('-', "_"));
            for variable in [flag.additional_variable, own.as_deref()] {
                if let (None, Some(variable)) = (&found, variable) {
                    found = filled(variable)?;
                }
            }
            values.extend(found.map(|(origin, text)| Value { name, origin, text }));
        }
        for name in variables {
            let found = variable(name)?;
            values.extend(found.map(|(origin, text)| Value { name, origin, text }));
        }
        Ok(Values(values))
    }
}

/// A variable's value; one that is no text would else be as good as none.
fn text_of(name: &str, value: OsString) -> Result<String, ArgumentError> {
    value.into_string().map_err(|value| ArgumentError {
        origin: format!("{name}={}", value.to_string_lossy()),
        reason: Reason::Is("is not UTF-8: write it anew, or unset it".into()),
    })
}

/// An argument that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin} {reason}")]
pub struct ArgumentError {
    /// Where the value came from, with the value.
    origin: String,
    /// What is wrong, and the remedy.
    reason: Reason,
}

impl ArgumentError {
    /// A field that no argument has set, but which contradicts one that was.
    pub(crate) fn of_field(name: &str, reason: Reason) -> Self {
        let origin = name.to_owned();
        Self { origin, reason }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Origin {
    Flag(&'static Flag),
    Variable(String),
}

/// A value, not read yet.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    name: &'static str,
    origin: Origin,
    pub(crate) text: String,
}

impl Value {
    pub(crate) fn read<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Result<T, ArgumentError> {
        parse(&self.text).map_err(|reason| self.error(reason))
    }

    pub(crate) fn error(&self, reason: Reason) -> ArgumentError {
        ArgumentError {
            origin: self.to_string(),
            reason,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Flag(Flag {
                long,
                short: Some(short),
                ..
            }) => write!(f, "-{short} '{}' (--{long})", self.text),
            Origin::Flag(flag) => write!(f, "--{}={}", flag.long, self.text),
            Origin::Variable(name) => write!(f, "{name}={}", self.text),
        }
    }
}

/// All values that were given.
pub(crate) struct Values(Vec<Value>);

impl Values {
    /// By the long name of a flag, or the name of a variable that no flag has.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|value| value.name == name)
    }

    /// The same, an empty value being none.
    pub(crate) fn filled(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.text.is_empty())
    }

    /// A value; `None` if not given or empty.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Result<Option<T>, ArgumentError> {
        self.filled(name).map(|value| value.read(parse)).transpose()
    }

    pub(crate) fn switch(&self, name: &str) -> Result<bool, ArgumentError> {
        self.switch_or(name, false)
    }

    /// A switch that may be on by default.
    pub(crate) fn switch_or(&self, name: &str, default: bool) -> Result<bool, ArgumentError> {
        let value = self.get(name).map(|value| value.read(boolean));
        Ok(value.transpose()?.unwrap_or(default))
    }

    /// What writes the rules: what the original's flags ask for, or our own does ([`BACKEND`]), which
    /// must not contradict them.
    pub(crate) fn backend_or(
        &self,
        asked: Option<(&'static str, BackendChoice)>,
    ) -> Result<BackendChoice, ArgumentError> {
        let by_asking = asked.map(|(_, choice)| choice);
        match (self.read(BACKEND, backend)?, asked) {
            (Some(one), Some((with, other))) if one != other => {
                Err(self.error(BACKEND, Reason::NotWith(with)))
            }
            (given, _) => Ok(given.or(by_asking).unwrap_or_default()),
        }
    }

    /// What is wrong with the value of a flag, given or not; one that is not given has none.
    pub(crate) fn error_without_default(&self, flag: &str, reason: Reason) -> ArgumentError {
        match self.get(flag) {
            Some(value) => value.error(reason),
            None => ArgumentError {
                origin: format!("--{flag}"),
                reason,
            },
        }
    }

    /// What is wrong with the value of a flag, given or by default.
    pub(crate) fn error(&self, flag: &str, reason: Reason) -> ArgumentError {
        match self.get(flag) {
            Some(value) => value.error(reason),
            None => ArgumentError {
                origin: format!("--{flag} by default"),
                reason,
            },
        }
    }
}
