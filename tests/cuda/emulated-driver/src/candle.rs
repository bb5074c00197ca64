//! The few kernels of candle that the program launches, as plain loops.

use std::ffi::c_void;

use half::{bf16, f16};

use crate::memory::Pool;

/// The parameters of a launch.
pub struct Parameters<'a> {
    addresses: *const *const c_void,
    memory: &'a Pool,
}

impl<'a> Parameters<'a> {
    /// # Safety
    /// `addresses` holds the address of a value for every parameter of the kernel.
    pub unsafe fn new(addresses: *const *const c_void, memory: &'a Pool) -> Self {
        Self { addresses, memory }
    }

    fn value<T: Copy>(&self, at: usize) -> T {
        // SAFETY: the promise of `new`; each kernel below reads its own parameters.
        unsafe { (*self.addresses.add(at)).cast::<T>().read_unaligned() }
    }

    /// The elements of an array at these offsets.
    fn read<T: Copy>(&self, at: usize, offsets: &[usize]) -> Result<Vec<T>, String> {
        let from = self.array::<T>(at, offsets)?;
        // SAFETY: they are allocated.
        Ok(offsets.iter().map(|offset| unsafe { from.add(*offset).read() }).collect())
    }

    /// Writes the elements of an array at these offsets.
    fn write<T: Copy>(&self, at: usize, offsets: &[usize], values: impl Iterator<Item = T>) -> Result<(), String> {
        let to = self.array::<T>(at, offsets)?;
        for (offset, value) in offsets.iter().zip(values) {
            // SAFETY: they are allocated.
            unsafe { to.add(*offset).write(value) };
        }
        Ok(())
    }

    /// The array that a parameter points to, allocated up to the last of these offsets.
    fn array<T>(&self, at: usize, offsets: &[usize]) -> Result<*mut T, String> {
        let address: u64 = self.value(at);
        let bytes = offsets.iter().max().map_or(0, |last| (last + 1) * size_of::<T>());
        let is_allocated = bytes == 0 || self.memory.contains(address, bytes);
        let error = || format!("parameter {at}: {address:#x} is not allocated on the card");
        is_allocated.then_some(address as *mut T).ok_or_else(error)
    }

    /// The offsets of a tensor's elements, in their order. The first parameters are the number of elements, the number
    /// of dimensions, and the sizes and strides of these, or null.
    fn offsets(&self) -> Result<Vec<usize>, String> {
        self.offsets_of(1, 0)
    }

    /// As [`Parameters::offsets`], of one of several tensors: `dimensions` is the parameter that has their number, and
    /// the strides of all tensors follow the sizes.
    fn offsets_of(&self, dimensions: usize, tensor: usize) -> Result<Vec<usize>, String> {
        let (count, info): (usize, usize) = (self.value(0), dimensions + 1);
        let dimensions: usize = self.value(dimensions);
        if self.value::<u64>(info) == 0 {
            return Ok((0..count).collect());
        }
        let info: Vec<usize> = self.read(info, &(0..(2 + tensor) * dimensions).collect::<Vec<_>>())?;
        let (sizes, strides) = (&info[..dimensions], &info[(1 + tensor) * dimensions..]);
        let offset = |mut element: usize| {
            let mut offset = 0;
            for (size, stride) in sizes.iter().zip(strides).rev() {
                offset += element % size * stride;
                element /= size;
            }
            offset
        };
        Ok((0..count).map(offset).collect())
    }
}

/// Evaluates an expression with `$element` as the type that has this name in candle.
macro_rules! with_type {
    ($name:expr, $element:ident => $then:expr) => {
        with_type!($name, $element => $then, "f32" f32, "f16" f16, "bf16" bf16, "u8" u8, "u32" u32, "i64" i64)
    };
    ($name:expr, $element:ident => $then:expr, $($text:literal $type:ty),*) => {
        match $name {
            $($text => {
                type $element = $type;
                $then
            })*
            unknown => Err(format!("candle's type {unknown} is not implemented")),
        }
    };
}

/// Runs a kernel.
///
/// # Errors
/// A kernel or a type that is not implemented, or memory that is not allocated.
///
/// # Safety
/// The parameters are those of the kernel.
pub unsafe fn run(kernel: &str, parameters: &Parameters) -> Result<(), String> {
    let (name, element) = kernel.rsplit_once('_').unwrap_or((kernel, ""));
    match name {
        "copy2d" => with_type!(element, T => copy_rows::<T>(parameters)),
        "ucopy" => with_type!(element, T => copy::<T>(parameters)),
        "const_set" => with_type!(element, T => set::<T>(parameters)),
        "cast_f32" => with_type!(element, T => cast::<f32, T>(parameters)),
        "cast_f16" => with_type!(element, T => cast::<f16, T>(parameters)),
        "cast_bf16" => with_type!(element, T => cast::<bf16, T>(parameters)),
        "affine" => with_type!(element, T => affine::<T>(parameters)),
        "fast_sum" => with_type!(element, T => sum::<T>(parameters)),
        _ => {
            let unknown = || format!("candle's kernel {kernel} is not implemented");
            if let Some((_, function)) = UNARY.iter().find(|(known, _)| *known == name) {
                return with_type!(element, T => unary::<T>(parameters, *function));
            }
            let (_, function) = BINARY.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
            with_type!(element, T => binary::<T>(parameters, *function))
        }
    }
}

type Unary = fn(f64) -> f64;
type Binary = fn(f64, f64) -> f64;

const UNARY: [(&str, Unary); 4] = [("usqr", |x| x * x), ("usqrt", f64::sqrt), ("utanh", f64::tanh), ("uneg", |x| -x)];
const BINARY: [(&str, Binary); 5] = [
    ("badd", |x, y| x + y),
    ("bsub", |x, y| x - y),
    ("bmul", |x, y| x * y),
    ("bdiv", |x, y| x / y),
    ("bmaximum", |x, y| if x.is_nan() { x } else { y.max(x) }),
];

fn unary<T: Number>(parameters: &Parameters, function: Unary) -> Result<(), String> {
    let values: Vec<T> = parameters.read(3, &parameters.offsets()?)?;
    let dense: Vec<usize> = (0..values.len()).collect();
    parameters.write(4, &dense, values.into_iter().map(|value| T::from_f64(function(value.to_f64()))))
}

fn binary<T: Number>(parameters: &Parameters, function: Binary) -> Result<(), String> {
    let left: Vec<T> = parameters.read(3, &parameters.offsets_of(1, 0)?)?;
    let right: Vec<T> = parameters.read(4, &parameters.offsets_of(1, 1)?)?;
    let dense: Vec<usize> = (0..left.len()).collect();
    let values = left.into_iter().zip(right).map(|(x, y)| T::from_f64(function(x.to_f64(), y.to_f64())));
    parameters.write(5, &dense, values)
}

fn affine<T: Number>(parameters: &Parameters) -> Result<(), String> {
    let values: Vec<T> = parameters.read(3, &parameters.offsets()?)?;
    let (factor, term) = (parameters.value::<T>(5).to_f64(), parameters.value::<T>(6).to_f64());
    let dense: Vec<usize> = (0..values.len()).collect();
    parameters.write(4, &dense, values.into_iter().map(|value| T::from_f64(value.to_f64() * factor + term)))
}

/// The sums of consecutive elements; the second parameter is the number of summands.
fn sum<T: Number>(parameters: &Parameters) -> Result<(), String> {
    let values: Vec<T> = parameters.read(4, &parameters.offsets_of(2, 0)?)?;
    let sums = values.chunks(parameters.value::<usize>(1).max(1));
    let dense: Vec<usize> = (0..sums.len()).collect();
    parameters.write(5, &dense, sums.map(|values| T::from_f64(values.iter().map(|value| value.to_f64()).sum())))
}

fn copy_rows<T: Copy>(parameters: &Parameters) -> Result<(), String> {
    let [rows, width, from, to] = [2, 3, 4, 5].map(|at| parameters.value::<u32>(at) as usize);
    let offsets = |stride: usize| -> Vec<usize> {
        (0..rows).flat_map(|row| (0..width).map(move |column| row * stride + column)).collect()
    };
    let values: Vec<T> = parameters.read(0, &offsets(from))?;
    parameters.write(1, &offsets(to), values.into_iter())
}

fn copy<T: Number>(parameters: &Parameters) -> Result<(), String> {
    cast::<T, T>(parameters)
}

fn cast<From: Number, To: Number>(parameters: &Parameters) -> Result<(), String> {
    let values: Vec<From> = parameters.read(3, &parameters.offsets()?)?;
    let dense: Vec<usize> = (0..values.len()).collect();
    parameters.write(4, &dense, values.into_iter().map(|value| To::from_f64(value.to_f64())))
}

fn set<T: Number>(parameters: &Parameters) -> Result<(), String> {
    let (offsets, value) = (parameters.offsets()?, parameters.value::<T>(3));
    parameters.write(4, &offsets, offsets.iter().map(|_| value))
}

/// A type of numbers.
trait Number: Copy {
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
}

macro_rules! numbers {
    ($($type:ty: $from:expr, $to:expr;)*) => {$(
        impl Number for $type {
            fn from_f64(value: f64) -> Self {
                ($from)(value)
            }
            fn to_f64(self) -> f64 {
                ($to)(self)
            }
        }
    )*};
}
numbers! {
    f32: |value| value as f32, f64::from;
    f16: f16::from_f64, f16::to_f64;
    bf16: bf16::from_f64, bf16::to_f64;
    u32: |value| value as u32, f64::from;
    u8: |value| value as u8, f64::from;
    i64: |value| value as i64, |value| value as f64;
}
