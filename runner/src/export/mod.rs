//! The export of a shard: its rows as columns ([`arrow`]) in a file ([`parquet`]), and the columns of a written file
//! ([`stored`]).

mod arrow;
mod parquet;
mod stored;

pub use self::{
    arrow::Columns,
    parquet::{ExportedFile, ShardName, write},
    stored::{StoredColumn, stored_columns},
};
