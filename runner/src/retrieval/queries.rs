//! The queries of a run: JSON lines of `{id, text, relevant?}`, or headings of the collection if the spec names no
//! file.

use std::{collections::BTreeMap, collections::HashSet};

use crds::{
    contract::{FailureReason, Place},
    summary::QueryOrigin,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    plan::{Plan, PlannedCollection},
    process::{
        error::{Result, StageError},
        message::first_few,
    },
    store,
};

/// The largest file of queries, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Its id, unique among the queries.
    pub id: String,
    /// The question or the keywords.
    pub text: String,
    /// The grades of the relevant chunks by id, each above 0.
    pub relevant: BTreeMap<String, f64>,
}

/// The queries of a collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queries {
    /// The origin of the queries.
    pub origin: QueryOrigin,
    /// The queries, in their order.
    pub queries: Vec<Query>,
}

impl Queries {
    /// The queries of a planned collection: from the file, or without a file the headings in the plan.
    ///
    /// # Errors
    /// If the file cannot be read, is invalid, or has changed since the plan.
    pub fn load(plan: &Plan, planned: &PlannedCollection, file: Option<&Place>) -> Result<Self> {
        let Some(place) = file else {
            let query = |(number, heading): (usize, &String)| Query {
                id: format!("heading-{number}"),
                text: heading.clone(),
                relevant: BTreeMap::new(),
            };
            let queries: Vec<Query> = (1..).zip(&planned.headings).map(query).collect();
            let origin = if queries.is_empty() { QueryOrigin::None } else { QueryOrigin::Headings };
            return Ok(Self { origin, queries });
        };
        let file = QueryFile::read(place)?;
        if plan.queries_sha256.as_ref() != Some(&file.sha256) {
            let message = format!(
                "the queries in {} have changed since the plan: change spec.rerunToken to plan a new revision",
                place.uri
            );
            return Err(StageError::new(FailureReason::SourceChanged, message));
        }
        Ok(Self { origin: QueryOrigin::Spec, queries: file.queries })
    }

    /// The texts of the queries, in their order.
    pub fn texts(&self) -> Vec<&str> {
        self.queries.iter().map(|query| query.text.as_str()).collect()
    }
}

/// A file of queries.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryFile {
    /// The queries.
    pub queries: Vec<Query>,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Ids of relevant chunks: a list, in which every id has the grade 1, or a grade per id.
#[derive(Deserialize)]
#[serde(untagged)]
enum Relevant {
    Ids(Vec<String>),
    Grades(BTreeMap<String, f64>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    text: String,
    #[serde(default)]
    relevant: Option<Relevant>,
}

impl QueryFile {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// If it cannot be read, or a line is not a valid query; the error names the line.
    pub fn read(place: &Place) -> Result<Self> {
        let bytes = store::read_file(place, MAX_BYTES)?;
        Self::parse(&bytes, &place.uri)
    }

    fn parse(bytes: &[u8], uri: &str) -> Result<Self> {
        let invalid = |message: String| StageError::new(FailureReason::InvalidRecord, message);
        let text =
            std::str::from_utf8(bytes).map_err(|error| invalid(format!("{uri} is not UTF-8")).caused_by(error))?;
        let mut queries = Vec::new();
        let mut ids = HashSet::new();
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        for (number, line) in lines {
            let at = format!("{uri}, line {number}");
            let line: Line = serde_json::from_str(line)
                .map_err(|error| invalid(format!("{at} is not a query {{id, text, relevant?}}")).caused_by(error))?;
            if line.text.trim().is_empty() {
                return Err(invalid(format!("{at}: query {:?} has no text", line.id)));
            }
            if !ids.insert(line.id.clone()) {
                return Err(StageError::new(
                    FailureReason::DuplicateId,
                    format!("{at}: duplicate id {:?}; give every query its own id", line.id),
                ));
            }
            let relevant = match line.relevant {
                None => BTreeMap::new(),
                Some(Relevant::Ids(ids)) => ids.into_iter().map(|id| (id, 1.0)).collect(),
                Some(Relevant::Grades(grades)) => grades,
            };
            let invalid_grades: Vec<String> = relevant
                .iter()
                .filter(|(_, grade)| !(0.0..=10.0).contains(*grade))
                .map(|(id, grade)| format!("{id} ({grade})"))
                .collect();
            if !invalid_grades.is_empty() {
                let message = format!("{at}: grades must be from 0 to 10: {}", first_few(&invalid_grades));
                return Err(invalid(message));
            }
            let relevant = relevant.into_iter().filter(|(_, grade)| *grade > 0.0).collect();
            queries.push(Query { id: line.id, text: line.text, relevant });
        }
        if queries.is_empty() {
            let message = format!("{uri} has no queries; add queries, or remove spec.rerank.queries to use headings");
            return Err(invalid(message));
        }
        Ok(Self { queries, sha256: hex::encode(Sha256::digest(bytes)) })
    }

    /// Whether any query marks chunks as relevant.
    pub fn has_judgements(&self) -> bool {
        self.queries.iter().any(|query| !query.relevant.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(text: &str) -> (FailureReason, String) {
        let error = QueryFile::parse(text.as_bytes(), "configmap://q/q.jsonl").expect_err(text);
        (error.reason, error.sentence())
    }

    #[test]
    fn relevant_chunks_are_a_list_or_have_grades() {
        let text = "{\"id\": \"1\", \"text\": \"a\", \"relevant\": [\"x\", \"y\"]}\n\n\
                    {\"id\": \"2\", \"text\": \"b\", \"relevant\": {\"x\": 2, \"z\": 0}}\n{\"id\": \"3\", \"text\": \"c\"}";
        let file = QueryFile::parse(text.as_bytes(), "q").expect("queries");
        let relevant: Vec<Vec<(&str, f64)>> = file
            .queries
            .iter()
            .map(|query| query.relevant.iter().map(|(id, grade)| (id.as_str(), *grade)).collect())
            .collect();
        assert_eq!(relevant, [vec![("x", 1.0), ("y", 1.0)], vec![("x", 2.0)], vec![]]);
        assert!(file.has_judgements());
    }

    #[test]
    fn invalid_files_are_rejected_with_the_line() {
        let cases = [
            ("", FailureReason::InvalidRecord, "has no queries"),
            ("{\"id\": \"1\", \"text\": \" \"}", FailureReason::InvalidRecord, "line 1: query \"1\" has no text"),
            ("\n{\"id\": 1, \"text\": \"a\"}", FailureReason::InvalidRecord, "line 2 is not a query"),
            ("{\"id\": \"1\", \"text\": \"a\", \"relevent\": []}", FailureReason::InvalidRecord, "relevent"),
            ("{\"id\": \"1\", \"text\": \"a\", \"relevant\": {\"x\": -1}}", FailureReason::InvalidRecord, "x (-1)"),
            (
                "{\"id\": \"1\", \"text\": \"a\"}\n{\"id\": \"1\", \"text\": \"b\"}",
                FailureReason::DuplicateId,
                "line 2: duplicate id \"1\"",
            ),
        ];
        for (text, reason, words) in cases {
            let (actual, sentence) = rejected(text);
            assert!(actual == reason && sentence.contains(words), "{text}: {sentence}");
        }
    }
}
