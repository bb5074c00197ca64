//! What a run requests of an encoder.

use crds::v1alpha1::Dtype;

use crate::ops::Pooling;

/// Settings of a run that override those of the model folder.
#[derive(Clone, Debug, Default)]
pub struct DenseOptions {
    /// The pooling; `None` uses that of the folder.
    pub pooling: Option<Pooling>,
    /// The longest sequence in tokens, special tokens included; a lower limit of the folder still applies.
    pub max_tokens: Option<usize>,
    /// Whether vectors are scaled to length 1; `None` follows the folder.
    pub normalize: Option<bool>,
    /// The width that vectors are truncated to before they are normalised again (Kusupati et al., 2022).
    pub dimensions: Option<usize>,
    /// The prompt before a document; `None` uses that of the folder, an empty text none.
    pub document_prompt: Option<String>,
    /// The prompt before a query; `None` uses that of the folder, an empty text none.
    pub query_prompt: Option<String>,
    /// The type of the weights; `None` is f32 on a CPU, and on a card bf16 for models that were saved in it and f16 for others.
    /// For the 16-bit floats, a CPU rounds the weights and computes in f32; 8-bit integers are supported on a CPU only.
    pub dtype: Option<Dtype>,
}

/// The role of a text in retrieval; each role has its own prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A text that is searched.
    Document,
    /// A text that searches.
    Query,
}
