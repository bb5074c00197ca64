//! What stands between the packed product of queries, keys and values and the attention: the bias, norms of the heads of
//! queries and keys, their rotation by position.

use super::{Address, Element, Launch};

/// Threads of a block, which has a token.
const THREADS: u32 = 128;

/// The norm of the heads of queries or of keys.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm {
    /// f32, multiplied: of the width of a head, or of that of all heads together.
    pub weight: Address,
    /// f32, added; may be absent.
    pub bias: Address,
    /// Added to the variance.
    pub epsilon: f32,
    /// Heads that are normalised together: 1, or all.
    pub heads: usize,
}

/// The rotation of the first `2⋅half` columns of a head (Su et al., 2021), column i with column i + half.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// f32 `[positions, half]`.
    pub cos: Address,
    /// f32 `[positions, half]`.
    pub sin: Address,
    /// Half of the columns that are rotated.
    pub half: usize,
    /// i32 `[tokens]`, the position of each.
    pub positions: Address,
}

/// The packed heads and what is done to them.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// The type of the packed heads.
    pub element: Element,
    /// Heads of queries.
    pub query: usize,
    /// Heads of keys, and of values.
    pub key_value: usize,
    /// The width of a head.
    pub width: usize,
    /// f32 `[(query + 2⋅key_value)⋅width]`, added to the product; may be absent.
    pub bias: Address,
    /// Norms of the queries and of the keys, before the rotation.
    pub norms: Option<[HeadNorm; 2]>,
    /// Whether the norms subtract the mean.
    pub centre: bool,
    /// The rotation.
    pub rotation: Option<Rotation>,
}

impl Heads {
    /// Works in place on `qkv`, `[tokens, (query + 2⋅key_value)⋅width]`: the queries of all heads, then the keys, then the
    /// values. `None` if there is nothing to do.
    pub fn launch(&self, qkv: Address, tokens: usize) -> Option<Launch> {
        let Self { element, query, key_value, width, bias, norms, centre, rotation } = *self;
        if tokens == 0 || !bias.is_present() && norms.is_none() && rotation.is_none() {
            return None;
        }
        let none = HeadNorm { weight: Address::ABSENT, bias: Address::ABSENT, epsilon: 0.0, heads: 1 };
        let [of_queries, of_keys] = norms.unwrap_or([none; 2]);
        let absent = Address::ABSENT;
        let rotation = rotation.unwrap_or(Rotation { cos: absent, sin: absent, half: 0, positions: absent });
        let arguments = vec![
            qkv.into(),
            bias.into(),
            of_queries.weight.into(),
            of_queries.bias.into(),
            of_keys.weight.into(),
            of_keys.bias.into(),
            rotation.cos.into(),
            rotation.sin.into(),
            rotation.positions.into(),
            (query as i32).into(),
            (key_value as i32).into(),
            (width as i32).into(),
            (of_queries.heads as i32).into(),
            (of_keys.heads as i32).into(),
            of_queries.epsilon.into(),
            of_keys.epsilon.into(),
            i32::from(centre).into(),
            (rotation.half as i32).into(),
        ];
        let blocks = u32::try_from(tokens).expect("fewer than 2^32 tokens");
        Some(Launch::linear(format!("place_{}", element.suffix()), blocks, THREADS, arguments))
    }
}
