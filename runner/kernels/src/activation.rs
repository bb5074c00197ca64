//! Activations, by the names that `config.json` gives them.

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x⋅Φ(x), by the error function.
    Gelu,
    /// The approximation of GELU by tanh.
    GeluTanh,
    /// x⋅σ(x).
    Silu,
    /// max(x, 0).
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function.
    Sigmoid,
    /// x.
    Identity,
}

impl Activation {
    /// The names that [`Activation::parse`] knows, as `transformers.activations.ACT2FN` has them.
    pub const NAMES: &[&str] =
        &["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu", "swish", "relu", "tanh", "sigmoid", "linear"];

    /// The activation of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Self::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Self::GeluTanh,
            "silu" | "swish" => Self::Silu,
            "relu" => Self::Relu,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "linear" => Self::Identity,
            _ => return None,
        })
    }
}
