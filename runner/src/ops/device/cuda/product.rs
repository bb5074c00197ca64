//! Matrix products by cuBLASLt, with the fastest of its algorithms for each shape.
//!
//! The library proposes several algorithms for a product. The first time that a shape comes, up to the next power of two
//! of its rows, they are timed on the operands at hand, and the fastest is used from then on. Small products are not
//! worth that: they have the first proposal.

#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    ffi::c_void,
    mem::MaybeUninit,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    DType, Error, Result, Tensor, bail,
    cuda_backend::cudarc::{
        cublaslt::{
            result::{self, CublasError},
            sys,
        },
        driver::{CudaSlice, CudaStream, DevicePtr, sys::CUevent_flags},
    },
};

use super::address::{address, driver_error};

/// Algorithms that are timed for a shape.
const PROPOSALS: usize = 8;
/// Bytes that an algorithm may use beside its operands, as the library's documentation advises for the newest cards.
const WORKSPACE: usize = 32 << 20;
/// Multiplications from which on a product is timed: some microseconds of a large card.
const TIMED_FROM: usize = 1 << 30;
/// Times that each is timed; the fastest counts, since other work may come between.
const ROUNDS: usize = 3;

/// What decides which algorithm is the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    /// Rows, up to the next power of two.
    rows: usize,
    inputs: usize,
    outputs: usize,
    dtype: DType,
    bias: bool,
    residual: bool,
}

/// The products of one device.
pub(super) struct Products {
    handle: Handle,
    /// Held while a product is queued. It may be several launches, which hand the workspace from one to the next: those
    /// of another thread's product between them would write into it, and the sums would be wrong.
    workspace: Mutex<CudaSlice<u8>>,
    fastest: Mutex<HashMap<Shape, sys::cublasLtMatmulAlgo_t>>,
}

struct Handle(sys::cublasLtHandle_t);

// SAFETY: the library says of its handles that any thread may use them.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by the library and not destroyed before. There is nothing to do about an error.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

type BlasResult<T> = std::result::Result<T, CublasError>;

fn blas(error: CublasError) -> Error {
    Error::Cuda(Box::new(error))
}

/// Bytes of a card that are free where its memory is not what a product lacks.
const ENOUGH: usize = 256 << 20;

/// An error that does not say what it means.
#[derive(Debug, thiserror::Error)]
#[error("{0}; the device works and has {1} bytes free: taken for a lack of memory (CUBLAS_STATUS_ALLOC_FAILED)")]
struct LacksMemory(CublasError, usize);

/// Why no algorithm computes a product: they do not suit it, unless one failed for another reason.
struct Failed(CublasError);

impl Failed {
    fn new() -> Self {
        Self(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED))
    }

    fn with(self, error: CublasError) -> Self {
        if self.0.0 == sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED { Self(error) } else { self }
    }
}

impl Products {
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        stream.context().bind_to_thread().map_err(driver_error)?;
        // SAFETY: nothing is read from it that the library has not written.
        let workspace = unsafe { stream.alloc(WORKSPACE) }.map_err(driver_error)?;
        let handle = Handle(result::create_handle().map_err(blas)?);
        Ok(Self { handle, workspace: Mutex::new(workspace), fastest: Mutex::default() })
    }

    /// `out` = `x`⋅`weight`ᵀ + `bias` + `residual`; all are contiguous and of one type.
    pub(super) fn run(
        &self,
        stream: &Arc<CudaStream>,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        out: &Tensor,
    ) -> Result<()> {
        stream.context().bind_to_thread().map_err(driver_error)?;
        let ((rows, inputs), (outputs, depth)) = (x.dims2()?, weight.dims2()?);
        if depth != inputs || [Some(weight), bias, residual].into_iter().flatten().any(|y| y.dtype() != x.dtype()) {
            bail!("operands of a product do not fit: {:?} {:?}", x.shape(), weight.shape());
        }
        let call = Call {
            products: self,
            stream,
            // The library's matrices are column by column: ours are its transposes, and it computes W⋅xᵀ.
            operation: Operation::new(bias.map(address).transpose()?.map(|bias| bias.0)).map_err(blas)?,
            weight: Layout::new(x.dtype(), inputs, outputs).map_err(blas)?,
            x: Layout::new(x.dtype(), inputs, rows).map_err(blas)?,
            out: Layout::new(x.dtype(), outputs, rows).map_err(blas)?,
            addresses: [address(weight)?.0, address(x)?.0, address(residual.unwrap_or(out))?.0, address(out)?.0],
            beta: if residual.is_some() { 1.0 } else { 0.0 },
        };
        let shape = Shape {
            rows: rows.next_power_of_two(),
            inputs,
            outputs,
            dtype: x.dtype(),
            bias: bias.is_some(),
            residual: residual.is_some(),
        };
        let known = self.fastest.lock().unwrap_or_else(PoisonError::into_inner).get(&shape).copied();
        // An algorithm may be none for fewer rows of the same power of two.
        if known.is_some_and(|algorithm| call.with(&algorithm).is_ok()) {
            return Ok(());
        }
        let proposals = call.proposals()?;
        let fastest = if shape.rows * inputs * outputs < TIMED_FROM {
            call.first(&proposals)?
        } else {
            let fastest = call.fastest(&proposals)?;
            call.with(&fastest).map_err(|error| call.explain(error))?;
            fastest
        };
        self.fastest.lock().unwrap_or_else(PoisonError::into_inner).insert(shape, fastest);
        Ok(())
    }
}

/// One product, described to the library.
struct Call<'a> {
    products: &'a Products,
    stream: &'a Arc<CudaStream>,
    operation: Operation,
    weight: Layout,
    x: Layout,
    out: Layout,
    /// Of the weight, of x, of what is added, of the result.
    addresses: [u64; 4],
    beta: f32,
}

impl Call<'_> {
    fn with(&self, algorithm: &sys::cublasLtMatmulAlgo_t) -> BlasResult<()> {
        let alpha = 1f32;
        let [weight, x, added, out] = self.addresses;
        let held = self.products.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        let (workspace, _) = held.device_ptr(self.stream);
        // SAFETY: the layouts describe the operands, whose sizes were compared.
        unsafe {
            result::matmul(
                self.products.handle.0,
                self.operation.0,
                std::ptr::from_ref(&alpha).cast(),
                std::ptr::from_ref(&self.beta).cast(),
                weight as *const c_void,
                self.weight.0,
                x as *const c_void,
                self.x.0,
                added as *const c_void,
                self.out.0,
                out as *mut c_void,
                self.out.0,
                algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                self.stream.cu_stream().cast(),
            )
        }
    }

    /// The algorithms that the library proposes, the best by its own judgement first.
    fn proposals(&self) -> Result<Vec<sys::cublasLtMatmulAlgo_t>> {
        let preference = Preference::new(WORKSPACE).map_err(blas)?;
        let mut found = [const { MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit() }; PROPOSALS];
        let mut count = 0;
        // SAFETY: all descriptions are alive, and there is room for as many results as are asked for.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.products.handle.0,
                self.operation.0,
                self.weight.0,
                self.x.0,
                self.out.0,
                self.out.0,
                preference.0,
                PROPOSALS as i32,
                found.as_mut_ptr().cast(),
                &raw mut count,
            )
        };
        status.result().map_err(|error| self.explain(error))?;
        // SAFETY: the library has written that many.
        let found = found[..count as usize].iter().map(|result| unsafe { result.assume_init_ref() });
        let usable = found.filter(|result| result.state.result().is_ok()).map(|result| result.algo);
        Ok(usable.collect())
    }

    /// Computes the product by the first that can.
    fn first(&self, proposals: &[sys::cublasLtMatmulAlgo_t]) -> Result<sys::cublasLtMatmulAlgo_t> {
        let mut failed = Failed::new();
        for algorithm in proposals {
            match self.with(algorithm) {
                Ok(()) => return Ok(*algorithm),
                Err(error) => failed = failed.with(error),
            }
        }
        Err(self.explain(failed.0))
    }

    /// What an error of the library means. Where the card has no memory for its kernels, which are loaded when they are
    /// first needed, the library may speak of an error inside; the pool of tensors has that memory, and trimming it helps.
    fn explain(&self, error: CublasError) -> Error {
        if error.0 != sys::cublasStatus_t::CUBLAS_STATUS_INTERNAL_ERROR {
            return blas(error);
        }
        match self.stream.synchronize().and_then(|()| self.stream.context().mem_get_info()) {
            Ok((free, _)) if free < ENOUGH => Error::Cuda(Box::new(LacksMemory(error, free))),
            _ => blas(error),
        }
    }

    fn fastest(&self, proposals: &[sys::cublasLtMatmulAlgo_t]) -> Result<sys::cublasLtMatmulAlgo_t> {
        let event = || self.stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(driver_error);
        let (begin, end) = (event()?, event()?);
        let mut fastest: Option<(f32, sys::cublasLtMatmulAlgo_t)> = None;
        let mut failed = Failed::new();
        for algorithm in proposals {
            if let Err(error) = self.with(algorithm) {
                failed = failed.with(error);
                continue;
            }
            for _ in 0..ROUNDS {
                begin.record(self.stream).map_err(driver_error)?;
                self.with(algorithm).map_err(|error| self.explain(error))?;
                end.record(self.stream).map_err(driver_error)?;
                let millis = begin.elapsed_ms(&end).map_err(driver_error)?;
                if fastest.as_ref().is_none_or(|(best, _)| millis < *best) {
                    fastest = Some((millis, *algorithm));
                }
            }
        }
        fastest.map(|(_, algorithm)| algorithm).ok_or_else(|| self.explain(failed.0))
    }
}

fn data_type(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        _ => sys::cudaDataType_t::CUDA_R_32F,
    }
}

/// What is computed: the weight transposed, sums of f32, an optional bias.
struct Operation(sys::cublasLtMatmulDesc_t);

impl Operation {
    fn new(bias: Option<u64>) -> BlasResult<Self> {
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let operation = Self(result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?);
        // CUBLAS_OP_T, which the crate names in another module.
        let transposed = 1i32;
        operation.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, &transposed)?;
        if let Some(bias) = bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            operation.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            operation.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Ok(operation)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> BlasResult<()> {
        let value_address = std::ptr::from_ref(value).cast();
        // SAFETY: the attribute is of the type of the value.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, value_address, size_of::<T>()) }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: made by the library and not destroyed before.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// A matrix, column by column and without gaps.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(dtype: DType, rows: usize, columns: usize) -> BlasResult<Self> {
        result::create_matrix_layout(data_type(dtype), rows as u64, columns as u64, rows as i64).map(Self)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by the library and not destroyed before.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm may use.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(workspace: usize) -> BlasResult<Self> {
        let preference = Self(result::create_matmul_pref()?);
        let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let value = std::ptr::from_ref(&workspace).cast();
        // SAFETY: the attribute is a size.
        unsafe { result::set_matmul_pref_attribute(preference.0, attribute, value, size_of::<usize>()) }?;
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by the library and not destroyed before.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
