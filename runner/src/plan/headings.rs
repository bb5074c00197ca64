//! A few headings of a collection, spread evenly over it, to probe it with where no queries are given.

use serde_json::Value;

/// The most headings of a collection.
const MOST: usize = 16;
/// The fields of the metadata that hold a heading, or a list whose last entry is the nearest one.
const FIELDS: [&str; 4] = ["heading", "headings", "title", "section"];

/// Headings that were seen. Memory does not grow with the collection: when there are too many, every other one goes, and
/// from then on only as many are looked at.
#[derive(Debug)]
pub struct Headings {
    kept: Vec<String>,
    /// One of so many chunks is looked at.
    stride: u64,
    seen: u64,
}

impl Default for Headings {
    fn default() -> Self {
        Self { kept: Vec::new(), stride: 1, seen: 0 }
    }
}

impl Headings {
    /// Looks at the metadata of a chunk, which is JSON.
    pub fn sample(&mut self, metadata: &str) {
        self.seen += 1;
        if !(self.seen - 1).is_multiple_of(self.stride) {
            return;
        }
        let Some(heading) = heading(metadata).filter(|heading| !self.kept.contains(heading)) else { return };
        self.kept.push(heading);
        if self.kept.len() == 2 * MOST {
            let mut even = false;
            self.kept.retain(|_| {
                even = !even;
                even
            });
            self.stride *= 2;
        }
    }

    /// At most [`MOST`] of them.
    pub fn finish(self) -> Vec<String> {
        let every = self.kept.len().div_ceil(MOST).max(1);
        self.kept.into_iter().step_by(every).collect()
    }
}

fn heading(metadata: &str) -> Option<String> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    FIELDS.iter().find_map(|field| {
        let text = match &metadata[field] {
            Value::Array(items) => items.last()?.as_str()?,
            value => value.as_str()?,
        };
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_is_that_of_the_metadata() {
        assert_eq!(heading("{\"headings\": [\"Guide\", \"Retries\"]}"), Some("Retries".into()));
        assert_eq!(heading("{\"title\": \" Guide \"}"), Some("Guide".into()));
        for none in ["{}", "[]", "", "{\"title\": 3}", "{\"headings\": []}"] {
            assert_eq!(heading(none), None, "{none}");
        }
    }

    #[test]
    fn headings_are_spread_over_the_collection() {
        for count in [0, 1, 15, 16, 17, 31, 32, 33, 1000] {
            let mut headings = Headings::default();
            (0..count).for_each(|number| headings.sample(&format!("{{\"title\": \"{number:04}\"}}")));
            let found = headings.finish();
            assert!(found.len() <= MOST && found.len() >= count.min(MOST / 2), "{count}: {found:?}");
            assert!(found.is_sorted());
            if count == 1000 {
                assert!(found.last().is_some_and(|last| last.as_str() > "0800"), "{found:?}");
            }
        }
    }

    #[test]
    fn a_heading_is_asked_once() {
        let mut headings = Headings::default();
        (0..100).for_each(|_| headings.sample("{\"title\": \"same\"}"));
        assert_eq!(headings.finish(), ["same"]);
    }
}
