//! cuBLASLt's interface, as far as the program calls it.

use std::{
    env,
    ffi::{c_int, c_uint, c_void},
    sync::LazyLock,
    thread,
    time::Duration,
};

use crate::{
    answer::Code,
    card::{self, Card},
    driver::{Stream, stream_card},
    product::{self, Element, Product},
};

pub const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 7;
const EXECUTION_FAILED: c_int = 13;
const INTERNAL_ERROR: c_int = 14;
pub const NOT_SUPPORTED: c_int = 15;

/// Attributes of a product's description, and the epilogue that adds a bias.
const TRANSPOSE_A: c_int = 3;
const EPILOGUE: c_int = 7;
const BIAS_POINTER: c_int = 8;
const EPILOGUE_BIAS: c_uint = 4;

/// What a product needs to be free on a card that says INTERNAL_ERROR when it is full, in bytes.
const FULL_ROOM: u64 = 8 << 20;
/// How many algorithms are proposed. The first splits its sums: it is two launches, with the workspace between them.
const PROPOSED: usize = 2;
/// The time between the two, in which work of other threads may come.
const BETWEEN: Duration = Duration::from_micros(20);

static FULL: LazyLock<bool> = LazyLock::new(|| env::var_os("EMULATED_BLAS_FULL").is_some());

/// A description of a product.
#[derive(Clone, Debug, Default)]
pub struct Description {
    transposed: bool,
    bias: Option<u64>,
}

/// A matrix, column by column.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    element: c_int,
    rows: u64,
    columns: u64,
    stride: i64,
}

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
pub struct Proposal {
    algorithm: [u64; 8],
    workspace: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

pub fn make<T>(to: *mut *mut T, value: T) -> c_int {
    // SAFETY: there is room for a handle.
    unsafe { to.write(Box::into_raw(Box::new(value))) };
    SUCCESS
}

pub fn destroy<T>(handle: *mut T) -> c_int {
    if handle.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: it was made by `make`.
    drop(unsafe { Box::from_raw(handle) });
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtCreate(handle: *mut *mut u64) -> c_int {
    if card::current().is_err() { EXECUTION_FAILED } else { make(handle, 1) }
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtDestroy(handle: *mut u64) -> c_int {
    destroy(handle)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescCreate(description: *mut *mut Description, _: c_int, _: c_int) -> c_int {
    make(description, Description::default())
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescDestroy(description: *mut Description) -> c_int {
    destroy(description)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescSetAttribute(
    description: *mut Description,
    attribute: c_int,
    value: *const c_void,
    bytes: usize,
) -> c_int {
    // SAFETY: a handle from above, and a value of the attribute's type.
    unsafe {
        let Some(description) = description.as_mut() else { return INVALID_VALUE };
        match (attribute, bytes) {
            (TRANSPOSE_A, 4) => description.transposed = value.cast::<c_int>().read_unaligned() == 1,
            (EPILOGUE, 4) if value.cast::<c_uint>().read_unaligned() == EPILOGUE_BIAS => {}
            (BIAS_POINTER, 8) => description.bias = Some(value.cast::<u64>().read_unaligned()),
            _ => return NOT_SUPPORTED,
        }
    }
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutCreate(
    layout: *mut *mut Layout,
    element: c_int,
    rows: u64,
    columns: u64,
    stride: i64,
) -> c_int {
    make(layout, Layout { element, rows, columns, stride })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutDestroy(layout: *mut Layout) -> c_int {
    destroy(layout)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceCreate(preference: *mut *mut usize) -> c_int {
    make(preference, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceDestroy(preference: *mut usize) -> c_int {
    destroy(preference)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceSetAttribute(
    preference: *mut usize,
    _: c_int,
    value: *const usize,
    _: usize,
) -> c_int {
    // SAFETY: a handle from above, and the one attribute that the program sets is a size.
    unsafe { preference.write(value.read_unaligned()) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulAlgoGetHeuristic(
    _: *const u64,
    _: *const Description,
    _: *const Layout,
    _: *const Layout,
    _: *const Layout,
    _: *const Layout,
    preference: *const usize,
    most: c_int,
    proposals: *mut Proposal,
    count: *mut c_int,
) -> c_int {
    let proposed = PROPOSED.min(most as usize);
    for at in 0..proposed {
        // SAFETY: there is room for as many as are asked for; the preference is a handle from above.
        unsafe {
            let workspace = if at == 0 { *preference } else { 0 };
            proposals.add(at).write(Proposal {
                algorithm: [at as u64; 8],
                workspace,
                state: SUCCESS,
                waves: 1.0,
                reserved: [0; 4],
            });
        }
    }
    // SAFETY: there is room for the count.
    unsafe { count.write(proposed as c_int) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmul(
    handle: *const u64,
    description: *const Description,
    alpha: *const f32,
    a: u64,
    a_layout: *const Layout,
    b: u64,
    b_layout: *const Layout,
    beta: *const f32,
    c: u64,
    c_layout: *const Layout,
    d: u64,
    d_layout: *const Layout,
    algorithm: *const u64,
    workspace: u64,
    workspace_bytes: usize,
    stream: *const Stream,
) -> c_int {
    let _ = (handle, c_layout);
    // SAFETY: all are handles from above, or numbers that the program holds.
    let (description, layouts, algorithm, alpha, beta) =
        unsafe { (&*description, [*a_layout, *b_layout, *d_layout], *algorithm, *alpha, *beta) };
    let Ok(card) = stream_card(stream) else { return EXECUTION_FAILED };
    let workspace = (algorithm == 0).then_some((workspace, workspace_bytes));
    multiply(card, description, layouts, [a, b, c, d], [alpha, beta], workspace)
}

fn multiply(
    card: &Card,
    description: &Description,
    [a, b, d]: [Layout; 3],
    [weight, x, added, out]: [u64; 4],
    [alpha, beta]: [f32; 2],
    workspace: Option<(u64, usize)>,
) -> c_int {
    let Ok(mut state) = card.open() else { return EXECUTION_FAILED };
    if *FULL && card.room(&state) < FULL_ROOM {
        return INTERNAL_ERROR;
    }
    let Some(element) = Element::of(a.element) else { return NOT_SUPPORTED };
    // As the program describes it: the first operand transposed, all of one type and without gaps.
    let (inputs, outputs, rows) = (a.rows, a.columns, b.columns);
    let whole = [a, b, d].iter().all(|layout| layout.element == a.element && layout.stride == layout.rows as i64);
    if !description.transposed || !whole || b.rows != inputs || (d.rows, d.columns) != (outputs, rows) {
        return INVALID_VALUE;
    }
    let product = Product {
        element,
        inputs: inputs as usize,
        outputs: outputs as usize,
        rows: rows as usize,
        weight,
        x,
        bias: description.bias,
        added: (beta.to_bits() != 0).then_some(added),
        out,
    };
    state.products += 1;
    let current = card::current().is_ok_and(|current| std::ptr::eq(current, card));
    let one = 1f32.to_bits();
    if !current || alpha.to_bits() != one || ![0, one].contains(&beta.to_bits()) {
        state.wrong.push(format!("a product with {alpha}, {beta}, context {current}"));
        return INVALID_VALUE;
    }
    let workspace = workspace.filter(|(_, bytes)| *bytes >= product.sums()).map(|(workspace, _)| workspace);
    let mut done = workspace.map_or(Ok(()), |workspace| product::begin(&product, &state.memory, workspace));
    if done.is_ok() && workspace.is_some() {
        drop(state);
        thread::sleep(BETWEEN);
        let Ok(again) = card.open() else { return EXECUTION_FAILED };
        state = again;
    }
    done = done.and_then(|()| product::end(&product, &state.memory, workspace));
    match done {
        Ok(()) => SUCCESS,
        Err(why) => {
            state.fail(Code::ILLEGAL_ADDRESS, why);
            EXECUTION_FAILED
        }
    }
}
