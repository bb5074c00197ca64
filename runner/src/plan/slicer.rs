//! Cuts a stream of records into shards; no input or output.

use sha2::{Digest, Sha256};

use super::shard::{Position, Shard};
use crate::source::Chunk;

/// The sha256 over the ids and texts of a shard, in order; it detects that a source has changed since it was planned.
#[derive(Clone, Debug, Default)]
pub struct SliceDigest(Sha256);

impl SliceDigest {
    /// Adds a chunk.
    pub fn push(&mut self, chunk: &Chunk) {
        self.0.update((chunk.id.len() as u64).to_le_bytes());
        self.0.update(chunk.id.as_bytes());
        self.0.update(Sha256::digest(chunk.text.as_bytes()));
    }

    /// The digest in hexadecimal.
    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// Collects the shards of one collection. A shard begins with a chunk and takes the records without text that follow
/// it; only the first takes those before it.
#[derive(Debug)]
pub struct Slicer<'a> {
    collection: &'a str,
    shard_size: u64,
    done: Vec<Shard>,
    open: Option<(Shard, SliceDigest)>,
    chunks: u64,
}

impl<'a> Slicer<'a> {
    pub fn new(collection: &'a str, shard_size: u64) -> Self {
        Self { collection, shard_size: shard_size.max(1), done: Vec::new(), open: None, chunks: 0 }
    }

    pub fn skip(&mut self, position: Position) {
        self.shard_at(position).0.skipped += 1;
    }

    pub fn push(&mut self, position: Position, chunk: &Chunk) {
        if self.open.as_ref().is_some_and(|(shard, _)| shard.chunks == self.shard_size) {
            self.close();
        }
        let (shard, digest) = self.shard_at(position);
        shard.chunks += 1;
        digest.push(chunk);
        self.chunks += 1;
    }

    pub fn finish(mut self) -> Vec<Shard> {
        self.close();
        self.done
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
            self.done.push(Shard { sha256: digest.finish(), ..shard });
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
    fn the_digest_does_not_depend_on_other_shards() {
        let whole = slice(&[true; 6], 3);
        let longer = slice(&[true; 9], 3);
        assert_eq!(whole[1].sha256, longer[1].sha256);
        assert_ne!(whole[0].sha256, whole[1].sha256);
    }
}
