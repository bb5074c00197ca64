//! Cuts a stream of records into shards, without input or output.

use sha2::{Digest, Sha256};

use super::shard::{Position, Shard};
use crate::source::Chunk;

/// The sha256 over the ids, texts and metadata of a shard as they are stored, in order. It shows whether a source has
/// changed since the plan.
#[derive(Clone, Debug)]
pub struct SliceDigest {
    hash: Sha256,
    with_metadata: bool,
}

impl Default for SliceDigest {
    fn default() -> Self {
        Self { hash: Sha256::new(), with_metadata: true }
    }
}

impl SliceDigest {
    /// The digest of plans of version 1.
    pub fn without_metadata() -> Self {
        Self { with_metadata: false, ..Self::default() }
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: &Chunk) {
        self.hash.update((chunk.id.len() as u64).to_le_bytes());
        self.hash.update(chunk.id.as_bytes());
        self.hash.update(Sha256::digest(chunk.text.as_bytes()));
        if self.with_metadata {
            self.hash.update(Sha256::digest(chunk.metadata.as_bytes()));
        }
    }

    /// The digest in hexadecimal.
    pub fn finish(self) -> String {
        hex::encode(self.hash.finalize())
    }
}

/// Collects the shards of one collection. A shard begins with a chunk and takes the records without text that follow
/// it; only the first takes those before it.
#[derive(Debug)]
pub struct Slicer<'a> {
    collection: &'a str,
    shard_size: u64,
    closed: Vec<Shard>,
    open: Option<(Shard, SliceDigest)>,
    chunks: u64,
}

impl<'a> Slicer<'a> {
    /// A slicer of a collection into shards of `shard_size` chunks.
    pub fn new(collection: &'a str, shard_size: u64) -> Self {
        Self { collection, shard_size: shard_size.max(1), closed: Vec::new(), open: None, chunks: 0 }
    }

    /// Adds a record without text.
    pub fn skip(&mut self, position: Position) {
        self.shard_at(position).0.skipped += 1;
    }

    /// Adds a chunk.
    pub fn push(&mut self, position: Position, chunk: &Chunk) {
        if self.open.as_ref().is_some_and(|(shard, _)| shard.chunks == self.shard_size) {
            self.close();
        }
        let (shard, digest) = self.shard_at(position);
        shard.chunks += 1;
        digest.push(chunk);
        self.chunks += 1;
    }

    /// The shards, in order.
    pub fn finish(mut self) -> Vec<Shard> {
        self.close();
        self.closed
    }

    fn shard_at(&mut self, start: Position) -> &mut (Shard, SliceDigest) {
        let (collection, first_chunk) = (self.collection, self.chunks);
        self.open.get_or_insert_with(|| {
            let collection = collection.to_owned();
            let shard = Shard { collection, first_chunk, chunks: 0, skipped: 0, start, sha256: String::new() };
            (shard, SliceDigest::default())
        })
    }

    fn close(&mut self) {
        if let Some((shard, digest)) = self.open.take() {
            self.closed.push(Shard { sha256: digest.finish(), ..shard });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slice(records: &[bool], shard_size: u64) -> Vec<Shard> {
        let mut slicer = Slicer::new("docs", shard_size);
        for (record, has_text) in (0..).zip(records) {
            let position = Position { file: 0, record };
            if *has_text {
                let chunk = Chunk { id: record.to_string(), text: "text".into(), metadata: "{}".into() };
                slicer.push(position, &chunk);
            } else {
                slicer.skip(position);
            }
        }
        slicer.finish()
    }

    proptest! {
        #[test]
        fn shards_cover_every_record_once_and_in_order(
            records in proptest::collection::vec(any::<bool>(), 0..60),
            shard_size in 1_u64..9,
        ) {
            let shards = slice(&records, shard_size);
            let (mut record, mut chunk) = (0, 0);
            for (index, shard) in shards.iter().enumerate() {
                prop_assert_eq!((shard.start.record, shard.first_chunk), (record, chunk));
                prop_assert!(shard.chunks <= shard_size);
                prop_assert!(shard.chunks == shard_size || index + 1 == shards.len());
                record += shard.chunks + shard.skipped;
                chunk += shard.chunks;
            }
            prop_assert_eq!(record, records.len() as u64);
            prop_assert_eq!(chunk, records.iter().filter(|has_text| **has_text).count() as u64);
        }
    }

    #[test]
    fn the_digest_covers_everything_that_is_stored() {
        let chunk = |id: &str, text: &str, metadata: &str| Chunk {
            id: id.into(),
            text: text.into(),
            metadata: metadata.into(),
        };
        let digest = |chunks: &[Chunk]| {
            let mut digest = SliceDigest::default();
            for chunk in chunks {
                digest.push(chunk);
            }
            digest.finish()
        };
        let original = digest(&[chunk("a", "b", "{}"), chunk("c", "d", "{}")]);
        for changed in [
            [chunk("x", "b", "{}"), chunk("c", "d", "{}")],
            [chunk("a", "x", "{}"), chunk("c", "d", "{}")],
            [chunk("a", "b", "{ }"), chunk("c", "d", "{}")],
            [chunk("a", "b", "{}"), chunk("c", "d", "{\"acl\":1}")],
            [chunk("c", "d", "{}"), chunk("a", "b", "{}")],
        ] {
            assert_ne!(digest(&changed), original, "{changed:?}");
        }
    }

    #[test]
    fn the_digest_of_a_shard_does_not_depend_on_later_shards() {
        let two_shards = slice(&[true; 6], 3);
        let three_shards = slice(&[true; 9], 3);
        assert_eq!(two_shards[1].sha256, three_shards[1].sha256);
        assert_ne!(two_shards[0].sha256, two_shards[1].sha256);
    }
}
