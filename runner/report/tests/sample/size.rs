//! The size of the run.

pub const GIB: u64 = 1 << 30;
pub const SHARDS: u32 = 4;
pub const ROWS_PER_SHARD: u64 = 51_200;
