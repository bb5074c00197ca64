//! Matrix products by plain loops, in f32.

use half::{bf16, f16, slice::HalfFloatSliceExt};

use crate::memory::Pool;

/// The type of the operands.
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
    /// The type with this number in `cudaDataType`.
    pub fn from_cuda(number: i32) -> Option<Self> {
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
    /// Bytes of the partial sums that [`first_half`] leaves for [`finish`].
    pub fn workspace_bytes(&self) -> usize {
        self.rows * self.outputs * size_of::<f32>()
    }

    fn read(&self, memory: &Pool, what: &str, address: u64, count: usize) -> Result<Vec<f32>, String> {
        check_allocated(memory, what, address, count * self.element.bytes())?;
        // SAFETY: they are allocated, and any bytes are a number.
        Ok(unsafe {
            match self.element {
                Element::F32 => std::slice::from_raw_parts(address as *const f32, count).to_vec(),
                Element::F16 => std::slice::from_raw_parts(address as *const f16, count).to_f32_vec(),
                Element::Bf16 => std::slice::from_raw_parts(address as *const bf16, count).to_f32_vec(),
            }
        })
    }

    /// The weight and x.
    fn operands(&self, memory: &Pool) -> Result<[Vec<f32>; 2], String> {
        let weight = self.read(memory, "a weight", self.weight, self.outputs * self.inputs)?;
        Ok([weight, self.read(memory, "an operand x", self.x, self.rows * self.inputs)?])
    }
}

/// The first of two launches: writes the sums over the first half of the inputs to the workspace.
pub fn first_half(product: &Product, memory: &Pool, workspace: u64) -> Result<(), String> {
    let Product { inputs, outputs, .. } = *product;
    let [weight, x] = product.operands(memory)?;
    check_allocated(memory, "a workspace", workspace, product.workspace_bytes())?;
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (output, weight) in weight.chunks_exact(inputs).enumerate() {
            let sum = dot(&x[..inputs / 2], &weight[..inputs / 2]);
            // SAFETY: they are allocated.
            unsafe { (workspace as *mut f32).add(row * outputs + output).write(sum) };
        }
    }
    Ok(())
}

/// The only launch, or the second of two: adds the rest of the inputs to the sums in the workspace.
pub fn finish(product: &Product, memory: &Pool, workspace: Option<u64>) -> Result<(), String> {
    let Product { element, inputs, outputs, rows, .. } = *product;
    let [weight, x] = product.operands(memory)?;
    let bias = product.bias.map(|address| product.read(memory, "a bias", address, outputs)).transpose()?;
    let added = product.added.map(|address| product.read(memory, "an addend", address, rows * outputs)).transpose()?;
    check_allocated(memory, "a product", product.out, rows * outputs * element.bytes())?;
    let first = workspace.map_or(0, |_| inputs / 2);
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (output, weight) in weight.chunks_exact(inputs).enumerate() {
            let at = row * outputs + output;
            let bias = bias.as_ref().map_or(0.0, |bias| bias[output]);
            // SAFETY: the first launch has written them.
            let partial = workspace.map_or(0.0, |sums| unsafe { (sums as *const f32).add(at).read() });
            let sum = partial + dot(&x[first..], &weight[first..]);
            let value = sum + bias + added.as_ref().map_or(0.0, |added| added[at]);
            // SAFETY: they are allocated.
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

fn check_allocated(memory: &Pool, what: &str, address: u64, bytes: usize) -> Result<(), String> {
    let is_allocated = bytes == 0 || memory.contains(address, bytes);
    is_allocated
        .then_some(())
        .ok_or_else(|| format!("{what} of {bytes} bytes at {address:#x} is not allocated on the card"))
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (lefts, rights) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest: f32 = lefts.remainder().iter().zip(rights.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0f32; LANES];
    for (left, right) in lefts.zip(rights) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
