//! A chunk and its stable id.

use sha2::{Digest, Sha256};

/// The unit that gets a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The user's id, or a stable id of collection, file and ordinal.
    pub id: String,
    /// The text, unchanged.
    pub text: String,
    /// The metadata as JSON.
    pub metadata: String,
}

/// The id of a chunk that has none: the same for the same collection, file and ordinal, as a UUID (version 8, RFC 9562),
/// which vector databases accept.
pub(super) fn stable_id(collection: &str, file: &str, ordinal: u64) -> String {
    let digest = Sha256::digest(format!("{collection}\0{file}\0{ordinal}").as_bytes());
    let mut bytes: [u8; 16] = digest[..16].try_into().expect("a sha256 has 32 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
