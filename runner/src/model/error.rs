//! Why a model cannot be loaded, or a batch not be computed.

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
    tokenizer::TokenizerError,
};

/// Why a model cannot be loaded, or a batch not be computed. Every message names the model, the file where there is
/// one, and what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no folder.
    #[error("model {model}: there is no folder {}; check the source of the model and its mount", dir.display())]
    FolderMissing {
        /// The model's name.
        model: String,
        /// The folder that was looked for.
        dir: PathBuf,
    },
    /// A file that every model has is not there.
    #[error("model {model}: {} is missing; download the model folder again", file.display())]
    FileMissing {
        /// The model's name.
        model: String,
        /// The file that was looked for.
        file: PathBuf,
    },
    /// A file is there and cannot be read.
    #[error("model {model}: {} cannot be read", file.display())]
    Read {
        /// The model's name.
        model: String,
        /// The file.
        file: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// A configuration file is not what it should be.
    #[error("model {model}: {} is not valid", file.display())]
    FileInvalid {
        /// The model's name.
        model: String,
        /// The file.
        file: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration asks for what this runner does not compute.
    #[error("model {model}: {} has {field} {found:?}; supported: {}", file.display(), supported.join(", "))]
    Unsupported {
        /// The model's name.
        model: String,
        /// The configuration file.
        file: PathBuf,
        /// The field of the file.
        field: &'static str,
        /// What the field holds.
        found: String,
        /// What it may hold.
        supported: Vec<String>,
    },
    /// The hidden size cannot be shared among the heads.
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
    /// Neither the folder nor the run says how token vectors become one vector.
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
    PickleRefused {
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
        /// Where and why.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// Two files of one model hold the same tensor.
    #[error("model {model}: {} holds tensor {tensor}, which another file holds too", file.display())]
    TensorTwice {
        /// The model's name.
        model: String,
        /// The second file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The weights hold more than the configuration says.
    #[error(
        "model {model}: {} has tensor {tensor}, which a model of this config.json has not; \
         they are not of one model, or of another kind of model",
        file.display()
    )]
    TensorUnexpected {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A weight is a NaN or infinite.
    #[error("model {model}: tensor {tensor} in {} has the value {value} at {at}; the weights are broken", file.display())]
    TensorNotFinite {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// Its place in the tensor, row-major.
        at: usize,
    },
    /// A weight is too large for the type that the run asks for.
    #[error(
        "model {model}: tensor {tensor} in {} has the value {value} at {at}, which {dtype:?} cannot hold; \
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
        /// Its place in the tensor, row-major.
        at: usize,
        /// The type.
        dtype: DType,
    },
    /// The run asks for 8-bit integers on a device that does not compute in them.
    #[error("model {model}: Int8 is a dtype for a CPU alone; set the dtype of the model to F32, F16 or BF16")]
    Int8Device {
        /// The model's name.
        model: String,
    },
    /// A tensor that the configuration implies is not in the weights.
    #[error(
        "model {model}: {} has no tensor {tensor}; config.json and the weights are not of one model",
        file.display()
    )]
    TensorMissing {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor, without a prefix.
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
        /// The tensor, as the weights name it.
        tensor: String,
        /// What the configuration implies.
        expected: Vec<usize>,
        /// What the weights hold.
        found: Vec<usize>,
    },
    /// A tensor is not of floats.
    #[error(
        "model {model}: tensor {tensor} in {} is {found}; quantised weights are not supported, only floats",
        file.display()
    )]
    TensorType {
        /// The model's name.
        model: String,
        /// The weights.
        file: PathBuf,
        /// The tensor, as the weights name it.
        tensor: String,
        /// Its element type.
        found: String,
    },
    /// Vectors are to be cut to more than they have.
    #[error("model {model}: dimensions is {asked}, but its vectors have {width}")]
    Dimensions {
        /// The model's name.
        model: String,
        /// What was asked for.
        asked: usize,
        /// What the vectors have.
        width: usize,
    },
    /// The tokenizer cannot be used, or cannot encode a text.
    #[error("model {model}: {source}")]
    Tokenizer {
        /// The model's name.
        model: String,
        /// Why.
        #[source]
        source: TokenizerError,
    },
    /// The tokenizer has ids that the embedding has no row for.
    #[error(
        "model {model}: {} has ids up to {tokenizer} (exclusive), but the word embedding has {embedding} rows; \
         tokenizer and weights are not of one model",
        file.display()
    )]
    Vocabulary {
        /// The model's name.
        model: String,
        /// The tokenizer.
        file: PathBuf,
        /// One more than the highest id of the tokenizer.
        tokenizer: usize,
        /// The rows of the word embedding.
        embedding: usize,
    },
    /// A vector has a NaN or an infinite value.
    #[error("model {model}: the vector of row {row} is not finite; check the weights and the text of this row")]
    NotFinite {
        /// The model's name.
        model: String,
        /// The row among those given, from 0.
        row: usize,
    },
    /// There is no memory left.
    #[error("model {model}: out of memory{}", alone(*row))]
    OutOfMemory {
        /// The model's name.
        model: String,
        /// The row among those given, from 0, where it alone is too much.
        row: Option<usize>,
        /// What the device says.
        #[source]
        source: Box<candle_core::Error>,
    },
    /// The device is gone, or what the process had on it.
    #[error("model {model}: the device is lost; another attempt may get one that works")]
    DeviceLost {
        /// The model's name.
        model: String,
        /// What the device says.
        #[source]
        source: Box<candle_core::Error>,
    },
    /// The device failed in another way.
    #[error("model {model}: the computation failed")]
    Compute {
        /// The model's name.
        model: String,
        /// What the device says.
        #[source]
        source: Box<candle_core::Error>,
    },
}

impl ModelError {
    /// The reason that the stage reports, which also decides the exit code.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::FolderMissing { .. } => FailureReason::ModelNotFound,
            Self::Tokenizer { source: TokenizerError::Encode { .. } | TokenizerError::NoTokens { .. }, .. } => {
                FailureReason::InvalidRecord
            }
            Self::Dimensions { .. } | Self::TensorRange { .. } | Self::Int8Device { .. } => {
                FailureReason::InvalidConfiguration
            }
            Self::FileMissing { .. }
            | Self::FileInvalid { .. }
            | Self::Unsupported { .. }
            | Self::Heads { .. }
            | Self::PoolingUnknown { .. }
            | Self::NoWeights { .. }
            | Self::PickleRefused { .. }
            | Self::WeightsCorrupt { .. }
            | Self::TensorMissing { .. }
            | Self::TensorTwice { .. }
            | Self::TensorUnexpected { .. }
            | Self::TensorNotFinite { .. }
            | Self::TensorShape { .. }
            | Self::TensorType { .. }
            | Self::Tokenizer { .. }
            | Self::Vocabulary { .. } => FailureReason::InvalidModel,
            Self::NotFinite { .. } => FailureReason::InvalidVector,
            Self::OutOfMemory { .. } => FailureReason::OutOfMemory,
            Self::DeviceLost { .. } => FailureReason::DeviceLost,
            Self::Read { .. } => FailureReason::StoreUnavailable,
            Self::Compute { .. } => FailureReason::Internal,
        }
    }

    /// An error of the device while it loads or computes.
    pub(crate) fn device(model: &str, source: candle_core::Error) -> Self {
        let (model, source) = (model.to_owned(), Box::new(fault::without_backtrace(source)));
        match fault::of(&source) {
            Fault::OutOfMemory => Self::OutOfMemory { model, row: None, source },
            Fault::Lost => Self::DeviceLost { model, source },
            Fault::Other => Self::Compute { model, source },
        }
    }

    /// A batch that would not fit under the memory ceiling.
    pub fn over_ceiling(model: &str, message: String) -> Self {
        Self::OutOfMemory { model: model.to_owned(), row: None, source: Box::new(candle_core::Error::Msg(message)) }
    }

    /// The same error of a batch that had one row.
    pub(crate) fn of_one_row(self) -> Self {
        match self {
            Self::OutOfMemory { model, row: None, source } => Self::OutOfMemory { model, row: Some(0), source },
            other => other,
        }
    }

    /// A configuration that asks for what is not computed.
    pub(super) fn unsupported(model: &str, file: &Path, field: &'static str, found: &str, supported: &[&str]) -> Self {
        Self::Unsupported {
            model: model.to_owned(),
            file: file.to_owned(),
            field,
            found: found.to_owned(),
            supported: supported.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// An error of the tokenizer.
    pub(crate) fn tokenizer(model: &str, source: TokenizerError) -> Self {
        Self::Tokenizer { model: model.to_owned(), source }
    }

    /// The same error with the row that it names, if any, replaced.
    pub(crate) fn at_row(self, place: impl FnOnce(usize) -> usize) -> Self {
        match self {
            Self::NotFinite { model, row } => Self::NotFinite { model, row: place(row) },
            Self::OutOfMemory { model, row: Some(row), source } => {
                Self::OutOfMemory { model, row: Some(place(row)), source }
            }
            Self::Tokenizer { model, source: TokenizerError::Encode { row, source } } => {
                Self::Tokenizer { model, source: TokenizerError::Encode { row: place(row), source } }
            }
            Self::Tokenizer { model, source: TokenizerError::NoTokens { row } } => {
                Self::Tokenizer { model, source: TokenizerError::NoTokens { row: place(row) } }
            }
            other => other,
        }
    }
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> Self {
        // The display text of a model error is the whole sentence; only its sources are causes.
        Self::new(error.reason(), error.to_string()).caused_by(error)
    }
}

fn alone(row: Option<usize>) -> &'static str {
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
    fn a_full_device_is_out_of_memory_and_one_that_is_lost_is_transient() {
        let cuda = |text: &str| candle_core::Error::Cuda(text.into());
        let full = ModelError::device("m", cuda("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").bt());
        assert_eq!(full.reason().exit_code(), ExitCode::OutOfMemory);
        let lost = ModelError::device("m", cuda("DriverError(CUDA_ERROR_LAUNCH_FAILED, \"unspecified\")").bt());
        assert_eq!((lost.reason(), lost.reason().exit_code()), (FailureReason::DeviceLost, ExitCode::Transient));
        let other = ModelError::device("m", cuda("DriverError(CUDA_ERROR_INVALID_VALUE, \"invalid\")").bt());
        assert_eq!((other.reason(), other.reason().exit_code()), (FailureReason::Internal, ExitCode::Transient));
    }

    #[test]
    fn a_row_that_alone_is_too_much_is_told_from_a_batch() {
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
