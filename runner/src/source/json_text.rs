//! JSON as the user wrote it: numbers keep their digits and objects the order of their keys.

use serde_json::value::RawValue;

/// The deepest nesting of a record. Readers of JSON, ours among them, give up a little beyond.
const MAX_DEPTH: usize = 120;

/// Checks what the parser of raw values does not, so that every value can be read as JSON later: the nesting, and that
/// escapes in strings are of whole characters. Returns the defect and its byte.
pub(super) fn check(raw: &RawValue) -> Result<(), (&'static str, usize)> {
    let bytes = raw.get().as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(("it is nested too deeply", at));
                }
            }
            b'}' | b']' => depth -= 1,
            b'"' => at = end_of_string(bytes, at)?,
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The index of the quote that ends the string which begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> Result<usize, (&'static str, usize)> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Ok(at),
            b'\\' => match escaped_unit(bytes, at) {
                Some(0xd800..0xdc00) => match escaped_unit(bytes, at + 6) {
                    Some(0xdc00..0xe000) => at += 11,
                    _ => return Err(("a string has half of a surrogate pair", at)),
                },
                Some(0xdc00..0xe000) => return Err(("a string has half of a surrogate pair", at)),
                Some(_) => at += 5,
                None => at += 1,
            },
            _ => {}
        }
        at += 1;
    }
    Ok(at)
}

/// The unit of UTF-16 that `\uXXXX` at `at` is; `None` for anything else.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The value without the white space between its parts; everything else is kept byte for byte.
pub(super) fn compact(raw: &RawValue) -> String {
    let text = raw.get();
    if !text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return text.to_owned();
    }
    let mut compact = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = character == '\\' && !escaped;
        } else if character == '"' {
            in_string = true;
        } else if character.is_ascii_whitespace() {
            continue;
        }
        compact.push(character);
    }
    compact
}

/// The kind of a value, in words.
pub(super) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).expect(text)
    }

    #[test]
    fn white_space_goes_and_everything_else_stays() {
        let text = "{ \"b\" : [ 1.10, 1E+2 ,\n-0 ],\t\"a \\\" \\\\\": \" x \\u00e9 \" }";
        assert_eq!(compact(&raw(text)), r#"{"b":[1.10,1E+2,-0],"a \" \\":" x \u00e9 "}"#);
    }

    #[test]
    fn halves_of_characters_and_deep_nesting_are_defects() {
        for (text, defect) in [
            (r#"["\ud83d\ude00", "\\ud800", "\u0041\n"]"#.to_owned(), None),
            (r#"["\ud800"]"#.to_owned(), Some(2)),
            (r#"["\ud800\ud800"]"#.to_owned(), Some(2)),
            (r#"["x\udc00"]"#.to_owned(), Some(3)),
            (format!("{}{}", "[".repeat(120), "]".repeat(120)), None),
            (format!("{}{}", "[".repeat(121), "]".repeat(121)), Some(120)),
            (format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20)), Some(120)),
        ] {
            assert_eq!(check(&raw(&text)).err().map(|(_, at)| at), defect, "{}", &text[..text.len().min(40)]);
        }
    }

    proptest! {
        #[test]
        fn what_passes_the_check_is_json_and_stays_the_same_value(text in r#"[\[\]{}",:\\u0-9a-f d8]{0,24}"#) {
            if let Ok(raw) = serde_json::from_str::<Box<RawValue>>(&text) {
                let value = serde_json::from_str::<serde_json::Value>(&text);
                if check(&raw).is_ok() {
                    let compacted = compact(&raw);
                    let same = serde_json::from_str::<serde_json::Value>(&compacted);
                    // A number beyond the range of a float is the only text that the value cannot hold.
                    match value {
                        Ok(value) => prop_assert_eq!(same.expect("JSON"), value),
                        Err(error) => prop_assert!(error.to_string().contains("out of range"), "{}", error),
                    }
                } else {
                    prop_assert!(value.is_err());
                }
            }
        }
    }
}
