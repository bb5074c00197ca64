//! The rows that are nearest to queries, found on a device: a product of all queries with a block of rows, and lists of
//! the best that stay on the device until the end.

use candle_core::{DType, Device, Result, Tensor};
use kernels::cuda::top_k::Lists;

use super::device;

/// Queries and the best rows for each so far.
#[derive(Debug)]
pub struct Nearest {
    /// f32 `[queries, width]`.
    queries: Tensor,
    /// Entries of a list.
    most: usize,
    /// f32 `[queries, most]`, the best first; -∞ where a list is not full.
    scores: Tensor,
    /// i64 `[queries, most]`; -1 where a list is not full.
    ordinals: Tensor,
}

impl Nearest {
    /// Empty lists of at most `most` rows for `queries` of `width` values each; `None` where the device has no kernels for
    /// them.
    pub fn new(queries: &[f32], width: usize, most: usize, device: &Device) -> Result<Option<Self>> {
        if !device::has_kernels(device) || most == 0 || most > Lists::MOST || width == 0 {
            return Ok(None);
        }
        let count = queries.len() / width;
        Ok(Some(Self {
            queries: Tensor::from_slice(queries, (count, width), &Device::Cpu)?.to_device(device)?,
            most,
            scores: Tensor::full(f32::NEG_INFINITY, (count, most), device)?,
            ordinals: Tensor::full(-1i64, (count, most), device)?,
        }))
    }

    /// Offers `rows` of the queries' width, of which the first has the ordinal `first`. A score is the dot product; of equal
    /// scores the lower ordinal comes first, and a score that is no number is left out.
    pub fn offer(self, rows: &[f32], first: u64) -> Result<Self> {
        let Self { queries, most, scores, ordinals } = self;
        let (count, width) = queries.dims2()?;
        let (device, documents) = (queries.device().clone(), rows.len() / width);
        let Some(mut machine) = device::machine_of(&device) else {
            candle_core::bail!("the queries are on a device without kernels")
        };
        let rows = Tensor::from_slice(rows, (documents, width), &Device::Cpu)?.to_device(&device)?;
        let tile = machine.product(&queries, &rows, None, None)?;
        let lists =
            Lists { queries: count, k: most, scores: machine.changed(scores)?, ordinals: machine.changed(ordinals)? };
        let tile = machine.input(&tile)?;
        machine.launch(lists.merge(tile, documents, first as i64))?;
        let (scores, ordinals) = (machine.take(lists.scores)?, machine.take(lists.ordinals)?);
        Ok(Self { queries, most, scores, ordinals })
    }

    /// The ordinal and the score of the rows of every list, the best first.
    pub fn into_lists(self) -> Result<Vec<Vec<(u64, f32)>>> {
        debug_assert_eq!(self.scores.dtype(), DType::F32);
        let (scores, ordinals) = (self.scores.to_vec2::<f32>()?, self.ordinals.to_vec2::<i64>()?);
        let list = |(ordinals, scores): (Vec<i64>, Vec<f32>)| {
            ordinals.into_iter().zip(scores).map_while(|(ordinal, score)| Some((u64::try_from(ordinal).ok()?, score)))
        };
        Ok(ordinals.into_iter().zip(scores).map(|of_query| list(of_query).collect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{device::emulate, storage, test::random};

    #[test]
    fn the_best_of_all_blocks_are_found_and_of_equal_ones_the_first() -> Result<()> {
        let (queries, rows, width, most) = (3, 700, 8, 20);
        let values = |seed, count: usize| -> Result<Vec<f32>> {
            let values = storage::to_vec(&random(seed, &[count, width])?)?;
            // Coarse, so that scores are equal now and then.
            Ok(values.iter().map(|value| (value * 4.0).round()).collect())
        };
        let (asked, offered) = (values(1, queries)?, values(2, rows)?);
        let found = emulate(|| -> Result<_> {
            let mut nearest = Nearest::new(&asked, width, most, &Device::Cpu)?.expect("kernels");
            for (block, rows) in offered.chunks(300 * width).enumerate() {
                nearest = nearest.offer(rows, 5 + block as u64 * 300)?;
            }
            nearest.into_lists()
        })?;
        for (query, list) in asked.chunks(width).zip(&found) {
            let score = |row: &[f32]| query.iter().zip(row).map(|(a, b)| a * b).sum::<f32>();
            let mut expected: Vec<(u64, f32)> = (5..).zip(offered.chunks(width).map(score)).collect();
            expected.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
            expected.truncate(most);
            assert_eq!(list, &expected);
        }
        let short = emulate(|| {
            Nearest::new(&asked, width, most, &Device::Cpu)?
                .expect("kernels")
                .offer(&offered[..2 * width], 0)?
                .into_lists()
        })?;
        assert!(short.iter().all(|list| list.len() == 2));
        assert!(Nearest::new(&asked, width, most, &Device::Cpu)?.is_none(), "a device without kernels");
        Ok(())
    }
}
