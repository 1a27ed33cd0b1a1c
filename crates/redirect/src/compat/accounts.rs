//! Users and groups by name: passwd(5) and group(5), read by ourselves.
//!
//! A static program has no NSS, and an init container has only these files anyway.

use std::fs;
use std::io;
use std::path::PathBuf;

/// The files of users and groups, read when a name is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    folder: PathBuf,
}

impl Accounts {
    /// Those in this folder: `passwd` and `group`.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The number of a user; `None` if there is none of this name, or no file.
    pub(crate) fn user(&self, name: &str) -> io::Result<Option<u32>> {
        self.number("passwd", name)
    }

    /// The number of a group; `None` if there is none of this name, or no file.
    pub(crate) fn group(&self, name: &str) -> io::Result<Option<u32>> {
        self.number("group", name)
    }

    fn number(&self, file: &str, name: &str) -> io::Result<Option<u32>> {
        match fs::read(self.folder.join(file)) {
            Ok(bytes) => Ok(number_of(&String::from_utf8_lossy(&bytes), name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Default for Accounts {
    /// Those of this container: `/etc`.
    fn default() -> Self {
        Self::in_folder("/etc")
    }
}

/// In both files the first field of a line is the name, and the third the number.
fn number_of(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let number = fields.nth(1)?;
        number.parse().ok().filter(|id| *id != u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::{Accounts, number_of};

    #[test]
    fn the_third_field_of_the_line_of_the_name_is_its_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nproxy\n# istio-proxy:x:1:1\n\
                    istio-proxy:x:1337:1338::/:\nnobody:x:-2:0\nmax:x:4294967295:";
        for (name, number) in [
            ("istio-proxy", Some(1337)),
            ("root", Some(0)),
            ("proxy", None),
            ("istio", None),
            ("nobody", None),
            ("max", None),
            ("", None),
        ] {
            assert_eq!(number_of(text, name), number, "{name}");
        }
    }

    #[test]
    fn without_a_file_there_is_no_user() {
        let accounts = Accounts::in_folder("/nowhere");
        assert_eq!(accounts.user("root").unwrap(), None);
        assert_eq!(Accounts::default().user("root").unwrap(), Some(0));
        assert!(Accounts::in_folder("/etc/passwd").user("root").is_err());
    }
}
