//! Locks, slices, refusals and recovery on the real file system.

use super::super::manifest::{LineStatus, PartSum, ShardLine};
use super::super::read::SampleNames;
use super::super::run_folder::{BLUR, manifest_path};
use super::super::storage::{Disk, LockKind, link_or_copy};
use super::simulated::Simulated;
use super::*;

fn on_disk() -> (tempfile::TempDir, Arc<dyn Storage>) {
    (tempfile::tempdir().unwrap(), Arc::new(Disk))
}

/// The line of a shard whose bytes could not be had.
fn failed(ordinal: u64) -> ShardLine {
    ShardLine {
        schema: 1,
        ordinal,
        name: format!("{ordinal:05}.tar"),
        status: LineStatus::Failed,
        remark: None,
        rejected: None,
        notices: Default::default(),
        bytes: 0,
        counts: Counts::default(),
        parts: Vec::new(),
        decision: String::new(),
    }
}

fn committed(ordinal: u64) -> ShardLine {
    let sum = |kind| PartSum { kind, bytes: 9, crc32c: "00000000".into() };
    ShardLine {
        status: LineStatus::Committed,
        parts: [PartKind::Ledger, PartKind::Items].map(sum).into(),
        ..failed(ordinal)
    }
}

#[test]
fn a_run_on_the_real_disk() {
    let (dir, storage) = on_disk();
    let root = dir.path().join("run");
    run(open(&root, &storage).unwrap(), true).1.unwrap();
    run(open(&root, &storage).unwrap(), false).1.unwrap();
    let outcome = outcome(&root, &storage);
    let (rows, items, embeddings) = naive();
    assert_eq!((outcome.rows, outcome.items, outcome.embeddings), (rows, items, embeddings));
    let ledger = Ledger::open(&root).unwrap();
    assert_eq!(ledger.plan::<Vec<String>>().unwrap(), plan());
    assert_eq!(ledger.config()["decisions"]["rule"], "drop-above:0.9");
    assert_eq!(ledger.benchmarks().unwrap(), ["a", "b.c"]);
    assert!(matches!(ledger.decisions(99), Err(LedgerError::NotCommitted { ordinal: 99, .. })));
    for ordinal in 0..SHARDS {
        let name = |fate: &Arc<Fate>| {
            let SampleInfo { id, key, uid, url, sha256, .. } = &*fate.info;
            let (key, uid, url, sha256) = (key.clone(), uid.clone(), url.clone(), sha256.clone());
            SampleNames { index: id.index, key, uid, url, sha256 }
        };
        assert_eq!(ledger.names(ordinal).unwrap(), fates(ordinal).iter().map(name).collect::<Vec<_>>());
        let bare = fates(ordinal).into_iter().filter(|it| it.reason.as_ref().is_some_and(|it| it.code == NO_CAPTION));
        assert_eq!(ledger.captionless(ordinal).unwrap(), bare.map(|fate| fate.info.id.index).collect::<Vec<_>>());
    }
}

/// Who resumes a run may ask for it, and nobody takes it back. What else stands in the record is that of the first start.
#[test]
fn blurring_is_taken_over_and_stays() {
    let (dir, storage) = on_disk();
    let plan = plan();
    let started = |record: serde_json::Value| {
        let config = RunConfig { record, ..config() };
        drop(RunFolder::open(dir.path(), Arc::clone(&storage), &options(&plan, &config)).unwrap());
        let ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.config()["decision_hash"], config.decision_hash());
        ledger.config()["record"].clone()
    };
    assert_eq!(started(json!({ "command": "first", BLUR: false })), json!({ "command": "first", BLUR: false }));
    let due = json!({ "command": "first", BLUR: true });
    assert_eq!(started(json!({ "command": "second", BLUR: true })), due);
    assert_eq!(started(json!({ "command": "third", BLUR: false })), due);
}

#[test]
fn two_runs_on_one_folder() {
    let (dir, storage) = on_disk();
    let first = open(dir.path(), &storage).unwrap();
    let second = open(dir.path(), &storage).err().unwrap();
    assert!(matches!(second, LedgerError::Busy { .. }), "{second}");
    drop(first);
    let third = open(dir.path(), &storage).unwrap();
    assert_eq!(third.incarnation(), 1);
}

#[test]
fn slices_share_a_folder() {
    let (dir, storage) = on_disk();
    let (plan, config) = (plan(), config());
    let slice = |index, of| {
        let options = OpenOptions { access: Access::Slice { index, of }, ..options(&plan, &config) };
        RunFolder::open(dir.path(), Arc::clone(&storage), &options)
    };
    let (a, b) = (slice(0, 2).unwrap(), slice(1, 2).unwrap());
    assert_ne!(a.incarnation(), b.incarnation());
    assert!(a.owns(4) && !a.owns(3) && b.owns(3));
    assert!(matches!(slice(0, 2).err().unwrap(), LedgerError::Busy { .. }), "the same slice twice");
    assert!(matches!(slice(2, 3).err().unwrap(), LedgerError::Busy { .. }), "slices of another number");
    assert!(matches!(slice(2, 2).err().unwrap(), LedgerError::Busy { .. }), "a slice that is not there");
    assert!(matches!(open(dir.path(), &storage).err().unwrap(), LedgerError::Busy { .. }), "a whole run beside slices");
    let other = vec!["x.tar".to_string()];
    let options = OpenOptions { access: Access::Slice { index: 1, of: 2 }, ..options(&other, &config) };
    drop(b);
    let refused = RunFolder::open(dir.path(), Arc::clone(&storage), &options).err().unwrap();
    assert!(matches!(refused, LedgerError::PlanDiffers { .. }), "{refused}");
    // Both commit at the same time; a part of a live incarnation is never cleaned away.
    let orphan = dir.path().join(PartKind::Ledger.path(0, a.incarnation()));
    std::fs::write(&orphan, b"being written").unwrap();
    let b = slice(1, 2).unwrap();
    assert!(orphan.exists());
    drop((a, b));
    drop(slice(1, 2).unwrap());
    assert!(!orphan.exists(), "its writer is gone");
}

#[test]
fn refusals_name_what_differs() {
    let (dir, storage) = on_disk();
    drop(open(dir.path(), &storage).unwrap());
    let plan = plan();
    let mut other = config();
    other.decisions["rule"] = json!("drop-above:0.95");
    other.decisions["benchmarks"][0]["radii"] = json!("sha256:12");
    let refused = RunFolder::open(dir.path(), Arc::clone(&storage), &options(&plan, &other)).err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("rule: the folder has `drop-above:0.9`, now `drop-above:0.95`"), "{text}");
    assert!(text.contains("benchmarks[0].radii: the folder has `none`, now `sha256:12`"), "{text}");

    let mut numerics = config();
    numerics.numerics["device"] = json!("cuda:0");
    let refused = RunFolder::open(dir.path(), Arc::clone(&storage), &options(&plan, &numerics)).err().unwrap();
    assert!(matches!(refused, LedgerError::NumericsDiffer { .. }));
    assert!(refused.to_string().contains("device: the folder has `cpu`, now `cuda:0`"), "{refused}");
    let mixed = OpenOptions { mix_numerics: true, ..options(&plan, &numerics) };
    let folder = RunFolder::open(dir.path(), Arc::clone(&storage), &mixed).unwrap();
    assert!(folder.notes()[0].starts_with("mixed numerics: device"), "{:?}", folder.notes());
    drop(folder);

    let mut longer = plan.clone();
    longer.push("00005.tar".into());
    drop(RunFolder::open(dir.path(), Arc::clone(&storage), &options(&longer, &config())).unwrap());
    let shorter = open(dir.path(), &storage).err().unwrap();
    assert!(shorter.to_string().contains("the folder has 6 entries, now 5 entries"), "{shorter}");

    let mut record = config();
    record.record = json!({ "command": "another" });
    drop(RunFolder::open(dir.path(), Arc::clone(&storage), &options(&longer, &record)).unwrap());
}

#[test]
fn the_hash_does_not_depend_on_the_order_of_fields() {
    let parse = |text: &str| RunConfig { decisions: serde_json::from_str(text).unwrap(), ..RunConfig::default() };
    let (a, b) = (parse(r#"{"x":1,"y":{"p":0.1,"q":[1,2]}}"#), parse(r#"{"y":{"q":[1,2],"p":0.1},"x":1}"#));
    assert_eq!(a.decision_hash(), b.decision_hash());
    assert_ne!(a.decision_hash(), parse(r#"{"x":1,"y":{"p":0.1,"q":[2,1]}}"#).decision_hash());
    // sha256 of {"x":1}, by coreutils' sha256sum.
    let known = "5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22";
    assert_eq!(parse(r#"{"x":1}"#).decision_hash(), known);
}

#[test]
fn torn_manifest_and_orphans_are_cut_back() {
    let (dir, storage) = on_disk();
    run(open(dir.path(), &storage).unwrap(), false).1.unwrap();
    let expected = outcome(dir.path(), &storage);
    let manifest = dir.path().join("manifest/0.jsonl");
    let whole = std::fs::read(&manifest).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n').unwrap() + 1;
    for cut in [last + 1, last + 40, whole.len() - 1] {
        std::fs::write(&manifest, &whole[..cut]).unwrap();
        std::fs::write(dir.path().join("items/7.0.parquet.tmp"), b"half").unwrap();
        let folder = open(dir.path(), &storage).unwrap();
        assert_eq!(std::fs::read(&manifest).unwrap(), &whole[..last]);
        assert!(!dir.path().join("items/7.0.parquet.tmp").exists());
        assert_eq!(folder.before().committed.len(), 4);
        assert_eq!(folder.notes().len(), 4, "{:?}", folder.notes());
        run(folder, false).1.unwrap();
        assert_eq!(outcome(dir.path(), &storage), expected);
        // Back to the beginning, for the next cut.
        for entry in std::fs::read_dir(dir.path().join("manifest")).unwrap() {
            let path = entry.unwrap().path();
            let incarnation = path.file_stem().unwrap().to_str().unwrap().to_string();
            if incarnation != "0" {
                let lines = std::fs::read(&path).unwrap();
                let line = ShardLine::decode(lines.strip_suffix(b"\n").unwrap_or(&lines));
                for part in line.iter().flat_map(|l| &l.parts) {
                    let ordinal = line.as_ref().unwrap().ordinal;
                    let from = dir.path().join(part.kind.path(ordinal, incarnation.parse().unwrap()));
                    std::fs::rename(from, dir.path().join(part.kind.path(ordinal, 0))).unwrap();
                }
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

#[test]
fn damage_in_the_middle_is_an_error() {
    let (dir, storage) = on_disk();
    run(open(dir.path(), &storage).unwrap(), true).1.unwrap();
    let manifest = dir.path().join("manifest/0.jsonl");
    let mut bytes = std::fs::read(&manifest).unwrap();
    let at = bytes.iter().position(|&b| b == b'\n').unwrap() + 30;
    bytes[at] ^= 1;
    std::fs::write(&manifest, &bytes).unwrap();
    let refused = open(dir.path(), &storage).err().unwrap();
    assert!(matches!(refused, LedgerError::CorruptManifest { line: 2, .. }), "{refused}");
    assert!(matches!(Ledger::open(dir.path()).err().unwrap(), LedgerError::CorruptManifest { .. }));
}

#[test]
fn a_missing_cut_or_turned_part_is_an_error() {
    let (dir, storage) = on_disk();
    run(open(dir.path(), &storage).unwrap(), true).1.unwrap();
    let part = dir.path().join("ledger/2.0.parquet");
    let bytes = std::fs::read(&part).unwrap();
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&part, &bytes[..cut]).unwrap();
        drop(open(dir.path(), &storage).unwrap()); // lengths are compared by who reads
        let ledger = Ledger::open(dir.path()).unwrap();
        assert!(ledger.decisions(2).is_err() && ledger.verify().is_err());
        assert!(ledger.rows().map_or(true, |rows| rows.filter(Result::is_err).count() == 1));
    }
    for at in [5, bytes.len() / 2, bytes.len() - 1] {
        let mut turned = bytes.clone();
        turned[at] ^= 4;
        std::fs::write(&part, turned).unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        assert!(matches!(ledger.verify(), Err(LedgerError::BadPart { .. })), "a turned bit at {at}");
        assert!(matches!(ledger.decisions(2), Err(LedgerError::BadPart { .. })), "a turned bit at {at}");
        assert!(
            matches!(ledger.check_part(2, PartKind::Ledger), Err(LedgerError::BadPart { .. })),
            "a turned bit at {at}"
        );
        ledger.check_part(1, PartKind::Ledger).unwrap();
    }
    std::fs::remove_file(&part).unwrap();
    let refused = open(dir.path(), &storage).err().unwrap();
    assert!(refused.to_string().contains("missing though the manifest lists it"), "{refused}");
    // Embeddings may be deleted to save room.
    std::fs::write(&part, &bytes).unwrap();
    std::fs::remove_file(dir.path().join("embeddings/2.0.arrow")).unwrap();
    drop(open(dir.path(), &storage).unwrap());
    assert!(!Ledger::open(dir.path()).unwrap().has_embeddings(2));
}

#[test]
fn a_newer_schema_is_refused() {
    let (dir, storage) = on_disk();
    drop(open(dir.path(), &storage).unwrap());
    let line = ShardLine { schema: 2, ..failed(0) };
    std::fs::write(dir.path().join("manifest/0.jsonl"), line.encode().unwrap()).unwrap();
    let refused = open(dir.path(), &storage).err().unwrap();
    assert!(matches!(refused, LedgerError::NewerSchema { found: 2, .. }), "{refused}");
    for file in ["config.json", "plan.json"] {
        let (dir, storage) = on_disk();
        drop(open(dir.path(), &storage).unwrap());
        let path = dir.path().join(file);
        let newer = std::fs::read_to_string(&path).unwrap().replacen("\"schema\": 1", "\"schema\": 2", 1);
        std::fs::write(&path, newer).unwrap();
        let refused = open(dir.path(), &storage).err().unwrap();
        assert!(matches!(refused, LedgerError::NewerSchema { found: 2, .. }), "{file}: {refused}");
    }
}

/// `/dev/null` cannot be synced, and the system says so.
#[test]
fn a_sync_reaches_the_system() {
    let disk: &dyn Storage = &Disk;
    assert!(disk.create(Path::new("/dev/null")).unwrap().sync().is_err());
    assert!(disk.sync_dir(Path::new("/no/such/folder")).is_err());
}

#[test]
fn a_name_that_is_taken_is_replaced_and_never_written_into() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::write(&from, b"what counts").unwrap();
    // Whatever stands there: a link to the file itself, or what a killed copy left.
    std::fs::hard_link(&from, &to).unwrap();
    link_or_copy(&Disk, &from, &to).unwrap();
    assert_eq!(
        (std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap()),
        (b"what counts".into(), b"what counts".into())
    );
    std::fs::write(&to, b"half").unwrap();
    link_or_copy(&Disk, &from, &to).unwrap();
    assert_eq!(
        (std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap()),
        (b"what counts".into(), b"what counts".into())
    );

    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    if elsewhere.path().metadata().unwrap().dev() == dir.path().metadata().unwrap().dev() {
        crate::skipped::skipped("/dev/shm is no other file system");
        return;
    }
    let there = elsewhere.path().join("to");
    link_or_copy(&Disk, &from, &there).unwrap();
    assert_eq!(std::fs::read(&there).unwrap(), b"what counts");
    assert_eq!(elsewhere.path().read_dir().unwrap().count(), 1, "nothing is left aside");
}

#[test]
fn opening_makes_no_call_for_each_shard() {
    let config = config();
    let opened = |shards: u64, access: Access| {
        let disk = Simulated::new();
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let plan: Vec<String> = (0..shards).map(|n| format!("{n:05}.tar")).collect();
        let open = |access| {
            let options = OpenOptions { access, ..options(&plan, &config) };
            RunFolder::open(&root(), Arc::clone(&storage), &options).unwrap()
        };
        drop(open(Access::Exclusive));
        let mut lines = Vec::new();
        for line in (0..shards).map(committed) {
            for part in &line.parts {
                disk.put(&root().join(part.kind.path(line.ordinal, 0)), b"a part...");
            }
            lines.extend(line.encode().unwrap());
        }
        disk.put(&manifest_path(&root(), 0), &lines);
        let begun = disk.calls();
        let folder = open(access);
        (disk.calls() - begun, folder.before().committed.len() as u64)
    };
    for (access, slices) in [(Access::Exclusive, 1), (Access::Slice { index: 1, of: 4 }, 4), (Access::Member, 1)] {
        let (few, many) = (opened(8, access), opened(800, access));
        assert_eq!(few.0, many.0, "{access:?}: calls");
        assert_eq!((few.1, many.1), (8 / slices, 800 / slices), "{access:?}: only what is its own is held");
    }
}

#[test]
fn nobody_waits_for_one_who_cleans() {
    let (dir, storage) = on_disk();
    run(open(dir.path(), &storage).unwrap(), true).1.unwrap();
    let orphan = dir.path().join("items/7.0.parquet");
    std::fs::write(&orphan, b"unlisted").unwrap();
    let cleaner = storage.try_lock(&dir.path().join("lock.open"), LockKind::Exclusive).unwrap();
    let (plan, config) = (plan(), config());
    let slice = |index| {
        let access = Access::Slice { index, of: 3 };
        let options = OpenOptions { access, patience: Duration::ZERO, ..options(&plan, &config) };
        RunFolder::open(dir.path(), Arc::clone(&storage), &options).unwrap()
    };
    let slices = [slice(0), slice(1), slice(2)];
    let known: Vec<Vec<u64>> = slices.iter().map(|s| s.before().committed.keys().copied().collect()).collect();
    assert_eq!(known, [vec![0], vec![1, 4], vec![2]]);
    assert!(slices[0].before().failed.contains_key(&3) && orphan.exists());
    drop((cleaner, slices));
    drop(slice(1));
    assert!(!orphan.exists(), "the next one cleans");
}

#[test]
fn a_ledger_that_is_refreshed_is_one_that_is_opened() {
    let (dir, storage) = on_disk();
    let (plan, config) = (plan(), config());
    let slice = |index| {
        let options = OpenOptions { access: Access::Slice { index, of: 2 }, ..options(&plan, &config) };
        RunFolder::open(dir.path(), Arc::clone(&storage), &options).unwrap()
    };
    let (first, second) = (slice(0), slice(1));
    let mut ledger = Ledger::open(dir.path()).unwrap();
    // The first incarnation that commits counts, also where its line comes later.
    let script = [
        (&second, failed(3)),
        (&first, committed(0)),
        (&second, committed(2)),
        (&first, failed(3)),
        (&first, committed(2)),
        (&second, failed(1)),
        (&first, committed(1)),
        (&second, committed(3)),
    ];
    for (folder, line) in script {
        folder.append(&line).unwrap();
        // What is being written is no line yet.
        let torn = manifest_path(dir.path(), folder.incarnation());
        let whole = std::fs::read(&torn).unwrap();
        std::fs::write(&torn, [&whole[..], b"{\"check\":"].concat()).unwrap();
        ledger = ledger.refreshed().unwrap();
        let opened = Ledger::open(dir.path()).unwrap();
        assert_eq!((ledger.shards(), ledger.failed()), (opened.shards(), opened.failed()), "after {line:?}");
        std::fs::write(&torn, whole).unwrap();
    }
    assert_eq!(ledger.shards()[&2].0, first.incarnation());
    let torn = manifest_path(dir.path(), 0);
    let damaged = [&std::fs::read(&torn).unwrap()[..], b"{}\n", &committed(4).encode().unwrap()].concat();
    std::fs::write(&torn, damaged).unwrap();
    let refused = ledger.refreshed().err().unwrap();
    assert!(matches!(refused, LedgerError::CorruptManifest { line: 5, .. }), "{refused}");
}
