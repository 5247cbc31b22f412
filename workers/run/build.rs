//! With the libtorch engine: tells the program and its tests where libtorch lies, since Cargo hands a library's linker arguments on
//! to nobody. `$ORIGIN/../lib` is where an image keeps it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_SMALLEST_TORCH_SHIM_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    }
}
