//! Writes a commit marker, and believes what is in the store rather than the reply.

use crds::{contract::FailureReason, identity::Revision, layout};

use super::{
    generation::{Cause, Generation, supersede},
    marker::Commit,
};
use crate::{
    process::error::{Result, StageError},
    store::{PutNew, Store},
};

/// How often a marker is written at most: each time another attempt superseded the generation meanwhile.
const WRITES: u32 = 5;

/// Who committed a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The marker names the files of this attempt.
    Ours,
    /// The marker names the files of another attempt.
    Another,
}

impl Commit {
    /// Commits the shard: writes the marker of [`Commit::generation`], or of the next one if that was superseded
    /// meanwhile. After a reply that leaves a doubt the marker is read back, and is ours if it names our files. Deletes
    /// nothing that a marker may name.
    ///
    /// # Errors
    /// If the store fails and no marker can be read. The marker may appear later all the same; its files are kept.
    pub fn write(&mut self, store: &Store, revision: &Revision) -> Result<Outcome> {
        for _ in 0..WRITES {
            let path = layout::shard_commit(revision, &self.collection, self.shard, self.generation);
            let reply = store.put_new(&path, self.to_json());
            if matches!(reply, Ok(PutNew::Written)) {
                return Ok(Outcome::Ours);
            }
            let doubt = reply.err().unwrap_or_else(|| {
                let message = format!("{} exists and cannot be read; try again", store.uri_of(&path));
                StageError::new(FailureReason::StoreUnavailable, message)
            });
            let Ok(found) = Generation::of(store, revision, &self.collection, self.shard) else { return Err(doubt) };
            match found.commit {
                Some(commit) if commit.names_the_files_of(self) => return Ok(Outcome::Ours),
                Some(_) => return Ok(Outcome::Another),
                None if found.is_torn => {
                    let torn = (self.collection.as_str(), self.shard, found.number);
                    supersede(store, revision, torn, Cause::Torn, "its marker is not whole")?;
                    self.generation = found.number + 1;
                }
                None if found.number > self.generation => self.generation = found.number,
                None => return Err(doubt),
            }
        }
        let message = format!(
            "the marker of shard {} is superseded again and again; try again when no other attempt runs",
            self.shard
        );
        Err(StageError::new(FailureReason::StoreUnavailable, message))
    }
}
