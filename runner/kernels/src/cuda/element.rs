//! The type of the values of activations and weights.

/// The type of the values of activations and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// bfloat16, the upper half of single precision.
    Bf16,
}

impl Element {
    /// The suffix of the names of kernels for this type.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The size of a value in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
    /// The values of a vector of 16 bytes.
    pub(super) fn vector_size(self) -> usize {
        16 / self.bytes()
    }
}
