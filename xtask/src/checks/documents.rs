//! The documents may only name what exists.

use anyhow::{Context as _, Result, bail};

use crate::workspace::{files_ending_in, root};

/// The page that walks through the modules.
const MAP: &str = "docs/ARCHITECTURE.md";

/// Checks every path in the documents, and that the map names the modules of the data path.
///
/// # Errors
/// Names every path that does not exist, with the page and line.
pub fn check() -> Result<()> {
    let mut pages = files_ending_in("md", &root().join("docs"))?;
    pages.extend(["README.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let mut wrong = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page)
            .with_context(|| format!("reading {}", page.display()))?;
        let shown = page.strip_prefix(root()).unwrap_or(&page).display();
        for (number, path) in named_paths(&text) {
            if !root().join(path).exists() {
                wrong.push(format!(
                    "{shown}:{number} names {path}, which does not exist"
                ));
            }
        }
    }
    let map = root().join(MAP);
    let text =
        std::fs::read_to_string(&map).with_context(|| format!("reading {}", map.display()))?;
    if named_paths(&text)
        .filter(|(_, path)| path.ends_with(".rs"))
        .count()
        < 10
    {
        wrong.push(format!(
            "{MAP} names hardly any module: its tables have gone"
        ));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// The paths of the tree that stand between backquotes, with their line: words with a slash that
/// begin with a top-level folder.
fn named_paths(text: &str) -> impl Iterator<Item = (usize, &str)> {
    const FOLDERS: &[&str] = &[
        "init/", "agent/", "ctl/", "ebpf/", "tests/", "xtask/", "deploy/", "docs/", "crates/",
    ];
    (1..).zip(text.lines()).flat_map(|(number, line)| {
        // Every second piece stands between backquotes.
        let quoted = line.split('`').skip(1).step_by(2);
        quoted
            .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
            .filter(|word| !word.contains([' ', '*', '{', '<']))
            .map(move |word| (number, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_named_in_the_documents_exists() {
        check().unwrap();
    }

    #[test]
    fn only_paths_of_the_tree_between_backquotes_are_taken() {
        let text = "crates/a.rs and `crates/b.rs`,\n`/etc/x` `docs/c.md` `init/*`";
        assert_eq!(
            named_paths(text).collect::<Vec<_>>(),
            [(1, "crates/b.rs"), (2, "docs/c.md")]
        );
    }
}
