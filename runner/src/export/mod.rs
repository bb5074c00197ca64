//! How the rows of a shard are written: [`arrow`] has the columns, [`parquet`] the file.

mod arrow;
mod parquet;

pub use self::{
    arrow::Columns,
    parquet::{ExportedFile, write},
};
