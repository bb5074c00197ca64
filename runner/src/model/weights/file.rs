//! A safetensors file: its header, its digest and the values of its tensors.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use memmap2::{Mmap, MmapOptions};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorInfo};
use sha2::{Digest, Sha256};

use crate::model::{ModelError, folder::reject_pointer};

/// Bytes that are read at a time for the digest.
const READ_BYTES: usize = 1 << 20;

/// An open weights file.
pub(super) struct WeightsFile {
    pub(super) path: PathBuf,
    file: File,
    /// The offset of the first tensor, in bytes.
    data: u64,
}

impl WeightsFile {
    /// Opens the file at `path` and reads its header. Returns it with its tensors by name.
    pub(super) fn open(model: &str, path: &Path) -> Result<(Self, Vec<(String, TensorInfo)>), ModelError> {
        let read_error = |source| ModelError::Read { model: model.to_owned(), file: path.to_owned(), source };
        let corrupt = |source| ModelError::WeightsCorrupt { model: model.to_owned(), file: path.to_owned(), source };
        let file = File::open(path).map_err(read_error)?;
        if file.metadata().map_err(read_error)?.len() == 0 {
            return Err(corrupt(SafeTensorError::HeaderTooSmall));
        }
        let bytes = map(&file, 0, None).map_err(read_error)?;
        reject_pointer(model, path, &bytes)?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(corrupt)?;
        let tensors: Vec<_> = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let data = (header + size_of::<u64>()) as u64;
        Ok((Self { path: path.to_owned(), file, data }, tensors))
    }

    /// The sha256 of the file, in hexadecimal: reads all of it.
    pub(super) fn digest(&self, model: &str) -> Result<String, ModelError> {
        let read_error = |source| ModelError::Read { model: model.to_owned(), file: self.path.clone(), source };
        sha256(&mut &self.file).map_err(read_error)
    }

    /// The values of a tensor of indices, row-major.
    pub(super) fn indices(&self, model: &str, name: &str, info: &TensorInfo) -> Result<Vec<u32>, ModelError> {
        let (bytes, signed) = (self.bytes(model, info)?, |value: i64| u32::try_from(value).ok());
        let bytes: &[u8] = bytes.as_deref().unwrap_or_default();
        let indices: Option<Vec<Option<u32>>> = match info.dtype {
            Dtype::I64 => Some(bytes.as_chunks().0.iter().map(|bytes| signed(i64::from_le_bytes(*bytes))).collect()),
            Dtype::I32 => {
                Some(bytes.as_chunks().0.iter().map(|bytes| signed(i32::from_le_bytes(*bytes).into())).collect())
            }
            Dtype::I16 => {
                Some(bytes.as_chunks().0.iter().map(|bytes| signed(i16::from_le_bytes(*bytes).into())).collect())
            }
            Dtype::U64 => {
                Some(bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes).try_into().ok()).collect())
            }
            Dtype::U32 => Some(bytes.as_chunks().0.iter().map(|bytes| Some(u32::from_le_bytes(*bytes))).collect()),
            Dtype::U16 => {
                Some(bytes.as_chunks().0.iter().map(|bytes| Some(u16::from_le_bytes(*bytes).into())).collect())
            }
            _ => None,
        };
        indices.and_then(|indices| indices.into_iter().collect()).ok_or_else(|| self.wrong_type(model, name, info))
    }

    /// The values of a tensor of 8-bit integers as f32, row-major; `None` if it has another type.
    pub(super) fn small_integers(&self, model: &str, info: &TensorInfo) -> Result<Option<Vec<f32>>, ModelError> {
        let bytes = self.bytes(model, info)?;
        let bytes: &[u8] = bytes.as_deref().unwrap_or_default();
        Ok(match info.dtype {
            Dtype::I8 => Some(bytes.iter().map(|byte| f32::from(byte.cast_signed())).collect()),
            Dtype::U8 => Some(bytes.iter().map(|byte| f32::from(*byte)).collect()),
            _ => None,
        })
    }

    /// The bytes of a tensor; `None` if it has none.
    fn bytes(&self, model: &str, info: &TensorInfo) -> Result<Option<Mmap>, ModelError> {
        let (start, end) = info.data_offsets;
        if start == end {
            return Ok(None);
        }
        let bytes = map(&self.file, self.data + start as u64, Some(end - start));
        let read_error = |source| ModelError::Read { model: model.to_owned(), file: self.path.clone(), source };
        bytes.map(Some).map_err(read_error)
    }

    fn wrong_type(&self, model: &str, name: &str, info: &TensorInfo) -> ModelError {
        ModelError::TensorType {
            model: model.to_owned(),
            file: self.path.clone(),
            tensor: name.to_owned(),
            found: format!("{:?}", info.dtype),
        }
    }

    /// The values of a tensor as f32, row-major.
    pub(super) fn values(&self, model: &str, name: &str, info: &TensorInfo) -> Result<Vec<f32>, ModelError> {
        let bytes = self.bytes(model, info)?;
        floats(bytes.as_deref().unwrap_or_default(), info.dtype).ok_or_else(|| self.wrong_type(model, name, info))
    }
}

/// The values as f32; `None` if they are not floats.
fn floats(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        _ => return None,
    })
}

/// Maps a range of a file, or all of it.
#[allow(unsafe_code)]
fn map(file: &File, offset: u64, bytes: Option<usize>) -> io::Result<Mmap> {
    let mut options = MmapOptions::new();
    options.offset(offset);
    if let Some(bytes) = bytes {
        // Access beyond the end of a file that was truncated after its header was read would kill the process.
        if file.metadata()?.len() < offset + bytes as u64 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file was truncated while the model was loaded",
            ));
        }
        options.len(bytes);
    }
    // SAFETY: the bytes are only read, as numbers, for which every bit pattern is valid. A model folder is not written
    // while it is loaded; if it is, the values change, and the digests of the run's shards differ.
    unsafe { options.map(file) }
}

fn sha256(file: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
