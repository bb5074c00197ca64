//! The generation of a shard's marker that counts, and how a marker is superseded.

use crds::{identity::Revision, layout};
use serde::{Deserialize, Serialize};

use super::marker::Commit;
use crate::{
    process::error::Result,
    store::{JsonFile, Store},
};

/// The generation of a shard that counts.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Its number, from 1.
    pub number: u32,
    /// Its marker; `None` if the shard is not committed.
    pub commit: Option<Commit>,
    /// Whether it has a marker whose writer died in the middle.
    pub is_torn: bool,
    /// Why the generations before it do not count any more, the first first.
    pub superseded: Vec<Superseded>,
}

/// `_SUPERSEDED.json`: the marker of this generation does not count any more. Its existence is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// [`Superseded::VERSION`].
    pub version: u32,
    /// The generation.
    pub generation: u32,
    /// Why.
    pub cause: Cause,
    /// The cause for people.
    pub message: String,
    /// When, RFC 3339, UTC.
    pub at: String,
}

/// Why a marker does not count any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A file that it names is missing, or is another.
    FileDamaged,
    /// It is not whole: its writer died in the middle.
    Torn,
    /// An optional model was left out that other shards have.
    ModelLeftOut,
    /// An optional model was left out, and the user asked for another try.
    RetryRequested,
    /// A cause that this release does not know, or cannot read.
    #[serde(other)]
    Unknown,
}

impl Superseded {
    /// The version of the file.
    const VERSION: u32 = 1;
}

impl Generation {
    /// Looks at a shard.
    ///
    /// # Errors
    /// If the store fails, or the marker is not of a version that this runner reads.
    pub fn of(store: &Store, revision: &Revision, collection: &str, shard: u32) -> Result<Self> {
        let mut superseded = Vec::new();
        let mut number = 1;
        while let Some(bytes) = store.get(&layout::shard_superseded(revision, collection, shard, number))? {
            // A torn file supersedes too.
            let unknown = || Superseded {
                version: Superseded::VERSION,
                generation: number,
                cause: Cause::Unknown,
                message: String::new(),
                at: String::new(),
            };
            superseded.push(serde_json::from_slice(&bytes).unwrap_or_else(|_| unknown()));
            number += 1;
        }
        let path = layout::shard_commit(revision, collection, shard, number);
        let (commit, is_torn) = match store.get_json(&path)? {
            JsonFile::Missing => (None, false),
            JsonFile::Torn => (None, true),
            JsonFile::Whole(bytes) => (Some(Commit::parse(&bytes, &store.uri_of(&path))?), false),
        };
        Ok(Self { number, commit, is_torn, superseded })
    }

    /// How many generations of the shard were superseded for this cause.
    pub fn superseded_for(&self, cause: Cause) -> usize {
        self.superseded.iter().filter(|superseded| superseded.cause == cause).count()
    }
}

/// Supersedes the marker of a generation: the shard is not committed until the next generation is. That another
/// attempt has done so already is no error.
///
/// # Errors
/// If the store fails.
pub fn supersede(
    store: &Store,
    revision: &Revision,
    (collection, shard, generation): (&str, u32, u32),
    cause: Cause,
    message: &str,
) -> Result<()> {
    tracing::warn!(shard, generation, ?cause, "the shard is embedded again: {message}");
    let superseded = Superseded {
        version: Superseded::VERSION,
        generation,
        cause,
        message: message.to_owned(),
        at: jiff::Timestamp::now().to_string(),
    };
    let path = layout::shard_superseded(revision, collection, shard, generation);
    let mut bytes = serde_json::to_vec_pretty(&superseded).expect("the fields are text and numbers");
    bytes.push(b'\n');
    match store.put_new(&path, bytes) {
        Ok(_) => Ok(()),
        // The file may be there, whatever the reply was.
        Err(error) => match store.size(&path) {
            Ok(Some(_)) => Ok(()),
            _ => Err(error),
        },
    }
}
