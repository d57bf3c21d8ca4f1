//! Compiles the kernels' text as C++.

fn main() {
    for path in ["stand_in.cpp", "../kernels.cu"] {
        println!("cargo:rerun-if-changed={path}");
    }
    cc::Build::new().cpp(true).opt_level(2).file("stand_in.cpp").compile("trommel_card_stand_in");
}
