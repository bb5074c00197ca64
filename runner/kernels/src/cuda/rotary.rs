//! Bias, normalisation and rotary position embedding of queries and keys, in place, before attention.

use super::{
    element::Element,
    launch::{Address, Argument, Launch},
    norm::Norm,
};

const SOURCE: &str = "rotary";
/// Threads of a block.
const THREADS: usize = 256;
/// Lanes of a warp.
const WARP: usize = 32;
/// The shared memory that a block may use on every supported card.
const MAX_SHARED_BYTES: usize = 99 * 1024;

/// Norms of the queries and of the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadNorms {
    /// The norm of the queries.
    pub query: Norm,
    /// The norm of the keys; its kind and epsilon equal those of the queries.
    pub key: Norm,
    /// Whether all query heads, and all key heads, are normalised together instead of one by one. The parameters of the
    /// norms are as wide as the columns that are normalised together.
    pub together: bool,
}

/// Rotary position embedding: rotates the leading columns of a head by the position of its token, column i against
/// column `half` + i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// f32 `[positions, half]`.
    pub cos: Address,
    /// f32 `[positions, half]`.
    pub sin: Address,
    /// At most half the width of a head.
    pub half: usize,
    /// i32 `[tokens]`: the position of each token, a row of the tables.
    pub positions: Address,
}

/// The steps on the packed `qkv`, `[tokens, (query_heads + 2⋅key_value_heads)⋅width]`: bias, norms, rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadPreparation {
    /// The type of queries, keys and values.
    pub element: Element,
    /// Heads of queries.
    pub query_heads: usize,
    /// Heads of keys and values.
    pub key_value_heads: usize,
    /// The width of a head.
    pub width: usize,
    /// f32, added to all columns, those of the values too; or absent.
    pub bias: Address,
    /// Applied to the heads of queries and keys.
    pub norms: Option<HeadNorms>,
    /// Applied to the heads of queries and keys.
    pub rotation: Option<Rotation>,
}

impl HeadPreparation {
    /// Adds, normalises and rotates in place, and rounds once. `None` if there are no tokens or no steps.
    ///
    /// # Panics
    /// If the rotation is wider than a head, the kind or epsilon of the norms differs, there are 2³¹ heads or more, or the
    /// queries and keys of a token need shared memory and do not fit it.
    pub fn launch(&self, qkv: Address, tokens: usize) -> Option<Launch> {
        let Self { element, query_heads, key_value_heads, width, bias, norms, rotation } = *self;
        if tokens == 0 || !(bias.is_present() || norms.is_some() || rotation.is_some()) {
            return None;
        }
        let half = rotation.map_or(0, |rotation| rotation.half);
        assert!(width > 0 && 2 * half <= width, "the rotation is within a head");
        let compatible =
            |HeadNorms { query, key, .. }: HeadNorms| query == Norm { weight: query.weight, bias: query.bias, ..key };
        assert!(norms.is_none_or(compatible), "the norms have the same kind and epsilon");
        let rotated_heads = query_heads + key_value_heads;
        let heads = if bias.is_present() { rotated_heads + key_value_heads } else { rotated_heads };

        let parameters = norms.map_or([Address::ABSENT; 4], |HeadNorms { query, key, .. }| {
            [query.weight, query.bias, key.weight, key.bias]
        });
        let tables =
            rotation.map_or([Address::ABSENT; 3], |Rotation { cos, sin, positions, .. }| [cos, sin, positions]);
        let size = element.vector_size();
        let aligned = |addresses: &[Address]| addresses.iter().all(|address| address.is_aligned_to(16));
        let vectors = width.is_multiple_of(size) && half.is_multiple_of(size);
        let vectors = vectors && aligned(&[qkv, bias]) && aligned(&parameters) && aligned(&tables[..2]);
        let together = norms.is_some_and(|norms| norms.together);

        let mut arguments: Vec<Argument> = vec![qkv.into(), bias.into()];
        arguments.extend(parameters.iter().chain(&tables).map(|address| Argument::from(*address)));
        arguments.extend([query_heads, key_value_heads, width, half].map(|count| Argument::I32(count as i32)));
        arguments.extend([
            norms.map_or(0, |norms| norms.query.kind as i32).into(),
            norms.map_or(0.0, |norms| norms.query.epsilon).into(),
            Argument::count(tokens),
        ]);
        // A lane holds two vectors.
        let lanes = width.div_ceil(2 * size).next_power_of_two();
        if vectors && !together && lanes <= WARP {
            let block_heads = THREADS / lanes;
            Argument::count(tokens * heads);
            return Some(Launch {
                source: SOURCE,
                kernel: format!("rotary_heads_{}", element.suffix()),
                grid: [(tokens * heads).div_ceil(block_heads) as u32, 1, 1],
                block: [lanes as u32, block_heads as u32, 1],
                shared_bytes: 0,
                arguments,
            });
        }
        let shared_bytes = rotated_heads * width * size_of::<f32>();
        assert!(shared_bytes <= MAX_SHARED_BYTES, "the queries and keys of a token fit into shared memory");
        arguments.push(i32::from(together).into());
        Some(Launch {
            source: SOURCE,
            kernel: format!("rotary_{}_{}", if vectors { "vectors" } else { "values" }, element.suffix()),
            grid: [tokens as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared_bytes: shared_bytes as u32,
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::norm::Kind;

    fn preparation(element: Element, width: usize) -> HeadPreparation {
        let rotation = Rotation { cos: Address(256), sin: Address(512), half: width / 2, positions: Address(1024) };
        HeadPreparation {
            element,
            query_heads: 4,
            key_value_heads: 2,
            width,
            bias: Address::ABSENT,
            norms: None,
            rotation: Some(rotation),
        }
    }

    fn launch(preparation: HeadPreparation) -> Launch {
        preparation.launch(Address(4096), 10).expect("a launch")
    }

    #[test]
    fn heads_that_fit_stay_in_registers() {
        let launched = launch(preparation(Element::F16, 64));
        assert_eq!(
            (launched.kernel.as_str(), launched.grid, launched.block),
            ("rotary_heads_f16", [1, 1, 1], [4, 64, 1])
        );
        let launched = launch(HeadPreparation { bias: Address(256), ..preparation(Element::F16, 128) });
        assert_eq!(
            (launched.kernel.as_str(), launched.grid, launched.block),
            ("rotary_heads_f16", [3, 1, 1], [8, 32, 1])
        );
        assert_eq!(launch(preparation(Element::F32, 256)).kernel, "rotary_heads_f32");
        assert_eq!(launch(preparation(Element::F32, 264)).kernel, "rotary_vectors_f32");
        let launched = launch(preparation(Element::Bf16, 40));
        assert_eq!(
            (launched.kernel.as_str(), launched.grid, launched.shared_bytes),
            ("rotary_values_bf16", [10, 1, 1], 960)
        );
        let norm = Norm { kind: Kind::Layer, epsilon: 1e-5, weight: Address(256), bias: Address::ABSENT };
        let norms = HeadNorms { query: norm, key: norm, together: true };
        assert_eq!(
            launch(HeadPreparation { norms: Some(norms), ..preparation(Element::F16, 64) }).kernel,
            "rotary_vectors_f16"
        );
    }

    #[test]
    fn no_tokens_and_no_steps_give_no_launch() {
        assert_eq!(preparation(Element::F16, 64).launch(Address(4096), 0), None);
        assert_eq!(HeadPreparation { rotation: None, ..preparation(Element::F16, 64) }.launch(Address(4096), 9), None);
    }
}
