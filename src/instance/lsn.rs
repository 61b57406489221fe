//! A position in the WAL (PostgreSQL manual, section 8.20, "pg_lsn Type").

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A log sequence number: a count of bytes since the beginning of the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads PostgreSQL's spelling, two hexadecimal numbers with a slash: `16/B374D848`.
    pub fn parse(text: &str) -> Option<Lsn> {
        let half = |digits: &str| {
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_plain { u32::from_str_radix(digits, 16).ok() } else { None }
        };
        let (high, low) = text.split_once('/')?;
        Some(Lsn(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }

    /// How many bytes lie between `earlier` and this position; 0 where it is not earlier.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        let text = String::deserialize(deserializer)?;
        Lsn::parse(&text).ok_or_else(|| D::Error::custom("not a position in the WAL"))
    }
}

#[cfg(test)]
mod tests {
    use super::Lsn;

    #[test]
    fn positions_are_spelled_as_postgresql_spells_them() {
        for (text, expected) in [("0/0", 0), ("0/3000148", 0x300_0148), ("16/B374D848", 0x16_B374_D848)] {
            assert_eq!(Lsn::parse(text), Some(Lsn(expected)), "{text}");
            assert_eq!(Lsn(expected).to_string(), text);
        }
        for text in ["", "/", "0", "0/", "/0", "0/0/0", "+1/0", "0/123456789", "g/0"] {
            assert_eq!(Lsn::parse(text), None, "{text}");
        }
    }
}
