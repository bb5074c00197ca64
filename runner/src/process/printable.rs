//! Text from outside on a terminal: control characters are shown, not sent.
//!
//! The text of a chunk, a file name or a message of a server may hold sequences that move the cursor, rename the window,
//! answer in the user's place, or reverse the order of what follows. What people read goes through [`printable`]; JSON
//! keeps the data as it is.

use std::{
    borrow::Cow,
    io::{self, Write},
};

/// The text with every control character but line feed and tab as `\u{1b}`: those of ASCII, DEL, those from U+0080 to
/// U+009F, which some terminals obey like escape sequences, and those that override the direction of the text.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        push(&mut shown, character);
    }
    Cow::Owned(shown)
}

fn push(shown: &mut String, character: char) {
    if is_hidden(character) {
        shown.extend(character.escape_unicode());
    } else {
        shown.push(character);
    }
}

/// Whether a terminal obeys a character in place of showing it.
fn is_hidden(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Embeddings, overrides and isolates of the bidirectional algorithm. Its marks are a part of ordinary text.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    }
}

/// A writer of log lines that makes them printable. With `colors`, it keeps the sequences that set a color.
#[derive(Debug)]
pub struct PrintableLines<W> {
    inner: W,
    colors: bool,
}

impl<W: Write> PrintableLines<W> {
    /// Writes to `inner`. Each write is whole lines.
    pub fn new(inner: W, colors: bool) -> Self {
        Self { inner, colors }
    }
}

impl<W: Write> Write for PrintableLines<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(buffer);
        let mut shown = String::with_capacity(text.len());
        let mut rest = &*text;
        while let Some(character) = rest.chars().next() {
            let color = if self.colors { color(rest) } else { 0 };
            shown.push_str(&rest[..color]);
            rest = &rest[color..];
            if color == 0 {
                push(&mut shown, character);
                rest = &rest[character.len_utf8()..];
            }
        }
        self.inner.write_all(shown.as_bytes())?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The length of the sequence at the beginning of `text` that sets a color, such as `ESC [ 3 3 m`; 0 without one.
fn color(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let end = parameters.find(|character: char| !matches!(character, '0'..='9' | ';'));
    end.filter(|&end| parameters[end..].starts_with('m')).map_or(0, |end| "\u{1b}[".len() + end + "m".len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_shown_and_ordinary_text_is_untouched() {
        for (text, shown) in [
            ("\u{1b}]0;owned\u{7}", r"\u{1b}]0;owned\u{7}"),
            ("a\rb\u{8}c\u{7f}", r"a\u{d}b\u{8}c\u{7f}"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("abc\u{202e}fed\u{2066}", r"abc\u{202e}fed\u{2066}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        for text in ["", "two\n\tlines", "naïve 東京 عربي\u{200f} 👩\u{200d}🚀", r"\u{1b}"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    fn written(colors: bool, text: &str) -> String {
        let mut lines = PrintableLines::new(Vec::new(), colors);
        lines.write_all(text.as_bytes()).expect("memory takes it");
        String::from_utf8(lines.inner).expect("UTF-8")
    }

    #[test]
    fn a_log_line_keeps_its_colors_and_nothing_else() {
        let line = "\u{1b}[33m WARN\u{1b}[0m \u{1b}[2Jgone\u{1b}[1;31mred\n";
        assert_eq!(written(true, line), "\u{1b}[33m WARN\u{1b}[0m \\u{1b}[2Jgone\u{1b}[1;31mred\n");
        assert_eq!(written(false, "\u{1b}[33mred\n"), "\\u{1b}[33mred\n");
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_is_left(text in any::<String>()) {
            prop_assert!(!printable(&text).contains(is_hidden));
            prop_assert!(!written(false, &text).contains(is_hidden));
        }
    }
}
