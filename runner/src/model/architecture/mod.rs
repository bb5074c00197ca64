//! The architectures: one file each, which reads `config.json` and builds the encoder of the weights.

mod bert;
mod definition;
mod distilbert;
mod gemma3;
mod gte;
mod jina_bert;
mod modernbert;
mod mpnet;
mod nomic_bert;
mod qwen;
mod roberta;
mod rope;

pub use self::definition::{Architecture, Outline};
use super::{config::Config, error::ModelError};

/// All architectures.
pub const ARCHITECTURES: &[Architecture] = &[
    jina_bert::ARCHITECTURE,
    bert::ARCHITECTURE,
    roberta::ARCHITECTURE,
    distilbert::ARCHITECTURE,
    mpnet::ARCHITECTURE,
    nomic_bert::ARCHITECTURE,
    gte::ARCHITECTURE,
    modernbert::ARCHITECTURE,
    qwen::ARCHITECTURE,
    gemma3::ARCHITECTURE,
];

/// The most positions of a configuration: position tables are built from this number before any weight is read.
const MAX_POSITIONS: u64 = 1 << 20;

/// The most layers of a configuration.
const MAX_LAYERS: u64 = 1 << 10;

/// The architecture of a configuration.
///
/// # Errors
/// If it is not one of [`ARCHITECTURES`].
pub fn find(config: &Config) -> Result<&'static Architecture, ModelError> {
    for field in ["max_position_embeddings", "n_positions"] {
        if let Some(positions) = config.peek(field).as_u64().filter(|positions| *positions > MAX_POSITIONS) {
            return Err(config.contradiction(field, &positions.to_string(), "at most 1048576"));
        }
    }
    for field in ["num_hidden_layers", "n_layers", "n_layer"] {
        if let Some(layers) = config.peek(field).as_u64().filter(|layers| *layers > MAX_LAYERS) {
            return Err(config.contradiction(field, &layers.to_string(), "at most 1024"));
        }
    }
    let (kind, positions) = (config.model_type(), config.peek("position_embedding_type").as_str());
    let matches = |architecture: &&Architecture| {
        architecture.model_types.contains(&kind)
            && (architecture.positions.is_none() || architecture.positions == positions)
    };
    ARCHITECTURES.iter().find(matches).ok_or_else(|| {
        let mut known: Vec<_> = ARCHITECTURES.iter().flat_map(|other| other.model_types).copied().collect();
        known.sort_unstable();
        known.dedup();
        config.unsupported("model_type", kind, &known)
    })
}
