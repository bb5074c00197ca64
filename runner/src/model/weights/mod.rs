//! The weights of a model: one or more safetensors files, checked against the configuration while they are read.
//!
//! [`Weights`] opens the files and converts a tensor to the type and the device of the model; [`Tensors`] addresses them by
//! module and builds layers. A tensor's bytes are read in parts while it is converted, so that loading needs the memory
//! of the tensors and no second copy.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use candle_core::{DType, Device, Tensor};
use crds::v1alpha1;
use safetensors::tensor::TensorInfo;
use sha2::{Digest, Sha256};

use super::{error::ModelError, folder::Files};
use crate::ops::{Linear, device};

mod file;
mod names;
mod static_embedding;
mod tensors;

use self::file::WeightsFile;
pub use self::tensors::Tensors;

/// The old names of a layer norm's parameters, which came from TensorFlow checkpoints.
const OLD_NAMES: [(&str, &str); 2] = [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];

/// The type of a model's arithmetic if the run requests none. On a CPU it is f32. On a card it is a 16-bit type, for the
/// tensor cores: bf16 for a model that was saved in it, whose values f16 may not hold, and f16 for any other.
pub fn natural_dtype(device: &Device, saved: Option<v1alpha1::Dtype>) -> v1alpha1::Dtype {
    match saved {
        _ if !device::has_kernels(device) => v1alpha1::Dtype::F32,
        Some(v1alpha1::Dtype::Bf16) => v1alpha1::Dtype::Bf16,
        _ => v1alpha1::Dtype::F16,
    }
}

/// The weights files of a model.
pub struct Weights {
    model: String,
    files: Vec<WeightsFile>,
    tensors: BTreeMap<String, TensorEntry>,
    digest: String,
    device: Device,
    /// The type that the values are rounded to before they are used.
    dtype: DType,
    /// Whether linear layers hold their weights in 8-bit integers.
    int8: bool,
    used: RefCell<BTreeSet<String>>,
}

/// The header's entry of a tensor, and the index of its file.
struct TensorEntry {
    file: usize,
    /// The name in the file, perhaps with the name of a wrapper in front.
    name: String,
    info: TensorInfo,
}

impl Weights {
    /// Opens the files of a model and reads their headers.
    ///
    /// # Errors
    /// If a file cannot be read, is truncated, or holds a tensor that another file has too; or if the device does not
    /// support the type.
    pub fn open(files: &Files, paths: &[PathBuf], dtype: v1alpha1::Dtype, device: &Device) -> Result<Self, ModelError> {
        let model = files.model();
        let int8 = dtype == v1alpha1::Dtype::Int8;
        if int8 && !device.is_cpu() {
            return Err(ModelError::Int8Device { model: model.to_owned() });
        }
        let mut weights = Self {
            model: model.to_owned(),
            files: Vec::with_capacity(paths.len()),
            tensors: BTreeMap::new(),
            digest: String::new(),
            device: device.clone(),
            dtype: match dtype {
                v1alpha1::Dtype::F32 | v1alpha1::Dtype::Int8 => DType::F32,
                v1alpha1::Dtype::F16 => DType::F16,
                v1alpha1::Dtype::Bf16 => DType::BF16,
            },
            int8,
            used: RefCell::default(),
        };
        let mut digests = Vec::with_capacity(paths.len());
        let mut entries = Vec::new();
        for path in paths {
            let (file, tensors) = WeightsFile::open(model, path)?;
            let of_file = tensors.into_iter().map(|(name, info)| TensorEntry { file: weights.files.len(), name, info });
            entries.extend(of_file);
            let digest = file.digest(model)?;
            files.record(path, digest.clone());
            digests.push(digest);
            weights.files.push(file);
        }
        let names = names::without_wrappers(entries.iter().map(|entry| entry.name.as_str()));
        for (name, entry) in names.into_iter().zip(entries) {
            let file = weights.files[entry.file].path.clone();
            if let Some(first) = weights.tensors.insert(name, entry) {
                return Err(ModelError::DuplicateTensor { model: model.to_owned(), file, tensor: first.name });
            }
        }
        weights.digest = match &digests[..] {
            [digest] => digest.clone(),
            _ => hex::encode(Sha256::digest(digests.concat())),
        };
        Ok(weights)
    }

    /// The sha256 of the file, in hexadecimal; for several files, the sha256 of their concatenated digests.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Checks the headers of weights files, without their tensors.
    ///
    /// # Errors
    /// If a file cannot be read, is truncated, or is no safetensors file.
    pub fn check_headers(files: &Files, paths: &[PathBuf]) -> Result<(), ModelError> {
        paths.iter().try_for_each(|path| WeightsFile::open(files.model(), path).map(|_| ()))
    }

    /// The first of the `prefixes` under which there is the tensor `probe`; empty if there is none.
    fn prefix(&self, prefixes: &[&str], probe: &str) -> String {
        let has = |prefix: &&&str| self.find(&format!("{prefix}{probe}")).is_some();
        prefixes.iter().find(has).copied().unwrap_or_default().to_owned()
    }

    /// Rejects tensors that were not read, except those whose names begin with one of the `ignored` prefixes: they are the
    /// weights of another kind of model, or of more layers than the configuration has. The `prefixes` and the `probe` are
    /// those of [`Tensors::within`].
    ///
    /// # Errors
    /// If a tensor was not read.
    pub fn reject_unused(&self, prefixes: &[&str], probe: &str, ignored: &[&str]) -> Result<(), ModelError> {
        let prefix = self.prefix(prefixes, probe);
        let used = self.used.borrow();
        let is_ignored = |name: &str| {
            let bare = name.strip_prefix(&prefix).unwrap_or(name);
            ignored.iter().any(|prefix| name.starts_with(prefix) || bare.starts_with(prefix))
        };
        // Buffers that older versions of the reference saved.
        let is_buffer = |name: &str| name.ends_with("position_ids") || name.ends_with("inv_freq");
        let unexpected = |name: &String| !used.contains(name) && !is_ignored(name) && !is_buffer(name);
        match self.tensors.iter().find(|(name, _)| unexpected(name)) {
            None => Ok(()),
            Some((_, entry)) => Err(ModelError::UnexpectedTensor {
                model: self.model.clone(),
                file: self.files[entry.file].path.clone(),
                tensor: entry.name.clone(),
            }),
        }
    }

    /// Leaves out the layers from number `left` on, which are not computed: their tensors count as read.
    pub fn leave_out_layers(&self, left: usize) {
        let left_out = |name: &&String| layer(name).is_some_and(|layer| layer >= left);
        self.used.borrow_mut().extend(self.tensors.keys().filter(left_out).cloned());
    }

    /// The constructor of linear layers from weight and bias.
    fn linear_constructor(&self) -> fn(&Tensor, Option<&Tensor>) -> candle_core::Result<Linear> {
        if self.int8 { Linear::int8 } else { Linear::new }
    }

    /// A tensor with its name in the file, which may be the old one.
    fn find(&self, name: &str) -> Option<(&String, &TensorEntry)> {
        let old = OLD_NAMES.iter().find_map(|(new, old)| Some(format!("{}{old}", name.strip_suffix(new)?)));
        self.tensors.get_key_value(name).or_else(|| self.tensors.get_key_value(&old?))
    }

    /// Reads the tensor, rounds it to the type and copies it to the device.
    fn read(&self, name: &str, entry: &TensorEntry) -> Result<Tensor, ModelError> {
        let values = self.files[entry.file].values(&self.model, &entry.name, &entry.info)?;
        self.tensor_of(name, entry, values, &entry.info.shape)
    }

    /// A tensor of the `values` of the entry `name`, rounded to the type and copied to the device.
    fn tensor_of(
        &self,
        name: &str,
        entry: &TensorEntry,
        values: Vec<f32>,
        shape: &[usize],
    ) -> Result<Tensor, ModelError> {
        let path = &self.files[entry.file].path;
        if let Some(at) = values.iter().position(|value| !rounded(*value, self.dtype).is_finite()) {
            let (model, file, tensor, value) = (self.model.clone(), path.clone(), entry.name.clone(), values[at]);
            return Err(if value.is_finite() {
                ModelError::TensorRange { model, file, tensor, value, at, dtype: self.dtype }
            } else {
                ModelError::TensorNotFinite { model, file, tensor, value, at }
            });
        }
        self.used.borrow_mut().insert(name.to_owned());
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu);
        // The CPU computes in f32 with values that are rounded to the type. So do the kernels of a device, whose matrices
        // are of the type itself and whose vectors are f32.
        let tensor = tensor.and_then(|tensor| {
            let rounded = if self.dtype == DType::F32 { tensor } else { tensor.to_dtype(self.dtype)? };
            let matrix = rounded.rank() > 1 && device::has_kernels(&self.device);
            let rounded = if matrix { rounded } else { rounded.to_dtype(DType::F32)? };
            rounded.to_device(&self.device)
        });
        tensor.map_err(|source| ModelError::device(&self.model, source))
    }
}

/// A value rounded to the type.
fn rounded(value: f32, dtype: DType) -> f32 {
    match dtype {
        DType::F16 => half::f16::from_f32(value).to_f32(),
        DType::BF16 => half::bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// The number of the layer that a tensor belongs to.
fn layer(tensor: &str) -> Option<usize> {
    let mut parts = tensor.split('.').skip_while(|part| !["layer", "layers"].contains(part));
    parts.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, path::Path};

    use super::*;

    fn save(tensors: &[(&str, Tensor)], path: &Path) {
        let tensors: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
        candle_core::safetensors::save(&tensors, path).expect("weights");
    }

    fn open(paths: &[PathBuf]) -> Result<Weights, ModelError> {
        let files = Files::new("m", paths[0].parent().expect("a folder"));
        Weights::open(&files, paths, v1alpha1::Dtype::F32, &Device::Cpu)
    }

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).expect("a tensor")
    }

    #[test]
    fn tensors_of_several_files_with_a_prefix_and_old_names_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (folder.path().join("1.safetensors"), folder.path().join("2.safetensors"));
        save(&[("bert.embeddings.word.weight", ones(&[2, 3]).to_dtype(DType::BF16).expect("bf16"))], &first);
        save(
            &[("bert.embeddings.LayerNorm.gamma", ones(&[3])), ("bert.embeddings.LayerNorm.beta", ones(&[3]))],
            &second,
        );
        let weights = open(&[first, second]).expect("weights");
        let tensors = Tensors::within(&weights, &["", "bert."], "embeddings.word.weight");
        assert_eq!(tensors.prefix(), "bert.");
        let embeddings = tensors.module("embeddings");
        assert_eq!(embeddings.table("word", 2, 3).expect("a table").rows().dtype(), DType::F32);
        assert!(weights.reject_unused(&["", "bert."], "embeddings.word.weight", &[]).is_err());
        embeddings.layer_norm("LayerNorm", 3, true, 1e-5).expect("a norm");
        weights.reject_unused(&["", "bert."], "embeddings.word.weight", &[]).expect("all are used");
    }

    #[test]
    fn a_value_that_is_not_finite_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        save(&[("w", Tensor::new(&[1f32, f32::NAN], &Device::Cpu).expect("a tensor"))], &path);
        let weights = open(&[path]).expect("weights");
        let error = Tensors::within(&weights, &[""], "w").tensor("w", &[2]).expect_err("a NaN");
        let message = error.to_string();
        assert!(message.contains("tensor w") && message.contains("NaN") && message.contains("index 1"), "{message}");
    }

    #[test]
    fn a_card_computes_in_the_type_that_the_model_bears() {
        let natural = |saved| natural_dtype(&Device::Cpu, saved);
        let saved = [None, Some(v1alpha1::Dtype::F32), Some(v1alpha1::Dtype::F16), Some(v1alpha1::Dtype::Bf16)];
        assert_eq!(saved.map(natural), [v1alpha1::Dtype::F32; 4]);
        let on_card = device::emulate(|| saved.map(natural));
        let half = v1alpha1::Dtype::F16;
        assert_eq!(on_card, [half, half, half, v1alpha1::Dtype::Bf16]);
    }

    #[test]
    fn a_tensor_in_two_files_is_rejected() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["1.safetensors", "2.safetensors"].map(|name| folder.path().join(name));
        for path in &paths {
            save(&[("w", ones(&[1]))], path);
        }
        assert!(matches!(open(&paths), Err(ModelError::DuplicateTensor { tensor, .. }) if tensor == "w"));
    }

    #[test]
    fn the_digest_of_several_files_is_the_digest_of_their_digests() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["1.safetensors", "2.safetensors"].map(|name| folder.path().join(name));
        let digests = [("v", &paths[0]), ("w", &paths[1])].map(|(tensor, path)| {
            save(&[(tensor, ones(&[700, 500]))], path);
            hex::encode(Sha256::digest(std::fs::read(path).expect("bytes")))
        });
        assert_eq!(open(&paths[..1]).expect("weights").digest(), digests[0]);
        assert_eq!(open(&paths).expect("weights").digest(), hex::encode(Sha256::digest(digests.concat())));
    }
}
