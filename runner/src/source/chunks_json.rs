//! Chunk files: a JSON list of records or strings, or an object that wraps such a list. The list is read element by
//! element.

use std::{cell::RefCell, fmt, io::Read, ops::ControlFlow};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    record,
    visit::{Flow, Visit, without_bom},
};
use crate::process::error::StageError;

const WRAPPERS: [&str; 4] = ["chunks", "data", "records", "items"];

pub fn visit(reader: impl Read, visit: &mut Visit<'_>) -> Flow {
    let reader = without_bom(reader).map_err(|error| visit.unreadable(error))?;
    let mut json = serde_json::Deserializer::from_reader(reader);
    let reading = RefCell::new(Reading { visit, ordinal: 0, ended: None });
    let parsed = Top(&reading).deserialize(&mut json).and_then(|()| json.end());
    let Reading { visit, ordinal, ended } = reading.into_inner();
    match (ended, parsed) {
        (Some(Ended::Enough), _) => Ok(ControlFlow::Break(())),
        (Some(Ended::Failed(error)), _) => Err(error),
        (Some(Ended::Invalid(message)), Err(at)) => {
            Err(visit.invalid_record(format_args!(", record {} (line {}): {message}", ordinal + 1, at.line())))
        }
        (_, Err(error)) if error.is_io() => Err(visit.unreadable(error)),
        (_, Err(error)) => Err(visit.invalid_file(format_args!(": {}", parse_message(&error)))),
        (_, Ok(())) => Ok(ControlFlow::Continue(())),
    }
}

/// The parser's message: whether the file is not JSON, or JSON of another form.
fn parse_message(error: &serde_json::Error) -> String {
    if error.is_data() { error.to_string() } else { format!("not JSON: {error}") }
}

/// Why a visit ended before the end of the file.
enum Ended {
    /// The visitor has enough.
    Enough,
    /// The visitor failed.
    Failed(StageError),
    /// A record is invalid.
    Invalid(String),
}

struct Reading<'a, 'v> {
    visit: &'a mut Visit<'v>,
    ordinal: u64,
    ended: Option<Ended>,
}

impl Reading<'_, '_> {
    fn deliver(&mut self, value: Value) -> Result<(), Ended> {
        let record = record::from_json(value, self.ordinal, None, self.visit.fields).map_err(Ended::Invalid)?;
        match (self.visit.deliver)(record) {
            Ok(ControlFlow::Continue(())) => Ok(()),
            Ok(ControlFlow::Break(())) => Err(Ended::Enough),
            Err(error) => Err(Ended::Failed(error)),
        }
    }
}

/// The whole file.
struct Top<'r, 'a, 'v>(&'r RefCell<Reading<'a, 'v>>);

/// A list of records; a value of another type is skipped.
struct List<'r, 'a, 'v>(&'r RefCell<Reading<'a, 'v>>);

impl<'de> DeserializeSeed<'de> for Top<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of records, or an object that holds one as {}", WRAPPERS.join(", "))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        List(self.0).visit_seq(seq).map(|_| ())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut list: Option<String> = None;
        while let Some(key) = map.next_key::<String>()? {
            if !WRAPPERS.contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else if map.next_value_seed(List(self.0))? {
                if let Some(first) = list {
                    return Err(A::Error::custom(format!(
                        "both {first:?} and {key:?} are lists, so the records are ambiguous: keep one"
                    )));
                }
                list = Some(key);
            }
        }
        list.map(|_| ()).ok_or_else(|| {
            A::Error::custom(format!("the object has no list of records: expected one of {}", WRAPPERS.join(", ")))
        })
    }
}

impl<'de> DeserializeSeed<'de> for List<'_, '_, '_> {
    /// Whether the value was a list.
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        loop {
            let (ordinal, from) = {
                let reading = self.0.borrow();
                (reading.ordinal, reading.visit.from)
            };
            if ordinal < from {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(true);
                }
            } else {
                let Some(value) = seq.next_element::<Value>()? else {
                    return Ok(true);
                };
                let mut reading = self.0.borrow_mut();
                if let Err(ended) = reading.deliver(value) {
                    reading.ended = Some(ended);
                    return Err(A::Error::custom("stopped"));
                }
            }
            self.0.borrow_mut().ordinal += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}
