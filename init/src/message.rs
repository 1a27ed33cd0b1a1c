//! What the program says: for each message a line of text, or with `--log_as_json` a JSON object.
//!
//! What was done goes to standard output, warnings and errors to standard error. The rules that a
//! dry run prints are no message, and stay nft text.

use std::fmt;
use std::io::{self, Write as _};

use serde_json::json;

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// What was done.
    Info,
    /// It was done, but may not be what was meant.
    Warn,
    /// It was not done.
    Error,
}

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    level: Level,
    text: String,
    /// What the text says, for machines.
    fields: serde_json::Value,
}

impl Message {
    pub(crate) fn info(text: impl Into<String>) -> Self {
        Self::new(Level::Info, text)
    }

    pub(crate) fn warn(text: impl Into<String>) -> Self {
        Self::new(Level::Warn, text)
    }

    pub(crate) fn error(error: &impl fmt::Display) -> Self {
        Self::new(Level::Error, error.to_string())
    }

    fn new(level: Level, text: impl Into<String>) -> Self {
        Self {
            level,
            text: text.into(),
            fields: json!({}),
        }
    }

    /// Adds what machines read of it: an object.
    pub(crate) fn with(mut self, fields: serde_json::Value) -> Self {
        self.fields = fields;
        self
    }

    /// Says it. A closed output changes nothing: what is done is done, even if nobody hears of it.
    pub(crate) fn say(&self, form: Form) {
        let line = self.line(form);
        let _unheard = match self.level {
            Level::Info => print(&line),
            Level::Warn | Level::Error => io::stderr().write_all(line.as_bytes()),
        };
    }

    /// Prints it, where it is what the run is for.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) fn print(&self, form: Form) -> io::Result<()> {
        print(&self.line(form))
    }

    fn line(&self, form: Form) -> String {
        let text = &self.text;
        let level = match self.level {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        match (form, self.level) {
            (Form::Json, _) => {
                let mut object = self.fields.clone();
                object["level"] = json!(level);
                object["message"] = json!(text);
                format!("{object}\n")
            }
            (Form::Text, Level::Info) => format!("{text}\n"),
            (Form::Text, Level::Warn) => format!("shunt-init: warning: {text}\n"),
            (Form::Text, Level::Error) => format!("shunt-init: {text}\n"),
        }
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Writes to standard output at once.
///
/// # Errors
/// Those of standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::{Form, Message};

    #[test]
    fn a_message_of_several_lines_is_one_line_of_json() {
        let line = Message::error(&"no \"such\"\nflag").line(Form::Json);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["message"], "no \"such\"\nflag");
    }

    #[test]
    fn as_text_only_what_was_done_stands_without_a_name_before_it() {
        for (message, line) in [
            (Message::info("done"), "done\n"),
            (Message::warn("but"), "shunt-init: warning: but\n"),
            (Message::error(&"not"), "shunt-init: not\n"),
        ] {
            assert_eq!(message.line(Form::Text), line);
        }
    }
}
