//! What waits for a part of it, and how that is told.

use super::contents::Kind;
use crate::bootstrap::draft::Want;
use shunt_proxy::model::Name;
use std::fmt;

/// A listener or cluster, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(super) name: Name,
    pub(super) parts: Vec<Want>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` waits for", self.name)?;
        for (i, part) in self.parts.iter().enumerate() {
            let what = match part.kind {
                Kind::Secrets => "secret",
                Kind::Routes => "route configuration",
                Kind::Endpoints => "endpoints",
                Kind::Clusters => "cluster",
                Kind::Listeners => "listener",
            };
            let and = if i == 0 { "" } else { " and for" };
            let (name, file) = (&part.name, part.source.path.display());
            write!(f, "{and} the {what} {name:?} in {file}")?;
        }
        f.write_str("; add or correct it there, or correct its name where it is asked for")
    }
}

#[cfg(test)]
mod tests {
    use super::Waiting;
    use crate::bootstrap::draft::{FileSource, Want};
    use crate::files::Kind;

    #[test]
    fn what_waits_is_told_with_every_part_and_its_file() {
        let part = |kind, name: &str, file: &str| Want {
            kind,
            name: name.to_owned(),
            source: FileSource {
                path: file.into(),
                watched: None,
            },
        };
        let waiting = Waiting {
            name: "web".into(),
            parts: vec![
                part(Kind::Secrets, "own", "/etc/sds.yaml"),
                part(Kind::Routes, "all", "/etc/rds.yaml"),
            ],
        };
        assert_eq!(
            waiting.to_string(),
            "`web` waits for the secret \"own\" in /etc/sds.yaml and for the route configuration \
             \"all\" in /etc/rds.yaml; add or correct it there, or correct its name where it is \
             asked for"
        );
    }
}
