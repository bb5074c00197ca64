//! Rows of an embedding table, gathered by index.

use candle_core::{DType, Device, Result, Tensor, bail};

use kernels::{
    cuda::embedding::{Embedding, TableLookup},
    rows,
};

use super::{
    Norm,
    device::{self, Machine},
    storage,
};

/// An embedding table, `[entries, width]`.
#[derive(Clone, Debug)]
pub struct Table(Tensor);

impl Table {
    /// A table of the `rows` `[entries, width]`.
    pub fn new(rows: Tensor) -> Self {
        Self(rows)
    }

    /// The number of entries.
    pub fn entries(&self) -> Result<usize> {
        self.0.dim(0)
    }

    /// The width of a row.
    pub fn width(&self) -> Result<usize> {
        self.0.dim(1)
    }

    /// The table itself.
    pub fn rows(&self) -> &Tensor {
        &self.0
    }

    /// For each token, the sum of its rows in up to three tables, times `scale`, normalised: `[tokens, width]`. Each table
    /// comes with an index per token.
    ///
    /// # Errors
    /// If an index is out of range, or the device fails.
    pub fn embed(parts: &[(&Self, &[u32])], scale: Option<f64>, norm: Option<&Norm>) -> Result<Tensor> {
        let Some((first, indices)) = parts.first() else { bail!("a token has at least one embedding") };
        let (tokens, width, device) = (indices.len(), first.width()?, first.0.device());
        for (table, indices) in parts {
            let entries = table.entries()?;
            if let Some(index) = indices.iter().find(|index| **index as usize >= entries) {
                bail!("index {index} is out of range of an embedding with {entries} rows");
            }
        }
        if let Some(mut machine) = device::machine_of(device) {
            return Self::on_device(&mut *machine, parts, scale, norm);
        }
        let mut x = if storage::on_cpu(&first.0) { Self::sum(parts, tokens, width)? } else { Self::portable(parts)? };
        if let Some(scale) = scale {
            x = (x * scale)?;
        }
        norm.map_or(Ok(x.clone()), |norm| norm.forward(&x))
    }

    /// The sums by the kernels of the CPU.
    fn sum(parts: &[(&Self, &[u32])], tokens: usize, width: usize) -> Result<Tensor> {
        let mut out = vec![0.0; tokens * width];
        for (table, indices) in parts {
            let (storage, layout) = table.0.storage_and_layout();
            let values = storage::slice(&storage, layout)?;
            for (row, index) in out.chunks_exact_mut(width).zip(*indices) {
                rows::add_scaled(row, &values[*index as usize * width..][..width], 1.0);
            }
        }
        Tensor::from_vec(out, (tokens, width), &Device::Cpu)
    }

    /// [`Table::embed`] by the kernel of a device.
    fn on_device(
        machine: &mut dyn Machine,
        parts: &[(&Self, &[u32])],
        scale: Option<f64>,
        norm: Option<&Norm>,
    ) -> Result<Tensor> {
        let first = parts[0].0.rows();
        let (tokens, width) = (parts[0].1.len(), first.dim(1)?);
        // Alive until the launch is queued.
        let uploaded = parts.iter().map(|(_, indices)| device::upload(indices, first.device()));
        let uploaded = uploaded.collect::<Result<Vec<_>>>()?;
        let mut tables = Vec::with_capacity(parts.len());
        for ((table, _), indices) in parts.iter().zip(&uploaded) {
            tables.push(TableLookup { table: machine.input(table.rows())?, indices: machine.input(indices)? });
        }
        let [words, more @ ..] = &tables[..] else { bail!("a token has at least one embedding") };
        if more.len() > 2 {
            bail!("a token has at most three embeddings");
        }
        let embedding = Embedding {
            element: device::element(first.dtype())?,
            width,
            words: *words,
            positions: more.first().copied(),
            types: more.get(1).copied(),
            scale: scale.map(|scale| scale as f32),
            norm: match norm {
                Some(norm) => Some(norm.described(machine)?),
                None => None,
            },
        };
        let out = machine.output(&[tokens, width], first.dtype())?;
        machine.launch(embedding.launch(tokens, out))?;
        machine.take(out)
    }

    fn portable(parts: &[(&Self, &[u32])]) -> Result<Tensor> {
        let device = parts[0].0.0.device();
        let rows = |(table, indices): &(&Self, &[u32])| -> Result<Tensor> {
            table.0.index_select(&Tensor::from_slice(indices, indices.len(), &Device::Cpu)?.to_device(device)?, 0)
        };
        let mut sum = rows(&parts[0])?.to_dtype(DType::F32)?;
        for part in &parts[1..] {
            sum = (sum + rows(part)?.to_dtype(DType::F32)?)?;
        }
        sum.to_dtype(parts[0].0.0.dtype())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::test::{assert_close, random};

    #[test]
    fn rows_are_gathered_and_summed() -> Result<()> {
        let (words, positions) = (Table::new(random(1, &[9, 5])?), Table::new(random(2, &[4, 5])?));
        let parts = [(&words, &[8u32, 0, 8][..]), (&positions, &[0, 1, 3][..])];
        assert_close(&Table::embed(&parts, None, None)?, &Table::portable(&parts)?, 0.0)
    }

    #[test]
    fn an_index_out_of_range_is_rejected() -> Result<()> {
        let words = Table::new(random(1, &[9, 5])?);
        let error = Table::embed(&[(&words, &[0, 9])], None, None).expect_err("there is no row 9");
        assert!(error.to_string().contains("index 9 is out of range of an embedding with 9 rows"), "{error}");
        Ok(())
    }
}
