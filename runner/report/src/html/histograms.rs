//! Histograms of token lengths.

use crds::summary::{DensePass, ProcessingSummary};

use crate::{
    chart,
    error::Error,
    format::{count, part},
};

/// The token lengths of the chunks for one model.
pub struct Histogram {
    pub model: String,
    pub svg: String,
    pub note: String,
}

/// One histogram per dense model that has recorded lengths.
pub fn histograms(run: &ProcessingSummary) -> Result<Vec<Histogram>, Error> {
    let passes = run.dense_run.passes.iter().filter(|pass| !pass.token_lengths.is_empty());
    let histogram = |pass: &DensePass| {
        let note = match pass.truncated_chunks {
            0 => format!("Every chunk fits into {} tokens.", count(pass.max_tokens.into())),
            truncated => format!(
                "{} of {} chunks are longer than {} tokens and were truncated.",
                part(truncated, pass.chunks),
                count(pass.chunks),
                count(pass.max_tokens.into())
            ),
        };
        Ok(Histogram { model: pass.model.clone(), svg: chart::lengths(pass)?, note })
    };
    passes.map(histogram).collect()
}
