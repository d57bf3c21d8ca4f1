//! The walls between the rooms: imports run one way, what needs no model is built without libtorch, and starts without it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use half::f16;
use serde_json::Value;
use trommel_columnar::npy;

#[path = "walls/circles.rs"]
mod circles;
#[path = "walls/dependencies.rs"]
mod dependencies;
#[path = "../operators/decide/tests/sources.rs"]
mod sources;
use sources::sources;

/// From the foundation up: a crate uses only crates of the lines before its own.
const ORDER: [&[&str]; 11] = [
    &["trommel-core", "trommel-kernels", "trommel-bridge", "trommel-card-stand-in", "icu"],
    &["trommel-dataflow", "trommel-columnar", "trommel-dedup", "trommel-report", "trommel-synth"],
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

/// What Cargo knows of the workspace's packages.
fn packages() -> Vec<Value> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    serde_json::from_value(metadata["packages"].take()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Each crate of the workspace, with what its manifest names: (dependency, whether for its tests only).
fn manifests() -> BTreeMap<String, BTreeSet<(String, bool)>> {
    let named = |package: &Value| {
        let of = |it: &Value| (text(&it["name"]), it["kind"].as_str() == Some("dev"));
        package["dependencies"].as_array().unwrap().iter().map(of).collect()
    };
    packages().iter().map(|package| (text(&package["name"]), named(package))).collect()
}

/// The file with which each crate begins: a library's, or a program's without one.
fn libraries() -> BTreeMap<String, String> {
    let file = |package: &Value| {
        let targets = package["targets"].as_array().unwrap();
        let is = |target: &Value, kinds: &[&str]| {
            target["kind"].as_array().unwrap().iter().any(|kind| kinds.contains(&kind.as_str().unwrap()))
        };
        let library = targets.iter().find(|target| is(target, &["lib", "cdylib"]));
        let file = library.or_else(|| targets.iter().find(|target| is(target, &["bin"]))).unwrap();
        (text(&package["name"]), text(&file["src_path"]))
    };
    packages().iter().map(file).collect()
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
        // Tests may use rooms that stand later, but what they link is what their room links.
        let of_torch: Vec<_> = dependencies.iter().map(|(it, _)| it.as_str()).filter(|it| TORCH.contains(it)).collect();
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

/// What builds a timely operator by hand: who holds capabilities, sends over channels, and wakes itself.
const BY_HAND: [&str; 6] =
    ["operators::generic", "channels::pact", "Capability", "activator_for", "for_each_stamp", "OperatorBuilder"];

/// Files beside `operators/dataflow` that still do. There come no more.
const STILL_BY_HAND: [&str; 1] = ["operators/ledger/operator.rs"];

#[test]
fn operators_are_built_by_hand_in_one_room() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut at_home, mut abroad) = (0, BTreeSet::new());
    for path in sources(root) {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().filter_map(|line| line.split("//").next()).collect::<Vec<_>>().join("\n");
        if !BY_HAND.iter().any(|word| code.contains(word)) {
            continue;
        }
        let place = path.strip_prefix(root).unwrap().display().to_string();
        if place.starts_with("operators/dataflow/") {
            at_home += 1;
        } else {
            abroad.insert(place);
        }
    }
    assert!(at_home >= 6, "the search finds only {at_home} files of operators/dataflow");
    let known = STILL_BY_HAND.map(String::from).into();
    assert_eq!(abroad, known, "`offload`, `batch_offload`, `flat_map_timed` and `everywhere` are there for it");
}

/// Where code makes a fate field by field.
fn made_by_hand(code: &str) -> usize {
    let before = |at: usize| code[..at].split_whitespace().next_back().unwrap_or("");
    let made = |at: usize| !["struct", "enum", "impl", "let", "for", "->"].contains(&before(at));
    let starts = |at: usize| code[..at].ends_with(|c: char| c.is_whitespace() || c == '(');
    code.match_indices("Fate {").filter(|&(at, _)| starts(at) && made(at)).count()
}

#[test]
fn fates_are_made_in_one_file() {
    assert_eq!(
        made_by_hand("let Fate { info, .. } = x; let y = Fate { info };\nfn f() -> Fate {\n    Fate { ..x }\n}"),
        2
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = |path: &Path| std::fs::read_to_string(path).unwrap();
    let by_hand: Vec<_> = sources(root).into_iter().filter(|path| made_by_hand(&code(path)) > 0).collect();
    assert!(by_hand.is_empty(), "Fate has a named form for each way in which a sample ends: {by_hand:?}");
}

/// A name that a stranger has chosen is escaped there, and a reader that has gone away is borne.
#[test]
fn stderr_is_written_in_one_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let writes = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        // `peers.rs` are tests.
        ["eprint!(", "eprintln!("].iter().any(|word| text.contains(word)) && !path.ends_with("peers.rs")
    };
    let ours = |path: &PathBuf| ["src", "pipelines"].iter().any(|folder| path.starts_with(root.join(folder)));
    let others: Vec<_> = sources(root).into_iter().filter(ours).filter(writes).collect();
    assert!(others.is_empty(), "`src/cli/say.rs` says lines on stderr: {others:?}");
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

/// The libraries that the loader opens while the program does what these words ask, to its end.
fn opened(words: &[&str], status: i32) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_trommel")).args(words).env("LD_DEBUG", "files").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let own = || said.lines().filter(|line| line.starts_with("trommel")).collect::<Vec<_>>().join("\n");
    assert_eq!(out.status.code(), Some(status), "{words:?}: {}", own());
    said
}

/// Each does all of its work: a library that is opened late is seen too.
#[test]
fn what_needs_no_model_works_without_libtorch() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let vectors = |file: &str, rows: usize, turn: f64| {
        let angles = (0..rows).map(|row| row as f64 * turn);
        let rows: Vec<f16> = angles.flat_map(|angle| [angle.cos(), angle.sin()]).map(f16::from_f64).collect();
        let file = folder.path().join(file);
        npy::write(&file, &mut std::fs::File::create(&file).unwrap(), &rows, 2).unwrap();
    };
    std::fs::create_dir(path("pool")).unwrap();
    vectors("pool/0.npy", 50, 0.1);
    vectors("pool/1.npy", 30, 0.2);
    vectors("points.npy", 5, 1.3);
    vectors("reference.npy", 40, 0.7);
    let (pool, run, data, tar) = (path("pool"), path("run"), path("data"), path("data/shards/00000.tar"));
    let (points, radii, reference) = (format!("p={}", path("points.npy")), path("radii"), path("reference.npy"));
    let (benchmark, pictures) = (format!("p={radii}/p"), path("data/benchmarks/photo"));
    let [split, page, injected, streamed, deduplicated] =
        ["split.parquet", "page.html", "injected", "streamed", "dedup.parquet"].map(path);
    let cases: [&[&str]; 13] = [
        &["--help"],
        &["synth", &data, "--shards", "1", "--samples", "8"],
        &["inject", &pictures, "-o", &injected, "--items", "5"],
        &["radii", "--reference", &reference, "--benchmark", &points, "-o", &radii, "--assume-model", "m"],
        &["prune", &pool, "--run", &run, "--benchmark", &benchmark, "--rule", "near", "--assume-model", "m"],
        &["select", &run, "--rule", "far:9@p and not random:10%", "-o", &split],
        &["verify", &split, &run],
        &["dedup", &pool, "--above", "0.99999", "-o", &deduplicated, "--assume-model", "m"],
        &["why", &run, "0.npy/3"],
        &["report", &run, "-o", &page],
        &["stream", &tar, "--rule", "random:50%"],
        &["stream", &tar, "--rule", "random:50%", "-o", &streamed],
        &["prune", &pool, "--run", &run, "--benchmark", &benchmark, "--rule", "near", "--assume-model", "m"],
    ];
    for words in cases {
        let opened = opened(words, 0);
        assert!(opened.contains("libc.so"), "the loader says nothing of {words:?}: {opened}");
        assert!(!opened.contains("libtorch"), "{words:?}: {opened}");
    }
    let opened = opened(&["eval", &run, "--data", &pictures, "--model", "ViT-B-32"], 2);
    assert!(opened.contains("libtorch_cpu.so"), "and what needs one does not open it");
}
