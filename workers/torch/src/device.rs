//! Where the model runs: `auto`, `cpu` or `cuda`, and opening CUDA at run time.
//!
//! The program links only the CPU part of libtorch. When a GPU is wanted, `libtorch_cuda.so` is opened from beside
//! it before anything asks libtorch for CUDA ([`cuda::Cuda`] says why), and registers itself. Must not know models.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

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
        DeviceChoice::Auto => Ok(first_gpu().unwrap_or_else(|detail| {
            tracing::warn!(detail, "a GPU is present but CUDA could not be opened, running on the CPU");
            Device::Cpu
        })),
        DeviceChoice::Cuda => first_gpu().map_err(|detail| EngineError::RunModel {
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

/// The first GPU, once the CUDA library is open.
fn first_gpu() -> Result<Device, String> {
    cuda::Cuda::open()?.first_device()
}

/// In a module of its own, so that nothing else can make the token.
mod cuda {
    use super::{CUDA_LIBRARY, Device, OnceLock, Path, cuda_library, ffi};

    /// The CUDA library is open. libtorch looks for it when it is first asked for CUDA and keeps the answer for the
    /// life of the process: asked too early, it never finds a GPU again. So whoever asks needs this token, and only
    /// opening gives it.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Cuda(());

    impl Cuda {
        /// Opens the library; later calls repeat the first answer.
        pub(super) fn open() -> Result<Self, String> {
            static OPENED: OnceLock<Result<Cuda, String>> = OnceLock::new();
            let open = || match cuda_library() {
                Some(path) => Self::open_at(&path),
                // By its bare name the loader finds one that is there already, as with LD_PRELOAD.
                None => Self::open_at(Path::new(CUDA_LIBRARY)).map_err(|_| {
                    let near = ffi::library_path();
                    format!("{CUDA_LIBRARY} lies nowhere near {near}; run tools/libtorch.sh --cuda")
                }),
            };
            OPENED.get_or_init(open).clone()
        }

        /// Opens a given library.
        pub(super) fn open_at(path: &Path) -> Result<Self, String> {
            ffi::open_library(path).map(|()| Self(()))
        }

        /// The only place that asks libtorch for CUDA.
        #[expect(clippy::unused_self, reason = "that there is a token is what matters")]
        pub(super) fn first_device(self) -> Result<Device, String> {
            ffi::exact_convolutions();
            if tch::Cuda::device_count() > 0 {
                Ok(Device::Cuda(0))
            } else {
                Err("no CUDA device answers".into())
            }
        }
    }
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

    /// Path of a stand-in for the CUDA library, for the process that [`a_gpu_is_found_after_work_on_the_cpu`] starts.
    const STAND_IN: &str = "SMALLEST_TEST_CUDA_STAND_IN";

    /// Registers itself as the real library does, and says that there are three GPUs.
    const STAND_IN_SOURCE: &str = r"
        #include <ATen/detail/CUDAHooksInterface.h>
        namespace at {
        struct CUDAHooks : CUDAHooksInterface {
          explicit CUDAHooks(CUDAHooksArgs) {}
          c10::DeviceIndex deviceCount() const override { return 3; }
          int getNumGPUs() const override { return 3; }
        };
        REGISTER_CUDA_HOOKS(CUDAHooks)
        }";

    /// What libtorch has answered once it answers for ever, so the order is tried in a process of its own.
    #[test]
    fn a_gpu_is_found_after_work_on_the_cpu() {
        let dir = tempfile::tempdir().unwrap();
        let (source, library) = (dir.path().join("cuda.cpp"), dir.path().join(CUDA_LIBRARY));
        std::fs::write(&source, STAND_IN_SOURCE).unwrap();
        let include = Path::new(&ffi::library_path()).with_file_name("../include");
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let mut compile = std::process::Command::new(compiler);
        compile.args(["-std=c++17", "-w", "-shared", "-fPIC", "-I"]).arg(include).arg(source);
        assert!(compile.arg("-o").arg(&library).status().unwrap().success());
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "device::tests::in_a_process_with_a_stand_in", "--nocapture"])
            .env(STAND_IN, library)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("found the stand-in's GPU"), "{said}");
    }

    /// Does nothing unless a stand-in is named. Loading a model for the CPU is the most that may happen before a GPU is
    /// asked for: if any of it asked libtorch for CUDA, the stand-in would come too late.
    #[test]
    fn in_a_process_with_a_stand_in() {
        let Some(library) = std::env::var_os(STAND_IN) else { return };
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo-asr");
        let options = crate::LoadOptions {
            slots: Some(1),
            device: DeviceChoice::Cpu,
            threads: Some(1),
            ..crate::LoadOptions::default()
        };
        let engine = crate::TorchEngine::load(&model, &options).unwrap();
        if !gpu_present() {
            assert_eq!(choose(DeviceChoice::Auto).unwrap(), Device::Cpu);
        }
        let cuda = cuda::Cuda::open_at(Path::new(&library)).unwrap();
        assert_eq!(cuda.first_device(), Ok(Device::Cuda(0)));
        drop(engine);
        println!("found the stand-in's GPU");
    }

    #[test]
    fn only_this_file_asks_libtorch_for_cuda() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                // Seeding goes to all devices, and so asks for CUDA too.
                let asks =
                    ["tch::Cuda", "manual_seed", "Cuda::is_available"].iter().any(|call| text.contains(call));
                assert!(!asks || path.ends_with("src/device.rs"), "{} asks for CUDA", path.display());
            }
        }
    }
}
