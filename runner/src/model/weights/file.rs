//! A safetensors file: its header, its digest and the values of its tensors.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use memmap2::{Mmap, MmapOptions};
use safetensors::{Dtype, SafeTensors, tensor::TensorInfo};
use sha2::{Digest, Sha256};

use crate::model::ModelError;

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
    /// Opens the file at `path`. Returns it with its sha256 in hexadecimal and the tensors of its header by name.
    pub(super) fn open(
        model: &str,
        path: &Path,
    ) -> Result<(Self, String, impl IntoIterator<Item = (String, TensorInfo)> + use<>), ModelError> {
        let read_error = |source| ModelError::Read { model: model.to_owned(), file: path.to_owned(), source };
        let mut file = File::open(path).map_err(read_error)?;
        let digest = sha256(&mut file).map_err(read_error)?;
        let bytes = map(&file, 0, None).map_err(read_error)?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|source| ModelError::WeightsCorrupt {
            model: model.to_owned(),
            file: path.to_owned(),
            source,
        })?;
        let tensors: Vec<_> = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let data = (header + size_of::<u64>()) as u64;
        Ok((Self { path: path.to_owned(), file, data }, digest, tensors))
    }

    /// The values of a tensor as f32, row-major.
    pub(super) fn values(&self, model: &str, name: &str, info: &TensorInfo) -> Result<Vec<f32>, ModelError> {
        let (start, end) = info.data_offsets;
        if start == end {
            return Ok(Vec::new());
        }
        let bytes = map(&self.file, self.data + start as u64, Some(end - start))
            .map_err(|source| ModelError::Read { model: model.to_owned(), file: self.path.clone(), source })?;
        floats(&bytes, info.dtype).ok_or_else(|| ModelError::TensorType {
            model: model.to_owned(),
            file: self.path.clone(),
            tensor: name.to_owned(),
            found: format!("{:?}", info.dtype),
        })
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
