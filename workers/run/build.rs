//! Tells the linker where libtorch lies when the engine is linked in: Cargo passes linker arguments of a library
//! on to nobody, so the program repeats what `workers-torch` found.

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_SMALLEST_TORCH_SHIM_LIBTORCH_LIB");
    if let Ok(lib) = std::env::var("DEP_SMALLEST_TORCH_SHIM_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    }
}
