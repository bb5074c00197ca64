//! The few kernels of candle that the program launches.

use std::ffi::c_void;

use half::{bf16, f16};

use crate::memory::Ledger;

/// The parameters of a launch.
pub struct Parameters<'a> {
    addresses: *const *const c_void,
    memory: &'a Ledger,
}

impl<'a> Parameters<'a> {
    /// # Safety
    /// There is the address of a value for every parameter of the kernel.
    pub unsafe fn new(addresses: *const *const c_void, memory: &'a Ledger) -> Self {
        Self { addresses, memory }
    }

    fn value<T: Copy>(&self, at: usize) -> T {
        // SAFETY: the promise of `new`; the kernels below read their own parameters.
        unsafe { (*self.addresses.add(at)).cast::<T>().read_unaligned() }
    }

    /// The value at every one of the `places` of a parameter, which the card has to hold.
    fn read<T: Copy>(&self, at: usize, places: &[usize]) -> Result<Vec<T>, String> {
        let from = self.values::<T>(at, places)?;
        // SAFETY: the card holds them.
        Ok(places.iter().map(|place| unsafe { from.add(*place).read() }).collect())
    }

    fn write<T: Copy>(&self, at: usize, places: &[usize], values: impl Iterator<Item = T>) -> Result<(), String> {
        let to = self.values::<T>(at, places)?;
        for (place, value) in places.iter().zip(values) {
            // SAFETY: the card holds them.
            unsafe { to.add(*place).write(value) };
        }
        Ok(())
    }

    fn values<T>(&self, at: usize, places: &[usize]) -> Result<*mut T, String> {
        let address: u64 = self.value(at);
        let bytes = places.iter().max().map_or(0, |last| (last + 1) * size_of::<T>());
        let held = bytes == 0 || self.memory.holds(address, bytes);
        held.then_some(address as *mut T).ok_or_else(|| format!("parameter {at}: {address:#x} is not on the card"))
    }

    /// Where the elements of a tensor are, in their order: the first parameters are the number of elements, that of
    /// dimensions, and the sizes and strides of these, or null.
    fn strided(&self) -> Result<Vec<usize>, String> {
        self.strided_as(1, 0)
    }

    /// As [`Parameters::strided`], where the number of dimensions is this parameter, and behind the sizes are the
    /// strides of several tensors.
    fn strided_as(&self, dimensions: usize, tensor: usize) -> Result<Vec<usize>, String> {
        let (count, info): (usize, usize) = (self.value(0), dimensions + 1);
        let dimensions: usize = self.value(dimensions);
        if self.value::<u64>(info) == 0 {
            return Ok((0..count).collect());
        }
        let info: Vec<usize> = self.read(info, &(0..(2 + tensor) * dimensions).collect::<Vec<_>>())?;
        let (sizes, strides) = (&info[..dimensions], &info[(1 + tensor) * dimensions..]);
        let place = |mut at: usize| {
            let mut place = 0;
            for (size, stride) in sizes.iter().zip(strides).rev() {
                place += at % size * stride;
                at /= size;
            }
            place
        };
        Ok((0..count).map(place).collect())
    }
}

/// An expression in which `$element` is the type that candle has this name for.
macro_rules! of_type {
    ($name:expr, $element:ident => $then:expr) => {
        of_type!($name, $element => $then, "f32" f32, "f16" f16, "bf16" bf16, "u8" u8, "u32" u32, "i64" i64)
    };
    ($name:expr, $element:ident => $then:expr, $($text:literal $type:ty),*) => {
        match $name {
            $($text => {
                type $element = $type;
                $then
            })*
            other => Err(format!("candle's type {other} is not written here")),
        }
    };
}

/// Runs a kernel.
///
/// # Safety
/// The parameters are those of the kernel.
pub unsafe fn run(kernel: &str, parameters: &Parameters) -> Result<(), String> {
    let (name, element) = kernel.rsplit_once('_').unwrap_or((kernel, ""));
    match name {
        "copy2d" => of_type!(element, T => copy_rows::<T>(parameters)),
        "ucopy" => of_type!(element, T => copy::<T>(parameters)),
        "const_set" => of_type!(element, T => set::<T>(parameters)),
        "cast_f32" => of_type!(element, T => cast::<f32, T>(parameters)),
        "cast_f16" => of_type!(element, T => cast::<f16, T>(parameters)),
        "cast_bf16" => of_type!(element, T => cast::<bf16, T>(parameters)),
        "affine" => of_type!(element, T => affine::<T>(parameters)),
        "fast_sum" => of_type!(element, T => sum::<T>(parameters)),
        _ => {
            let unknown = || format!("candle's kernel {kernel} is not written here");
            if let Some((_, function)) = UNARY.iter().find(|(known, _)| *known == name) {
                return of_type!(element, T => unary::<T>(parameters, *function));
            }
            let (_, function) = BINARY.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
            of_type!(element, T => binary::<T>(parameters, *function))
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
    let values: Vec<T> = parameters.read(3, &parameters.strided()?)?;
    let whole: Vec<usize> = (0..values.len()).collect();
    parameters.write(4, &whole, values.into_iter().map(|value| T::of(function(value.to()))))
}

fn binary<T: Number>(parameters: &Parameters, function: Binary) -> Result<(), String> {
    let one: Vec<T> = parameters.read(3, &parameters.strided_as(1, 0)?)?;
    let other: Vec<T> = parameters.read(4, &parameters.strided_as(1, 1)?)?;
    let whole: Vec<usize> = (0..one.len()).collect();
    let values = one.into_iter().zip(other).map(|(one, other)| T::of(function(one.to(), other.to())));
    parameters.write(5, &whole, values)
}

fn affine<T: Number>(parameters: &Parameters) -> Result<(), String> {
    let values: Vec<T> = parameters.read(3, &parameters.strided()?)?;
    let (factor, term) = (parameters.value::<T>(5).to(), parameters.value::<T>(6).to());
    let whole: Vec<usize> = (0..values.len()).collect();
    parameters.write(4, &whole, values.into_iter().map(|value| T::of(value.to() * factor + term)))
}

/// The sums of as many elements as the second parameter says, one after the other.
fn sum<T: Number>(parameters: &Parameters) -> Result<(), String> {
    let values: Vec<T> = parameters.read(4, &parameters.strided_as(2, 0)?)?;
    let sums = values.chunks(parameters.value::<usize>(1).max(1));
    let whole: Vec<usize> = (0..sums.len()).collect();
    parameters.write(5, &whole, sums.map(|values| T::of(values.iter().map(|value| value.to()).sum())))
}

fn copy_rows<T: Copy>(parameters: &Parameters) -> Result<(), String> {
    let [rows, width, from, to] = [2, 3, 4, 5].map(|at| parameters.value::<u32>(at) as usize);
    let places = |stride: usize| -> Vec<usize> {
        (0..rows).flat_map(|row| (0..width).map(move |column| row * stride + column)).collect()
    };
    let values: Vec<T> = parameters.read(0, &places(from))?;
    parameters.write(1, &places(to), values.into_iter())
}

fn copy<T: Number>(parameters: &Parameters) -> Result<(), String> {
    cast::<T, T>(parameters)
}

fn cast<From: Number, To: Number>(parameters: &Parameters) -> Result<(), String> {
    let places = parameters.strided()?;
    let values: Vec<From> = parameters.read(3, &places)?;
    let whole: Vec<usize> = (0..values.len()).collect();
    parameters.write(4, &whole, values.into_iter().map(|value| To::of(value.to())))
}

fn set<T: Number>(parameters: &Parameters) -> Result<(), String> {
    let (places, value) = (parameters.strided()?, parameters.value::<T>(3));
    parameters.write(4, &places, places.iter().map(|_| value))
}

/// A type of numbers.
trait Number: Copy {
    fn of(value: f64) -> Self;
    fn to(self) -> f64;
}

macro_rules! numbers {
    ($($type:ty: $of:expr, $to:expr;)*) => {$(
        impl Number for $type {
            fn of(value: f64) -> Self {
                ($of)(value)
            }
            fn to(self) -> f64 {
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
