//! The walls between the rooms: imports run one way, what needs no model is built without libtorch, and starts without it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// From the foundation up: a crate uses only crates of the lines before its own.
const ORDER: [&[&str]; 11] = [
    &["trommel-core", "trommel-kernels", "trommel-bridge", "trommel-report", "trommel-card-stand-in", "icu"],
    &["trommel-dataflow", "trommel-columnar", "trommel-dedup", "trommel-synth"],
    &["trommel-shard", "trommel-decode", "trommel-decide", "trommel-cluster", "trommel-model"],
    &["trommel-embed", "trommel-similarity"],
    &["trommel-ledger", "trommel-evaluate"],
    &["trommel-incremental", "trommel-select", "trommel-train"],
    &["trommel-pipelines"],
    &["trommel-pipelines-torch", "trommel-cli"],
    &["trommel-torch", "trommel-python"],
    &["trommel"],
    &["xtask", "trommel-fuzz"],
];

/// What may link libtorch.
const TORCH: [&str; 8] = [
    "trommel-bridge",
    "trommel-model",
    "trommel-embed",
    "trommel-similarity",
    "trommel-evaluate",
    "trommel-train",
    "trommel-pipelines-torch",
    "trommel-torch",
];

/// Libraries that one room alone names.
const OWNED: [(&str, &str); 8] = [
    ("cudarc", "trommel-decode"),
    ("arrow2", "trommel-columnar"),
    ("parquet", "trommel-columnar"),
    ("arrow-array", "trommel-columnar"),
    ("arrow-ipc", "trommel-columnar"),
    ("differential-dataflow", "trommel-incremental"),
    ("zune-jpeg", "trommel-decode"),
    ("libjpeg-turbo-rs", "trommel-decode"),
];

/// Each crate of the workspace, with what its manifest names: (dependency, whether for its tests only).
fn manifests() -> BTreeMap<String, BTreeSet<(String, bool)>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let named = |package: &Value| {
        let of = |it: &Value| (text(&it["name"]), it["kind"].as_str() == Some("dev"));
        package["dependencies"].as_array().unwrap().iter().map(of).collect()
    };
    metadata["packages"].as_array().unwrap().iter().map(|package| (text(&package["name"]), named(package))).collect()
}

#[test]
fn imports_run_one_way() {
    let manifests = manifests();
    let line = |name: &str| ORDER.iter().position(|crates| crates.contains(&name));
    let known: BTreeSet<&str> = ORDER.iter().flat_map(|crates| crates.iter().copied()).collect();
    assert_eq!(known, manifests.keys().map(String::as_str).collect(), "a crate has no place in ORDER");
    for (name, dependencies) in &manifests {
        for (dependency, _) in dependencies.iter().filter(|(_, tests_only)| !tests_only) {
            let earlier = line(dependency).is_none_or(|at| Some(at) < line(name));
            assert!(earlier, "{name} uses {dependency}, which stands later");
        }
    }
}

#[test]
fn what_needs_no_model_is_built_without_libtorch() {
    let manifests = manifests();
    for (name, dependencies) in &manifests {
        let names = |wanted: &str| dependencies.iter().any(|(dependency, _)| dependency == wanted);
        let libtorch = names("tch") || names("torch-sys");
        assert_eq!(libtorch, TORCH.contains(&name.as_str()), "{name}");
        let of_torch: Vec<_> = dependencies
            .iter()
            .filter(|(it, tests_only)| !tests_only && TORCH.contains(&it.as_str()))
            .map(|(it, _)| it.as_str())
            .collect();
        // The program names the library that it opens, so that Cargo builds it; it links nothing of it.
        let allowed = TORCH.contains(&name.as_str()) || (name == "trommel" && of_torch == ["trommel-torch"]);
        assert!(allowed || of_torch.is_empty(), "{name} uses {of_torch:?}");
    }
}

#[test]
fn a_library_is_named_by_one_room() {
    let manifests = manifests();
    for (library, owner) in OWNED {
        let users: Vec<&String> = manifests
            .iter()
            .filter(|(_, dependencies)| dependencies.contains(&(library.to_owned(), false)))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(users, [owner], "{library}");
    }
}

#[test]
fn pages_that_say_how_to_add_something_name_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut pages, mut files) = (0, 0);
    for page in std::fs::read_dir(root.join("docs/how-to")).unwrap() {
        let page = page.unwrap().path();
        let text = std::fs::read_to_string(&page).unwrap();
        pages += 1;
        for path in text.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains(' ')) {
            // What is to be written has its name in capitals.
            let fresh = path.rsplit('/').next().unwrap().starts_with(|c: char| c.is_ascii_uppercase());
            assert!(fresh || root.join(path).exists(), "{}: {path}", page.display());
            files += 1;
        }
    }
    assert!(pages >= 5 && files > 40, "{pages} pages, {files} files");
}

/// The libraries that the loader opens while the program runs with these words.
fn opened(words: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_trommel")).args(words).env("LD_DEBUG", "files").output().unwrap();
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn what_needs_no_model_starts_without_libtorch() {
    let folder = tempfile::tempdir().unwrap();
    let (run, page) = (folder.path().join("run"), folder.path().join("page.html"));
    let (run, page) = (run.to_str().unwrap(), page.to_str().unwrap());
    let cases: [&[&str]; 9] = [
        &["stream", "walls.tar", "--rule", "random:1%"],
        &["select", run, "--rule", "far:1", "-o", page],
        &["verify", page, run],
        &["dedup", run, "--above", "0.9", "-o", page],
        &["why", run, "key"],
        &["report", run, "-o", page],
        &["--help"],
        &["radii", "--reference", run, "--benchmark", "a=b", "-o", page],
        &["prune", "a.npy", "--run", run, "--rule", "random:1%"],
    ];
    for words in cases {
        let opened = opened(words);
        assert!(opened.contains("libc.so"), "the loader says nothing of {words:?}: {opened}");
        assert!(!opened.contains("libtorch"), "{words:?}: {opened}");
    }
    assert!(opened(&["eval", run, "--data", run]).contains("libtorch_cpu.so"), "and what needs one does not open it");
}
