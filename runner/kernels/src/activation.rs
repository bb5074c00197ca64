//! Activation functions and their names in `config.json`.

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x⋅Φ(x), with the error function.
    Gelu,
    /// GELU approximated with tanh.
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
    /// The names that [`Activation::parse`] accepts, a part of `transformers.activations.ACT2FN`.
    pub const NAMES: &[&str] =
        &["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu", "swish", "relu", "tanh", "sigmoid", "linear"];

    /// The activation with this name; `None` for an unknown name.
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
