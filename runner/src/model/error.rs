//! Errors of models: a model cannot be loaded, or a batch cannot be computed.

use std::{
    io,
    path::{Path, PathBuf},
};

use candle_core::DType;
use crds::contract::FailureReason;

use super::files::WEIGHTS;
use crate::{
    device::fault::{self, Fault},
    process::error::StageError,
    store,
    tokenizer::TokenizerError,
};

/// The reason why a model cannot be loaded, or a batch cannot be computed. Every message names the model, the file if there
/// is one, and a remedy.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The model folder does not exist.
    #[error("model {model}: the folder {} does not exist; check the source of the model and its mount", dir.display())]
    FolderMissing {
        /// The model's name.
        model: String,
        /// The missing folder.
        dir: PathBuf,
    },
    /// A file that every model has is missing.
    #[error("model {model}: {} is missing; download the model folder again", file.display())]
    FileMissing {
        /// The model's name.
        model: String,
        /// The missing file.
        file: PathBuf,
    },
    /// A file exists but cannot be read.
    #[error("model {model}: {} cannot be read", file.display())]
    Read {
        /// The model's name.
        model: String,
        /// The file.
        file: PathBuf,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
    /// A configuration file is not JSON, or lacks a field or has one of the wrong type.
    #[error("model {model}: {} is not valid", file.display())]
    FileInvalid {
        /// The model's name.
        model: String,
        /// The file.
        file: PathBuf,
        /// The position and the reason.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration has a setting that the runner does not implement.
    #[error("model {model}: {} has {field} {found:?}; supported: {}", file.display(), supported.join(", "))]
    Unsupported {
        /// The model's name.
        model: String,
        /// The configuration file.
        file: PathBuf,
        /// The field of the file.
        field: Box<str>,
        /// The value of the field.
        found: Box<str>,
        /// The supported values.
        supported: Vec<String>,
    },
    /// A file has a field that is neither implemented nor known to have no effect.
    #[error(
        "model {model}: {} has the field {field} with the value {value}, which this release does not know and which may \
         change the results; remove the field if it does not, or use a release that implements it",
        file.display()
    )]
    UnknownField {
        /// The model's name.
        model: String,
        /// The file.
        file: PathBuf,
        /// The path of the field.
        field: String,
        /// Its value as JSON.
        value: String,
    },
    /// A file is what Git LFS leaves in place of the file itself.
    #[error(
        "model {model}: {} is a pointer of Git LFS, not the file itself; run `git lfs pull` in the model folder, or \
         download the file again",
        file.display()
    )]
    LfsPointer {
        /// The model's name.
        model: String,
        /// The pointer.
        file: PathBuf,
    },
    /// The folder is an adapter of another model.
    #[error(
        "model {model}: {} makes the folder an adapter, which is not supported; merge the adapter into the weights of its \
         model and save the result",
        file.display()
    )]
    Adapter {
        /// The model's name.
        model: String,
        /// The configuration of the adapter.
        file: PathBuf,
    },
    /// The chat template of a reranker is invalid, or cannot carry a pair.
    #[error("model {model}: {} cannot be used as the chat template of a query and a document", file.display())]
    Template {
        /// The model's name.
        model: String,
        /// The file of the template.
        file: PathBuf,
        /// The place and the reason.
        #[source]
        source: minijinja::Error,
    },
    /// The hidden size is not divisible by the number of heads.
    #[error(
        "model {model}: {} has hidden_size {hidden_size}, which num_attention_heads {heads} does not divide",
        file.display()
    )]
    Heads {
        /// The model's name.
        model: String,
        /// The configuration file.
        file: PathBuf,
        /// `hidden_size`.
        hidden_size: usize,
        /// `num_attention_heads`.
        heads: usize,
    },
    /// Neither the folder nor the run sets a pooling.
    #[error("model {model}: {} has no pooling configuration; set the pooling of the model, for example Mean or Cls", dir.display())]
    PoolingUnknown {
        /// The model's name.
        model: String,
        /// The model folder.
        dir: PathBuf,
    },
    /// There are no weights.
    #[error("model {model}: {} has no {WEIGHTS}; download the model folder again", dir.display())]
    NoWeights {
        /// The model's name.
        model: String,
        /// The model folder.
        dir: PathBuf,
    },
    /// The only weights are a pickle, which runs code when it is opened.
    #[error(
        "model {model}: {} is a pickle, which can run code and is rejected; convert the weights to {WEIGHTS}",
        file.display()
    )]
    Pickle {
        /// The model's name.
        model: String,
        /// The pickle.
        file: PathBuf,
    },
    /// The weights are truncated, or not safetensors.
    #[error("model {model}: {} is truncated or corrupt; download it again", file.display())]
    WeightsCorrupt {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The position and the reason.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// Two weights files of a model hold the same tensor.
    #[error(
        "model {model}: duplicate tensor {tensor} in {}: another weights file has it too; download the model folder again",
        file.display()
    )]
    DuplicateTensor {
        /// The model's name.
        model: String,
        /// The second file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The weights hold a tensor that the configuration does not imply.
    #[error(
        "model {model}: {} has tensor {tensor}, which config.json does not imply; \
         the two files are of different models, or this is another kind of model",
        file.display()
    )]
    UnexpectedTensor {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A weight is NaN or infinite.
    #[error(
        "model {model}: tensor {tensor} in {} has the value {value} at index {at}; \
         the weights are corrupt, download them again",
        file.display()
    )]
    TensorNotFinite {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// Its index in the tensor, row-major.
        at: usize,
    },
    /// A weight is too large for the type that the run requests.
    #[error(
        "model {model}: tensor {tensor} in {} has the value {value} at index {at}, which {dtype:?} cannot hold; \
         set the dtype of the model to F32",
        file.display()
    )]
    TensorRange {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// Its index in the tensor, row-major.
        at: usize,
        /// The type.
        dtype: DType,
    },
    /// The run requests 8-bit integers on a device that does not support them.
    #[error("model {model}: dtype Int8 is supported on a CPU only; set the dtype of the model to F32, F16 or BF16")]
    Int8Device {
        /// The model's name.
        model: String,
    },
    /// The weights lack a tensor that the configuration implies.
    #[error(
        "model {model}: {} has no tensor {tensor}; config.json and the weights are of different models",
        file.display()
    )]
    MissingTensor {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor does not have the shape that the configuration implies.
    #[error(
        "model {model}: tensor {tensor} in {} has shape {found:?}, config.json implies {expected:?}",
        file.display()
    )]
    TensorShape {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// The shape in the weights.
        found: Vec<usize>,
    },
    /// A static embedding maps a token to a row that its table does not have.
    #[error(
        "model {model}: the tensor mapping in {} has row {row}, but the table has {rows} rows; download the model again",
        file.display()
    )]
    Mapping {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The row.
        row: u32,
        /// The number of rows.
        rows: usize,
    },
    /// The values of a tensor are not floats.
    #[error(
        "model {model}: tensor {tensor} in {} is {found}, a type that is not supported here; weights are floats",
        file.display()
    )]
    TensorType {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// Its element type.
        found: String,
    },
    /// The run requests more dimensions than the vectors have, or none.
    #[error("model {model}: dimensions is {requested}, but its vectors have {width}; set dimensions to 1 to {width}")]
    Dimensions {
        /// The model's name.
        model: String,
        /// The requested dimensions.
        requested: usize,
        /// The dimensions of the model's vectors.
        width: usize,
    },
    /// The tokenizer is invalid, or cannot encode a text.
    #[error("model {model}: {source}")]
    Tokenizer {
        /// The model's name.
        model: String,
        /// The error of the tokenizer.
        #[source]
        source: TokenizerError,
    },
    /// A vector has a value that is NaN or infinite.
    #[error("model {model}: the vector of row {row} is not finite; check the weights and the text of this row")]
    NotFinite {
        /// The model's name.
        model: String,
        /// The row of the batch, from 0.
        row: usize,
    },
    /// The device or the memory ceiling has no room for a batch.
    #[error("model {model}: out of memory{}", remedy(*row))]
    OutOfMemory {
        /// The model's name.
        model: String,
        /// The row of the batch, from 0, if a batch of this row alone is too large.
        row: Option<usize>,
        /// The error of the device.
        #[source]
        source: Box<candle_core::Error>,
    },
    /// The device is unreachable, or has lost the state of the process.
    #[error("model {model}: the device was lost; a retry may get a working one")]
    DeviceLost {
        /// The model's name.
        model: String,
        /// The error of the device.
        #[source]
        source: Box<candle_core::Error>,
    },
    /// The device failed in another way.
    #[error("model {model}: the computation failed")]
    Compute {
        /// The model's name.
        model: String,
        /// The error of the device.
        #[source]
        source: Box<candle_core::Error>,
    },
}

impl ModelError {
    /// The reason that the stage reports, which also decides the exit code.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::FolderMissing { .. } => FailureReason::ModelNotFound,
            Self::Read { source, .. } | Self::Tokenizer { source: TokenizerError::Read { source, .. }, .. } => {
                store::Fault::of(source).of_model()
            }
            Self::Tokenizer {
                source:
                    TokenizerError::Encode { .. } | TokenizerError::NoTokens { .. } | TokenizerError::NoVector { .. },
                ..
            } => FailureReason::InvalidRecord,
            Self::Dimensions { .. } | Self::TensorRange { .. } | Self::Int8Device { .. } => {
                FailureReason::InvalidConfiguration
            }
            Self::FileMissing { .. }
            | Self::FileInvalid { .. }
            | Self::Unsupported { .. }
            | Self::UnknownField { .. }
            | Self::LfsPointer { .. }
            | Self::Adapter { .. }
            | Self::Template { .. }
            | Self::Heads { .. }
            | Self::PoolingUnknown { .. }
            | Self::NoWeights { .. }
            | Self::Pickle { .. }
            | Self::WeightsCorrupt { .. }
            | Self::MissingTensor { .. }
            | Self::DuplicateTensor { .. }
            | Self::UnexpectedTensor { .. }
            | Self::TensorNotFinite { .. }
            | Self::TensorShape { .. }
            | Self::TensorType { .. }
            | Self::Mapping { .. }
            | Self::Tokenizer { .. } => FailureReason::InvalidModel,
            Self::NotFinite { .. } => FailureReason::InvalidVector,
            Self::OutOfMemory { .. } => FailureReason::OutOfMemory,
            Self::DeviceLost { .. } => FailureReason::DeviceLost,
            Self::Compute { .. } => FailureReason::ComputationFailed,
        }
    }

    /// An error of the device while a model is loaded or a batch computed.
    pub(crate) fn device(model: &str, source: candle_core::Error) -> Self {
        let (model, source) = (model.to_owned(), Box::new(fault::without_backtrace(source)));
        match fault::of(&source) {
            Fault::OutOfMemory => Self::OutOfMemory { model, row: None, source },
            Fault::Lost => Self::DeviceLost { model, source },
            Fault::Other => Self::Compute { model, source },
        }
    }

    /// A batch that exceeds the memory ceiling.
    pub fn over_ceiling(model: &str, message: String) -> Self {
        Self::OutOfMemory { model: model.to_owned(), row: None, source: Box::new(candle_core::Error::Msg(message)) }
    }

    /// The same error for a batch of one row.
    pub(crate) fn of_one_row(self) -> Self {
        match self {
            Self::OutOfMemory { model, row: None, source } => Self::OutOfMemory { model, row: Some(0), source },
            error => error,
        }
    }

    /// A configuration with a setting that the runner does not implement.
    pub(super) fn unsupported(model: &str, file: &Path, field: &str, found: &str, supported: &[&str]) -> Self {
        Self::Unsupported {
            model: model.to_owned(),
            file: file.to_owned(),
            field: field.into(),
            found: found.into(),
            supported: supported.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// An error of the tokenizer.
    pub(crate) fn tokenizer(model: &str, source: TokenizerError) -> Self {
        Self::Tokenizer { model: model.to_owned(), source }
    }

    /// The same error with its row, if it has one, replaced.
    pub(crate) fn at_row(self, renumber: impl FnOnce(usize) -> usize) -> Self {
        match self {
            Self::NotFinite { model, row } => Self::NotFinite { model, row: renumber(row) },
            Self::OutOfMemory { model, row: Some(row), source } => {
                Self::OutOfMemory { model, row: Some(renumber(row)), source }
            }
            Self::Tokenizer { model, source: TokenizerError::Encode { row, source } } => {
                Self::Tokenizer { model, source: TokenizerError::Encode { row: renumber(row), source } }
            }
            Self::Tokenizer { model, source: TokenizerError::NoTokens { row } } => {
                Self::Tokenizer { model, source: TokenizerError::NoTokens { row: renumber(row) } }
            }
            Self::Tokenizer { model, source: TokenizerError::NoVector { row, token, id, rows } } => {
                Self::Tokenizer { model, source: TokenizerError::NoVector { row: renumber(row), token, id, rows } }
            }
            error => error,
        }
    }
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> Self {
        // The error's display text is the whole message; only its sources are causes.
        Self::new(error.reason(), error.to_string()).caused_by(error)
    }
}

/// The rest of the message: which setting to change.
fn remedy(row: Option<usize>) -> &'static str {
    match row {
        Some(_) => " even for this text alone; raise the memory ceiling, or lower maxTokens of the model",
        None => "; raise the memory ceiling, or use a device with more memory",
    }
}

#[cfg(test)]
mod tests {
    use crds::contract::ExitCode;

    use super::*;

    #[test]
    fn a_full_device_is_out_of_memory_and_a_lost_device_is_transient() {
        let cuda = |text: &str| candle_core::Error::Cuda(text.into());
        let full = ModelError::device("m", cuda("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").bt());
        assert_eq!(full.reason().exit_code(), ExitCode::OutOfMemory);
        let lost = ModelError::device("m", cuda("DriverError(CUDA_ERROR_LAUNCH_FAILED, \"unspecified\")").bt());
        assert_eq!((lost.reason(), lost.reason().exit_code()), (FailureReason::DeviceLost, ExitCode::Transient));
        let other = ModelError::device("m", cuda("DriverError(CUDA_ERROR_INVALID_VALUE, \"invalid\")").bt());
        // Another attempt would compute the same.
        let expected = (FailureReason::ComputationFailed, ExitCode::BadInput);
        assert_eq!((other.reason(), other.reason().exit_code()), expected);
    }

    #[test]
    fn a_row_that_is_too_large_alone_is_distinguished_from_a_batch() {
        let full = || ModelError::over_ceiling("m", "7 bytes".into());
        let message = full().at_row(|row| row + 100).to_string();
        assert!(message.starts_with("model m: out of memory; raise the memory ceiling"), "{message}");
        let ModelError::OutOfMemory { row, .. } = full().of_one_row().at_row(|row| row + 100) else { panic!("other") };
        assert_eq!(row, Some(100));
        let message = full().of_one_row().to_string();
        assert!(message.contains("this text alone") && message.contains("maxTokens"), "{message}");
    }

    #[test]
    fn a_vector_that_is_not_finite_is_bad_input() {
        let error = ModelError::NotFinite { model: "m".into(), row: 3 }.at_row(|row| row + 100);
        assert_eq!(
            error.to_string(),
            "model m: the vector of row 103 is not finite; check the weights and the text of this row"
        );
        assert_eq!(error.reason().exit_code(), ExitCode::BadInput);
    }
}
