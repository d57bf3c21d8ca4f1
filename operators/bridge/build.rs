//! Compiles our C++ against the libtorch that `torch-sys` was built with.

use std::path::PathBuf;
use std::{env, fs};

/// Where libtorch lies: the user's `LIBTORCH`, else what `torch-sys` linked against.
fn libtorch() -> Option<(PathBuf, PathBuf)> {
    let linked = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
    if let Some(root) = env::var_os("LIBTORCH").map(PathBuf::from) {
        let lib = linked.unwrap_or_else(|| root.join("lib"));
        return Some((root, lib));
    }
    let lib = linked?;
    Some((lib.parent()?.to_path_buf(), lib))
}

fn main() {
    for name in ["LIBTORCH", "LIBTORCH_CXX11_ABI"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=cpp");
    let Some((root, lib)) = libtorch() else {
        println!("cargo:warning=no libtorch: run `cargo xtask setup`, or set LIBTORCH");
        std::process::exit(1);
    };
    let include = env::var_os("LIBTORCH_INCLUDE").map_or(root, PathBuf::from).join("include");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let mut sources: Vec<PathBuf> = fs::read_dir("cpp")
        .expect("the folder cpp lies beside this script")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    sources.sort();
    // libtorch's headers are most of what the compiler reads, so it reads them once: all files are one unit.
    let unit = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets it")).join("bridge.cpp");
    let included = sources.iter().map(|source| {
        let name = source.file_name().expect("it has an extension").display().to_string();
        format!("#include \"{name}\"\n")
    });
    fs::write(&unit, included.collect::<String>()).expect("Cargo's own folder can be written");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .pic(true)
        .warnings(false)
        .opt_level(2)
        .debug(false)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .flag_if_supported("-fvisibility=hidden")
        .include("cpp")
        .file(&unit);
    // As system headers: libtorch's own warnings are not ours.
    for folder in [include.clone(), include.join("torch/csrc/api/include")] {
        build.flag("-isystem").flag(folder);
    }
    build.compile("trommel_bridge");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:libtorch_lib={}", lib.display());
}
