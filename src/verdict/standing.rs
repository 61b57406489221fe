//! What the administrator has laid down for whatever is asked.

use super::{Limits, Path, Target, TargetError};

/// The longest name or value of a tag: a query with several of them has to fit.
const MAX_TAG_BYTES: usize = 63;

/// The standing rules under which requests are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// How far a standby may lag.
    pub limits: Limits,
    /// What `/` stands for.
    pub root: Path,
    /// What this node is called by those who ask for some of the standbys only.
    pub tags: Vec<Tag>,
}

/// The classic contract on `/`, no limits, no tags.
impl Default for Standing {
    fn default() -> Standing {
        Standing { limits: Limits::default(), root: Path::Contract, tags: Vec::new() }
    }
}

/// A name and a value that say something about a node, as Patroni's tags do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// Whatever can be seen.
    pub value: String,
}

impl Tag {
    /// Reads `NAME=VALUE`.
    pub fn parse(text: &str) -> Result<Tag, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err("a tag's name has letters, digits, _, - and . only".into());
        }
        if value.is_empty() || value.contains(char::is_control) {
            return Err("a tag needs a value that can be seen".into());
        }
        if name.len().max(value.len()) > MAX_TAG_BYTES {
            return Err(format!("a tag's name and value have at most {MAX_TAG_BYTES} bytes each"));
        }
        if name == NO_LOAD_BALANCE && !matches!(value, "true" | "false") {
            return Err(format!("{NO_LOAD_BALANCE} is true or false"));
        }
        Ok(Tag { name: name.to_owned(), value: value.to_owned() })
    }
}

/// The tag of a standby that is not to get any reads.
const NO_LOAD_BALANCE: &str = "noloadbalance";

impl Standing {
    /// Reads a request target in origin form (`/path?query`), absolute form or `*` (RFC 9112, 3.2), under these rules.
    pub fn read(&self, request_target: &str) -> Result<Target, TargetError> {
        Target::parse_with(request_target, self)
    }

    /// Whether this node has all of these tags.
    pub(super) fn has_tags(&self, wanted: &[Tag]) -> bool {
        wanted.iter().all(|tag| self.tags.contains(tag))
    }

    /// Whether a standby here is not to get any reads.
    pub(super) fn refuses_load(&self) -> bool {
        self.tags.iter().any(|tag| tag.name == NO_LOAD_BALANCE && tag.value == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_a_name_and_a_value() {
        let tag = |name: &str, value: &str| Ok(Tag { name: name.into(), value: value.into() });
        assert_eq!(Tag::parse("dc=eu-1"), tag("dc", "eu-1"));
        assert_eq!(Tag::parse("a.b_c-9=x=y z"), tag("a.b_c-9", "x=y z"));
        assert_eq!(Tag::parse("noloadbalance=false"), tag("noloadbalance", "false"));
        let long = "x".repeat(MAX_TAG_BYTES + 1);
        for text in ["", "dc", "=eu", "d c=eu", "dc=", "dc=a\tb", "noloadbalance=yes", &format!("a={long}")] {
            assert!(Tag::parse(text).is_err(), "{text}");
        }
    }
}
