//! Where the model runs: `auto`, `cpu` or `cuda`, and opening CUDA at run time.
//!
//! The program links only the CPU part of libtorch. When a GPU is wanted, `libtorch_cuda.so` is opened from beside
//! it before anything touches a device, and registers itself. Must not know models.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use tch::Device;
use workers_engine::EngineError;

use crate::ffi;

/// The CUDA half of libtorch.
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// What the operator of a worker asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU when there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU; an error when there is none.
    Cuda,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => Err(format!("device '{other}' is none of auto, cpu, cuda")),
        }
    }
}

/// Finds the device to run on.
pub(crate) fn choose(choice: DeviceChoice) -> Result<Device, EngineError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if !gpu_present() => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(open_cuda().unwrap_or_else(|detail| {
            tracing::warn!(detail, "a GPU is present but CUDA could not be opened, running on the CPU");
            Device::Cpu
        })),
        DeviceChoice::Cuda => open_cuda().map_err(|detail| EngineError::RunModel {
            detail: format!("device cuda was asked for, but {detail}"),
            fatal: true,
        }),
    }
}

/// A name for people, such as `cpu (2 threads)` or `cuda:0`.
pub(crate) fn describe(device: Device) -> String {
    match device {
        Device::Cuda(index) => match gpu_name(index) {
            Some(name) => format!("cuda:{index} {name}"),
            None => format!("cuda:{index}"),
        },
        _ => format!("cpu ({} threads)", tch::get_num_threads()),
    }
}

/// Whether the kernel driver shows a GPU; cheap, and true long before any library is opened.
fn gpu_present() -> bool {
    Path::new("/dev/nvidiactl").exists() || Path::new("/dev/nvidia0").exists()
}

/// The product name of GPU `index` as the kernel driver tells it.
fn gpu_name(index: usize) -> Option<String> {
    let folder = std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten().nth(index)?;
    let text = std::fs::read_to_string(folder.path().join("information")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Model:")).map(|name| name.trim().to_owned())
}

/// Opens the CUDA library and checks that a device answers.
fn open_cuda() -> Result<Device, String> {
    if !tch::Cuda::is_available() {
        let path = cuda_library().ok_or_else(|| {
            format!("{CUDA_LIBRARY} lies nowhere near {}; run tools/libtorch.sh --cuda", ffi::library_path())
        })?;
        ffi::open_library(&path)?;
    }
    ffi::exact_convolutions();
    if tch::Cuda::device_count() > 0 { Ok(Device::Cuda(0)) } else { Err("no CUDA device answers".into()) }
}

/// `libtorch_cuda.so` in `torch/cuda` (the folder of tools/libtorch.sh) or beside `libtorch_cpu.so` (a whole wheel).
fn cuda_library() -> Option<PathBuf> {
    let lib = PathBuf::from(ffi::library_path()).parent()?.to_path_buf();
    [lib.join("../cuda"), lib].into_iter().map(|folder| folder.join(CUDA_LIBRARY)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_parse_and_others_are_named() {
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda));
        assert!("tpu".parse::<DeviceChoice>().unwrap_err().contains("'tpu'"));
    }

    #[test]
    fn the_library_in_use_is_found() {
        assert!(ffi::library_path().ends_with("libtorch_cpu.so"), "{}", ffi::library_path());
    }
}
