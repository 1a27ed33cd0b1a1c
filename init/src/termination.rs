//! Where Kubernetes looks for the reason of a failure: `kubectl describe pod` shows it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

use nix::fcntl::OFlag;

/// Default of a container's `terminationMessagePath`.
const LOG: &str = "/dev/termination-log";
/// What Kubernetes keeps of it, in bytes.
const LIMIT: usize = 4096;

/// Writes the cause of a failure there, if the kubelet has put such a file into the container. It
/// is never made, nor looked for behind a symbolic link; that it cannot be written is no failure.
pub(crate) fn tell(cause: &str) {
    let _untold = write(LOG, cause);
}

fn write(path: &str, cause: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() || kind.is_fifo() {
        return Ok(());
    }
    file.set_len(0)?;
    file.write_all(line(cause).as_bytes())
}

/// The cause as one line that Kubernetes keeps whole.
fn line(cause: &str) -> String {
    let mut line = cause.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut end = LIMIT.min(line.len());
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{LIMIT, line, write};

    #[test]
    fn the_cause_replaces_what_was_there_on_one_line_and_within_the_limit() {
        let folder = std::env::temp_dir().join(format!("shunt-termination-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let log = folder.join("log");
        fs::write(&log, "x".repeat(9000)).unwrap();
        write(log.to_str().unwrap(), "a cause\nof two lines").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "a cause of two lines");

        // Neither made, nor followed elsewhere.
        let absent = folder.join("absent");
        assert!(write(absent.to_str().unwrap(), "lost").is_err());
        assert!(!absent.exists());
        let link = folder.join("link");
        symlink(&log, &link).unwrap();
        assert!(write(link.to_str().unwrap(), "astray").is_err());
        assert_eq!(fs::read_to_string(&log).unwrap(), "a cause of two lines");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        let cut = line(&"é".repeat(4000));
        assert!(cut.len() <= LIMIT && cut.len() > LIMIT - 2);
    }
}
