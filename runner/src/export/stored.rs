//! The columns that a written file has, read from its footer.

use std::fs::File;

use arrow_schema::DataType;
use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, errors::ParquetError};

/// A column of a written file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredColumn {
    /// Its name.
    pub name: String,
    /// The type and width of its values, for example `384 × Float32`.
    pub kind: String,
}

/// The columns of a file, in its order.
///
/// # Errors
/// If the file is not Parquet.
pub fn stored_columns(file: File) -> Result<Vec<StoredColumn>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let fields = reader.schema().fields();
    Ok(fields.iter().map(|field| StoredColumn { name: field.name().clone(), kind: kind(field.data_type()) }).collect())
}

fn kind(data_type: &DataType) -> String {
    match data_type {
        DataType::FixedSizeList(element, length) => format!("{length} × {}", kind(element.data_type())),
        DataType::FixedSizeBinary(length) => format!("{length} bytes"),
        DataType::List(element) => format!("a list of {}", kind(element.data_type())),
        other => other.to_string(),
    }
}
