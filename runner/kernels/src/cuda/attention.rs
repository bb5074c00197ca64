//! Softmax attention over packed sequences.

use super::{
    element::Element,
    launch::{Address, Launch},
};

/// Threads of a block.
const THREADS: u32 = 128;
/// Queries of a block of the kernel for any width, without tensor cores.
const ANY_WIDTH_QUERIES: usize = 4;
/// The largest width of a head.
pub const MAX_WIDTH: usize = 256;
/// Larger than any position.
const NO_LIMIT: usize = 1 << 30;

/// The keys that a query at position `i` sees: those from `i - left` to `i + right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionSpan {
    /// Keys before the query; all if `None`.
    pub left: Option<usize>,
    /// Keys after the query; all if `None`.
    pub right: Option<usize>,
}

impl AttentionSpan {
    /// All keys of the sequence.
    pub const FULL: Self = Self { left: None, right: None };
    /// The query's own key and all keys before it.
    pub const CAUSAL: Self = Self { left: None, right: Some(0) };

    /// Keys at most `distance` away, on both sides.
    pub fn window(distance: usize) -> Self {
        Self { left: Some(distance), right: Some(distance) }
    }

    /// The query's own key and the keys before it that are fewer than `width` away.
    pub fn causal_window(width: usize) -> Self {
        Self { left: Some(width.saturating_sub(1)), right: Some(0) }
    }
}

/// The queries whose contexts are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSelection {
    /// All queries.
    All,
    /// The first query of each sequence.
    First,
    /// The last query of each sequence.
    Last,
}

/// The bias that is added to scores by the distance of key and query: ALiBi, the buckets of T5.
#[derive(Clone, Copy, Debug)]
pub struct Bias {
    /// f32 `[query_heads, 2⋅positions - 1]`: a row has the values of one head for the distances `1 - positions` to
    /// `positions - 1`.
    pub table: Address,
    /// At least the length of the longest sequence.
    pub positions: usize,
}

/// The sequences of a packed batch; none is empty.
#[derive(Clone, Copy, Debug)]
pub struct Sequences {
    /// i32 `[count + 1]`: the start of each sequence and the end of the last (`cu_seqlens`).
    pub starts: Address,
    /// The number of sequences.
    pub count: usize,
    /// The length of the longest sequence.
    pub longest: usize,
}

/// The parameters of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// The type of queries, keys, values and contexts.
    pub element: Element,
    /// Heads of queries.
    pub query_heads: usize,
    /// Heads of keys and values, each shared by `query_heads / key_value_heads` heads of queries.
    pub key_value_heads: usize,
    /// The width of a head, at most [`MAX_WIDTH`].
    pub width: usize,
    /// Multiplied with the scores.
    pub scale: f32,
    /// The keys that a query sees.
    pub span: AttentionSpan,
    /// Added to the scores.
    pub bias: Option<Bias>,
    /// The queries whose contexts are computed.
    pub selection: TokenSelection,
}

impl Attention {
    /// The contexts of the selected queries, `out` `[rows, query_heads⋅width]`, from the packed `qkv`
    /// `[tokens, (query_heads + 2⋅key_value_heads)⋅width]`: the queries of all heads, then the keys, then the values. Both
    /// have the element's type. `None` if there are no sequences.
    ///
    /// NaN in a value may reach a query that does not see it, if the query shares a tile with a query that does.
    ///
    /// # Panics
    /// If the query heads are not a multiple of the key-value heads, the width is 0 or too large, or the bias has too few
    /// positions.
    pub fn launch(&self, qkv: Address, sequences: Sequences, out: Address) -> Option<Launch> {
        let Self { element, query_heads, key_value_heads, width, scale, span, bias, selection } = *self;
        assert!(
            key_value_heads > 0 && query_heads.is_multiple_of(key_value_heads),
            "the query heads are a multiple of the key-value heads"
        );
        assert!((1..=MAX_WIDTH).contains(&width), "a head has 1 to {MAX_WIDTH} columns");
        assert!(bias.is_none_or(|bias| bias.positions >= sequences.longest), "the bias covers all distances");
        if sequences.count == 0 || sequences.longest == 0 {
            return None;
        }
        let longest = if selection == TokenSelection::All { sequences.longest } else { 1 };
        let aligned = qkv.is_aligned_to(16) && out.is_aligned_to(4);
        // The tensor-core kernel searches the largest score before it scales, which needs a positive scale.
        let tiles = if element != Element::F32 && aligned && scale > 0.0 { Tiles::of(width, longest) } else { None };
        let suffix = element.suffix();
        let (kernel, queries) = match tiles {
            Some(Tiles { queries, .. }) => (format!("attention_w{width}_q{queries}_{suffix}"), queries),
            None => (format!("attention_{suffix}"), ANY_WIDTH_QUERIES),
        };
        let query_blocks = longest.div_ceil(queries);
        let blocks = u32::try_from(query_blocks * sequences.count).expect("fewer than 2^31 blocks");
        let limit = |keys: Option<usize>| keys.map_or(-1, |keys| keys.min(NO_LIMIT) as i32);
        let mut arguments = vec![
            qkv.into(),
            sequences.starts.into(),
            bias.map_or(Address::ABSENT, |bias| bias.table).into(),
            out.into(),
            (query_blocks as i32).into(),
            (key_value_heads as i32).into(),
            scale.into(),
            limit(span.left).into(),
            limit(span.right).into(),
            bias.map_or(1, |bias| bias.positions as i32).into(),
            (selection as i32).into(),
        ];
        if tiles.is_none() {
            arguments.push((width as i32).into());
        }
        Some(Launch {
            source: "attention",
            kernel,
            grid: [blocks, query_heads as u32, 1],
            block: [THREADS, 1, 1],
            shared_bytes: tiles.map_or(0, |tiles| tiles.bytes as u32),
            arguments,
        })
    }
}

/// The work of a block of the tensor-core kernels, as in `attention.cu`.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    /// Queries of a block.
    queries: usize,
    /// Shared memory of a block, in bytes.
    bytes: usize,
}

impl Tiles {
    /// For heads of `width` columns and at most `longest` queries per sequence; `None` if no kernel has this width.
    fn of(width: usize, longest: usize) -> Option<Self> {
        let keys = match width {
            16 | 32 | 64 | 96 | 128 => 64,
            256 => 32,
            _ => return None,
        };
        // With many keys the tensor cores wait for shared memory, unless twice as many queries share the keys that a warp
        // loads, which the registers allow for narrow heads. With few keys, more concurrent blocks are faster.
        let queries = if width <= 64 && longest > 128 { 128 } else { 64 };
        // Two tiles of keys and two of values, and the queries if they do not fit the registers.
        let rows = 4 * keys + if width > 128 { queries } else { 0 };
        Some(Self { queries, bytes: rows * width * 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attention(element: Element, width: usize) -> Attention {
        Attention {
            element,
            query_heads: 4,
            key_value_heads: 2,
            width,
            scale: 0.5,
            span: AttentionSpan::FULL,
            bias: None,
            selection: TokenSelection::All,
        }
    }

    fn launch(attention: Attention, longest: usize) -> Launch {
        let sequences = Sequences { starts: Address(256), count: 3, longest };
        attention.launch(Address(512), sequences, Address(1024)).expect("a launch")
    }

    #[test]
    fn tensor_cores_are_used_for_the_widths_that_have_a_kernel() {
        let launched = launch(attention(Element::F16, 64), 64);
        assert_eq!(
            (launched.kernel.as_str(), launched.grid, launched.shared_bytes),
            ("attention_w64_q64_f16", [3, 4, 1], 32768)
        );
        let launched = launch(attention(Element::Bf16, 64), 129);
        assert_eq!((launched.kernel.as_str(), launched.grid), ("attention_w64_q128_bf16", [6, 4, 1]));
        let launched = launch(Attention { selection: TokenSelection::Last, ..attention(Element::Bf16, 64) }, 129);
        assert_eq!((launched.kernel.as_str(), launched.grid), ("attention_w64_q64_bf16", [3, 4, 1]));
        let launched = launch(attention(Element::F16, 80), 5);
        assert_eq!(
            (launched.kernel.as_str(), launched.grid, launched.arguments.len()),
            ("attention_f16", [6, 4, 1], 12)
        );
        assert_eq!(launch(attention(Element::F32, 64), 4).kernel, "attention_f32");
    }

    #[test]
    fn shared_memory_fits_every_supported_card() {
        for width in [16, 32, 64, 96, 128, 256] {
            assert!(launch(attention(Element::F16, width), 500).shared_bytes <= 99 * 1024);
        }
    }

    #[test]
    fn no_sequences_give_no_launch() {
        let none = Sequences { starts: Address(256), count: 0, longest: 0 };
        assert_eq!(attention(Element::F16, 64).launch(Address(512), none, Address(1024)), None);
    }
}
