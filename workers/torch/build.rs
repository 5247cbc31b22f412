//! Compiles the C++ shim against libtorch and tells the linker where libtorch lies.
//!
//! Needs `LIBTORCH`, the folder that `tools/libtorch.sh` prints. Dependents that build a program read
//! `DEP_SMALLEST_TORCH_SHIM_LIBTORCH_LIB` in their own build script and add the same rpath, because Cargo
//! passes linker arguments of a library on to nobody.

use std::path::PathBuf;
use std::process::ExitCode;

/// The ABI this crate is written against; `tch` 0.24 wants exactly this version too.
const TORCH_VERSION: &str = "2.11.0";

fn main() -> ExitCode {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=shim");
    let Some(root) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        return fail("LIBTORCH is not set");
    };
    let lib = root.join("lib");
    if !lib.join("libtorch_cpu.so").exists() {
        return fail(&format!("{} has no libtorch_cpu.so", lib.display()));
    }

    // The kernels once for each instruction set; the shim picks one at run time.
    let sets: [(&str, &[&str]); 4] = [
        ("avx512_bf16", &["-march=x86-64-v4", "-mavx512bf16"]),
        ("avx512", &["-march=x86-64-v4"]),
        ("avx2", &["-march=x86-64-v3"]),
        ("baseline", &["-march=x86-64"]),
    ];
    for (name, flags) in sets {
        let mut kernels = shim();
        kernels.flags(flags).define("SMALLEST_KERNELS", format!("kernels_{name}").as_str());
        kernels.file("shim/kernels.cpp").compile(&format!("smallest_kernels_{name}"));
    }
    let mut build = shim();
    // libtorch's own threads run the kernels; its headers spread work through OpenMP.
    build.flag("-fopenmp");
    build.include(root.join("include")).include(root.join("include/torch/csrc/api/include"));
    for file in ["runtime.cpp", "linear.cpp", "fused.cpp"] {
        build.file(format!("shim/{file}"));
    }
    build.compile("smallest_torch_shim");

    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-lib=dylib:+verbatim=libgomp.so.1");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    println!("cargo:libtorch_lib={}", lib.display());
    ExitCode::SUCCESS
}

/// A compiler with the flags that all C++ of this crate shares.
fn shim() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).debug(false).warnings(false);
    build.flag("-fno-math-errno").flag("-Wno-psabi");
    build
}

/// Ends the build with one clear message.
fn fail(problem: &str) -> ExitCode {
    eprintln!(
        "workers-torch needs libtorch {TORCH_VERSION}, but {problem}.\n\
         Run `export LIBTORCH=$(tools/libtorch.sh | tail -1)` in the repository root, or use `make build`."
    );
    ExitCode::FAILURE
}
