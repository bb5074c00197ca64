//! Attention against plain arithmetic.

use emulation::{
    Buffer, Real, run,
    test::{Random, assert_close, floats, random, same},
};
use half::{bf16, f16};
use kernels::cuda::{
    Element,
    attention::{Attention, AttentionSpan, Bias, Sequences, TokenSelection},
};

const LENGTHS: [usize; 12] = [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200];
const WIDTHS: [usize; 6] = [16, 32, 64, 96, 128, 256];

fn tolerance<T: Real>() -> f32 {
    match T::ELEMENT {
        Element::F32 => 2e-5,
        Element::F16 => 2e-3,
        Element::Bf16 => 1.5e-2,
    }
}

/// A case of attention and its inputs.
struct Case<T: Real> {
    attention: Attention,
    lengths: Vec<usize>,
    qkv: Vec<T>,
    bias: Option<Vec<f32>>,
    positions: usize,
}

impl<T: Real> Case<T> {
    fn new(query_heads: usize, key_value_heads: usize, width: usize, lengths: &[usize]) -> Self {
        let tokens: usize = lengths.iter().sum();
        // Scores that differ enough for the largest to matter.
        let qkv = random::<T>(7, tokens * (query_heads + 2 * key_value_heads) * width);
        let qkv = qkv.iter().map(|value| T::of(value.to_f32() * 2.0)).collect();
        let attention = Attention {
            element: T::ELEMENT,
            query_heads,
            key_value_heads,
            width,
            scale: 1.0 / (width as f32).sqrt(),
            span: AttentionSpan::FULL,
            bias: None,
            selection: TokenSelection::All,
        };
        Self { attention, lengths: lengths.to_vec(), qkv, bias: None, positions: 1 }
    }

    fn span(mut self, span: AttentionSpan) -> Self {
        self.attention.span = span;
        self
    }

    fn selection(mut self, selection: TokenSelection) -> Self {
        self.attention.selection = selection;
        self
    }

    fn biased(mut self) -> Self {
        self.positions = self.longest() + 3;
        let row = 2 * self.positions - 1;
        self.bias = Some(random::<f32>(9, self.attention.query_heads * row).iter().map(|value| value * 3.0).collect());
        self
    }

    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    fn stride(&self) -> usize {
        (self.attention.query_heads + 2 * self.attention.key_value_heads) * self.attention.width
    }

    fn starts(&self) -> Vec<usize> {
        let sums = self.lengths.iter().scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        });
        [0].into_iter().chain(sums).collect()
    }

    /// The contexts that the kernel computes, and the name of the kernel.
    fn contexts(&self) -> (Vec<T>, String) {
        let starts: Vec<i32> = self.starts().iter().map(|&start| start as i32).collect();
        let (qkv, starts) = (Buffer::of(&self.qkv), Buffer::of(&starts));
        let bias = self.bias.as_ref().map(|bias| Buffer::of(bias));
        let bias_arguments = bias.as_ref().map(|bias| Bias { table: bias.address(), positions: self.positions });
        let attention = Attention { bias: bias_arguments, ..self.attention };
        let rows =
            if attention.selection == TokenSelection::All { self.lengths.iter().sum() } else { self.lengths.len() };
        let out = Buffer::new(rows * attention.query_heads * attention.width);
        let sequences = Sequences { starts: starts.address(), count: self.lengths.len(), longest: self.longest() };
        let launch = attention.launch(qkv.address(), sequences, out.address()).expect("a launch");
        run(&launch);
        (out.read(), launch.kernel)
    }

    fn expected(&self) -> Vec<f32> {
        let Attention { query_heads, key_value_heads, width, scale, span, selection, .. } = self.attention;
        let (qkv, stride, starts) = (floats(&self.qkv), self.stride(), self.starts());
        let mut out = Vec::new();
        for (&start, &length) in starts.iter().zip(&self.lengths) {
            let queries = match selection {
                TokenSelection::All => 0..length,
                TokenSelection::First => 0..1,
                TokenSelection::Last => length - 1..length,
            };
            for query in queries {
                let first = span.left.map_or(0, |left| query.saturating_sub(left));
                let end = span.right.map_or(length, |right| length.min(query + right + 1));
                for head in 0..query_heads {
                    let shared = head / (query_heads / key_value_heads);
                    let of = |token: usize, head: usize| &qkv[(start + token) * stride + head * width..][..width];
                    let q = of(query, head);
                    let scores: Vec<f64> = (first..end)
                        .map(|key| {
                            let k = of(key, query_heads + shared);
                            let product: f32 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                            let at = head * (2 * self.positions - 1) + self.positions - 1 + key;
                            let bias = self.bias.as_ref().map_or(0.0, |bias| bias[at - query]);
                            f64::from(product * scale + bias)
                        })
                        .collect();
                    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                    let weights: Vec<f32> = scores.iter().map(|score| (score - largest).exp() as f32).collect();
                    let total: f32 = weights.iter().sum();
                    let mut context = vec![0.0f32; width];
                    for (weight, key) in weights.iter().zip(first..end) {
                        let values = of(key, query_heads + key_value_heads + shared);
                        context.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight / total * value);
                    }
                    out.extend(context);
                }
            }
        }
        out
    }

    fn check(&self, kernel: &str) {
        let (found, name) = self.contexts();
        assert!(name.starts_with(kernel), "{name}, not {kernel}");
        let of = format!("{name}, {:?}, {:?}, {:?}", self.attention.span, self.attention.selection, self.lengths);
        assert_close(&found, &self.expected(), tolerance::<T>(), &of);
    }
}

/// The kernel on tensor cores, which takes every width and every type except f32.
fn every_width<T: Real>() {
    let suffix = T::ELEMENT.suffix();
    for width in WIDTHS {
        Case::<T>::new(2, 1, width, &LENGTHS).check(&format!("attention_w{width}_q"));
        let short = Case::<T>::new(1, 1, width, &[1, 5, 16, 33, 64, 65, 128]);
        short.check(&format!("attention_w{width}_q64_{suffix}"));
    }
}

#[test]
fn every_width_of_f16() {
    every_width::<f16>();
}

#[test]
fn every_width_of_bf16() {
    every_width::<bf16>();
}

#[test]
fn any_width_without_tensor_cores() {
    for width in [1, 7, 20, 32, 33, 64, 100, 256] {
        Case::<f32>::new(2, 1, width, &[1, 2, 31, 32, 33, 65, 80]).check("attention_f32");
    }
    for width in [8, 20, 33, 48, 80] {
        Case::<f16>::new(2, 1, width, &[1, 2, 33, 65]).check("attention_f16");
        Case::<bf16>::new(2, 1, width, &[1, 2, 33, 65]).check("attention_bf16");
    }
    let mut negative = Case::<f16>::new(1, 1, 64, &[70]);
    negative.attention.scale = -0.2;
    negative.check("attention_f16");
}

const REACHES: [AttentionSpan; 8] = [
    AttentionSpan::CAUSAL,
    AttentionSpan { left: Some(0), right: Some(0) },
    AttentionSpan { left: Some(3), right: Some(3) },
    AttentionSpan { left: Some(64), right: Some(64) },
    AttentionSpan { left: Some(8), right: Some(0) },
    AttentionSpan { left: Some(100), right: Some(0) },
    AttentionSpan { left: Some(5), right: None },
    AttentionSpan { left: Some(1 << 40), right: Some(1 << 40) },
];

fn reaches<T: Real>(width: usize, kernel: &str) {
    for span in REACHES {
        Case::<T>::new(1, 1, width, &[1, 17, 64, 65, 200, 130]).span(span).check(kernel);
        Case::<T>::new(1, 1, width, &[1, 17, 40, 64]).span(span).check(kernel);
    }
}

#[test]
fn reaches_on_tensor_cores() {
    reaches::<f16>(32, "attention_w32_q");
    reaches::<bf16>(96, "attention_w96_q64");
    reaches::<f16>(256, "attention_w256_q64");
}

#[test]
fn reaches_without_tensor_cores() {
    reaches::<f32>(20, "attention_f32");
}

#[test]
fn windows_are_named() {
    assert_eq!(AttentionSpan::window(3), REACHES[2]);
    assert_eq!(AttentionSpan::causal_window(9), REACHES[4]);
    assert_eq!(AttentionSpan::causal_window(1), REACHES[1]);
}

fn biases<T: Real>(width: usize, kernel: &str) {
    for span in [AttentionSpan::FULL, AttentionSpan::CAUSAL, AttentionSpan::window(20)] {
        for selection in [TokenSelection::All, TokenSelection::First, TokenSelection::Last] {
            Case::<T>::new(4, 2, width, &[1, 64, 15, 130]).biased().span(span).selection(selection).check(kernel);
        }
    }
}

#[test]
fn a_bias_by_distance_is_added() {
    biases::<f16>(64, "attention_w64_q");
    biases::<bf16>(128, "attention_w128_q64");
    biases::<f32>(20, "attention_f32");
}

#[test]
fn sequences_of_one_length() {
    for length in [1, 16, 64, 100, 128] {
        Case::<f16>::new(1, 1, 64, &[length; 3]).check("attention_w64_q");
        Case::<bf16>::new(1, 1, 128, &[length; 3]).check("attention_w128_q64");
        Case::<f32>::new(1, 1, 16, &[length; 3]).check("attention_f32");
    }
}

#[test]
fn heads_share_keys_and_values() {
    for (query, key_value) in [(4, 4), (4, 2), (6, 2), (3, 1)] {
        Case::<f16>::new(query, key_value, 32, &[70, 3, 16]).check("attention_w32_q64");
        Case::<f32>::new(query, key_value, 12, &[70, 3, 16]).check("attention_f32");
    }
}

fn selection<T: Real>(width: usize) {
    for span in [AttentionSpan::FULL, AttentionSpan::CAUSAL, AttentionSpan::window(70)] {
        let of = |selection| Case::<T>::new(2, 1, width, &[5, 1, 64, 200]).span(span).selection(selection);
        let all = of(TokenSelection::All).contexts().0;
        let row = 2 * width;
        let starts = of(TokenSelection::All).starts();
        for selection in [TokenSelection::First, TokenSelection::Last] {
            let case = of(selection);
            case.check("attention_");
            let rows = starts.windows(2).flat_map(|range| {
                let at = if selection == TokenSelection::First { range[0] } else { range[1] - 1 };
                all[at * row..(at + 1) * row].iter().copied()
            });
            assert!(same(&case.contexts().0, &rows.collect::<Vec<T>>()), "{width} {span:?} {selection:?}");
        }
    }
}

#[test]
fn selected_tokens_are_as_among_all_tokens() {
    selection::<f16>(64);
    selection::<bf16>(32);
    selection::<f16>(256);
    selection::<f32>(20);
}

fn alone<T: Real>(width: usize, span: AttentionSpan) {
    let batch = Case::<T>::new(2, 1, width, &[40, 130, 64, 65, 1]).span(span).biased();
    let (together, row) = (batch.contexts().0, 2 * width);
    for (&start, &length) in batch.starts().iter().zip(&batch.lengths) {
        let tokens = start * batch.stride()..(start + length) * batch.stride();
        let one = Case {
            attention: batch.attention,
            lengths: vec![length],
            qkv: batch.qkv[tokens].to_vec(),
            bias: batch.bias.clone(),
            positions: batch.positions,
        };
        let found = one.contexts().0;
        assert!(same(&found, &together[start * row..(start + length) * row]), "{width} {span:?} {length}");
    }
}

#[test]
fn a_sequence_alone_is_as_in_a_batch() {
    for span in [AttentionSpan::FULL, AttentionSpan::CAUSAL, AttentionSpan::window(10)] {
        alone::<f16>(64, span);
        alone::<bf16>(16, span);
        alone::<f16>(128, span);
        alone::<f32>(20, span);
    }
}

fn not_a_number<T: Real>(width: usize) {
    let nan = T::of(f32::NAN);
    let plain = Case::<T>::new(1, 1, width, &[100, 90, 20]);
    let usual = plain.contexts().0;
    // NaN in a query affects that context alone, in a key or a value the whole sequence. Others do not change.
    for (part, rows) in [(0, 150..151), (1, 100..190), (2, 100..190)] {
        let mut case = Case::<T>::new(1, 1, width, &[100, 90, 20]);
        let at = 150 * case.stride() + part * width + width / 2;
        case.qkv[at] = nan;
        let found = case.contexts().0;
        for (row, found) in found.chunks(width).enumerate() {
            let values = if part == 2 { width / 2..width / 2 + 1 } else { 0..width };
            for (column, value) in found.iter().enumerate() {
                if rows.contains(&row) && values.contains(&column) {
                    assert!(value.to_f32().is_nan(), "{width}, part {part}: {value:?} in row {row}");
                } else {
                    assert!(same(&[*value], &[usual[row * width + column]]), "{width}, part {part}: row {row}");
                }
            }
        }
    }
}

#[test]
fn nan_comes_out_as_nan() {
    not_a_number::<f16>(64);
    not_a_number::<bf16>(256);
    not_a_number::<f16>(128);
    not_a_number::<f32>(20);
}

#[test]
fn large_scores_do_not_overflow() {
    for factor in [40.0, -40.0, 1000.0] {
        let mut case = Case::<f16>::new(1, 1, 64, &[300]);
        case.qkv
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| at % 192 < 64)
            .for_each(|(_, q)| *q = f16::of(q.to_f32() * factor));
        case.check("attention_w64_q128");
    }
}

#[test]
fn long_sequences_are_processed_in_parts() {
    Case::<f16>::new(1, 1, 32, &[511, 512]).check("attention_w32_q128");
    Case::<bf16>::new(1, 1, 64, &[512, 511]).check("attention_w64_q128");
    Case::<f16>::new(1, 1, 16, &[1100]).span(AttentionSpan::window(64)).check("attention_w16_q128");
    Case::<f16>::new(1, 1, 16, &[8192])
        .span(AttentionSpan::CAUSAL)
        .selection(TokenSelection::Last)
        .check("attention_w16_q64");
    Case::<f16>::new(1, 1, 16, &[8192]).selection(TokenSelection::First).check("attention_w16_q64");
}

/// A random case.
fn random_case<T: Real>(seed: u64) {
    let mut drawn = Random::new(seed);
    let key_value_heads = 1 + drawn.below(2);
    let query_heads = key_value_heads * (1 + drawn.below(3));
    let width = if drawn.below(3) > 0 { WIDTHS[drawn.below(4)] } else { 1 + drawn.below(70) };
    let lengths: Vec<usize> = (0..=drawn.below(4)).map(|_| 1 + drawn.below(150)).collect();
    let mut limit = || (drawn.below(3) > 0).then(|| drawn.below(90));
    let span = AttentionSpan { left: limit(), right: limit() };
    let selection =
        [TokenSelection::All, TokenSelection::All, TokenSelection::First, TokenSelection::Last][drawn.below(4)];
    let case = Case::<T>::new(query_heads, key_value_heads, width, &lengths).span(span).selection(selection);
    let case = if drawn.below(2) == 0 { case.biased() } else { case };
    case.check("attention_");
}

#[test]
fn random_combinations() {
    for seed in 0..15 {
        random_case::<f16>(seed);
        random_case::<bf16>(seed + 100);
        random_case::<f32>(seed + 200);
    }
}
