//! The one place with `unsafe`: calls into the C++ shim, and the memory map of a weight file.
//!
//! In come tensors and numbers, out come tensors and errors; nothing here knows what a model is.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn smallest_last_error() -> *const c_char;
    fn smallest_inference_begin() -> *mut c_void;
    fn smallest_inference_end(guard: *mut c_void);
    fn smallest_open_library(path: *const c_char) -> i32;
    fn smallest_library_path() -> *const c_char;
    fn smallest_linear_pack(weight: *const C_tensor, rows: i64) -> *mut C_tensor;
    fn smallest_linear(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        activation: *const c_char,
    ) -> *mut C_tensor;
    fn smallest_linear_add(
        input: *const C_tensor,
        other: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
    ) -> *mut C_tensor;
}

/// Text of a C string that the shim owns.
fn text(pointer: *const c_char) -> String {
    // SAFETY: the shim returns pointers to NUL-terminated strings that live until its next call on this thread.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// Takes ownership of a tensor that the shim returned; null means that it threw.
fn owned(pointer: *mut C_tensor) -> Result<Tensor, TchError> {
    if pointer.is_null() {
        // SAFETY: takes no argument and returns a string that the shim owns.
        return Err(TchError::Torch(text(unsafe { smallest_last_error() })));
    }
    // SAFETY: the shim gives each non-null tensor away, so it is owned exactly once.
    Ok(unsafe { Tensor::from_ptr(pointer) })
}

fn pointer_or_null(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(std::ptr::null(), Tensor::as_ptr)
}

/// Switches autograd bookkeeping off on this thread for as long as it lives.
pub(crate) struct InferenceMode {
    guard: *mut c_void,
}

impl InferenceMode {
    pub(crate) fn enter() -> Self {
        // SAFETY: returns an owned guard, ended exactly once in `drop`. The raw pointer makes the type !Send,
        // so it ends on the thread where it began.
        Self { guard: unsafe { smallest_inference_begin() } }
    }
}

impl Drop for InferenceMode {
    fn drop(&mut self) {
        // SAFETY: `guard` came from `smallest_inference_begin` and is ended once.
        unsafe { smallest_inference_end(self.guard) }
    }
}

/// Opens a library of libtorch for the whole process (`RTLD_NOW | RTLD_GLOBAL`).
pub(crate) fn open_library(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: `name` is a NUL-terminated path; the libraries of libtorch may be opened at any time.
    if unsafe { smallest_open_library(name.as_ptr()) } == 0 {
        Ok(())
    } else {
        // SAFETY: takes no argument and returns a string that the shim owns.
        Err(text(unsafe { smallest_last_error() }))
    }
}

/// Path of the `libtorch_cpu.so` that this process runs on.
pub(crate) fn library_path() -> String {
    // SAFETY: takes no argument and returns a string that the shim owns.
    text(unsafe { smallest_library_path() })
}

/// Packs a `[out, in]` CPU weight for oneDNN; `rows` is the number of input rows to expect.
pub(crate) fn linear_pack(weight: &Tensor, rows: i64) -> Result<Tensor, TchError> {
    // SAFETY: `weight` is a live tensor for the length of the call.
    owned(unsafe { smallest_linear_pack(weight.as_ptr(), rows) })
}

/// What oneDNN computes behind a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fused {
    None,
    Relu,
    Swish,
}

/// `activation(input · weightᵀ + bias)` with a packed weight.
pub(crate) fn linear(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Fused,
) -> Result<Tensor, TchError> {
    let name = match activation {
        Fused::None => c"none",
        Fused::Relu => c"relu",
        Fused::Swish => c"swish",
    };
    // SAFETY: all tensors are live for the length of the call; a null bias is allowed.
    owned(unsafe { smallest_linear(input.as_ptr(), weight.as_ptr(), pointer_or_null(bias), name.as_ptr()) })
}

/// `input · weightᵀ + bias + other` with a packed weight.
pub(crate) fn linear_add(
    input: &Tensor,
    other: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor, TchError> {
    // SAFETY: all tensors are live for the length of the call; a null bias is allowed.
    owned(unsafe {
        smallest_linear_add(input.as_ptr(), other.as_ptr(), weight.as_ptr(), pointer_or_null(bias))
    })
}

/// Maps a file into memory for reading.
pub(crate) fn map_file(file: &std::fs::File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is only read while the weights are copied out. A writer that truncates the file in that
    // moment would end the process with SIGBUS; model folders are written once and renamed into place.
    unsafe { memmap2::Mmap::map(file) }
}
