//! The weights of a model: one or more safetensors files, checked against the configuration while they are read.
//!
//! A tensor's bytes are mapped only while the tensor is made of them, so that loading takes the memory of the tensors
//! and of no second copy.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use crds::v1alpha1;
use memmap2::{Mmap, MmapOptions};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::error::ModelError;
use crate::ops::{Linear, Norm, Table, device};

/// Read at once for the digest.
const READ_BYTES: usize = 1 << 20;

/// The old names of a layer norm's parameters, which came from TensorFlow checkpoints.
const OLD_NAMES: [(&str, &str); 2] = [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];

/// The type of a model's arithmetic where none is asked for: on a card that of its tensor cores, on a CPU f32.
pub fn natural_dtype(device: &Device) -> v1alpha1::Dtype {
    if device::has_kernels(device) { v1alpha1::Dtype::F16 } else { v1alpha1::Dtype::F32 }
}

/// The weights files of a model.
pub struct Weights {
    model: String,
    files: Vec<WeightsFile>,
    tensors: BTreeMap<String, Stored>,
    digest: String,
    device: Device,
    /// What the numbers are rounded to before they are used.
    dtype: DType,
    /// Whether linear layers hold their weights in 8-bit integers.
    int8: bool,
    used: RefCell<BTreeSet<String>>,
}

struct WeightsFile {
    path: PathBuf,
    file: File,
}

/// Where a tensor is.
struct Stored {
    file: usize,
    offset: u64,
    bytes: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Weights {
    /// Opens the files of a model and reads their headers.
    ///
    /// # Errors
    /// If a file cannot be read, is cut off, or holds a tensor that another one holds too; or if the device does not
    /// compute in the type.
    pub fn open(model: &str, paths: &[PathBuf], dtype: v1alpha1::Dtype, device: &Device) -> Result<Self, ModelError> {
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
        for path in paths {
            let read_error = |source| ModelError::Read { model: model.to_owned(), file: path.clone(), source };
            let mut file = File::open(path).map_err(read_error)?;
            digests.push(digest_of(&mut file).map_err(read_error)?);
            let map = map(&file, 0, None).map_err(read_error)?;
            weights.add(path, file, &map)?;
        }
        weights.digest = match &digests[..] {
            [one] => one.clone(),
            several => hex::encode(Sha256::digest(several.concat())),
        };
        Ok(weights)
    }

    fn add(&mut self, path: &Path, file: File, map: &[u8]) -> Result<(), ModelError> {
        let (header, metadata) = SafeTensors::read_metadata(map).map_err(|source| ModelError::WeightsCorrupt {
            model: self.model.clone(),
            file: path.to_owned(),
            source,
        })?;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let stored = Stored {
                file: self.files.len(),
                offset: (header + size_of::<u64>() + start) as u64,
                bytes: end - start,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            if self.tensors.insert(name.clone(), stored).is_some() {
                let (model, file) = (self.model.clone(), path.to_owned());
                return Err(ModelError::TensorTwice { model, file, tensor: name });
            }
        }
        self.files.push(WeightsFile { path: path.to_owned(), file });
        Ok(())
    }

    /// The sha256 of the file, in hexadecimal; of several files, that of their digests in order.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The tensors below the first of the `prefixes` under which there is the tensor `probe`. Without any, names have
    /// no prefix, and the error comes from the first tensor that is missing.
    pub fn scope(&self, prefixes: &[&str], probe: &str) -> Tensors<'_> {
        let has = |prefix: &&&str| self.find(&format!("{prefix}{probe}")).is_some();
        Tensors { weights: self, prefix: prefixes.iter().find(has).copied().unwrap_or_default().to_owned() }
    }

    /// Rejects tensors that were not read, except those whose names begin with one of the `ignored` prefixes: the weights of
    /// another kind of model, or more layers than the configuration has. The `prefixes` and the `probe` are those of
    /// [`Weights::scope`].
    ///
    /// # Errors
    /// If there is such a tensor.
    pub fn reject_unused(&self, prefixes: &[&str], probe: &str, ignored: &[&str]) -> Result<(), ModelError> {
        let prefix = self.scope(prefixes, probe).prefix;
        let used = self.used.borrow();
        let is_ignored = |name: &str| {
            let bare = name.strip_prefix(&prefix).unwrap_or(name);
            ignored.iter().any(|head| name.starts_with(head) || bare.starts_with(head))
        };
        // Buffers that older versions of the reference saved.
        let is_buffer = |name: &str| name.ends_with("position_ids") || name.ends_with("inv_freq");
        let unexpected = |name: &String| !used.contains(name) && !is_ignored(name) && !is_buffer(name);
        match self.tensors.iter().find(|(name, _)| unexpected(name)) {
            None => Ok(()),
            Some((name, stored)) => Err(ModelError::TensorUnexpected {
                model: self.model.clone(),
                file: self.files[stored.file].path.clone(),
                tensor: name.clone(),
            }),
        }
    }

    /// What makes a linear layer of its weight and bias.
    fn linear_form(&self) -> fn(&Tensor, Option<&Tensor>) -> candle_core::Result<Linear> {
        if self.int8 { Linear::int8 } else { Linear::new }
    }

    fn find(&self, name: &str) -> Option<(&String, &Stored)> {
        let old = OLD_NAMES.iter().find_map(|(new, old)| Some(format!("{}{old}", name.strip_suffix(new)?)));
        self.tensors.get_key_value(name).or_else(|| self.tensors.get_key_value(&old?))
    }

    fn read(&self, name: &str, stored: &Stored) -> Result<Tensor, ModelError> {
        let WeightsFile { path, file } = &self.files[stored.file];
        let read_error = |source| ModelError::Read { model: self.model.clone(), file: path.clone(), source };
        let values = if stored.bytes == 0 {
            Vec::new()
        } else {
            let map = map(file, stored.offset, Some(stored.bytes)).map_err(read_error)?;
            values(&map, stored.dtype).ok_or_else(|| ModelError::TensorType {
                model: self.model.clone(),
                file: path.clone(),
                tensor: name.to_owned(),
                found: format!("{:?}", stored.dtype),
            })?
        };
        if let Some(at) = values.iter().position(|value| !rounded(*value, self.dtype).is_finite()) {
            let (model, file, tensor, value) = (self.model.clone(), path.clone(), name.to_owned(), values[at]);
            return Err(if value.is_finite() {
                ModelError::TensorRange { model, file, tensor, value, at, dtype: self.dtype }
            } else {
                ModelError::TensorNotFinite { model, file, tensor, value, at }
            });
        }
        self.used.borrow_mut().insert(name.to_owned());
        let tensor = Tensor::from_vec(values, &stored.shape[..], &Device::Cpu);
        // On the CPU the arithmetic is that of f32, with numbers that are rounded to the type. So it is in the kernels of a
        // device; their matrices are of the type, their vectors of f32.
        let tensor = tensor.and_then(|tensor| {
            let rounded = if self.dtype == DType::F32 { tensor } else { tensor.to_dtype(self.dtype)? };
            let matrix = rounded.rank() > 1 && device::has_kernels(&self.device);
            let rounded = if matrix { rounded } else { rounded.to_dtype(DType::F32)? };
            rounded.to_device(&self.device)
        });
        tensor.map_err(|source| ModelError::device(&self.model, source))
    }
}

/// The tensors of a model below a prefix of their names.
#[derive(Clone)]
pub struct Tensors<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Tensors<'_> {
    /// The prefix of the names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The tensors of the module `name`.
    #[must_use]
    pub fn module(&self, name: impl std::fmt::Display) -> Self {
        Self { weights: self.weights, prefix: format!("{}{name}.", self.prefix) }
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.weights.find(&format!("{}{name}", self.prefix)).is_some()
    }

    /// A matrix of whatever shape it has.
    ///
    /// # Errors
    /// As [`Tensors::tensor`]; or if it is no matrix.
    pub fn matrix(&self, name: &str) -> Result<Tensor, ModelError> {
        let shape = self.weights.find(&format!("{}{name}", self.prefix)).map(|(_, stored)| &stored.shape[..]);
        let shape = shape.filter(|shape| shape.len() == 2).unwrap_or(&[0, 0]).to_vec();
        self.tensor(name, &shape)
    }

    /// A tensor of the given shape.
    ///
    /// # Errors
    /// If it is missing, has another shape, is not of floats, or has a value that is not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let weights = self.weights;
        let (stored_name, stored) = weights.find(&name).ok_or_else(|| ModelError::TensorMissing {
            model: weights.model.clone(),
            file: weights.files.first().map(|file| file.path.clone()).unwrap_or_default(),
            tensor: name.clone(),
        })?;
        if stored.shape != shape {
            return Err(ModelError::TensorShape {
                model: weights.model.clone(),
                file: weights.files[stored.file].path.clone(),
                tensor: stored_name.clone(),
                expected: shape.to_vec(),
                found: stored.shape.clone(),
            });
        }
        weights.read(stored_name, stored)
    }

    /// The weight `[outputs, inputs]` and the bias `[outputs]` of the linear layer `name`, the bias where `bias` says
    /// that there is one.
    pub fn linear_parts(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<(Tensor, Option<Tensor>), ModelError> {
        let module = self.module(name);
        let weight = module.tensor("weight", &[outputs, inputs])?;
        let bias = bias.then(|| module.tensor("bias", &[outputs])).transpose()?;
        Ok((weight, bias))
    }

    /// The linear layer `name`.
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Linear, ModelError> {
        let (weight, bias) = self.linear_parts(name, inputs, outputs, bias)?;
        self.made(self.weights.linear_form()(&weight, bias.as_ref()))
    }

    /// Several linear layers over the same input as one: their names and numbers of outputs.
    pub fn stacked(&self, layers: &[(&str, usize)], inputs: usize, bias: bool) -> Result<Linear, ModelError> {
        let parts = layers.iter().map(|(name, outputs)| self.linear_parts(name, inputs, *outputs, bias));
        self.made(Linear::stacked(&parts.collect::<Result<Vec<_>, _>>()?, self.weights.linear_form()))
    }

    /// The layer normalisation `name`, with a bias where `bias` says that there is one.
    pub fn layer_norm(&self, name: &str, width: usize, bias: bool, epsilon: f64) -> Result<Norm, ModelError> {
        let module = self.module(name);
        let weight = module.tensor("weight", &[width])?;
        let bias = bias.then(|| module.tensor("bias", &[width])).transpose()?;
        Ok(Norm::layer(weight, bias, epsilon))
    }

    /// The embedding table `name`.
    pub fn table(&self, name: &str, entries: usize, width: usize) -> Result<Table, ModelError> {
        Ok(Table::new(self.module(name).tensor("weight", &[entries, width])?))
    }

    /// What was made of tensors, with the model's name in the error.
    pub fn made<T>(&self, made: candle_core::Result<T>) -> Result<T, ModelError> {
        made.map_err(|source| ModelError::device(&self.weights.model, source))
    }
}

/// The values of a tensor as f32; none where they are no floats.
fn values(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        _ => return None,
    })
}

/// A value as the type holds it.
fn rounded(value: f32, dtype: DType) -> f32 {
    match dtype {
        DType::F16 => half::f16::from_f32(value).to_f32(),
        DType::BF16 => half::bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// Maps a range of a file, or all of it.
#[allow(unsafe_code)]
fn map(file: &File, offset: u64, bytes: Option<usize>) -> io::Result<Mmap> {
    let mut options = MmapOptions::new();
    options.offset(offset);
    if let Some(bytes) = bytes {
        // A file that has been cut off since its header was read would end the process on access.
        if file.metadata()?.len() < offset + bytes as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
        }
        options.len(bytes);
    }
    // SAFETY: the bytes are only read, as numbers of which every bit pattern is one. A model folder is not written to
    // while it is loaded; one that is gives other numbers, which the digest of the run's shards brings to light.
    unsafe { options.map(file) }
}

fn digest_of(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn saved(tensors: &[(&str, Tensor)], path: &Path) {
        let tensors: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
        candle_core::safetensors::save(&tensors, path).expect("weights");
    }

    fn open(paths: &[PathBuf]) -> Result<Weights, ModelError> {
        Weights::open("m", paths, v1alpha1::Dtype::F32, &Device::Cpu)
    }

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).expect("a tensor")
    }

    #[test]
    fn tensors_of_several_files_with_a_prefix_and_old_names_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) = (folder.path().join("1.safetensors"), folder.path().join("2.safetensors"));
        saved(&[("bert.embeddings.word.weight", ones(&[2, 3]).to_dtype(DType::BF16).expect("bf16"))], &one);
        saved(&[("bert.embeddings.LayerNorm.gamma", ones(&[3])), ("bert.embeddings.LayerNorm.beta", ones(&[3]))], &two);
        let weights = open(&[one, two]).expect("weights");
        let tensors = weights.scope(&["", "bert."], "embeddings.word.weight");
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
        saved(&[("w", Tensor::new(&[1f32, f32::NAN], &Device::Cpu).expect("a tensor"))], &path);
        let error = open(&[path]).expect("weights").scope(&[""], "w").tensor("w", &[2]).expect_err("a NaN");
        let message = error.to_string();
        assert!(message.contains("tensor w") && message.contains("NaN") && message.contains("at 1"), "{message}");
    }

    #[test]
    fn a_tensor_in_two_files_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["1.safetensors", "2.safetensors"].map(|name| folder.path().join(name));
        for path in &paths {
            saved(&[("w", ones(&[1]))], path);
        }
        assert!(matches!(open(&paths), Err(ModelError::TensorTwice { tensor, .. }) if tensor == "w"));
    }

    #[test]
    fn the_digest_is_that_of_the_file_and_of_several_that_of_theirs() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["1.safetensors", "2.safetensors"].map(|name| folder.path().join(name));
        let digests = [("v", &paths[0]), ("w", &paths[1])].map(|(tensor, path)| {
            saved(&[(tensor, ones(&[700, 500]))], path);
            hex::encode(Sha256::digest(std::fs::read(path).expect("bytes")))
        });
        assert_eq!(open(&paths[..1]).expect("weights").digest(), digests[0]);
        assert_eq!(open(&paths).expect("weights").digest(), hex::encode(Sha256::digest(digests.concat())));
    }
}
