//! Matrix products, by loops.

use half::{bf16, f16, slice::HalfFloatSliceExt};

use crate::memory::Ledger;

/// A type of operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    Bf16,
}

/// `out` = `x`⋅`weight`ᵀ + `bias` + `added`: `[rows, outputs]` of `[rows, inputs]` and `[outputs, inputs]`.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub element: Element,
    pub inputs: usize,
    pub outputs: usize,
    pub rows: usize,
    pub weight: u64,
    pub x: u64,
    pub bias: Option<u64>,
    pub added: Option<u64>,
    pub out: u64,
}

impl Element {
    /// As `cudaDataType` numbers them.
    pub fn of(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            2 => Self::F16,
            14 => Self::Bf16,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }
}

/// Computes a product of values that the card holds.
pub fn run(product: &Product, memory: &Ledger) -> Result<(), String> {
    let Product { element, inputs, outputs, rows, .. } = *product;
    let read = |what: &str, address: u64, count: usize| -> Result<Vec<f32>, String> {
        held(memory, what, address, count * element.bytes())?;
        // SAFETY: the card holds so many, and any bytes are a number.
        Ok(unsafe {
            match element {
                Element::F32 => std::slice::from_raw_parts(address as *const f32, count).to_vec(),
                Element::F16 => std::slice::from_raw_parts(address as *const f16, count).to_f32_vec(),
                Element::Bf16 => std::slice::from_raw_parts(address as *const bf16, count).to_f32_vec(),
            }
        })
    };
    let weight = read("a weight", product.weight, outputs * inputs)?;
    let x = read("what it is multiplied with", product.x, rows * inputs)?;
    let bias = product.bias.map(|address| read("a bias", address, outputs)).transpose()?;
    let added = product.added.map(|address| read("what is added", address, rows * outputs)).transpose()?;
    held(memory, "a product", product.out, rows * outputs * element.bytes())?;
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (output, weight) in weight.chunks_exact(inputs).enumerate() {
            let at = row * outputs + output;
            let bias = bias.as_ref().map_or(0.0, |bias| bias[output]);
            let value = dot(x, weight) + bias + added.as_ref().map_or(0.0, |added| added[at]);
            // SAFETY: the card holds so many.
            unsafe {
                match element {
                    Element::F32 => (product.out as *mut f32).add(at).write(value),
                    Element::F16 => (product.out as *mut f16).add(at).write(f16::from_f32(value)),
                    Element::Bf16 => (product.out as *mut bf16).add(at).write(bf16::from_f32(value)),
                }
            }
        }
    }
    Ok(())
}

fn held(memory: &Ledger, what: &str, address: u64, bytes: usize) -> Result<(), String> {
    let held = bytes == 0 || memory.holds(address, bytes);
    held.then_some(()).ok_or_else(|| format!("{what} of {bytes} bytes at {address:#x} is not on the card"))
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest: f32 = ones.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0f32; LANES];
    for (one, other) in ones.zip(others) {
        for lane in 0..LANES {
            sums[lane] += one[lane] * other[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
