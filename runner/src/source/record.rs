//! A record of a source, and the mapping of JSON fields to its id, text and metadata.

use crds::v1alpha1::FieldMapping;
use serde_json::Value;

/// The most field names in a message.
const LISTED_FIELDS: usize = 12;

/// A record of any format.
#[derive(Debug)]
pub struct Record {
    /// Its number in the file, from 0, records without text included.
    pub ordinal: u64,
    /// Its line, if the format has lines.
    pub line: Option<u64>,
    /// The user's id.
    pub id: Option<String>,
    /// The text.
    pub text: String,
    /// The metadata as JSON.
    pub metadata: String,
}

/// The record in a JSON value: an object with the mapped fields, or a string, which is the text itself.
///
/// # Errors
/// A message that names the field at fault.
pub fn from_json(value: Value, ordinal: u64, line: Option<u64>, fields: &FieldMapping) -> Result<Record, String> {
    let mut object = match value {
        Value::String(text) => return Ok(Record { ordinal, line, id: None, text, metadata: "{}".into() }),
        Value::Object(object) => object,
        value => return Err(format!("a record must be an object or a string, it is {}", kind(&value))),
    };
    let text = match object.remove(&fields.text) {
        Some(Value::String(text)) => text,
        Some(value) => {
            return Err(format!("field {:?} (the text) must be a string, it is {}", fields.text, kind(&value)));
        }
        None => {
            let names: Vec<&str> = object.keys().take(LISTED_FIELDS).map(String::as_str).collect();
            let more = if object.len() > LISTED_FIELDS { ", …" } else { "" };
            let listed = if names.is_empty() { "none".into() } else { format!("{}{more}", names.join(", ")) };
            return Err(format!(
                "no field {:?} (the text); its fields: {listed}; set fields.text of the collection if the text has another name",
                fields.text
            ));
        }
    };
    let id = match object.remove(&fields.id) {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if !id.is_empty() => Some(id),
        Some(Value::Number(id)) => Some(id.to_string()),
        Some(Value::String(_)) => return Err(format!("field {:?} (the id) is empty", fields.id)),
        Some(value) => {
            return Err(format!("field {:?} (the id) must be a string or a number, it is {}", fields.id, kind(&value)));
        }
    };
    let metadata = match object.remove(&fields.metadata) {
        None | Some(Value::Null) => "{}".into(),
        Some(metadata) => metadata.to_string(),
    };
    Ok(Record { ordinal, line, id, text, metadata })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
