//! The child process that converts, and the parent's side of it.
//!
//! The task goes in as an argument, the bytes on standard input; on standard output come one byte
//! that says how it went, and the result or the reason. Nothing is written to disk and nothing is
//! looked up in `PATH`, so a read-only root without `/tmp` will do.

use super::{Task, perform};
use crate::error::{ConvertError, Problems, SyntaxError};
use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Output, Stdio};
use std::{env, io};

/// The name under which the child runs: its `argv[0]`.
pub const CHILD_NAME: &str = "shunt-xds-convert";

/// The program itself, also where its file has been replaced or removed since.
const SELF: &str = "/proc/self/exe";

const DONE: u8 = b'+';
const FAILED: u8 = b'-';

/// A [`ConvertError`] on its way to the parent.
#[derive(Serialize, Deserialize)]
enum Failure {
    Syntax(SyntaxError),
    Invalid(Problems),
    Broken(String),
}

/// Whether this process was started to convert.
pub fn is_convert_child() -> bool {
    env::args_os().next().is_some_and(|name| name == CHILD_NAME)
}

/// The `main` of the child: reads standard input, writes standard output. The exit code says
/// whether an answer was written, not whether it is a good one.
pub fn convert_main() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        // The parent tells this on: it collects standard error.
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> io::Result<()> {
    let argument = env::args().nth(1).unwrap_or_default();
    let task: Task = serde_json::from_str(&argument)
        .map_err(|e| io::Error::other(format!("{CHILD_NAME} was given no task: {e}")))?;
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let (tag, payload) = match perform(task, &input) {
        Ok(output) => (DONE, output),
        Err(error) => {
            let failure = match error {
                ConvertError::Syntax(error) => Failure::Syntax(error),
                ConvertError::Invalid(problems) => Failure::Invalid(problems),
                ConvertError::Broken(message) => Failure::Broken(message),
            };
            (FAILED, serde_json::to_vec(&failure)?.into())
        }
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&[tag])?;
    stdout.write_all(&payload)?;
    stdout.flush()
}

/// Run a task in a child.
pub(super) fn run(task: Task, input: &[u8]) -> Result<Bytes, ConvertError> {
    let broken = |doing: &str, error: io::Error| {
        ConvertError::Broken(format!(
            "{doing} the converter ({SELF} as {CHILD_NAME}) failed: {error}; it needs /proc, and \
             a process and memory to spare"
        ))
    };
    let argument = serde_json::to_string(&task).map_err(|e| broken("asking", e.into()))?;
    let mut child = Command::new(SELF)
        .arg0(CHILD_NAME)
        .arg(argument)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| broken("starting", e))?;
    // The child writes nothing before it has read all; where it dies early, its end says more
    // than the broken pipe does.
    let sent = child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = child
        .wait_with_output()
        .map_err(|e| broken("waiting for", e))?;
    if !output.status.success() {
        return Err(ConvertError::Broken(end_of_child(&output)));
    }
    sent.map_err(|e| broken("writing to", e))?;
    read_answer(output.stdout.into())
}

fn read_answer(mut answer: Bytes) -> Result<Bytes, ConvertError> {
    match answer.try_get_u8() {
        Ok(DONE) => Ok(answer),
        Ok(FAILED) => Err(match serde_json::from_slice(&answer) {
            Ok(Failure::Syntax(error)) => ConvertError::Syntax(error),
            Ok(Failure::Invalid(problems)) => ConvertError::Invalid(problems),
            Ok(Failure::Broken(message)) => ConvertError::Broken(message),
            Err(error) => {
                ConvertError::Broken(format!("the converter's reason cannot be read: {error}"))
            }
        }),
        _ => Err(ConvertError::Broken(format!(
            "the converter gave no answer; the program's main has to call convert_main when it is \
             started as {CHILD_NAME}"
        ))),
    }
}

fn end_of_child(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let how = match output.status.signal() {
        Some(9) => "was killed (signal 9); usually memory ran out".to_owned(),
        Some(signal) => format!("was ended by signal {signal}"),
        None => format!("ended with {}", output.status),
    };
    let separator = if said.is_empty() { "" } else { ": " };
    format!("the converter {how}{separator}{said}")
}

#[cfg(test)]
mod tests {
    use super::{CHILD_NAME, end_of_child, read_answer, run};
    use crate::convert::{Document, Format, Task};
    use bytes::Bytes;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    fn ended(status: i32, stderr: &str) -> String {
        end_of_child(&Output {
            status: ExitStatus::from_raw(status),
            stdout: Vec::new(),
            stderr: stderr.into(),
        })
    }

    #[test]
    fn the_end_of_a_child_is_told_with_its_signal_or_its_last_words() {
        assert!(ended(9, "").contains("killed (signal 9); usually memory ran out"));
        assert!(ended(11, "").contains("ended by signal 11"));
        let message = ended(101 << 8, "thread main panicked\n");
        assert!(
            message.ends_with("exit status: 101: thread main panicked"),
            "{message}"
        );
    }

    #[test]
    fn an_answer_that_is_none_is_told_as_a_missing_call_of_convert_main() {
        // The test harness is executed in place of a main that knows its task.
        let error = run(Task::ToWire(Format::Yaml, Document::Bootstrap), b"{}").unwrap_err();
        assert!(error.to_string().contains(CHILD_NAME), "{error}");
        for answer in ["", "running 0 tests"] {
            let error = read_answer(Bytes::from(answer)).unwrap_err();
            assert!(error.to_string().contains("convert_main"), "{error}");
        }
        let error = read_answer(Bytes::from("-{")).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
