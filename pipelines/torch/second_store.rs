//! A second store is its own file and the line that registers it: whole runs over one in memory decide what they decide over files.

use std::path::Path;
use std::sync::Arc;

use trommel_core::sample::{Fate, SampleId};
use trommel_core::stop::Stop;
use trommel_ledger::read::Ledger;
use trommel_pipelines::config::{JudgeConfig, ReadingConfig};
use trommel_pipelines::pictures::{WantedPicture, samples};
use trommel_pipelines::progress::Progress;
use trommel_pipelines::stray_files::beside;
use trommel_pipelines::stream::{KeptBy, Out, StreamConfig, stream};
use trommel_shard::plan::Plan;
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::Stores;
use trommel_shard::store::memory::Memory;
use trommel_synth::SynthConfig;

use crate::faulty::{Fault, Faulty};
use crate::prune::{PruneReport, prune};
use crate::side_by_side::config;

/// Synthetic shards in `folder`, and the same in memory.
fn data(folder: &Path) -> Memory {
    let synth = SynthConfig {
        shards: 3,
        samples: 20,
        benchmark_pictures_per_class: 2,
        reference_pictures_per_class: 1,
        ..SynthConfig::default()
    };
    trommel_synth::write(folder, &synth).unwrap();
    let memory = Memory::default();
    for file in std::fs::read_dir(folder.join("shards")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        memory.put(format!("mem://pool/shards/{name}"), std::fs::read(&file).unwrap());
    }
    memory
}

/// A run over `shards` in a store of the scheme `mem`.
fn through(config: &JudgeConfig, run: &Path, shards: &str, store: &Faulty) -> JudgeConfig {
    let stores = Stores::default().with("mem", store.clone());
    let reading = ReadingConfig { stores, ..config.reading.clone() };
    JudgeConfig { shards: vec![shards.into()], run: run.to_path_buf(), reading, ..config.clone() }
}

fn run(config: &JudgeConfig) -> PruneReport {
    prune(config, Stop::new(), &Arc::new(Progress::default())).unwrap()
}

/// What was decided, by place: the shards' names are the stores' own.
fn decided(config: &JudgeConfig) -> Vec<Fate> {
    Ledger::open(&config.run).unwrap().rows().unwrap().map(|row| row.unwrap().fate).collect()
}

fn same(one: &[Fate], two: &[Fate]) {
    let plain = |fates: &[Fate]| {
        let of = |fate: &Fate| (fate.info.id, fate.info.key.clone(), fate.status, fate.scores.clone());
        let mut plain: Vec<_> = fates.iter().map(of).collect();
        plain.sort_by_key(|fate| fate.0);
        plain
    };
    assert_eq!(one.len(), 60);
    assert_eq!(plain(one), plain(two));
}

#[test]
fn a_run_over_a_second_store_decides_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let memory = data(&folder.path().join("data"));
    let local = config(&folder.path().join("data"), &folder.path().join("local"), "drop-above:0.97");
    assert!(run(&local).failed.is_empty());
    let wanted = decided(&local);
    for (at, shards) in
        ["mem://pool/shards", "mem://pool/sh*s/*.tar", "mem://pool/shards/{00000..00002}.tar"].iter().enumerate()
    {
        // What breaks off here and there is read on.
        let faults = [Fault::ShortReads(4000), Fault::FailsOnceAt(700), Fault::EndsOnceAt(30_000)];
        let store = Faulty::new(memory.clone(), faults);
        let there = through(&local, &folder.path().join(format!("there-{at}")), shards, &store);
        let report = run(&there);
        assert_eq!((report.shards, report.failed.len(), report.interrupted), (3, 0, false), "{shards}");
        same(&wanted, &decided(&there));
        let plan: Plan = Ledger::open(&there.run).unwrap().plan().unwrap();
        let names: Vec<&str> = plan.shards.iter().map(|shard| shard.name.as_str()).collect();
        assert_eq!(names, ["pool/shards/00000.tar", "pool/shards/00001.tar", "pool/shards/00002.tar"]);
    }
    // Its pictures come back from there too.
    let plan: Plan = Ledger::open(&folder.path().join("there-0")).unwrap().plan().unwrap();
    let seen = &wanted.iter().find(|fate| fate.info.id.ordinal == 1).unwrap().info;
    let place = WantedPicture { offset: seen.offset, size: seen.size, key: seen.key.clone() };
    let asked = [(SampleId { ..seen.id }, place)].into();
    let stores = Stores::default().with("mem", memory);
    let (found, troubles) = samples(&stores, &plan, &GroupConfig::default(), &asked);
    assert_eq!((found.len(), troubles.len()), (1, 0), "{troubles:?}");
    assert!(found[&seen.id].image.starts_with(b"\xff\xd8"));
    let (found, troubles) = samples(&Stores::default(), &plan, &GroupConfig::default(), &asked);
    assert!(found.is_empty() && troubles[0].contains("mem: is not supported"), "{troubles:?}");
}

#[test]
fn a_stream_over_a_second_store_is_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let memory = data(&folder.path().join("data"));
    type Streamed = Result<(u64, Vec<Vec<u8>>), (u8, String)>;
    let streamed = |shards: &str, into: &str, stores: &Stores| -> Streamed {
        let (out, kept_by) = (folder.path().join(into), KeptBy::rule("random:100%", 0).unwrap());
        let out_of = Out::Shards(out.clone(), 25);
        let config = StreamConfig { shards: vec![shards.into()], kept_by, out: out_of, stores: stores.clone() };
        let report = stream(&config, &Stop::new()).map_err(|error| (error.status(), error.line()))?;
        let tar = |name: &String| std::fs::read(out.join(name)).unwrap();
        Ok((report.samples, report.written.iter().map(tar).collect::<Vec<_>>()))
    };
    let local = folder.path().join("data/shards").display().to_string();
    let due = streamed(&local, "local", &Stores::default());
    assert_eq!(due.as_ref().map(|(samples, shards)| (*samples, shards.len())), Ok((60, 3)));
    let faults = [Fault::ShortReads(4000), Fault::FailsOnceAt(700), Fault::EndsOnceAt(30_000)];
    let store = Faulty::new(memory, faults);
    let stores = Stores::default().with("mem", store.clone());
    assert_eq!(streamed("mem://pool/sh*s/*.tar", "there", &stores), due);
    // What cannot be had ends it, and the same command goes on.
    store.add("00001.tar", Fault::FailsAt(20_000));
    let (status, said) = streamed("mem://pool/shards", "later", &stores).unwrap_err();
    assert!(status == 3 && said.contains("mem://pool/shards/00001.tar: the disk is on fire"), "{status}: {said}");
    store.heal();
    assert_eq!(streamed("mem://pool/shards", "later", &stores), due);
}

#[test]
fn what_cannot_be_had_is_unfinished_and_never_bad() {
    let folder = tempfile::tempdir().unwrap();
    let memory = data(&folder.path().join("data"));
    let local = config(&folder.path().join("data"), &folder.path().join("local"), "drop-above:0.97");
    run(&local);
    let store = Faulty::new(memory.clone(), [Fault::NoListing]);
    let there = through(&local, &folder.path().join("there"), "mem://pool/shards", &store);
    // A list that cannot be had is one line before anything is begun.
    let refused = prune(&there, Stop::new(), &Arc::default()).unwrap_err();
    assert_eq!((refused.status(), refused.line().as_str()), (2, "mem://pool/shards: 503 Slow Down"));
    assert!(!there.run.join("plan.json").exists());
    store.heal();
    store.add("00000.tar", Fault::FailsAt(20_000));
    store.add("00001.tar", Fault::Announces(1));
    let report = run(&there);
    let why: Vec<&str> = report.failed.values().map(String::as_str).collect();
    assert_eq!(why.len(), 2, "{why:?}");
    assert_eq!(why[0], "mem://pool/shards/00000.tar: the disk is on fire");
    assert!(why[1].contains(" bytes now and had ") || why[1].contains(": ended after "), "{}", why[1]);
    assert_eq!((report.kept + report.dropped, report.rejected), (20, 0));
    // The same command goes on when the store is well, and the end is that of a run that nothing happened to.
    store.heal();
    let report = run(&there);
    assert_eq!((report.failed.len(), report.shards_resumed, report.kept + report.dropped), (0, 1, 60));
    same(&decided(&local), &decided(&there));
    // What goes after it was planned is a shard that could not be had.
    memory.remove("mem://pool/shards/00002.tar");
    let vanished = JudgeConfig { plan: Some(Arc::new(Ledger::open(&there.run).unwrap().plan().unwrap())), ..there };
    let vanished = JudgeConfig { run: folder.path().join("vanished"), ..vanished };
    let report = run(&vanished);
    assert_eq!(report.failed[&2], "mem://pool/shards/00002.tar: there is no such thing");
}

/// Who gives a folder of shards may mean those in its folders too: they are said, and so is a folder that nobody may look into.
#[test]
fn what_lies_below_a_folder_of_shards_is_said_as_far_as_anybody_may_look() {
    let files = ["0.tar", "in/1.tar", "out/2.tar"].map(|name| (format!("mem://pool/shards/{name}"), "x"));
    let store = Faulty::new(Memory::of(files), []);
    let stores = Stores::default().with("mem", store.clone());
    let noted = || {
        let notices = beside(&["mem://pool/shards".to_owned()], &stores, &GroupConfig::default()).unwrap();
        ["shards_below", "closed_below"].map(|code| notices.get(code).map(|it| (it.count, it.first.clone())))
    };
    let at = |count: u64, url: &str| Some((count, format!("mem://pool/shards/{url}")));
    assert_eq!(noted(), [at(2, "in/1.tar"), None]);
    store.add("/out", Fault::NoListing);
    assert_eq!(noted(), [at(1, "in/1.tar"), at(1, "out")]);
}
