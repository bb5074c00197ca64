//! The calls of cuBLASLt that the program makes.

use std::{
    env,
    ffi::{c_int, c_uint, c_void},
    sync::LazyLock,
    thread,
    time::Duration,
};

use crate::{
    card::{self, Card},
    driver::{Stream, stream_card},
    product::{self, Element, Product},
    status::ErrorCode,
};

pub const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 7;
const EXECUTION_FAILED: c_int = 13;
const INTERNAL_ERROR: c_int = 14;
pub const NOT_SUPPORTED: c_int = 15;

/// Attributes of the description of a product, and the epilogue that adds a bias.
const TRANSPOSE_A: c_int = 3;
const EPILOGUE: c_int = 7;
const BIAS_POINTER: c_int = 8;
const EPILOGUE_BIAS: c_uint = 4;

/// With `EMULATED_BLAS_FULL`, a product on a card with fewer free bytes fails with INTERNAL_ERROR.
const LEAST_FREE: u64 = 8 << 20;
/// The number of algorithms that the heuristic proposes. The first splits its sums: two launches, with partial sums in
/// the workspace.
const PROPOSED: usize = 2;
/// The time between these launches, in which other threads may launch work.
const BETWEEN: Duration = Duration::from_micros(20);

static FAILS_WHEN_FULL: LazyLock<bool> = LazyLock::new(|| env::var_os("EMULATED_BLAS_FULL").is_some());

/// A description of a product.
#[derive(Clone, Debug, Default)]
pub struct Description {
    transposed: bool,
    bias: Option<u64>,
}

/// A matrix in column-major order.
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

pub fn create<T>(to: *mut *mut T, value: T) -> c_int {
    // SAFETY: the caller has room for a handle.
    unsafe { to.write(Box::into_raw(Box::new(value))) };
    SUCCESS
}

pub fn destroy<T>(handle: *mut T) -> c_int {
    if handle.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: `create` has made it.
    drop(unsafe { Box::from_raw(handle) });
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtCreate(handle: *mut *mut u64) -> c_int {
    if card::current().is_err() { EXECUTION_FAILED } else { create(handle, 1) }
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtDestroy(handle: *mut u64) -> c_int {
    destroy(handle)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescCreate(description: *mut *mut Description, _: c_int, _: c_int) -> c_int {
    create(description, Description::default())
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
    // SAFETY: a handle of `create`, and a value of the attribute's type.
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
    create(layout, Layout { element, rows, columns, stride })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutDestroy(layout: *mut Layout) -> c_int {
    destroy(layout)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceCreate(preference: *mut *mut usize) -> c_int {
    create(preference, 0)
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
    // SAFETY: a handle of `create`, and the only attribute that the program sets is a size.
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
    limit: c_int,
    proposals: *mut Proposal,
    count: *mut c_int,
) -> c_int {
    let proposed = PROPOSED.min(limit as usize);
    for at in 0..proposed {
        // SAFETY: the caller has room for `limit` proposals; the preference is a handle of `create`.
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
    // SAFETY: the caller has room for the count.
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
    // SAFETY: all are handles of `create`, or numbers of the program.
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
    let Ok(mut state) = card.lock_working() else { return EXECUTION_FAILED };
    if *FAILS_WHEN_FULL && card.free_bytes(&state) < LEAST_FREE {
        return INTERNAL_ERROR;
    }
    let Some(element) = Element::from_cuda(a.element) else { return NOT_SUPPORTED };
    // The only form that the program uses: the first operand transposed, all of one type and without gaps.
    let (inputs, outputs, rows) = (a.rows, a.columns, b.columns);
    let is_uniform = [a, b, d].iter().all(|layout| layout.element == a.element && layout.stride == layout.rows as i64);
    if !description.transposed || !is_uniform || b.rows != inputs || (d.rows, d.columns) != (outputs, rows) {
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
    let is_current = card::current().is_ok_and(|current| std::ptr::eq(current, card));
    let one = 1f32.to_bits();
    if !is_current || alpha.to_bits() != one || ![0, one].contains(&beta.to_bits()) {
        state.misuse.push(format!("a product with alpha {alpha}, beta {beta}, current context {is_current}"));
        return INVALID_VALUE;
    }
    let workspace = workspace.filter(|(_, bytes)| *bytes >= product.workspace_bytes()).map(|(workspace, _)| workspace);
    let mut result = workspace.map_or(Ok(()), |workspace| product::first_half(&product, &state.memory, workspace));
    if result.is_ok() && workspace.is_some() {
        drop(state);
        thread::sleep(BETWEEN);
        let Ok(relocked) = card.lock_working() else { return EXECUTION_FAILED };
        state = relocked;
    }
    result = result.and_then(|()| product::finish(&product, &state.memory, workspace));
    match result {
        Ok(()) => SUCCESS,
        Err(reason) => {
            state.fail(ErrorCode::ILLEGAL_ADDRESS, reason);
            EXECUTION_FAILED
        }
    }
}
