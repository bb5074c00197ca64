//! Exact nearest-neighbour search on a device: multiplies all queries with a block of rows at a time, and keeps the top-k
//! lists on the device until the end.

use candle_core::{DType, Device, Error, Result, Tensor, bail};
use kernels::cuda::top_k::{Lists, MAX_CANDIDATES, Scores};

use super::device;

/// Queries, and the best rows of each among the rows offered so far.
#[derive(Debug)]
pub struct Nearest {
    /// f32 `[queries, width]`.
    queries: Tensor,
    /// The length of a list, k.
    most: usize,
    /// f32 `[queries, most]`, the best first.
    scores: Tensor,
    /// u32 `[queries, most]`.
    ordinals: Tensor,
    /// Rows offered so far.
    offered: usize,
}

impl Nearest {
    /// Empty lists of at most `most` rows for `queries` of `width` values each; `None` if the device has no kernels for
    /// them.
    pub fn new(queries: &[f32], width: usize, most: usize, device: &Device) -> Result<Option<Self>> {
        if !device::has_kernels(device) || most == 0 || most > MAX_CANDIDATES || width == 0 {
            return Ok(None);
        }
        let count = queries.len() / width;
        let Some(mut machine) = device::machine_of(device) else { return Ok(None) };
        let lists = Lists {
            values: machine.output(&[count, most], DType::F32)?,
            ordinals: machine.output(&[count, most], DType::U32)?,
            queries: count,
            most,
        };
        machine.launch(lists.start())?;
        Ok(Some(Self {
            queries: Tensor::from_slice(queries, (count, width), &Device::Cpu)?.to_device(device)?,
            most,
            scores: machine.take(lists.values)?,
            ordinals: machine.take(lists.ordinals)?,
            offered: 0,
        }))
    }

    /// The number of queries.
    pub fn queries(&self) -> usize {
        self.queries.dims()[0]
    }

    /// Offers the next `rows` of the queries' width. A score is the dot product; of equal scores the row that was offered
    /// first comes first.
    ///
    /// # Errors
    /// If the device fails, or there are more rows than 32 bits count.
    pub fn offer(self, rows: &[f32]) -> Result<Self> {
        let Self { queries, most, scores, ordinals, offered } = self;
        let (count, width) = queries.dims2()?;
        let (device, documents) = (queries.device().clone(), rows.len() / width);
        let Some(mut machine) = device::machine_of(&device) else { bail!("the queries are on another device") };
        let first = u32::try_from(offered).map_err(Error::wrap)?;
        if offered + documents > u32::MAX as usize {
            bail!("more than 2^32 rows in a shard");
        }
        let rows = Tensor::from_slice(rows, (documents, width), &Device::Cpu)?.to_device(&device)?;
        let tile = machine.product(&queries, &rows, None, None)?;
        let lists =
            Lists { values: machine.changed(scores)?, ordinals: machine.changed(ordinals)?, queries: count, most };
        let scores = Scores {
            element: device::element(tile.dtype())?,
            scores: machine.input(&tile)?,
            documents,
            stride: documents,
            first,
        };
        machine.launch(lists.merge(scores))?;
        let (scores, ordinals) = (machine.take(lists.values)?, machine.take(lists.ordinals)?);
        Ok(Self { queries, most, scores, ordinals, offered: offered + documents })
    }

    /// The number, by the order in which they were offered, and the score of the rows of every list, the best first.
    pub fn into_lists(self) -> Result<Vec<Vec<(u32, f32)>>> {
        let scores: Vec<f32> = device::download(&self.scores)?;
        let ordinals: Vec<u32> = device::download(&self.ordinals)?;
        let length = self.most.min(self.offered);
        let lists = ordinals.chunks(self.most).zip(scores.chunks(self.most));
        let list = |(ordinals, scores): (&[u32], &[f32])| {
            ordinals.iter().copied().zip(scores.iter().copied()).take(length).collect()
        };
        Ok(lists.map(list).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{device::emulate, storage, test::random};

    #[test]
    fn the_best_rows_of_all_blocks_are_found_and_ties_keep_their_order() -> Result<()> {
        let (queries, rows, width, most) = (3, 700, 8, 20);
        let values = |seed, count: usize| -> Result<Vec<f32>> {
            let values = storage::to_vec(&random(seed, &[count, width])?)?;
            // Coarse, so that scores are equal now and then.
            Ok(values.iter().map(|value| (value * 4.0).round()).collect())
        };
        let (query_values, offered) = (values(1, queries)?, values(2, rows)?);
        let lists = emulate(|| -> Result<_> {
            let mut nearest = Nearest::new(&query_values, width, most, &Device::Cpu)?.expect("kernels");
            for rows in offered.chunks(300 * width) {
                nearest = nearest.offer(rows)?;
            }
            nearest.into_lists()
        })?;
        for (query, list) in query_values.chunks(width).zip(&lists) {
            let score = |row: &[f32]| query.iter().zip(row).map(|(a, b)| a * b).sum::<f32>();
            let mut expected: Vec<(u32, f32)> = (0..).zip(offered.chunks(width).map(score)).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            expected.truncate(most);
            assert_eq!(list, &expected);
        }
        let short = emulate(|| {
            Nearest::new(&query_values, width, most, &Device::Cpu)?
                .expect("kernels")
                .offer(&offered[..2 * width])?
                .into_lists()
        })?;
        assert!(short.iter().all(|list| list.len() == 2));
        assert!(Nearest::new(&query_values, width, most, &Device::Cpu)?.is_none(), "a device without kernels");
        Ok(())
    }
}
