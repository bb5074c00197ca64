//! Markdown (CommonMark): a chunk per heading, and one for the text before the first.
//!
//! The text of a chunk is the heading's line and everything up to the next heading of any level. A heading inside a
//! code block, a quotation or a list opens no chunk.

use std::{io::Read, ops::ControlFlow, ops::Range};

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use serde_json::json;

use super::{
    record::Record,
    visit::{Flow, Visit},
};

pub fn visit(reader: impl Read, visit: &mut Visit<'_>) -> Flow {
    let text = visit.read_text(reader)?;
    let mut line = 1;
    let mut counted = 0;
    for (ordinal, section) in sections(&text).into_iter().enumerate() {
        line += text[counted..section.range.start].matches('\n').count() as u64;
        counted = section.range.start;
        if (ordinal as u64) < visit.from {
            continue;
        }
        let mut metadata = json!({"path": visit.path, "line": line});
        if let Some(heading) = section.headings.last() {
            metadata["heading"] = json!(heading);
            metadata["headings"] = json!(section.headings);
        }
        let record = Record {
            ordinal: ordinal as u64,
            line: Some(line),
            id: None,
            text: text[section.range].to_owned(),
            metadata: metadata.to_string(),
        };
        if (visit.deliver)(record)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[derive(Debug, PartialEq, Eq)]
struct Section {
    /// The byte range of its text, without the blank lines around it.
    range: Range<usize>,
    /// The headings of the enclosing sections, its own last.
    headings: Vec<String>,
}

fn sections(text: &str) -> Vec<Section> {
    let headings = headings(text);
    let first = headings.first().map_or(text.len(), |heading| heading.start);
    let mut sections = Vec::with_capacity(headings.len() + 1);
    sections.extend(section(text, 0..first, Vec::new()));
    let mut above: Vec<(HeadingLevel, &str)> = Vec::new();
    for (index, heading) in headings.iter().enumerate() {
        above.retain(|(level, _)| *level < heading.level);
        above.push((heading.level, &heading.text));
        let end = headings.get(index + 1).map_or(text.len(), |next| next.start);
        let breadcrumb = above.iter().map(|(_, text)| (*text).to_owned()).collect();
        sections.extend(section(text, heading.start..end, breadcrumb));
    }
    sections
}

/// The section in `range`; `None` if it is blank.
fn section(text: &str, range: Range<usize>, headings: Vec<String>) -> Option<Section> {
    let whole = &text[range.clone()];
    let blank = |line: &&str| line.trim().is_empty();
    let before: usize = whole.split_inclusive('\n').take_while(blank).map(str::len).sum();
    let after = whole.len() - whole.trim_end_matches(['\n', '\r']).len();
    (before < whole.len()).then(|| Section { range: range.start + before..range.end - after, headings })
}

struct Heading {
    start: usize,
    level: HeadingLevel,
    text: String,
}

/// The headings that are not inside another block.
fn headings(text: &str) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::new();
    let mut depth = 0_usize;
    let mut inside = false;
    let options = Options::ENABLE_YAML_STYLE_METADATA_BLOCKS | Options::ENABLE_TABLES;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) if depth == 0 => {
                inside = true;
                headings.push(Heading { start: range.start, level, text: String::new() });
            }
            Event::End(TagEnd::Heading(_)) if inside && depth == 0 => inside = false,
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Text(part) | Event::Code(part) if inside => {
                if let Some(heading) = headings.last_mut() {
                    heading.text.push_str(&part);
                }
            }
            Event::SoftBreak | Event::HardBreak if inside => {
                if let Some(heading) = headings.last_mut() {
                    heading.text.push(' ');
                }
            }
            _ => {}
        }
    }
    headings
}
