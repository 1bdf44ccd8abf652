//! What: the functions of one loaded NVRTC library.
//! Why here: the one place of this crate's NVRTC part that is `unsafe`. The library is opened by the exact path that
//! the search chose; bindings that open it by a name of their own may find another one, and panic when a function
//! is missing.
//! Pre: a path or a name that the loader understands.
//! Post: safe calls with typed errors; the library stays loaded until the process ends, because its destructors are
//! not safe to run while another thread compiles.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library;

use super::NvrtcError;

/// `nvrtcProgram`, an opaque pointer.
type Program = *mut std::ffi::c_void;
/// `nvrtcResult` as the integer that it is: newer libraries return values that older headers do not list.
type Status = c_int;

const SUCCESS: Status = 0;
const INVALID_OPTION: Status = 5;
const COMPILATION: Status = 6;

type FnVersion = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;
type FnErrorString = unsafe extern "C" fn(Status) -> *const c_char;
type FnCreate = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> Status;
type FnDestroy = unsafe extern "C" fn(*mut Program) -> Status;
type FnCompile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status;
type FnSize = unsafe extern "C" fn(Program, *mut usize) -> Status;
type FnText = unsafe extern "C" fn(Program, *mut c_char) -> Status;
type FnCount = unsafe extern "C" fn(*mut c_int) -> Status;
type FnArchs = unsafe extern "C" fn(*mut c_int) -> Status;

/// What one call of the compiler produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compilation {
    /// PTX.
    pub ptx: String,
    /// The CUBIN; empty when the target is a virtual architecture.
    pub cubin: Vec<u8>,
    /// The compiler's log, which also a success has.
    pub log: String,
    /// What its parts took, by its own words, in milliseconds; empty if it does not say.
    pub parts: Vec<(String, u64)>,
}

/// A loaded NVRTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions {
    version: FnVersion,
    error_string: FnErrorString,
    create: FnCreate,
    destroy: FnDestroy,
    compile: FnCompile,
    ptx_size: FnSize,
    ptx: FnText,
    cubin_size: FnSize,
    cubin: FnText,
    log_size: FnSize,
    log: FnText,
    arch_count: FnCount,
    archs: FnArchs,
}

impl Functions {
    /// Opens the library and resolves every function that is used.
    pub(super) fn open(path: &Path) -> Result<Functions, NvrtcError> {
        let fail = |e: libloading::Error| NvrtcError::Load { path: path.to_owned(), reason: full_reason(&e) };
        // SAFETY: opening a shared library runs its initialisers; NVRTC's have no preconditions.
        let library = unsafe { Library::new(path) }.map_err(fail)?;
        // Never unloaded, see the module's header.
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: the types are those of NVRTC's C interface, which has not changed since CUDA 11.1; the symbols
        // outlive the table because the library is never unloaded.
        unsafe {
            Ok(Functions {
                version: *library.get(b"nvrtcVersion\0").map_err(fail)?,
                error_string: *library.get(b"nvrtcGetErrorString\0").map_err(fail)?,
                create: *library.get(b"nvrtcCreateProgram\0").map_err(fail)?,
                destroy: *library.get(b"nvrtcDestroyProgram\0").map_err(fail)?,
                compile: *library.get(b"nvrtcCompileProgram\0").map_err(fail)?,
                ptx_size: *library.get(b"nvrtcGetPTXSize\0").map_err(fail)?,
                ptx: *library.get(b"nvrtcGetPTX\0").map_err(fail)?,
                cubin_size: *library.get(b"nvrtcGetCUBINSize\0").map_err(fail)?,
                cubin: *library.get(b"nvrtcGetCUBIN\0").map_err(fail)?,
                log_size: *library.get(b"nvrtcGetProgramLogSize\0").map_err(fail)?,
                log: *library.get(b"nvrtcGetProgramLog\0").map_err(fail)?,
                arch_count: *library.get(b"nvrtcGetNumSupportedArchs\0").map_err(fail)?,
                archs: *library.get(b"nvrtcGetSupportedArchs\0").map_err(fail)?,
            })
        }
    }

    /// The version of the library.
    pub(super) fn version(&self) -> Option<(u32, u32)> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two valid pointers to integers.
        let status = unsafe { (self.version)(&mut major, &mut minor) };
        (status == SUCCESS).then(|| (major.unsigned_abs(), minor.unsigned_abs()))
    }

    /// The architectures that the library compiles for, as two- or three-digit numbers.
    pub(super) fn archs(&self) -> Vec<u32> {
        let mut count: c_int = 0;
        // SAFETY: a valid pointer to an integer.
        if unsafe { (self.arch_count)(&mut count) } != SUCCESS || count <= 0 {
            return Vec::new();
        }
        let mut archs = vec![0 as c_int; count.unsigned_abs() as usize];
        // SAFETY: room for as many integers as the library said it would write.
        if unsafe { (self.archs)(archs.as_mut_ptr()) } != SUCCESS {
            return Vec::new();
        }
        archs.into_iter().map(c_int::unsigned_abs).collect()
    }

    fn words(&self, status: Status) -> String {
        // SAFETY: the function returns a static string for every value, or null.
        let text = unsafe { (self.error_string)(status) };
        if text.is_null() {
            return format!("error {status}");
        }
        // SAFETY: a non-null result is a zero-terminated static string.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// Compiles one source.
    pub(super) fn compile(
        &self,
        kernel: &str,
        source: &str,
        options: &[String],
    ) -> Result<Compilation, CompileFailure> {
        let zero = |what: &'static str| {
            move |_| CompileFailure::Other(NvrtcError::ZeroByte { what, kernel: kernel.replace('\0', "\\0") })
        };
        let text = CString::new(source).map_err(zero("the source"))?;
        let file = CString::new(format!("{kernel}.cu")).map_err(zero("the name"))?;
        let options = options
            .iter()
            .map(|o| CString::new(o.as_str()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(zero("an option"))?;
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let call = |call: &'static str, status: Status| match status {
            SUCCESS => Ok(()),
            _ => Err(CompileFailure::Other(NvrtcError::Call {
                call,
                kernel: kernel.to_owned(),
                reason: self.words(status),
            })),
        };

        let mut program: Program = ptr::null_mut();
        // SAFETY: zero-terminated strings that outlive the call; no headers.
        let status =
            unsafe { (self.create)(&mut program, text.as_ptr(), file.as_ptr(), 0, ptr::null(), ptr::null()) };
        call("nvrtcCreateProgram", status)?;
        let program = Owned { functions: self, program };

        let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
        // SAFETY: a live program and `count` zero-terminated strings that outlive the call.
        let status = unsafe { (self.compile)(program.program, count, pointers.as_ptr()) };
        let log = program.bytes(self.log_size, self.log).map(|b| text_of(&b)).unwrap_or_default();
        match status {
            SUCCESS => {}
            INVALID_OPTION => return Err(CompileFailure::Option(log)),
            COMPILATION => return Err(CompileFailure::Source(log)),
            _ => call("nvrtcCompileProgram", status)?,
        }
        let ptx = program.bytes(self.ptx_size, self.ptx).map_err(|s| {
            // The status is a failure, so `call` cannot return `Ok`.
            call("nvrtcGetPTX", s).err().unwrap_or(CompileFailure::Source(log.clone()))
        })?;
        // A virtual architecture has no CUBIN, which the library reports as an error or as a size of 0.
        let cubin = program.bytes(self.cubin_size, self.cubin).unwrap_or_default();
        Ok(Compilation { ptx: text_of(&ptx), cubin, log, parts: Vec::new() })
    }
}

/// Why a compilation failed, before the target is known to the message.
pub(super) enum CompileFailure {
    /// An option, usually the architecture, is not known; with the log.
    Option(String),
    /// The source is wrong; with the log.
    Source(String),
    /// Anything else.
    Other(NvrtcError),
}

/// A program that is destroyed when it goes out of scope.
struct Owned<'a> {
    functions: &'a Functions,
    program: Program,
}

impl Owned<'_> {
    fn bytes(&self, size: FnSize, get: FnText) -> Result<Vec<u8>, Status> {
        let mut n = 0usize;
        // SAFETY: a live program and a valid pointer to a size.
        let status = unsafe { size(self.program, &mut n) };
        if status != SUCCESS {
            return Err(status);
        }
        let mut bytes = vec![0u8; n];
        if n > 0 {
            // SAFETY: a live program and room for as many bytes as the library said it would write.
            let status = unsafe { get(self.program, bytes.as_mut_ptr().cast()) };
            if status != SUCCESS {
                return Err(status);
            }
        }
        Ok(bytes)
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        // SAFETY: a live program, destroyed once.
        unsafe { (self.functions.destroy)(&mut self.program) };
    }
}

/// The text before the terminating zero.
fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The loader's message with its cause, which holds the name of the missing file.
fn full_reason(e: &libloading::Error) -> String {
    match std::error::Error::source(e) {
        Some(cause) => format!("{e}: {cause}"),
        None => e.to_string(),
    }
}

/// The name under which the platform's loader knows NVRTC of a major version.
pub(super) fn loader_names() -> Vec<PathBuf> {
    if cfg!(windows) {
        ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"].map(PathBuf::from).to_vec()
    } else {
        ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map(PathBuf::from).to_vec()
    }
}
