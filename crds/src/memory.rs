//! The memory ceiling of a device: a quantity of bytes as Kubernetes writes it, or all of the device's memory.

use std::{fmt, str::FromStr};

/// The memory of a device that may be in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryCeiling {
    /// At most this number of bytes.
    Bytes(u64),
    /// All of the memory.
    Max,
}

impl MemoryCeiling {
    /// The default ceiling of a GPU: 12Gi.
    pub const OF_DEVICE: Self = Self::Bytes(12 << 30);
}

/// A text that is not a memory ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a number of bytes such as 12Gi or 800M, or max")]
pub struct ParseCeilingError;

impl FromStr for MemoryCeiling {
    type Err = ParseCeilingError;

    fn from_str(text: &str) -> Result<Self, ParseCeilingError> {
        match text.trim() {
            "max" => Ok(Self::Max),
            text => bytes(text).filter(|bytes| *bytes > 0).map(Self::Bytes).ok_or(ParseCeilingError),
        }
    }
}

impl fmt::Display for MemoryCeiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

/// The bytes of a quantity: a decimal number and an optional suffix of Kubernetes (`k`, `Ki`, …, `P`, `Pi`). A fraction
/// of a byte is dropped. `None` for any other text and for more than `u64::MAX` bytes.
fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u128); 10] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
    ];
    let unit = UNITS.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1));
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(());
    digits(whole).and(digits(part))?;
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let whole = whole.parse::<u128>().ok()?.checked_mul(factor)?;
    let part = part.parse::<u128>().ok()?.checked_mul(factor)? / scale;
    u64::try_from(whole.checked_add(part)?).ok()
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::generated;

    #[test]
    fn bytes_are_read_as_kubernetes_writes_them() {
        let read = |text: &str| text.parse::<MemoryCeiling>().ok();
        let cases = [
            ("12Gi", 12 << 30),
            ("800M", 800_000_000),
            ("1024", 1024),
            ("1Ki", 1024),
            ("1.5Gi", 3 << 29),
            ("2.25k", 2250),
            ("16P", 16_000_000_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(read(text), Some(MemoryCeiling::Bytes(bytes)), "{text}");
        }
        assert_eq!(read("max"), Some(MemoryCeiling::Max));
        for text in
            ["", "Gi", "0", "0Gi", "-1", "+1", "1.Gi", ".5Gi", "1.5.2", "12 Gi", "12GB", "12K", "99999999Ti", "all"]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!("99999999999999999999999999999999999999999".parse::<MemoryCeiling>(), Err(ParseCeilingError));
    }

    #[test]
    fn the_pattern_of_the_api_and_the_parser_accept_the_same_texts() {
        let crd: serde_json::Value = serde_yaml_ng::from_str(&generated::crd_yaml()).expect("YAML");
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let pattern = spec["gpu"]["properties"]["memoryCeiling"]["pattern"].as_str().expect("a pattern");
        let pattern = Regex::new(pattern).expect("a pattern");
        for text in ["12Gi", "800M", "1024", "1Ki", "1.5Gi", "2k", "16P", "max"] {
            assert!(pattern.is_match(text) && text.parse::<MemoryCeiling>().is_ok(), "{text}");
        }
        for text in ["", "0", "0Gi", "-1", "1.Gi", ".5Gi", "12 Gi", "12GB", "12K", "12ki", "MAX", "half"] {
            assert!(!pattern.is_match(text) && text.parse::<MemoryCeiling>().is_err(), "{text}");
        }
    }
}
