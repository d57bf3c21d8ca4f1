//! Lets the built program find libtorch without `LD_LIBRARY_PATH`: an rpath to where torch-sys found it.
#![allow(clippy::print_stdout, reason = "a build script talks to Cargo so")]

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
