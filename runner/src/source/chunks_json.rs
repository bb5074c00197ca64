//! Chunk files: a JSON list of records or strings, or an object with such a list. The list is read element by element.

use std::{cell::RefCell, fmt, io::Read, ops::ControlFlow};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    reader::{Progress, SliceReader, is_too_large},
    record::{self, Defect},
    visit::{Flow, Visit},
};
use crate::process::error::StageError;

/// The fields of an object that may hold the list of records.
const LIST_FIELDS: [&str; 4] = ["chunks", "data", "records", "items"];

/// Bytes between two records that are not counted as a part of one.
const MARGIN: u64 = 1 << 16;

/// Visits the records of a chunk file.
pub fn visit(reader: impl Read, visit: &mut Visit<'_>) -> Flow {
    // White space and separators belong to the record that they precede, so the limit of the reader is not exact.
    let progress = Progress::new(visit.limits.record.saturating_add(MARGIN));
    let reader = SliceReader::new(reader, visit.interrupt, &progress).map_err(|error| visit.unreadable(error))?;
    let mut json = serde_json::Deserializer::from_reader(reader);
    let reading = RefCell::new(Reading { visit, progress: &progress, ordinal: 0, stop: None });
    let parsed = Top(&reading).deserialize(&mut json).and_then(|()| json.end());
    let Reading { visit, ordinal, stop, .. } = reading.into_inner();
    let record = || format!(", record {} (line {})", ordinal + 1, progress.line());
    match (stop, parsed) {
        (Some(Stop::Visitor), _) => Ok(ControlFlow::Break(())),
        (Some(Stop::Failed(error)), _) => Err(error),
        (Some(Stop::Defect(defect)), _) => Err(visit.defect(record(), defect)),
        (Some(Stop::TooLarge), _) => Err(visit.record_too_large(record())),
        (None, Err(error)) if error.is_io() => {
            let error = error.into();
            Err(if is_too_large(&error) { visit.record_too_large(record()) } else { visit.unreadable(error) })
        }
        (None, Err(error)) => Err(visit.invalid_file(format_args!(": {}", message_of(&error)))),
        (None, Ok(())) => Ok(ControlFlow::Continue(())),
    }
}

fn message_of(error: &serde_json::Error) -> String {
    if error.is_data() { error.to_string() } else { format!("not valid JSON: {error}") }
}

/// Why the reader stopped the parser.
enum Stop {
    /// The visitor stopped.
    Visitor,
    /// The visitor failed.
    Failed(StageError),
    /// The value is not a record.
    Defect(Defect),
    /// The record is larger than the limit.
    TooLarge,
}

struct Reading<'a, 'v> {
    visit: &'a mut Visit<'v>,
    progress: &'a Progress,
    ordinal: u64,
    stop: Option<Stop>,
}

impl Reading<'_, '_> {
    fn deliver(&mut self, value: &RawValue) -> Result<(), Stop> {
        if value.get().len() as u64 > self.visit.limits.record {
            return Err(Stop::TooLarge);
        }
        let record = record::from_json(value, self.ordinal, None, self.visit.fields).map_err(Stop::Defect)?;
        match (self.visit.deliver)(record) {
            Ok(ControlFlow::Continue(())) => Ok(()),
            Ok(ControlFlow::Break(())) => Err(Stop::Visitor),
            Err(error) => Err(Stop::Failed(error)),
        }
    }
}

/// The whole file.
struct Top<'r, 'a, 'v>(&'r RefCell<Reading<'a, 'v>>);

/// A list of records; any other value is skipped.
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
        write!(f, "a list of records, or an object with one in {}", LIST_FIELDS.join(", "))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        List(self.0).visit_seq(seq).map(|_| ())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut list_field: Option<String> = None;
        while let Some(key) = map.next_key::<String>()? {
            self.0.borrow().progress.next_record();
            if !LIST_FIELDS.contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else if map.next_value_seed(List(self.0))? {
                if let Some(first) = list_field {
                    return Err(A::Error::custom(format!(
                        "both {first:?} and {key:?} are lists: keep the one with the records"
                    )));
                }
                list_field = Some(key);
            }
        }
        list_field.map(|_| ()).ok_or_else(|| {
            A::Error::custom(format!(
                "an object without a list of records: none of its fields {} is a list",
                LIST_FIELDS.join(", ")
            ))
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
                reading.progress.next_record();
                (reading.ordinal, reading.visit.from)
            };
            if ordinal < from {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(true);
                }
            } else {
                let Some(value) = seq.next_element::<Box<RawValue>>()? else {
                    return Ok(true);
                };
                let mut reading = self.0.borrow_mut();
                if let Err(stop) = reading.deliver(&value) {
                    reading.stop = Some(stop);
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
