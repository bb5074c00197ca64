//! Names in messages: lists are shortened, and control characters are escaped.

use std::borrow::Cow;

/// The first five names, and the number of the others: `a, b, c, d, e and 7 more`.
pub fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A name with its control characters escaped: a message is one line, and nothing that a terminal acts on.
pub fn printable(name: &str) -> Cow<'_, str> {
    if !name.contains(char::is_control) {
        return name.into();
    }
    let escape = |character: char| {
        if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
    };
    name.chars().map(escape).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        assert_eq!(printable("a b é \u{1f600} \\"), "a b é \u{1f600} \\");
        assert_eq!(printable("Icon\r\u{1b}[31m\n\u{9b}"), "Icon\\r\\u{1b}[31m\\n\\u{9b}");
        let names: Vec<String> = (0..7).map(|number| format!("{number}\t")).collect();
        assert_eq!(first_few(&names), "0\\t, 1\\t, 2\\t, 3\\t, 4\\t and 2 more");
    }
}
