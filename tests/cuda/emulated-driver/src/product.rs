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

impl Product {
    /// Bytes of the sums that [`begin`] leaves for [`end`].
    pub fn sums(&self) -> usize {
        self.rows * self.outputs * size_of::<f32>()
    }

    fn read(&self, memory: &Ledger, what: &str, address: u64, count: usize) -> Result<Vec<f32>, String> {
        held(memory, what, address, count * self.element.bytes())?;
        // SAFETY: the card holds so many, and any bytes are a number.
        Ok(unsafe {
            match self.element {
                Element::F32 => std::slice::from_raw_parts(address as *const f32, count).to_vec(),
                Element::F16 => std::slice::from_raw_parts(address as *const f16, count).to_f32_vec(),
                Element::Bf16 => std::slice::from_raw_parts(address as *const bf16, count).to_f32_vec(),
            }
        })
    }

    /// What is multiplied: the weight and x.
    fn factors(&self, memory: &Ledger) -> Result<[Vec<f32>; 2], String> {
        let weight = self.read(memory, "a weight", self.weight, self.outputs * self.inputs)?;
        Ok([weight, self.read(memory, "what it is multiplied with", self.x, self.rows * self.inputs)?])
    }
}

/// The first of two launches: the sums of the first half of the inputs go to the workspace.
pub fn begin(product: &Product, memory: &Ledger, workspace: u64) -> Result<(), String> {
    let Product { inputs, outputs, .. } = *product;
    let [weight, x] = product.factors(memory)?;
    held(memory, "a workspace", workspace, product.sums())?;
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (output, weight) in weight.chunks_exact(inputs).enumerate() {
            let sum = dot(&x[..inputs / 2], &weight[..inputs / 2]);
            // SAFETY: the card holds so many.
            unsafe { (workspace as *mut f32).add(row * outputs + output).write(sum) };
        }
    }
    Ok(())
}

/// The only launch, or the second one: what is left is added to the sums in the workspace.
pub fn end(product: &Product, memory: &Ledger, workspace: Option<u64>) -> Result<(), String> {
    let Product { element, inputs, outputs, rows, .. } = *product;
    let [weight, x] = product.factors(memory)?;
    let bias = product.bias.map(|address| product.read(memory, "a bias", address, outputs)).transpose()?;
    let added =
        product.added.map(|address| product.read(memory, "what is added", address, rows * outputs)).transpose()?;
    held(memory, "a product", product.out, rows * outputs * element.bytes())?;
    let first = workspace.map_or(0, |_| inputs / 2);
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (output, weight) in weight.chunks_exact(inputs).enumerate() {
            let at = row * outputs + output;
            let bias = bias.as_ref().map_or(0.0, |bias| bias[output]);
            // SAFETY: the first launch has written as many.
            let begun = workspace.map_or(0.0, |sums| unsafe { (sums as *const f32).add(at).read() });
            let sum = begun + dot(&x[first..], &weight[first..]);
            let value = sum + bias + added.as_ref().map_or(0.0, |added| added[at]);
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
