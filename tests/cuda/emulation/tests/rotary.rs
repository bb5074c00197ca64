//! Biases, norms and rotations of heads against plain arithmetic.

use emulation::{
    Buffer, Real, run,
    test::{Random, assert_close, random, same},
};
use half::{bf16, f16};
use kernels::cuda::{
    Address, Element,
    norm::{Kind, Norm},
    rotary::{HeadNorms, HeadPreparation, Rotation},
};

const POSITIONS: usize = 60;
const EPSILON: f32 = 1e-4;

fn tolerance<T: Real>() -> f32 {
    match T::ELEMENT {
        Element::F32 => 2e-5,
        Element::F16 => 2e-3,
        Element::Bf16 => 1.5e-2,
    }
}

fn angle(position: usize, column: usize) -> f32 {
    position as f32 * 0.3 / (column + 1) as f32
}

#[derive(Clone, Debug)]
struct Case {
    query_heads: usize,
    key_value_heads: usize,
    width: usize,
    half: usize,
    tokens: usize,
    biased: bool,
    /// The kind, whether there is a bias, whether heads are normalised together.
    norm: Option<(Kind, bool, bool)>,
}

impl Case {
    fn new(query_heads: usize, key_value_heads: usize, width: usize) -> Self {
        Self { query_heads, key_value_heads, width, half: width / 2, tokens: 7, biased: false, norm: None }
    }

    fn stride(&self) -> usize {
        (self.query_heads + 2 * self.key_value_heads) * self.width
    }

    fn qkv<T: Real>(&self) -> Vec<T> {
        random(1, self.tokens * self.stride())
    }

    fn together(&self) -> bool {
        self.norm.is_some_and(|(_, _, together)| together)
    }

    /// The columns that are normalised together, of queries and of keys.
    fn groups(&self) -> [usize; 2] {
        let heads = if self.together() { [self.query_heads, self.key_value_heads] } else { [1, 1] };
        heads.map(|heads| heads * self.width)
    }

    fn positions(&self) -> Vec<i32> {
        let mut draw = Random::new(5);
        (0..self.tokens).map(|_| draw.below(POSITIONS) as i32).collect()
    }

    fn found<T: Real>(&self, qkv: &[T], kernel: &str) -> Vec<T> {
        let place = |values: Vec<f32>| Buffer::of(&values);
        let (qkv, bias) = (Buffer::of(qkv), place(random(2, self.stride())));
        let norms = self.groups().map(|group| (place(random(3, group)), place(random(4, group))));
        let angles = || (0..POSITIONS * self.half).map(|at| angle(at / self.half, at % self.half));
        let (cos, sin) = (place(angles().map(f32::cos).collect()), place(angles().map(f32::sin).collect()));
        let positions = Buffer::of(&self.positions());
        let placing = HeadPreparation {
            element: T::ELEMENT,
            query_heads: self.query_heads,
            key_value_heads: self.key_value_heads,
            width: self.width,
            bias: if self.biased { bias.address() } else { Address::ABSENT },
            norms: self.norm.map(|(kind, biased, together)| {
                let norm = |(weight, bias): &(Buffer<f32>, Buffer<f32>)| Norm {
                    kind,
                    epsilon: EPSILON,
                    weight: weight.address(),
                    bias: if biased { bias.address() } else { Address::ABSENT },
                };
                HeadNorms { query: norm(&norms[0]), key: norm(&norms[1]), together }
            }),
            rotation: (self.half > 0).then(|| Rotation {
                cos: cos.address(),
                sin: sin.address(),
                half: self.half,
                positions: positions.address(),
            }),
        };
        let launch = placing.launch(qkv.address(), self.tokens).expect("a launch");
        assert!(launch.kernel.starts_with(kernel), "{}, not {kernel}", launch.kernel);
        run(&launch);
        qkv.read()
    }

    fn expected<T: Real>(&self, qkv: &[T]) -> Vec<f32> {
        let Self { query_heads, key_value_heads, width, half, .. } = *self;
        let bias = random::<f32>(2, self.stride());
        let mut out = Vec::new();
        for (row, position) in qkv.chunks(self.stride()).zip(self.positions()) {
            let biased = |(x, bias): (&T, &f32)| x.to_f32() + if self.biased { *bias } else { 0.0 };
            let mut row: Vec<f32> = row.iter().zip(&bias).map(biased).collect();
            let (queries, rest) = row.split_at_mut(query_heads * width);
            for (part, group) in [queries, &mut rest[..key_value_heads * width]].into_iter().zip(self.groups()) {
                if let Some((kind, biased, _)) = self.norm {
                    let (weight, norm_bias) = (random::<f32>(3, group), random::<f32>(4, group));
                    for columns in part.chunks_mut(group) {
                        let exact: Vec<f64> = columns.iter().map(|x| f64::from(*x)).collect();
                        let mean = if kind == Kind::Layer { exact.iter().sum::<f64>() / group as f64 } else { 0.0 };
                        let variance = exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / group as f64;
                        for (at, y) in columns.iter_mut().enumerate() {
                            let scaled = (exact[at] - mean) / (variance + f64::from(EPSILON)).sqrt();
                            *y = scaled as f32 * weight[at] + if biased { norm_bias[at] } else { 0.0 };
                        }
                    }
                }
                for head in part.chunks_mut(width) {
                    for i in 0..half {
                        let (sin, cos) = angle(position as usize, i).sin_cos();
                        let (a, b) = (head[i], head[half + i]);
                        (head[i], head[half + i]) = (a * cos - b * sin, b * cos + a * sin);
                    }
                }
            }
            out.extend(row);
        }
        out
    }

    fn check<T: Real>(&self, kernel: &str) {
        let qkv = self.qkv::<T>();
        let found = self.found(&qkv, kernel);
        assert_close(&found, &self.expected(&qkv), tolerance::<T>(), &format!("{:?} {self:?}", T::ELEMENT));
        if !self.biased {
            let values = |row: &[T]| row[(self.query_heads + self.key_value_heads) * self.width..].to_vec();
            for (found, given) in found.chunks(self.stride()).zip(qkv.chunks(self.stride())) {
                assert!(same(&values(found), &values(given)), "values that stay as they are");
            }
        }
    }
}

/// All combinations of operations on heads that are normalised separately.
fn apart(width: usize, half: usize) -> Vec<Case> {
    let norms = [None, Some((Kind::Rms, false, false)), Some((Kind::Layer, true, false))];
    let mut cases = Vec::new();
    for (query_heads, key_value_heads, tokens) in [(4, 2, 7), (1, 1, 1), (3, 3, 17)] {
        for (norm, biased) in norms.iter().flat_map(|norm| [(*norm, false), (*norm, true)]) {
            if norm.is_some() || biased || half > 0 {
                let heads = Case::new(query_heads, key_value_heads, width);
                cases.push(Case { half, tokens, biased, norm, ..heads });
            }
        }
    }
    cases
}

fn in_registers<T: Real>() {
    let vector = 16 / size_of::<T>();
    for chunks in [1, 2, 3, 5, 8, 12, 16, 32, 63, 64] {
        for half in [0, chunks / 4, chunks / 2] {
            for case in apart(chunks * vector, half * vector) {
                case.check::<T>("rotary_heads");
            }
        }
    }
}

#[test]
fn heads_in_registers_of_f32() {
    in_registers::<f32>();
}

#[test]
fn heads_in_registers_of_f16() {
    in_registers::<f16>();
}

#[test]
fn heads_in_registers_of_bf16() {
    in_registers::<bf16>();
}

fn in_shared_memory<T: Real>() {
    for (width, half) in [(1, 0), (2, 1), (5, 2), (20, 9), (33, 16), (100, 3)] {
        for case in apart(width, half) {
            case.check::<T>("rotary_values");
        }
    }
    for case in apart(65 * 16 / size_of::<T>(), 64) {
        case.check::<T>("rotary_vectors");
    }
}

#[test]
fn heads_in_shared_memory() {
    in_shared_memory::<f32>();
    in_shared_memory::<f16>();
    in_shared_memory::<bf16>();
}

fn together<T: Real>() {
    for (width, half, kernel) in [(64, 32, "rotary_vectors"), (64, 0, "rotary_vectors"), (20, 10, "rotary_values")] {
        for (kind, norm_biased) in [(Kind::Rms, false), (Kind::Layer, true), (Kind::Layer, false)] {
            for biased in [false, true] {
                let norm = Some((kind, norm_biased, true));
                Case { half, biased, norm, ..Case::new(12, 12, width) }.check::<T>(kernel);
                Case { half, biased, norm, tokens: 2, ..Case::new(6, 2, width) }.check::<T>(kernel);
            }
        }
    }
}

#[test]
fn heads_are_normalised_together() {
    together::<f32>();
    together::<f16>();
    together::<bf16>();
}

#[test]
fn nan_shows_in_its_token_alone() {
    for (width, kernel) in [(64, "rotary_heads"), (20, "rotary_values")] {
        let case = Case { norm: Some((Kind::Rms, false, false)), ..Case::new(2, 1, width) };
        let mut qkv = case.qkv::<f16>();
        let usual = case.found(&qkv, kernel);
        qkv[3 * case.stride() + width + 1] = f16::NAN;
        let found = case.found(&qkv, kernel);
        for (at, (found, usual)) in found.chunks(width).zip(usual.chunks(width)).enumerate() {
            if at == 3 * 4 + 1 {
                assert!(found.iter().all(|x| x.is_nan()), "{width}: {found:?}");
            } else {
                assert!(same(found, usual), "{width}: head {at}");
            }
        }
    }
}
