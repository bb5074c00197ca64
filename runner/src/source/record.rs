//! A record of a source, and its id, text and metadata in JSON.

use std::fmt;

use crds::v1alpha1::FieldMapping;
use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::json_text::{check, compact, kind};

/// The largest number of field names in a message.
const MAX_LISTED_FIELDS: usize = 12;

/// A record of any format.
#[derive(Debug)]
pub struct Record {
    /// Its number in the file, from 0, records without text included.
    pub ordinal: u64,
    /// Its line; `None` for formats without lines.
    pub line: Option<u64>,
    /// The user's id; `None` if the record has none.
    pub id: Option<String>,
    /// The text.
    pub text: String,
    /// The metadata as JSON.
    pub metadata: String,
}

/// Why a JSON value is not a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Defect {
    /// It cannot be read as JSON: the reason, and the number of the byte in the value, from 0.
    Json(&'static str, usize),
    /// It is not a record.
    Record(String),
}

/// The record of a JSON value: an object with the mapped fields, or a string that is the text itself. A number that is an
/// id keeps its digits, and the metadata keeps everything but the white space between its parts.
///
/// # Errors
/// If a field is missing or has the wrong type; the error names the field.
pub fn from_json(value: &RawValue, ordinal: u64, line: Option<u64>, fields: &FieldMapping) -> Result<Record, Defect> {
    check(value).map_err(|(reason, at)| Defect::Json(reason, at))?;
    match kind(value) {
        "a string" => {
            let text = string(value)?;
            Ok(Record { ordinal, line, id: None, text, metadata: "{}".into() })
        }
        "an object" => {
            let mapped = Mapped(fields).deserialize(&mut serde_json::Deserializer::from_str(value.get()));
            from_fields(mapped.map_err(unreadable)?, ordinal, line, fields)
        }
        kind => Err(Defect::Record(format!("a record must be an object or a string, it is {kind}"))),
    }
}

fn from_fields(found: Fields<'_>, ordinal: u64, line: Option<u64>, fields: &FieldMapping) -> Result<Record, Defect> {
    let defect = |message: String| Err(Defect::Record(message));
    let text = match found.text.map(|text| (text, kind(text))) {
        Some((text, "a string")) => string(text)?,
        Some((_, kind)) => {
            return defect(format!("field {:?} (the text) must be a string, it is {kind}", fields.text));
        }
        None => {
            let more = if found.count > MAX_LISTED_FIELDS { ", …" } else { "" };
            let listed =
                if found.names.is_empty() { "none".into() } else { format!("{}{more}", found.names.join(", ")) };
            return defect(format!(
                "no field {:?} (the text); its fields: {listed}; set fields.text of the collection if the text has another name",
                fields.text
            ));
        }
    };
    let id = match found.id.map(|id| (id, kind(id))) {
        None | Some((_, "null")) => None,
        Some((id, "a string")) => match string(id)? {
            id if id.is_empty() => return defect(format!("field {:?} (the id) is empty", fields.id)),
            id => Some(id),
        },
        Some((id, "a number")) => Some(id.get().to_owned()),
        Some((_, kind)) => {
            return defect(format!("field {:?} (the id) must be a string or a number, it is {kind}", fields.id));
        }
    };
    let metadata = match found.metadata {
        Some(metadata) if kind(metadata) != "null" => compact(metadata),
        _ => "{}".into(),
    };
    Ok(Record { ordinal, line, id, text, metadata })
}

/// The text of a JSON string.
fn string(value: &RawValue) -> Result<String, Defect> {
    serde_json::from_str(value.get()).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Defect {
    Defect::Record(error.to_string())
}

/// The mapped fields of an object, of several with one name the last.
#[derive(Default)]
struct Fields<'de> {
    text: Option<&'de RawValue>,
    id: Option<&'de RawValue>,
    metadata: Option<&'de RawValue>,
    /// The names of the first fields.
    names: Vec<String>,
    count: usize,
}

struct Mapped<'a>(&'a FieldMapping);

impl<'de> DeserializeSeed<'de> for Mapped<'_> {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Mapped<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0.text {
                fields.text = Some(map.next_value()?);
            } else if name == self.0.id {
                fields.id = Some(map.next_value()?);
            } else if name == self.0.metadata {
                fields.metadata = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            fields.count += 1;
            if fields.names.len() < MAX_LISTED_FIELDS {
                fields.names.push(name);
            }
        }
        Ok(fields)
    }
}
