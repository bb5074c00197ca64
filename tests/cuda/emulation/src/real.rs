//! The types of activations and weights.

use std::fmt::Debug;

use kernels::cuda::Element;

use crate::Plain;

/// A type of activations and weights.
pub trait Real: Plain + Debug {
    /// The element type of the kernels.
    const ELEMENT: Element;

    /// The value nearest to an f32.
    fn of(value: f32) -> Self;

    /// The value, exactly.
    fn to_f32(self) -> f32;
}

impl Real for f32 {
    const ELEMENT: Element = Element::F32;

    fn of(value: f32) -> Self {
        value
    }

    fn to_f32(self) -> f32 {
        self
    }
}

impl Real for half::f16 {
    const ELEMENT: Element = Element::F16;

    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

impl Real for half::bf16 {
    const ELEMENT: Element = Element::Bf16;

    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}
