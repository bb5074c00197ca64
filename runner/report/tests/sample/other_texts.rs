//! Summaries whose texts are replaced: by one hostile text, or each by a mark of its own.

use crds::summary::ProcessingSummary;
use serde_json::Value;

use super::run::{collection, run};

/// A summary in which `text` replaces every free text. Times and enums stay.
pub fn hostile(text: &str) -> ProcessingSummary {
    with_texts(|| text.to_owned())
}

/// A summary in which every text is unique.
pub struct Marked {
    /// The summary.
    pub summary: ProcessingSummary,
    /// Its texts.
    pub texts: Vec<String>,
}

/// A summary with a mark for every text, except those of the mitigations, which a report only counts.
pub fn marked() -> Marked {
    let mut texts = Vec::new();
    let mut summary = with_texts(|| {
        texts.push(format!("mark{}x", texts.len()));
        texts[texts.len() - 1].clone()
    });
    summary.telemetry.mitigation_events.clear();
    // A mark that an enum rejected is not in the summary.
    let document = serde_json::to_string(&summary).expect("a summary is JSON");
    texts.retain(|text| document.contains(text.as_str()));
    Marked { summary, texts }
}

fn with_texts(mut text: impl FnMut() -> String) -> ProcessingSummary {
    let mut summary = collection();
    summary.collections = run().collections;
    summary.telemetry.samples.truncate(2);
    summary.telemetry.lease_events.truncate(2);
    summary.telemetry.mitigation_events.truncate(2);
    let mut document = serde_json::to_value(&summary).expect("a summary is JSON");
    let mut paths = Vec::new();
    collect_texts(&document, String::new(), &mut paths);
    for path in paths {
        let place = document.pointer_mut(&path).expect("the path was just found");
        let before = std::mem::replace(place, text().into());
        // A text that the schema rejects is an enum, which cannot be hostile.
        if serde_json::from_value::<ProcessingSummary>(document.clone()).is_err() {
            *document.pointer_mut(&path).expect("the path was just found") = before;
        }
    }
    let mut summary: ProcessingSummary = serde_json::from_value(document).expect("only texts were replaced");
    summary.telemetry.metrics.insert(text(), 1.0);
    summary.quality.as_mut().expect("a quality").lists[0].metrics.insert(text(), 0.5);
    summary
}

fn collect_texts(value: &Value, path: String, paths: &mut Vec<String>) {
    let time = ["/at", "_at"].iter().any(|end| path.ends_with(end)) && path != "/generated_at";
    match value {
        Value::String(_) if !time => paths.push(path),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_texts(item, format!("{path}/{index}"), paths);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                collect_texts(field, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), paths);
            }
        }
        _ => {}
    }
}
