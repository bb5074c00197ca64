//! The export of a shard: its rows as columns ([`arrow`]) in a file ([`parquet`]).

mod arrow;
mod parquet;

pub use self::{
    arrow::Columns,
    parquet::{ExportedFile, ShardName, write},
};
