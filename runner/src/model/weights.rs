//! The weights file: read once, hashed while it is read, and checked against the configuration before anything is
//! built from it.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use candle_core::{
    DType, Device, Tensor,
    safetensors::{Load, SliceSafetensors},
};
use sha2::{Digest, Sha256};

use super::error::ModelError;

/// Read at once; the hash follows the reader while the bytes are still in the cache.
const READ_BYTES: usize = 1 << 20;

/// What some publishers put before every tensor name of the encoder.
const PREFIXES: [&str; 2] = ["", "bert."];

/// The old names of a layer norm's parameters, which came from TensorFlow checkpoints.
const OLD_NAMES: [(&str, &str); 2] = [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];

/// A safetensors file in memory.
pub struct Weights {
    model: String,
    file: PathBuf,
    bytes: Vec<u8>,
    digest: String,
}

impl Weights {
    /// Reads the whole file.
    pub fn read(model: &str, file: &Path) -> Result<Self, ModelError> {
        let (bytes, digest) = read_and_hash(file).map_err(|source| ModelError::Read {
            model: model.to_owned(),
            file: file.to_owned(),
            source,
        })?;
        Ok(Self { model: model.to_owned(), file: file.to_owned(), bytes, digest })
    }

    /// The sha256 of the file, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Loads the tensors of the given names and shapes onto the device, as f32. In the file their names may have a
    /// prefix. All are checked before the first is loaded.
    pub fn load(
        &self,
        expected: &[(String, Vec<usize>)],
        device: &Device,
    ) -> Result<HashMap<String, Tensor>, ModelError> {
        let file = SliceSafetensors::new(&self.bytes).map_err(|source| ModelError::WeightsCorrupt {
            model: self.model.clone(),
            file: self.file.clone(),
            source: Box::new(source),
        })?;
        let stored: BTreeMap<String, _> = file.tensors().into_iter().collect();

        let mut checked = Vec::with_capacity(expected.len());
        for (name, shape) in expected {
            let found = names_in_file(name).into_iter().find_map(|name| stored.get_key_value(&name));
            let (stored_name, view) = found.ok_or_else(|| ModelError::TensorMissing {
                model: self.model.clone(),
                file: self.file.clone(),
                tensor: name.clone(),
            })?;
            if view.shape() != shape {
                return Err(ModelError::TensorShape {
                    model: self.model.clone(),
                    file: self.file.clone(),
                    tensor: stored_name.clone(),
                    expected: shape.clone(),
                    found: view.shape().to_vec(),
                });
            }
            if !DType::try_from(view.dtype()).is_ok_and(is_float) {
                return Err(ModelError::TensorType {
                    model: self.model.clone(),
                    file: self.file.clone(),
                    tensor: stored_name.clone(),
                    found: format!("{:?}", view.dtype()),
                });
            }
            checked.push((name, view));
        }

        checked
            .into_iter()
            .map(|(name, view)| {
                let tensor = view.load(device).and_then(|tensor| tensor.to_dtype(DType::F32));
                Ok((name.clone(), tensor.map_err(|source| ModelError::device(&self.model, source))?))
            })
            .collect()
    }
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

/// The names that the tensor `name` may have in a file.
fn names_in_file(name: &str) -> Vec<String> {
    let old = OLD_NAMES.iter().find_map(|(new, old)| Some(format!("{}{old}", name.strip_suffix(new)?)));
    let spellings = [Some(name.to_owned()), old];
    PREFIXES
        .iter()
        .flat_map(|prefix| spellings.iter().flatten().map(move |spelling| format!("{prefix}{spelling}")))
        .collect()
}

fn read_and_hash(path: &Path) -> io::Result<(Vec<u8>, String)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len() as usize;
    let mut bytes = Vec::with_capacity(size);
    let mut hash = Sha256::new();
    loop {
        let start = bytes.len();
        if file.by_ref().take(READ_BYTES as u64).read_to_end(&mut bytes)? == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&bytes[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_may_have_a_prefix_and_an_old_name() {
        assert_eq!(names_in_file("pooler.dense.bias"), ["pooler.dense.bias", "bert.pooler.dense.bias"]);
        assert_eq!(
            names_in_file("embeddings.LayerNorm.bias"),
            [
                "embeddings.LayerNorm.bias",
                "embeddings.LayerNorm.beta",
                "bert.embeddings.LayerNorm.bias",
                "bert.embeddings.LayerNorm.beta",
            ]
        );
    }

    #[test]
    fn the_digest_is_that_of_the_file() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("weights");
        let content = vec![7u8; READ_BYTES + 3];
        std::fs::write(&path, &content)?;
        let (bytes, digest) = read_and_hash(&path)?;
        assert_eq!((bytes, digest), (content.clone(), hex::encode(Sha256::digest(&content))));
        Ok(())
    }
}
