//! Labelled sets in the layouts that lie about: folders called by numbers, tables of folders, CLIP_benchmark's tars.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::members::append;
use common::{MODEL, World, peer, run, stderr};
use serde_json::Value;
use trommel_columnar::embeddings::EmbeddingSet;

const CLASSES: usize = 12;

/// The world's pictures in class folders `a_class` to `l_class`, two in each.
fn folders(root: &Path) -> Vec<String> {
    let mut pictures: Vec<PathBuf> = Vec::new();
    for benchmark in ["photo", "sketch"] {
        let classes = fs::read_dir(World::shared().path(&format!("data/benchmarks/{benchmark}"))).unwrap();
        let classes = classes.map(|class| class.unwrap().path()).filter(|class| class.is_dir());
        pictures.extend(classes.flat_map(|class| fs::read_dir(class).unwrap().map(|file| file.unwrap().path())));
    }
    pictures.sort();
    let step = pictures.len() / (2 * CLASSES);
    let names: Vec<String> = (0..CLASSES).map(|at| format!("{}_class", char::from(b'a' + at as u8))).collect();
    for (at, name) in names.iter().enumerate() {
        fs::create_dir_all(root.join(name)).unwrap();
        for picture in 0..2 {
            fs::copy(&pictures[(2 * at + picture) * step], root.join(name).join(format!("{picture}.jpg"))).unwrap();
        }
    }
    names
}

/// The same folders, called by the numbers of their classes.
fn numbered(from: &Path, names: &[String], to: &Path) {
    for (at, name) in names.iter().enumerate() {
        let folder = to.join(at.to_string());
        fs::create_dir_all(&folder).unwrap();
        for file in fs::read_dir(from.join(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }
}

/// The same pictures as CLIP_benchmark packs them, in one tar.
fn packed(from: &Path, names: &[String], to: &Path) {
    fs::create_dir_all(to.join("test")).unwrap();
    fs::write(to.join("test/nshards.txt"), "1").unwrap();
    let mut tar = tar::Builder::new(fs::File::create(to.join("test/0.tar")).unwrap());
    for (class, name) in names.iter().enumerate() {
        for picture in 0..2 {
            let bytes = fs::read(from.join(name).join(format!("{picture}.jpg"))).unwrap();
            for (ending, bytes) in [("cls", class.to_string().into_bytes()), ("jpg", bytes)] {
                append(&mut tar, format!("s{class:02}{picture}.{ending}"), &bytes[..]);
            }
        }
    }
    tar.finish().unwrap();
}

fn checkpoint(folder: &Path) -> String {
    let trained = folder.join("run");
    let mut words = World::shared().train(&trained, 5);
    words.extend(["--threads".into(), "1".into()]);
    run(0, &common::words(&words));
    trained.join("checkpoints/epoch_latest.pt").display().to_string()
}

#[test]
fn folders_called_by_numbers_a_table_of_them_and_tars_of_clip_benchmark_are_one_set() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = |name: &str| at(name).display().to_string();
    let names = folders(&at("named"));
    numbered(&at("named"), &names, &at("numbered"));
    let spoken: Vec<String> = names.iter().map(|name| name.replace('_', " ")).collect();
    fs::write(at("names.txt"), spoken.join("\n")).unwrap();
    fs::write(at("templates.txt"), "a photo of a {c}.\na sketch of the {c}\n").unwrap();
    let rows = spoken.iter().enumerate().map(|(at, name)| format!("{at}\t{name}\n")).rev();
    fs::write(at("table.tsv"), rows.chain(["12\tnobody\n".to_owned()]).collect::<String>()).unwrap();
    let weights = checkpoint(folder.path());
    let eval = |status: i32, data: &str, more: &[&str]| {
        let data = text(data);
        let words = ["eval", &weights, "--model", MODEL, "--data", &data, "--threads", "1", "--json"];
        run(status, &[&words[..], more].concat())
    };
    let shares = |out: &std::process::Output| {
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        ["pictures", "classes", "top1", "top5"].map(|field| report[field].to_string())
    };
    let templates = text("templates.txt");
    let templates = ["--templates", &templates];
    // Class folders by their names: torchvision's ImageFolder, and what open_clip is compared on.
    let due = shares(&eval(0, "named", &templates));
    let list = text("names.txt");
    let list = ["--classnames", &list, templates[0], templates[1]];
    assert_eq!(shares(&eval(0, "numbered", &list)), due);
    let table = text("table.tsv");
    let out = eval(0, "numbered", &["--class-table", &table, templates[0], templates[1]]);
    assert_eq!(shares(&out), due);
    assert!(stderr(&out).contains("whose folders are not there: their classes cannot be guessed: 1 (first: 12)"));
    // The names as text sorts their folders: 0, 1, 10, 11, 2. The measure tells them apart.
    let mut order: Vec<usize> = (0..CLASSES).collect();
    order.sort_by_key(|at| at.to_string());
    let wrong: Vec<&str> = order.iter().map(|&at| spoken[at].as_str()).collect();
    fs::write(at("wrong.txt"), wrong.join("\n")).unwrap();
    let wrong = text("wrong.txt");
    assert_ne!(shares(&eval(0, "numbered", &["--classnames", &wrong, templates[0], templates[1]])), due);
    let said = stderr(&eval(0, "numbered", &[]));
    assert!(said.contains("class folders called by numbers") && said.contains(": 12 (first: 0)"), "{said}");
    for class in 0..CLASSES {
        fs::create_dir_all(at("wordnet")).unwrap();
        std::os::unix::fs::symlink(at(&format!("numbered/{class}")), at(&format!("wordnet/n{class:08}"))).unwrap();
    }
    let said = stderr(&eval(2, "wordnet", &[]));
    assert!(said.contains("class folders are called by WordNet's identifiers (n00000000)"), "{said}");
    fs::write(at("short.tsv"), "0\ta\n").unwrap();
    let short = text("short.tsv");
    let said = stderr(&eval(2, "numbered", &["--class-table", &short]));
    assert!(said.contains("11 class folders are not in it (first: 1)"), "{said}");

    // What is given takes the place of a packed set's own lists, and it is said whose are not read.
    packed(&at("named"), &names, &at("packed"));
    fs::write(at("packed/classnames.txt"), spoken.join("\n") + "\n").unwrap();
    fs::copy(at("templates.txt"), at("packed/zeroshot_classification_templates.txt")).unwrap();
    let own = ["class names", "templates"]
        .map(|what| format!("{what} of a set's own that are not read, for others are given"));
    let out = eval(0, "packed", &[]);
    assert_eq!(shares(&out), due);
    assert!(!own.iter().any(|line| stderr(&out).contains(line)), "{}", stderr(&out));
    // The same ones once more are not others.
    let out = eval(0, "packed", &list);
    assert_eq!(shares(&out), due);
    assert!(!own.iter().any(|line| stderr(&out).contains(line)), "{}", stderr(&out));
    fs::write(at("other.txt"), "{c}\n").unwrap();
    let out = eval(0, "packed", &["--classnames", &wrong, "--templates", &text("other.txt")]);
    assert!(own.iter().all(|line| stderr(&out).contains(line)), "{}", stderr(&out));
    // A blank line is no class, and is not left out: classes are counted by lines. Where other names are given, nobody counts them.
    fs::write(at("packed/classnames.txt"), spoken.join("\n\n")).unwrap();
    let said = stderr(&eval(2, "packed", &[]));
    assert!(said.contains("classnames.txt:2: a blank line where the name of a class is due"), "{said}");
    let out = eval(0, "packed", &list);
    assert_eq!(shares(&out), due);
    assert!(stderr(&out).contains(&own[0]), "{}", stderr(&out));
    let given = text("packed/classnames.txt");
    let said = stderr(&eval(2, "numbered", &["--classnames", &given]));
    assert!(said.contains("classnames.txt:2: a blank line"), "{said}");
    let (packed, out) = (text("packed"), text("never-embedded"));
    let said = stderr(&run(2, &["embed", &packed, "-o", &out, "--model", MODEL, "--random-init", "1"]));
    assert!(said.contains("classnames.txt:2: a blank line") && !at("never-embedded/config.json").exists(), "{said}");
    // Whoever writes no labels reads no names.
    run(0, &["prune", &packed, "--run", &text("pruned"), "--rule", "random:50%"]);

    let Some(python) = peer("clip_benchmark") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/classified.py");
    let made = Command::new(python).arg(script).args([at("named"), at("set")]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(said.contains("24 pictures of 12 classes, by clip_benchmark "), "{said}");
    eprint!("{said}");
    assert!(at("set/test/3.tar").is_file(), "several tars");
    for set in ["set", "set/test"] {
        assert_eq!(shares(&eval(0, set, &[])), due, "names and templates of its own");
    }
    assert_eq!(shares(&eval(0, "set", &list)), due);

    // The same set as a benchmark: labels and vectors of the class folders.
    let embed = |from: &str, to: &str| {
        let (from, to) = (text(from), text(to));
        run(0, &["embed", &from, "-o", &to, "--model", MODEL, "--random-init", "1", "--threads", "1"]);
        let set = EmbeddingSet::open(Path::new(&to)).unwrap();
        let labels: Vec<String> = set.labels.iter().flatten().map(|label| label.replace('_', " ")).collect();
        (labels, set.vectors)
    };
    let of_set = embed("set", "embedded-set");
    assert_eq!(of_set.0.len(), 2 * CLASSES);
    assert_eq!(of_set, embed("named", "embedded-named"));
    // And given as pictures, where it is embedded on the way.
    let (set, reference, out) =
        (format!("val={}", text("set")), World::shared().path("embedded/reference"), text("radii"));
    let words = ["radii", "--reference", &reference, "--benchmark", &set, "-o", &out, "--embedder", MODEL];
    run(0, &[&words[..], &["--random-init", "1", "--threads", "1"]].concat());
    assert_eq!(EmbeddingSet::open(&at("radii/val")).unwrap().vectors, of_set.1);

    // What has no class, or a class without a name, is lost and said.
    fs::write(at("set/classnames.txt"), spoken[..CLASSES - 1].join("\n")).unwrap();
    let out = eval(4, "set", &[]);
    assert!(stderr(&out).contains("class 11, and there are 11 names"), "{}", stderr(&out));
    fs::remove_file(at("set/test/2.tar")).unwrap();
    assert!(stderr(&eval(3, "set", &[])).contains("2.tar: is not there"));
}

/// The same pictures in two tars that have the same keys: in each the number of a class.
fn tars(from: &Path, names: &[String], to: &Path) {
    fs::create_dir_all(to).unwrap();
    for picture in 0..2 {
        let mut tar = tar::Builder::new(fs::File::create(to.join(format!("{picture}.tar"))).unwrap());
        for (class, name) in names.iter().enumerate() {
            append(&mut tar, format!("{class:02}.cls"), class.to_string().as_bytes());
            append(
                &mut tar,
                format!("{class:02}.jpg"),
                &fs::read(from.join(name).join(format!("{picture}.jpg"))).unwrap(),
            );
        }
        tar.finish().unwrap();
    }
}

#[test]
fn tars_that_have_the_same_keys_are_told_apart_and_what_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = |name: &str| at(name).display().to_string();
    let names = folders(&at("named"));
    tars(&at("named"), &names, &at("tars"));
    let spoken: Vec<String> = names.iter().map(|name| name.replace('_', " ")).collect();
    fs::write(at("names.txt"), spoken.join("\n")).unwrap();
    let (weights, list) = (checkpoint(folder.path()), text("names.txt"));
    let eval = |status: i32, data: &str, more: &[&str]| {
        let data = text(data);
        let words = ["eval", &weights, "--model", MODEL, "--data", &data, "--threads", "1", "--json"];
        run(status, &[&words[..], more].concat())
    };
    let report = |out: &std::process::Output| serde_json::from_slice::<Value>(&out.stdout).unwrap();

    // How near each picture is, as its class folders have it.
    let reference = World::shared().path("embedded/reference");
    for set in ["named", "tars"] {
        let (from, embedded, out) = (text(set), text(&format!("embedded-{set}")), text(&format!("radii-{set}")));
        run(0, &["embed", &from, "-o", &embedded, "--model", MODEL, "--random-init", "1", "--threads", "1"]);
        let benchmark = format!("val={embedded}");
        run(0, &["radii", "--reference", &reference, "--benchmark", &benchmark, "-o", &out]);
    }
    let (radii, judged, shards) = (text("radii-tars/val"), text("judged"), World::shared().shards());
    let due = report(&eval(0, "named", &["--nearest", &text("radii-named/val")]))["nearest"].clone();
    let benchmark = format!("val={radii}");
    let prune = ["prune", &shards, "--run", &judged, "--benchmark", &benchmark, "--rule", "drop-above:1"];
    run(0, &[&prune[..], &["--embedder", MODEL, "--random-init", "1"]].concat());
    let near = |from: &str| report(&eval(0, "tars", &["--classnames", &list, "--nearest", from]))["nearest"].clone();
    let found = near(&radii);
    assert_eq!(found["bins"], due["bins"]);
    let rho = |of: &Value| of["rho_pictures"].as_f64().unwrap();
    assert!((rho(&found) - rho(&due)).abs() < 1e-9, "{found} {due}");
    let of_pool = near(&format!("{judged}@val"));
    let pictures = of_pool["bins"].as_array().unwrap().iter().map(|bin| bin["pictures"].as_u64().unwrap());
    assert_eq!(pictures.sum::<u64>(), 2 * CLASSES as u64);
    // Points that do not say their shards are not told apart.
    let mut nameless = EmbeddingSet::open(Path::new(&radii)).unwrap();
    nameless.shards.fill(None);
    nameless.write(&at("nameless"), Default::default()).unwrap();
    let said = stderr(&eval(2, "tars", &["--classnames", &list, "--nearest", &text("nameless")]));
    assert!(said.contains("two test points have the key 00"), "{said}");
    let half = EmbeddingSet {
        vectors: nameless.vectors[..CLASSES * nameless.dim].to_vec(),
        keys: nameless.keys[..CLASSES].to_vec(),
        labels: nameless.labels[..CLASSES].to_vec(),
        shards: vec![None; CLASSES],
        indices: vec![None; CLASSES],
        radii: nameless.radii.as_ref().map(|radii| radii[..CLASSES].to_vec()),
        ..nameless.clone()
    };
    half.write(&at("half"), Default::default()).unwrap();
    let said = stderr(&eval(2, "tars", &["--classnames", &list, "--nearest", &text("half")]));
    assert!(said.contains("two pictures have the key 00") && said.contains("(second: 1.tar/00)"), "{said}");

    // A class of which nothing is there is guessed all the same, by the probe too.
    fs::write(at("more.txt"), spoken.join("\n") + "\nnobody\nnowhere\n").unwrap();
    let data = text("tars");
    let notices = report(&eval(0, "tars", &["--classnames", &text("more.txt"), "--probe", &data]))["notices"].clone();
    for code in ["classes_without_picture", "probe_classes_without_picture"] {
        let notice = &notices[code];
        assert_eq!((&notice["count"], &notice["first"]), (&2.into(), &"nobody, nowhere".into()), "{notices}");
    }

    // What lies beside tars is said, or nobody knows what is meant.
    fs::write(at("tars/2.tar.lz4"), "x").unwrap();
    let said = stderr(&eval(0, "tars", &["--classnames", &list]));
    assert!(said.contains("called like shards and are none by their endings: 1 (first: 2.tar.lz4)"), "{said}");
    fs::copy(at("tars/0.tar"), at("named/x.tar")).unwrap();
    let named = text("named");
    let inject = |status: i32, from: &str| {
        stderr(&run(status, &["inject", from, "-o", &text("injected"), "--name", "x", "--classnames", &list]))
    };
    for said in [stderr(&eval(2, "named", &["--classnames", &list])), inject(2, &named)] {
        assert!(said.contains("1 shards and 24 pictures (first: "), "{said}");
    }

    // Nothing at all is no result.
    fs::create_dir_all(at("empty")).unwrap();
    tar::Builder::new(fs::File::create(at("empty/0.tar")).unwrap()).finish().unwrap();
    fs::create_dir_all(at("none/test")).unwrap();
    fs::write(at("none/test/nshards.txt"), "0").unwrap();
    for none in ["empty", "none"] {
        let said = stderr(&eval(2, none, &["--classnames", &list]));
        assert!(said.contains(&format!("{none}: no picture could be judged")), "{said}");
        let said = inject(2, &text(none));
        assert!(said.contains(&format!("{none}: no picture is there")) && !at("injected").exists(), "{said}");
    }

    // A picture whose class nobody can tell is embedded, and has no label.
    fs::create_dir_all(at("set/test")).unwrap();
    fs::write(at("set/test/nshards.txt"), "1").unwrap();
    let mut set = tar::Builder::new(fs::File::create(at("set/test/0.tar")).unwrap());
    let picture = fs::read(at("named").join(&names[0]).join("0.jpg")).unwrap();
    // Two samples have one key.
    for (key, class) in [("a", "0"), ("b", "cat"), ("a", "1"), ("c", "7")] {
        append(&mut set, format!("{key}.cls"), class.as_bytes());
        append(&mut set, format!("{key}.jpg"), &picture);
    }
    append(&mut set, "d.jpg", &picture);
    set.finish().unwrap();
    fs::write(at("set/classnames.txt"), "one\ntwo\n").unwrap();
    let (set, embedded) = (text("set"), text("embedded-set"));
    let words = ["embed", &set, "-o", &embedded, "--model", MODEL, "--random-init", "1", "--threads", "1", "--json"];
    let notice = report(&run(0, &words))["notices"]["no_class"].clone();
    assert_eq!(notice["count"], 3, "{notice}");
    assert!(notice["first"].as_str().unwrap().ends_with("b: `cat` is no class's number"), "{notice}");
    let labels = EmbeddingSet::open(Path::new(&embedded)).unwrap().labels;
    assert_eq!(labels, [Some("one".to_owned()), None, Some("two".into()), None, None]);
}
