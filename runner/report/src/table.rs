//! Tables and their layout as text.

use std::iter;

/// The maximum width of a line of text, in characters.
pub const WIDTH: usize = 100;
const GAP: usize = 2;
/// The minimum width of a column of words next to other columns.
const MIN_WORDS_WIDTH: usize = 8;

/// A column: its heading and the alignment of its cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub title: String,
    /// Whether its cells are numbers, which are right-aligned.
    pub number: bool,
}

/// Rows of cells under headings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// Rows of one cell per column.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows. A title that begins with `#` declares a column of numbers.
    pub fn new<'a>(titles: impl IntoIterator<Item = &'a str>) -> Self {
        let column = |title: &str| match title.strip_prefix('#') {
            Some(title) => Column { title: title.to_owned(), number: true },
            None => Column { title: title.to_owned(), number: false },
        };
        Self { columns: titles.into_iter().map(column).collect(), rows: Vec::new() }
    }

    /// The table with these rows.
    pub fn of(mut self, rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// Aligned lines of at most [`WIDTH`] characters, indented by `indent`, each with a line end. The headings come first, if
    /// any is not empty.
    pub fn lines(&self, indent: usize) -> String {
        let headed = self.columns.iter().any(|column| !column.title.is_empty());
        let head: Vec<String> = self.columns.iter().map(|column| column.title.clone()).collect();
        let rows: Vec<Vec<String>> = headed
            .then_some(&head)
            .into_iter()
            .chain(&self.rows)
            .map(|row| row.iter().map(|cell| visible(cell)).collect())
            .collect();
        let widths = self.widths(&rows, indent);
        rows.iter().map(|row| self.row_lines(row, &widths, indent)).collect()
    }

    /// The widths of the columns. If the cells do not fit, the widest column of words shrinks first; numbers shrink only when
    /// all words are narrow.
    fn widths(&self, rows: &[Vec<String>], indent: usize) -> Vec<usize> {
        let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        let room = WIDTH.saturating_sub(indent + GAP * self.columns.len().saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            let words =
                (0..widths.len()).filter(|column| !self.columns[*column].number && widths[*column] > MIN_WORDS_WIDTH);
            let any = (0..widths.len()).filter(|column| widths[*column] > 1);
            let widest = words.max_by_key(|column| widths[*column]).or(any.max_by_key(|column| widths[*column]));
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
        }
        widths
    }

    fn row_lines(&self, row: &[String], widths: &[usize], indent: usize) -> String {
        let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        let mut text = String::new();
        for line in 0..height {
            let mut row = " ".repeat(indent);
            for (index, ((cell, width), column)) in cells.iter().zip(widths).zip(&self.columns).enumerate() {
                let cell = cell.get(line).map_or("", String::as_str);
                let pad = iter::repeat_n(' ', width.saturating_sub(cell.chars().count()));
                if index > 0 {
                    row.extend(iter::repeat_n(' ', GAP));
                }
                if column.number {
                    row.extend(pad);
                    row.push_str(cell);
                } else {
                    row.push_str(cell);
                    row.extend(pad);
                }
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Replaces the characters that would move the cursor or change the colours of a terminal.
pub fn visible(text: &str) -> String {
    let shown = |letter: char| match letter {
        '\n' | '\r' | '\t' => ' ',
        letter if letter.is_control() || is_direction_mark(letter) => '\u{fffd}',
        letter => letter,
    };
    text.chars().map(shown).collect()
}

/// Whether a character changes the direction of the text after it, which can disguise a text as another.
fn is_direction_mark(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lines of at most `width` characters, broken at spaces, and inside words that are longer than a line.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length <= width {
            lines.last_mut().expect("there is a first line").push(' ');
            used += 1;
        } else if used > 0 {
            lines.push(String::new());
            used = 0;
        }
        for letter in word.chars() {
            if used == width {
                lines.push(String::new());
                used = 0;
            }
            lines.last_mut().expect("there is a first line").push(letter);
            used += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn words_are_left_aligned_and_numbers_right_aligned() {
        let table = Table::new(["model", "#chunks"]).of([row(&["minilm", "12"]), row(&["bge", "12,000"])]);
        assert_eq!(table.lines(2), "  model   chunks\n  minilm      12\n  bge     12,000\n");
    }

    #[test]
    fn a_table_without_titles_has_no_head() {
        assert_eq!(Table::new(["", ""]).of([row(&["a", "b"])]).lines(0), "a  b\n");
    }

    #[test]
    fn no_line_is_wider_than_the_limit_and_no_word_is_lost() {
        let path = "x".repeat(150);
        let table = Table::new(["name", "path", "#rows"]).of([row(&["a", &path, "7"])]);
        let lines = table.lines(2);
        assert!(lines.lines().all(|line| line.chars().count() <= WIDTH), "{lines}");
        assert_eq!(lines.matches('x').count(), 150);
    }

    #[test]
    fn numbers_shrink_only_if_words_cannot() {
        let number = "9".repeat(60);
        let table = Table::new(["#a", "#b"]).of([row(&[&number, &number])]);
        let lines = table.lines(0);
        assert!(lines.lines().all(|line| line.chars().count() <= WIDTH), "{lines}");
        assert_eq!(lines.matches('9').count(), 120);
    }

    #[test]
    fn lines_break_at_spaces_and_inside_long_words_only() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn characters_that_control_a_terminal_are_replaced() {
        assert_eq!(visible("a\u{1b}[31mb\nc\u{202e}d"), "a\u{fffd}[31mb c\u{fffd}d");
    }
}
