//! What happens to queries, keys and values between their product and the attention.

use super::{
    Address, Argument, Element, Launch,
    norm::{Norm, count_argument, vector},
};

const SOURCE: &str = "rotary";
/// Threads of a block.
const THREADS: usize = 256;
/// Lanes of a warp.
const WARP: usize = 32;
/// The shared memory that a block may have on every card.
const MOST_SHARED_BYTES: usize = 99 * 1024;

/// Norms of the queries and of the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadNorms {
    /// Of the queries.
    pub query: Norm,
    /// Of the keys; kind and epsilon are those of the queries'.
    pub key: Norm,
    /// Whether all heads of queries, and all of keys, are normalised together. The norms' parameters are as wide as
    /// what is normalised.
    pub together: bool,
}

/// Rotation of the first columns of a head by the position of its token: column i against column `half` + i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// f32 `[positions, half]`.
    pub cos: Address,
    /// f32 `[positions, half]`.
    pub sin: Address,
    /// At most half the width of a head.
    pub half: usize,
    /// i32 `[tokens]`: the position of each token, which is in the tables.
    pub positions: Address,
}

/// What happens to the packed `[tokens, (query_heads + 2⋅key_value_heads)⋅width]`, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placing {
    /// The type of queries, keys and values.
    pub element: Element,
    /// Heads of queries.
    pub query_heads: usize,
    /// Heads of keys and values.
    pub key_value_heads: usize,
    /// The width of a head.
    pub width: usize,
    /// f32, added to all columns; or absent.
    pub bias: Address,
    /// Applied to the heads of queries and keys.
    pub norms: Option<HeadNorms>,
    /// Applied to the heads of queries and keys.
    pub rotation: Option<Rotation>,
}

impl Placing {
    /// Adds, normalises and rotates in place, and rounds once. `None` if there are no tokens or nothing is to be done.
    ///
    /// # Panics
    /// If the rotation is wider than a head, the norms differ in more than their parameters, a token has more queries
    /// and keys than fit into shared memory where they have to be there, or there are 2³¹ heads or more.
    pub fn launch(&self, qkv: Address, tokens: usize) -> Option<Launch> {
        let Self { element, query_heads, key_value_heads, width, bias, norms, rotation } = *self;
        if tokens == 0 || !(bias.is_present() || norms.is_some() || rotation.is_some()) {
            return None;
        }
        let half = rotation.map_or(0, |rotation| rotation.half);
        assert!(width > 0 && 2 * half <= width, "rotations within a head");
        let alike =
            |HeadNorms { query, key, .. }: HeadNorms| query == Norm { weight: query.weight, bias: query.bias, ..key };
        assert!(norms.is_none_or(alike), "norms that differ in their parameters alone");
        let placed = query_heads + key_value_heads;
        let heads = if bias.is_present() { placed + key_value_heads } else { placed };

        let parameters = norms.map_or([Address::ABSENT; 4], |HeadNorms { query, key, .. }| {
            [query.weight, query.bias, key.weight, key.bias]
        });
        let tables =
            rotation.map_or([Address::ABSENT; 3], |Rotation { cos, sin, positions, .. }| [cos, sin, positions]);
        let size = vector(element);
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
            count_argument(tokens),
        ]);
        // A lane has two vectors.
        let lanes = width.div_ceil(2 * size).next_power_of_two();
        if vectors && !together && lanes <= WARP {
            let heads_of_block = THREADS / lanes;
            count_argument(tokens * heads);
            return Some(Launch {
                source: SOURCE,
                kernel: format!("rotary_heads_{}", element.suffix()),
                grid: [(tokens * heads).div_ceil(heads_of_block) as u32, 1, 1],
                block: [lanes as u32, heads_of_block as u32, 1],
                shared_bytes: 0,
                arguments,
            });
        }
        let shared_bytes = placed * width * size_of::<f32>();
        assert!(shared_bytes <= MOST_SHARED_BYTES, "queries and keys that fit into shared memory");
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

    fn placing(element: Element, width: usize) -> Placing {
        let rotation = Rotation { cos: Address(256), sin: Address(512), half: width / 2, positions: Address(1024) };
        Placing {
            element,
            query_heads: 4,
            key_value_heads: 2,
            width,
            bias: Address::ABSENT,
            norms: None,
            rotation: Some(rotation),
        }
    }

    fn launch(placing: Placing) -> Launch {
        placing.launch(Address(4096), 10).expect("a launch")
    }

    #[test]
    fn heads_are_placed_in_registers_where_they_can() {
        let found = launch(placing(Element::F16, 64));
        assert_eq!((found.kernel.as_str(), found.grid, found.block), ("rotary_heads_f16", [1, 1, 1], [4, 64, 1]));
        let found = launch(Placing { bias: Address(256), ..placing(Element::F16, 128) });
        assert_eq!((found.kernel.as_str(), found.grid, found.block), ("rotary_heads_f16", [3, 1, 1], [8, 32, 1]));
        assert_eq!(launch(placing(Element::F32, 256)).kernel, "rotary_heads_f32");
        assert_eq!(launch(placing(Element::F32, 264)).kernel, "rotary_vectors_f32");
        let found = launch(placing(Element::Bf16, 40));
        assert_eq!((found.kernel.as_str(), found.grid, found.shared_bytes), ("rotary_values_bf16", [10, 1, 1], 960));
        let norm = Norm { kind: Kind::Layer, epsilon: 1e-5, weight: Address(256), bias: Address::ABSENT };
        let norms = HeadNorms { query: norm, key: norm, together: true };
        assert_eq!(launch(Placing { norms: Some(norms), ..placing(Element::F16, 64) }).kernel, "rotary_vectors_f16");
    }

    #[test]
    fn nothing_to_do_is_no_launch() {
        assert_eq!(placing(Element::F16, 64).launch(Address(4096), 0), None);
        assert_eq!(Placing { rotation: None, ..placing(Element::F16, 64) }.launch(Address(4096), 9), None);
    }
}
