//! A few headings of a collection, spread evenly over it: the probe queries if no queries are given.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

/// The largest number of headings of a collection.
const MAX_HEADINGS: usize = 16;
/// The metadata fields with a heading, or with a list whose last entry is the nearest heading.
const FIELDS: [&str; 4] = ["heading", "headings", "title", "section"];

/// A sample of headings. Memory does not grow with the collection: when the sample is full, every other heading is dropped
/// and the stride doubles.
#[derive(Debug)]
pub struct Headings {
    sample: Vec<String>,
    /// One of `stride` chunks is sampled.
    stride: u64,
    chunks: u64,
}

impl Default for Headings {
    fn default() -> Self {
        Self { sample: Vec::new(), stride: 1, chunks: 0 }
    }
}

impl Headings {
    /// Samples the heading of a chunk from its metadata, which is JSON.
    pub fn sample(&mut self, metadata: &str) {
        self.chunks += 1;
        if !(self.chunks - 1).is_multiple_of(self.stride) {
            return;
        }
        let Some(heading) = heading(metadata).filter(|heading| !self.sample.contains(heading)) else { return };
        self.sample.push(heading);
        if self.sample.len() == 2 * MAX_HEADINGS {
            let mut even = false;
            self.sample.retain(|_| {
                even = !even;
                even
            });
            self.stride *= 2;
        }
    }

    /// At most [`MAX_HEADINGS`] headings.
    pub fn finish(self) -> Vec<String> {
        let step = self.sample.len().div_ceil(MAX_HEADINGS).max(1);
        self.sample.into_iter().step_by(step).collect()
    }
}

fn heading(metadata: &str) -> Option<String> {
    // Only the known fields are parsed: another one may hold a number that no float can.
    let metadata: BTreeMap<String, &RawValue> = serde_json::from_str(metadata).ok()?;
    FIELDS.iter().find_map(|field| {
        let value: Value = serde_json::from_str(metadata.get(*field)?.get()).ok()?;
        let text = match &value {
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
    fn the_heading_is_read_from_the_metadata() {
        assert_eq!(heading("{\"headings\": [\"Guide\", \"Retries\"]}"), Some("Retries".into()));
        assert_eq!(heading("{\"title\": \" Guide \"}"), Some("Guide".into()));
        assert_eq!(heading("{\"size\": 1e999, \"title\": \"Guide\"}"), Some("Guide".into()));
        for none in ["{}", "[]", "", "{\"title\": 3}", "{\"headings\": []}"] {
            assert_eq!(heading(none), None, "{none}");
        }
    }

    #[test]
    fn headings_are_spread_over_the_collection() {
        for count in [0, 1, 15, 16, 17, 31, 32, 33, 1000] {
            let mut headings = Headings::default();
            (0..count).for_each(|number| headings.sample(&format!("{{\"title\": \"{number:04}\"}}")));
            let sample = headings.finish();
            assert!(sample.len() <= MAX_HEADINGS && sample.len() >= count.min(MAX_HEADINGS / 2), "{count}: {sample:?}");
            assert!(sample.is_sorted());
            if count == 1000 {
                assert!(sample.last().is_some_and(|last| last.as_str() > "0800"), "{sample:?}");
            }
        }
    }

    #[test]
    fn a_heading_is_sampled_once() {
        let mut headings = Headings::default();
        (0..100).for_each(|_| headings.sample("{\"title\": \"same\"}"));
        assert_eq!(headings.finish(), ["same"]);
    }
}
