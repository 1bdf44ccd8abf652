//! What: products of bf16 matrices by cuBLAS.
//! Why here: the ceiling that ours are measured against, in the same process and on the same stream.
//! Pre: a library that the loader finds; its presence is checked first, because the bindings panic without it.
//! Post: an error says that it is missing. Accumulation is in single precision.

use std::ptr;

use cudarc::cublas::result::{self, CublasError};
use cudarc::cublas::sys;

use super::CudaDevice;
use crate::device::clock::VendorMatmul;
use crate::device::{DeviceError, DevicePtr};

/// A handle of the library, on a device's own stream.
pub(super) struct Cublas<'d> {
    device: &'d CudaDevice,
    handle: sys::cublasHandle_t,
    version: String,
}

fn failed(call: &str, error: CublasError) -> DeviceError {
    DeviceError::Driver { call: call.to_owned(), name: format!("{:?}", error.0), text: "cuBLAS".into() }
}

impl<'d> Cublas<'d> {
    /// Loads the library.
    pub(super) fn open(device: &'d CudaDevice) -> Result<Cublas<'d>, DeviceError> {
        // SAFETY: opens and closes the library; its initialisers have no preconditions.
        if !unsafe { sys::is_culib_present() } {
            return Err(DeviceError::Missing {
                what: "cuBLAS".into(),
                reason: "the loader does not find libcublas: put its directory into LD_LIBRARY_PATH".into(),
            });
        }
        let _current = device.current()?;
        let handle = result::create_handle().map_err(|e| failed("cublasCreate", e))?;
        let mut cublas = Cublas { device, handle, version: String::new() };
        let mut version = 0;
        // SAFETY: a handle that was just made, a valid pointer, and a stream of the current context. The driver's and
        // the library's name of a stream are the same pointer.
        unsafe {
            sys::cublasGetVersion_v2(handle, &mut version)
                .result()
                .map_err(|e| failed("cublasGetVersion", e))?;
            result::set_stream(handle, device.stream.cast()).map_err(|e| failed("cublasSetStream", e))?;
        }
        cublas.version = format!("cuBLAS {}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
        Ok(cublas)
    }
}

impl VendorMatmul for Cublas<'_> {
    fn version(&self) -> &str {
        &self.version
    }

    fn run(&self, [m, n, k]: [u32; 3], x: DevicePtr, w: DevicePtr, y: DevicePtr) -> Result<(), DeviceError> {
        use sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        use sys::cudaDataType::CUDA_R_16BF;
        let _current = self.device.current()?;
        let [m, n, k] = [m, n, k].map(|d| i32::try_from(d).unwrap_or(i32::MAX));
        let (one, zero) = (1.0f32, 0.0f32);
        // The library's matrices are column by column: its first operand is our weight, transposed.
        // SAFETY: device memory of these extents by the contract of `DevicePtr`; scalars are read by the call.
        unsafe {
            result::gemm_ex(
                self.handle,
                CUBLAS_OP_T,
                CUBLAS_OP_N,
                n,
                m,
                k,
                ptr::from_ref(&one).cast(),
                w.raw() as *const _,
                CUDA_R_16BF,
                k,
                x.raw() as *const _,
                CUDA_R_16BF,
                k,
                ptr::from_ref(&zero).cast(),
                y.raw() as *mut _,
                CUDA_R_16BF,
                n,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|e| failed("cublasGemmEx", e))
    }
}

impl Drop for Cublas<'_> {
    fn drop(&mut self) {
        if let Ok(_current) = self.device.current() {
            // SAFETY: made once, destroyed once.
            let _ = unsafe { result::destroy_handle(self.handle) };
        }
    }
}
