//! A safetensors file: its header, its digest and the values of its tensors.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorInfo};
use sha2::{Digest, Sha256};

use crate::{
    model::{ModelError, folder::reject_pointer},
    store,
};

/// Bytes that are read at a time; a multiple of the size of every type.
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
        let file = store::open_regular(path).map_err(read_error)?;
        if file.metadata().map_err(read_error)?.len() == 0 {
            return Err(corrupt(SafeTensorError::HeaderTooSmall));
        }
        let bytes = map_header(&file).map_err(read_error)?;
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
        Ok(match info.dtype {
            Dtype::I8 => Some(self.bytes(model, info)?.iter().map(|byte| f32::from(byte.cast_signed())).collect()),
            Dtype::U8 => Some(self.bytes(model, info)?.iter().map(|byte| f32::from(*byte)).collect()),
            _ => None,
        })
    }

    /// The bytes of a tensor.
    fn bytes(&self, model: &str, info: &TensorInfo) -> Result<Vec<u8>, ModelError> {
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.read_at(model, &mut bytes, start)?;
        Ok(bytes)
    }

    /// Fills `bytes` with those at `offset` behind the header.
    fn read_at(&self, model: &str, bytes: &mut [u8], offset: usize) -> Result<(), ModelError> {
        self.file.read_exact_at(bytes, self.data + offset as u64).map_err(|source| ModelError::Read {
            model: model.to_owned(),
            file: self.path.clone(),
            source,
        })
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
        let (mut offset, end) = info.data_offsets;
        let mut values = Vec::with_capacity(info.shape.iter().product());
        let mut buffer = vec![0; READ_BYTES.min(end - offset)];
        loop {
            let slice = &mut buffer[..READ_BYTES.min(end - offset)];
            self.read_at(model, slice, offset)?;
            if !push_floats(slice, info.dtype, &mut values) {
                return Err(self.wrong_type(model, name, info));
            }
            offset += slice.len();
            if offset == end {
                return Ok(values);
            }
        }
    }
}

/// Appends the values as f32; `false` if they are not floats.
fn push_floats(bytes: &[u8], dtype: Dtype, values: &mut Vec<f32>) -> bool {
    match dtype {
        Dtype::F32 => values.extend(bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes)),
        Dtype::F64 => values.extend(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32)),
        Dtype::F16 => values.extend(bytes.as_chunks().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32())),
        Dtype::BF16 => {
            values.extend(bytes.as_chunks().0.iter().map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32()));
        }
        _ => return false,
    }
    true
}

/// Maps a file whose header the caller parses.
///
/// Tensors are read, not mapped: an I/O error of a mapped file kills the process. The header is read before it is mapped, so
/// that the mapped pages are in memory.
#[allow(unsafe_code)]
fn map_header(file: &File) -> io::Result<Mmap> {
    let mut length = [0; size_of::<u64>()];
    if file.read_at(&mut length, 0)? == length.len() {
        let length = u64::from_le_bytes(length);
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while offset < length {
            match file.read_at(&mut buffer, offset)? {
                0 => break,
                count => offset += count as u64,
            }
        }
    }
    // SAFETY: the bytes are only parsed, for which every bit pattern is valid. A model folder is not written while it is
    // loaded; if it is, the values change, and the digests of the run's shards differ.
    unsafe { Mmap::map(file) }
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
