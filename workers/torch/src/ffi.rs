//! The one place with `unsafe`: calls into the C++ shim, and the memory map of a weight file.
//!
//! In come tensors and numbers, out come tensors and errors; nothing here knows what a model is.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;

use tch::{Kind, TchError, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn smallest_last_error() -> *const c_char;
    fn smallest_inference_begin() -> *mut c_void;
    fn smallest_inference_end(guard: *mut c_void);
    fn smallest_keep_memory();
    fn smallest_advise_huge(tensor: *const C_tensor);
    fn smallest_open_library(path: *const c_char) -> i32;
    fn smallest_exact_convolutions();
    fn smallest_library_path() -> *const c_char;
    fn smallest_linear_pack(weight: *const C_tensor, rows: i64) -> *mut C_tensor;
    fn smallest_linear(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        residual: *const C_tensor,
        width: i64,
        activation: i32,
    ) -> *mut C_tensor;
    fn smallest_norm(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        epsilon: f64,
    ) -> *mut C_tensor;
    fn smallest_attention(
        projected: *const C_tensor,
        keys: *const C_tensor,
        values: *const C_tensor,
        content: *const C_tensor,
        position: *const C_tensor,
        relative: *const C_tensor,
        rows: *const KernelRow,
        count: i64,
        frames: i64,
        chunk: i64,
        context: i64,
    ) -> *mut C_tensor;
    fn smallest_convolution(
        widened: *const C_tensor,
        state: *const C_tensor,
        filter: *const C_tensor,
        bias: *const C_tensor,
        norm_weight: *const C_tensor,
        norm_bias: *const C_tensor,
        rows: *const KernelRow,
        count: i64,
        frames: i64,
        epsilon: f64,
        activation: i32,
    ) -> *mut C_tensor;
    fn smallest_mels(
        spectrum: *const C_tensor,
        filters: *const C_tensor,
        extents: *const C_tensor,
        guard: f64,
    ) -> *mut C_tensor;
    fn smallest_strided(
        input: *const C_tensor,
        state: *const C_tensor,
        filter: *const C_tensor,
        bias: *const C_tensor,
        rows: *const KernelRow,
        bf16: i32,
    ) -> *mut C_tensor;
    fn smallest_stem(
        mels: *const C_tensor,
        state: *const C_tensor,
        filter: *const C_tensor,
        bias: *const C_tensor,
        stage_state: *const C_tensor,
        stage_filter: *const C_tensor,
        stage_bias: *const C_tensor,
        rows: *const KernelRow,
        bf16: i32,
    ) -> *mut C_tensor;
}

/// One row of a step as the kernels see it; `Row` in `shim/kernels.h`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct KernelRow {
    /// The slot whose state belongs to the row.
    pub(crate) slot: i64,
    /// Frames decoded before, or the first frame inside the audio.
    pub(crate) start: i64,
    /// Frames of this step inside the audio, or the end of those.
    pub(crate) valid: i64,
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

/// Tells the allocator to keep freed memory, because steps allocate the same again and again.
pub(crate) fn keep_memory() {
    // SAFETY: sets allocator options; may be called at any time, from any thread.
    unsafe { smallest_keep_memory() }
}

/// Lets no GPU library round the inputs of fp32 convolutions to TF32.
pub(crate) fn exact_convolutions() {
    // SAFETY: sets a flag of libtorch's global context; may be called at any time, from any thread.
    unsafe { smallest_exact_convolutions() }
}

/// A CPU tensor with large pages where the system gives them; its numbers are whatever the memory held.
pub(crate) fn empty_huge(shape: &[i64], kind: Kind) -> Result<Tensor, TchError> {
    let tensor = Tensor::f_empty(shape, (kind, tch::Device::Cpu))?;
    // SAFETY: `tensor` is live for the length of the call, and the advice changes no memory.
    unsafe { smallest_advise_huge(tensor.as_ptr()) };
    Ok(tensor)
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

/// Packs a `[out, in]` CPU weight for the product of this processor; `rows` is the number of input rows to expect.
pub(crate) fn linear_pack(weight: &Tensor, rows: i64) -> Result<Tensor, TchError> {
    // SAFETY: `weight` is a live tensor for the length of the call.
    owned(unsafe { smallest_linear_pack(weight.as_ptr(), rows) })
}

/// What is computed behind a linear layer or a norm; `Activation` in `shim/kernels.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Fused {
    None = 0,
    Swish = 1,
    Relu = 2,
}

/// A packed weight with its bias.
#[derive(Debug)]
pub(crate) struct LinearTensors {
    /// From [`linear_pack`].
    pub(crate) weight: Tensor,
    /// `[width]`
    pub(crate) bias: Option<Tensor>,
    /// Numbers a row of the result.
    pub(crate) width: i64,
}

/// `activation(input · weightᵀ + bias)`.
pub(crate) fn linear(input: &Tensor, tensors: &LinearTensors, activation: Fused) -> Result<Tensor, TchError> {
    call_linear(input, tensors, None, activation)
}

/// `input · weightᵀ + bias + other`.
pub(crate) fn linear_add(
    input: &Tensor,
    other: &Tensor,
    tensors: &LinearTensors,
) -> Result<Tensor, TchError> {
    call_linear(input, tensors, Some(other), Fused::None)
}

fn call_linear(
    input: &Tensor,
    LinearTensors { weight, bias, width }: &LinearTensors,
    residual: Option<&Tensor>,
    activation: Fused,
) -> Result<Tensor, TchError> {
    let (bias, residual) = (pointer_or_null(bias.as_ref()), pointer_or_null(residual));
    // SAFETY: all tensors are live for the length of the call; null for a bias or a residual is allowed, and the shim
    // checks types and shapes.
    owned(unsafe {
        smallest_linear(input.as_ptr(), weight.as_ptr(), bias, residual, *width, activation as i32)
    })
}

/// Layer norm of the rows of `input`, with weight and bias in fp32.
pub(crate) fn norm(input: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor, TchError> {
    // SAFETY: all tensors are live for the length of the call; the shim checks types and shapes.
    owned(unsafe { smallest_norm(input.as_ptr(), weight.as_ptr(), bias.as_ptr(), epsilon) })
}

/// Maps a file into memory for reading.
pub(crate) fn map_file(file: &std::fs::File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is only read while the weights are copied out. A writer that truncates the file in that
    // moment would end the process with SIGBUS; model folders are written once and renamed into place.
    unsafe { memmap2::Mmap::map(file) }
}

/// Keys and values of one layer, with what its attention adds.
#[derive(Debug)]
pub(crate) struct AttentionTensors<'a> {
    /// `[slots, heads, dim, capacity]`
    pub(crate) keys: &'a Tensor,
    /// `[slots, heads, capacity, padded dim]`
    pub(crate) values: &'a Tensor,
    /// `[heads, dim]`
    pub(crate) content: &'a Tensor,
    /// `[heads, dim]`
    pub(crate) position: &'a Tensor,
    /// `[heads, dim, width]`
    pub(crate) relative: &'a Tensor,
}

/// Relative attention of `frames` frames a row in chunks of `chunk`: `[rows · frames, 3 · hidden]` → `[…, hidden]`.
pub(crate) fn attention(
    projected: &Tensor,
    tensors: &AttentionTensors<'_>,
    rows: &[KernelRow],
    (frames, chunk, context): (usize, usize, usize),
) -> Result<Tensor, TchError> {
    // SAFETY: all tensors and `rows` are live for the length of the call; the shim checks types and shapes, and
    // the caller has opened the slots of `rows`, which lie within the first dimension of the states.
    owned(unsafe {
        smallest_attention(
            projected.as_ptr(),
            tensors.keys.as_ptr(),
            tensors.values.as_ptr(),
            tensors.content.as_ptr(),
            tensors.position.as_ptr(),
            tensors.relative.as_ptr(),
            rows.as_ptr(),
            rows.len() as i64,
            frames as i64,
            chunk as i64,
            context as i64,
        )
    })
}

/// Weights of a depthwise convolution and the norm behind it, in fp32.
#[derive(Debug)]
pub(crate) struct ConvolutionTensors {
    /// `[kernel, hidden]`
    pub(crate) filter: Tensor,
    /// `[hidden]`
    pub(crate) bias: Tensor,
    /// `[hidden]`
    pub(crate) norm_weight: Tensor,
    /// `[hidden]`
    pub(crate) norm_bias: Tensor,
    pub(crate) epsilon: f64,
    /// Behind the norm.
    pub(crate) activation: Fused,
}

/// Gate, causal depthwise convolution, norm and activation: `[rows · frames, 2 · hidden]` → `[…, hidden]`.
pub(crate) fn convolution(
    widened: &Tensor,
    state: &Tensor,
    tensors: &ConvolutionTensors,
    rows: &[KernelRow],
    frames: usize,
) -> Result<Tensor, TchError> {
    // SAFETY: as in `attention`.
    owned(unsafe {
        smallest_convolution(
            widened.as_ptr(),
            state.as_ptr(),
            tensors.filter.as_ptr(),
            tensors.bias.as_ptr(),
            tensors.norm_weight.as_ptr(),
            tensors.norm_bias.as_ptr(),
            rows.as_ptr(),
            rows.len() as i64,
            frames as i64,
            tensors.epsilon,
            tensors.activation as i32,
        )
    })
}

/// A strided 3×3 convolution over `[rows, frames, bins(, channels)]` with a `[9, channels]` filter.
pub(crate) fn strided(
    input: &Tensor,
    state: &Tensor,
    (filter, bias): (&Tensor, &Tensor),
    rows: &[KernelRow],
    kind: Kind,
) -> Result<Tensor, TchError> {
    // SAFETY: as in `attention`.
    owned(unsafe {
        smallest_strided(
            input.as_ptr(),
            state.as_ptr(),
            filter.as_ptr(),
            bias.as_ptr(),
            rows.as_ptr(),
            i32::from(kind == Kind::BFloat16),
        )
    })
}

/// The stem over mels `[rows, frames, bins]` and the depthwise convolution of the stage behind it: `(state, filter, bias)`
/// of each. `rows` are the stem's.
pub(crate) fn stem(
    mels: &Tensor,
    (state, filter, bias): (&Tensor, &Tensor, &Tensor),
    (stage_state, stage_filter, stage_bias): (&Tensor, &Tensor, &Tensor),
    rows: &[KernelRow],
    kind: Kind,
) -> Result<Tensor, TchError> {
    // SAFETY: as in `attention`.
    owned(unsafe {
        smallest_stem(
            mels.as_ptr(),
            state.as_ptr(),
            filter.as_ptr(),
            bias.as_ptr(),
            stage_state.as_ptr(),
            stage_filter.as_ptr(),
            stage_bias.as_ptr(),
            rows.as_ptr(),
            i32::from(kind == Kind::BFloat16),
        )
    })
}

/// Log-mel frames `[frames, mels]` of complex `[frames, bins]`; `extents` holds the first bin and the number of bins
/// of each of the `[mels, bins]` filters that are not zero.
pub(crate) fn mels(
    spectrum: &Tensor,
    filters: &Tensor,
    extents: &Tensor,
    guard: f64,
) -> Result<Tensor, TchError> {
    // SAFETY: all tensors are live for the length of the call; the shim checks types and shapes, and the extents
    // come from the filters themselves.
    owned(unsafe { smallest_mels(spectrum.as_ptr(), filters.as_ptr(), extents.as_ptr(), guard) })
}
