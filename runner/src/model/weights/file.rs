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

use crate::{model::ModelError, store};

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
    /// Opens the file at `path`. Returns it with its sha256 in hexadecimal and the tensors of its header by name.
    pub(super) fn open(
        model: &str,
        path: &Path,
    ) -> Result<(Self, String, impl IntoIterator<Item = (String, TensorInfo)> + use<>), ModelError> {
        let read_error = |source| ModelError::Read { model: model.to_owned(), file: path.to_owned(), source };
        let mut file = store::open_regular(path).map_err(read_error)?;
        let digest = sha256(&mut file).map_err(read_error)?;
        let corrupt = |source| ModelError::WeightsCorrupt { model: model.to_owned(), file: path.to_owned(), source };
        if file.metadata().map_err(read_error)?.len() == 0 {
            return Err(corrupt(SafeTensorError::HeaderTooSmall));
        }
        let bytes = map_header(&file).map_err(read_error)?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(corrupt)?;
        let tensors: Vec<_> = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let data = (header + size_of::<u64>()) as u64;
        Ok((Self { path: path.to_owned(), file, data }, digest, tensors))
    }

    /// The values of a tensor as f32, row-major.
    pub(super) fn values(&self, model: &str, name: &str, info: &TensorInfo) -> Result<Vec<f32>, ModelError> {
        let (start, end) = info.data_offsets;
        let mut values = Vec::with_capacity(info.shape.iter().product());
        let (mut offset, end) = (self.data + start as u64, self.data + end as u64);
        let mut buffer = vec![0; READ_BYTES];
        while offset < end {
            let slice = &mut buffer[..READ_BYTES.min((end - offset) as usize)];
            self.file.read_exact_at(slice, offset).map_err(|source| ModelError::Read {
                model: model.to_owned(),
                file: self.path.clone(),
                source,
            })?;
            if !push_floats(slice, info.dtype, &mut values) {
                return Err(ModelError::TensorType {
                    model: model.to_owned(),
                    file: self.path.clone(),
                    tensor: name.to_owned(),
                    found: format!("{:?}", info.dtype),
                });
            }
            offset += slice.len() as u64;
        }
        Ok(values)
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

fn sha256(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
