//! Token vectors to one vector per text, as `sentence-transformers` defines it
//! (`sentence_transformers/models/Pooling.py` and `Normalize.py`).

use std::fmt;

use candle_core::{Result, Tensor};
use crds::v1alpha1;

/// How the token vectors of a text become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of the first token, `[CLS]`.
    Cls,
    /// The mean of the token vectors, padding left out.
    Mean,
}

/// A pooling of the API that this runner does not compute.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("pooling {0:?} is not supported, only Cls and Mean are")]
pub struct UnsupportedPooling(pub v1alpha1::Pooling);

impl TryFrom<v1alpha1::Pooling> for Pooling {
    type Error = UnsupportedPooling;

    fn try_from(pooling: v1alpha1::Pooling) -> std::result::Result<Self, UnsupportedPooling> {
        match pooling {
            v1alpha1::Pooling::Cls => Ok(Self::Cls),
            v1alpha1::Pooling::Mean => Ok(Self::Mean),
            other => Err(UnsupportedPooling(other)),
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cls => "Cls",
            Self::Mean => "Mean",
        })
    }
}

impl Pooling {
    /// Pools `hidden` (rows × tokens × dimensions) to rows × dimensions. The `mask` (rows × tokens, of the same
    /// type) is 1 for a token and 0 for padding; a row of padding alone gives NaN.
    pub fn apply(self, hidden: &Tensor, mask: &Tensor) -> Result<Tensor> {
        match self {
            Self::Cls => hidden.narrow(1, 0, 1)?.squeeze(1)?.contiguous(),
            Self::Mean => {
                // Σₜ maskₜ·hₜ as a product of [1 × tokens] with [tokens × dimensions], per row.
                let sum = mask.unsqueeze(1)?.matmul(hidden)?.squeeze(1)?;
                sum.broadcast_div(&mask.sum_keepdim(1)?)
            }
        }
    }
}

/// Scales each of the `vectors` (rows × dimensions) to length 1. A zero vector stays zero, as
/// `torch.nn.functional.normalize` has it.
pub fn l2_normalize(vectors: &Tensor) -> Result<Tensor> {
    let length = vectors.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12)?;
    vectors.broadcast_div(&length)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn hidden() -> Result<Tensor> {
        Tensor::new(&[[[1f32, 2.0], [3.0, 6.0], [90.0, 90.0]], [[5.0, 5.0], [6.0, 6.0], [7.0, 10.0]]], &Device::Cpu)
    }

    fn mask() -> Result<Tensor> {
        Tensor::new(&[[1f32, 1.0, 0.0], [1.0, 1.0, 1.0]], &Device::Cpu)
    }

    #[test]
    fn cls_is_the_first_token() -> Result<()> {
        let pooled = Pooling::Cls.apply(&hidden()?, &mask()?)?;
        assert_eq!(pooled.to_vec2::<f32>()?, [[1.0, 2.0], [5.0, 5.0]]);
        Ok(())
    }

    #[test]
    fn mean_leaves_padding_out() -> Result<()> {
        let pooled = Pooling::Mean.apply(&hidden()?, &mask()?)?;
        assert_eq!(pooled.to_vec2::<f32>()?, [[2.0, 4.0], [6.0, 7.0]]);
        Ok(())
    }

    #[test]
    fn a_normalised_vector_has_length_one_and_zero_stays_zero() -> Result<()> {
        let vectors = Tensor::new(&[[3f32, 4.0], [0.0, 0.0]], &Device::Cpu)?;
        assert_eq!(l2_normalize(&vectors)?.to_vec2::<f32>()?, [[0.6, 0.8], [0.0, 0.0]]);
        Ok(())
    }

    #[test]
    fn a_pooling_that_is_not_computed_is_refused() {
        assert_eq!(Pooling::try_from(v1alpha1::Pooling::Cls), Ok(Pooling::Cls));
        assert_eq!(Pooling::try_from(v1alpha1::Pooling::Max), Err(UnsupportedPooling(v1alpha1::Pooling::Max)));
    }
}
