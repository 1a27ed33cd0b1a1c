//! The words of a rule, and the options they make.

/// A word, and whether it was in quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    quoted: bool,
}

/// An option with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) negated: bool,
    /// With its dashes.
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

impl Item {
    /// Its value, if it has just one.
    pub(super) fn value(&self) -> Option<&str> {
        match self.values.as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// Splits a line as `iptables-restore` does: at blanks, but not between double quotes, where a
/// backslash takes the next character as it is.
pub(super) fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut text = String::new();
    let (mut started, mut inside, mut quoted) = (false, false, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if inside => match characters.next() {
                Some(next) => text.push(next),
                None => return Err("it ends in a backslash".to_owned()),
            },
            '"' => {
                inside = !inside;
                started = true;
                quoted = true;
            }
            blank if blank.is_whitespace() && !inside => {
                if started {
                    tokens.push(Token {
                        text: std::mem::take(&mut text),
                        quoted,
                    });
                }
                (started, quoted) = (false, false);
            }
            other => {
                started = true;
                text.push(other);
            }
        }
    }
    if inside {
        return Err("a quote is not closed".to_owned());
    }
    if started {
        tokens.push(Token { text, quoted });
    }
    Ok(tokens)
}

/// Whether this is `[packets:bytes]`.
pub(super) fn is_counters(word: &str) -> bool {
    let inner = word
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    inner
        .and_then(|inner| inner.split_once(':'))
        .is_some_and(|(packets, bytes)| number(packets) && number(bytes))
}

/// Gathers options and values. `None`: a value stands where an option should.
pub(super) fn items(tokens: Vec<Token>) -> Option<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    let mut negated = false;
    let mut verbatim = false;
    let mut interface = false;
    for token in tokens {
        let option = token.text.len() > 1 && token.text.starts_with('-') && !token.quoted;
        match items.last_mut() {
            Some(item) if verbatim || (interface && token.text != "!") => {
                item.values.push(token.text);
                (verbatim, interface) = (false, false);
            }
            _ if option => {
                // Their value is text, and may begin with a dash.
                verbatim = matches!(
                    token.text.as_str(),
                    "--comment" | "--log-prefix" | "--nflog-prefix"
                );
                // So may the name of an interface.
                interface = matches!(
                    token.text.as_str(),
                    "-i" | "-o" | "--in-interface" | "--out-interface"
                );
                items.push(Item {
                    negated: std::mem::take(&mut negated),
                    name: token.text,
                    values: Vec::new(),
                });
            }
            _ if token.text == "!" && !token.quoted && !negated => negated = true,
            // `--option ! value` is how it was written long ago.
            Some(item) if !negated => item.values.push(token.text),
            _ => return None,
        }
    }
    (!negated && !verbatim && !interface).then_some(items)
}

#[cfg(test)]
mod tests {
    use super::{Item, items, tokens};

    fn options(line: &str) -> Option<Vec<Item>> {
        items(tokens(line).unwrap())
    }

    fn item(negated: bool, name: &str, values: &[&str]) -> Item {
        Item {
            negated,
            name: name.to_owned(),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        }
    }

    #[test]
    fn the_name_of_an_interface_may_begin_with_a_dash() {
        assert_eq!(
            options("! -i -.f -j RETURN"),
            Some(vec![
                item(true, "-i", &["-.f"]),
                item(false, "-j", &["RETURN"])
            ])
        );
        assert_eq!(options("-o ! eth0"), None);
    }

    #[test]
    fn negations_and_values_belong_to_their_option() {
        assert_eq!(
            options("! -o lo -m tcp --tcp-flags SYN,ACK SYN ! --dports 1,2").unwrap(),
            [
                item(true, "-o", &["lo"]),
                item(false, "-m", &["tcp"]),
                item(false, "--tcp-flags", &["SYN,ACK", "SYN"]),
                item(true, "--dports", &["1,2"]),
            ]
        );
        for nonsense in ["lo -o", "--dport ! 53", "! ! -o lo", "-o lo !", "--comment"] {
            assert_eq!(options(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_comment_is_no_option_whatever_it_says() {
        assert_eq!(
            options(r#"--comment "a \"b\" \\ -j DROP" --comment -j -j ACCEPT"#).unwrap(),
            [
                item(false, "--comment", &[r#"a "b" \ -j DROP"#]),
                item(false, "--comment", &["-j"]),
                item(false, "-j", &["ACCEPT"]),
            ]
        );
        assert!(tokens("--comment \"open").is_err());
    }
}
