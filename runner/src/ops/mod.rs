//! The arithmetic of encoders over packed batches: hidden states are `[tokens, hidden]`, sequences follow one another
//! without padding, and [`Sequences`] has their bounds.
//!
//! An operation is a type that is made of a model's tensors once. Its `forward` has three forms side by side: the fused
//! kernels of the CPU, those of a CUDA device (both in the crate `kernels`; see [`device`]), and a portable one that
//! composes candle's own operations. The portable form runs on every device; the fused forms are tested against it.

mod activation;
mod attention;
pub mod device;
mod embedding;
mod epilogue;
mod feed_forward;
mod finite;
mod linear;
mod nearest;
mod norm;
mod pooling;
mod rotary;
mod sequences;
mod storage;
mod vocabulary;

pub use kernels::Activation;

pub use self::{
    activation::activate,
    attention::{AttentionSpan, DistanceBias, Heads, SelfAttention},
    embedding::Table,
    epilogue::Epilogue,
    feed_forward::{FeedForward, Gate},
    finite::finite_rows,
    linear::Linear,
    nearest::Nearest,
    norm::Norm,
    pooling::{Pooling, l2_normalize},
    rotary::Rotary,
    sequences::{Sequences, TokenSelection},
    vocabulary::Vocabulary,
};

#[cfg(test)]
mod test {
    //! Helpers of the tests of all operations.

    use candle_core::{Device, Result, Tensor};

    /// Values between -½ and ½ that depend only on the seed.
    pub fn random(seed: u32, shape: &[usize]) -> Result<Tensor> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    /// Asserts that no two values differ by more than `tolerance`.
    pub fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: f32) -> Result<()> {
        assert_eq!(actual.dims(), expected.dims());
        let (actual, expected) = (super::storage::to_vec(actual)?, super::storage::to_vec(expected)?);
        for (at, (x, y)) in actual.iter().zip(&expected).enumerate() {
            assert!((x - y).abs() <= tolerance, "value {at}: {x} and {y}");
        }
        Ok(())
    }
}
