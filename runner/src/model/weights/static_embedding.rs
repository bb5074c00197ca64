//! The table of a static embedding, in the layout of `sentence-transformers` or of Model2Vec
//! (`sentence_transformers/sentence_transformer/modules/static_embedding.py`).

use candle_core::Tensor;

use super::{TensorEntry, Weights};
use crate::model::ModelError;

/// The table as `sentence-transformers` saves it: a row per token id.
const TABLE: &str = "embedding.weight";
/// Model2Vec's table, whose rows several token ids may share.
const EMBEDDINGS: &str = "embeddings";
/// Model2Vec: the row of each token id.
const MAPPING: &str = "mapping";
/// Model2Vec: the factor of each token id.
const FACTORS: &str = "weights";

impl Weights {
    /// The table of a static embedding, `[token ids, width]`: `embedding.weight`, or the rows of Model2Vec's `embeddings` by
    /// their `mapping`, each multiplied with its factor in `weights`.
    ///
    /// # Errors
    /// If the tensors are missing, do not fit each other, or there are others.
    pub fn static_table(&self) -> Result<Tensor, ModelError> {
        let table = match self.tensors.get_key_value(TABLE) {
            Some((name, entry)) => {
                self.expect_rank(entry, 2)?;
                self.read(name, entry)?
            }
            None => self.folded_table()?,
        };
        self.reject_unused(&[""], TABLE, &[])?;
        Ok(table)
    }

    fn folded_table(&self) -> Result<Tensor, ModelError> {
        let (name, entry) = self.tensors.get_key_value(EMBEDDINGS).ok_or_else(|| ModelError::MissingTensor {
            model: self.model.clone(),
            file: self.files.first().map(|file| file.path.clone()).unwrap_or_default(),
            tensor: format!("{TABLE} or {EMBEDDINGS}"),
        })?;
        self.expect_rank(entry, 2)?;
        let (rows, width) = (entry.info.shape[0], entry.info.shape[1]);
        let mapping = self.tensors.get_key_value(MAPPING).map(|(name, entry)| self.mapping(name, entry, rows));
        let mapping = mapping.transpose()?;
        let ids = mapping.as_ref().map_or(rows, Vec::len);
        let factors = self.tensors.get_key_value(FACTORS).map(|(name, entry)| self.factors(name, entry, ids));
        let factors = factors.transpose()?;
        let file = &self.files[entry.file];
        // Integers are embeddings only by their factors, as the reference computes them.
        let integers = if factors.is_some() { file.small_integers(&self.model, &entry.info)? } else { None };
        let values = integers.map_or_else(|| file.values(&self.model, name, &entry.info), Ok)?;
        let mut folded = match mapping {
            None => values,
            Some(mapping) => {
                mapping.iter().flat_map(|row| &values[*row as usize * width..][..width]).copied().collect()
            }
        };
        if let Some(factors) = factors {
            for (row, factor) in folded.chunks_exact_mut(width.max(1)).zip(factors) {
                for value in row.iter_mut() {
                    *value *= factor;
                }
            }
        }
        self.tensor_of(name, entry, folded, &[ids, width])
    }

    /// The row of each token id, below `rows`.
    fn mapping(&self, name: &str, entry: &TensorEntry, rows: usize) -> Result<Vec<u32>, ModelError> {
        self.expect_rank(entry, 1)?;
        self.used.borrow_mut().insert(name.to_owned());
        let file = &self.files[entry.file];
        let mapping = file.indices(&self.model, name, &entry.info)?;
        match mapping.iter().find(|row| **row as usize >= rows) {
            None => Ok(mapping),
            Some(row) => {
                Err(ModelError::Mapping { model: self.model.clone(), file: file.path.clone(), row: *row, rows })
            }
        }
    }

    /// The factor of each of the token `ids`.
    fn factors(&self, name: &str, entry: &TensorEntry, ids: usize) -> Result<Vec<f32>, ModelError> {
        if entry.info.shape != [ids] {
            return Err(self.wrong_shape(entry, vec![ids]));
        }
        self.used.borrow_mut().insert(name.to_owned());
        self.files[entry.file].values(&self.model, name, &entry.info)
    }

    fn expect_rank(&self, entry: &TensorEntry, rank: usize) -> Result<(), ModelError> {
        if entry.info.shape.len() == rank { Ok(()) } else { Err(self.wrong_shape(entry, vec![0; rank])) }
    }

    fn wrong_shape(&self, entry: &TensorEntry, expected: Vec<usize>) -> ModelError {
        ModelError::TensorShape {
            model: self.model.clone(),
            file: self.files[entry.file].path.clone(),
            tensor: entry.name.clone(),
            expected,
            found: entry.info.shape.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device};
    use crds::v1alpha1::Dtype;

    use super::*;
    use crate::model::folder::Files;

    fn table(tensors: &[(&str, Tensor)]) -> Result<Vec<Vec<f32>>, ModelError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let tensors: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
        candle_core::safetensors::save(&tensors, &path).expect("weights");
        let weights = Weights::open(&Files::new("m", folder.path()), &[path], Dtype::F32, &Device::Cpu)?;
        Ok(weights.static_table()?.to_vec2().expect("a matrix"))
    }

    fn rows() -> Tensor {
        Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).expect("a tensor")
    }

    fn mapping(ids: &[i64]) -> Tensor {
        Tensor::new(ids, &Device::Cpu).expect("a tensor")
    }

    fn factors(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).expect("a tensor")
    }

    #[test]
    fn all_layouts_give_a_row_per_token_id() {
        let plain = vec![vec![1.0, 2.0], vec![3.0, 4.0]];
        assert_eq!(table(&[(TABLE, rows())]).expect("a table"), plain);
        assert_eq!(table(&[(EMBEDDINGS, rows())]).expect("a table"), plain);
        let mapped = [(EMBEDDINGS, rows()), (MAPPING, mapping(&[1, 0, 1]))];
        assert_eq!(table(&mapped).expect("a table"), [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]);
        let weighted = [mapped[0].clone(), mapped[1].clone(), (FACTORS, factors(&[1.0, 2.0, 0.5]))];
        assert_eq!(table(&weighted).expect("a table"), [[3.0, 4.0], [2.0, 4.0], [1.5, 2.0]]);
        let bytes = rows().to_dtype(DType::U8).expect("bytes");
        let quantised = [(EMBEDDINGS, bytes.clone()), (FACTORS, factors(&[0.5, 2.0]))];
        assert_eq!(table(&quantised).expect("a table"), [[0.5, 1.0], [6.0, 8.0]]);
        assert!(matches!(table(&[(EMBEDDINGS, bytes)]), Err(ModelError::TensorType { .. })));
    }

    #[test]
    fn tensors_that_do_not_fit_are_named() {
        let cases: [(&[(&str, Tensor)], &str); 4] = [
            (&[("vectors", rows())], "embedding.weight or embeddings"),
            (&[(EMBEDDINGS, rows()), (MAPPING, mapping(&[0, 2]))], "row 2"),
            (&[(EMBEDDINGS, rows()), (FACTORS, factors(&[1.0; 3]))], "weights"),
            (&[(EMBEDDINGS, rows()), ("bias", factors(&[1.0]))], "bias"),
        ];
        for (tensors, named) in cases {
            let error = table(tensors).expect_err("tensors that do not fit").to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
