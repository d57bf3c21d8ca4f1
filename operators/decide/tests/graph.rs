//! The stage that decides, as a graph: every sample comes out once, with the naive model's fate, for any number of workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use half::f16;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{Input, Inspect};

use super::naive::{self, Dice};
use crate::ShardNames;
use crate::benchmark::Benchmark;
use crate::join::{JoinConfig, JoinRow, Joiner, Verdict};
use crate::known_maxima::KnownMaxima;
use crate::rule::Rule;
use crate::stage::{Decide, Joins, TrainView};
use trommel_core::credit::Permit;
use trommel_core::sample::{
    Embedded, Event, Fate, PointRow, Reason, Sample, SampleId, SampleInfo, Score, ShardEnd, Status, Work,
};
use trommel_core::stop::Stop;
use trommel_dataflow::offload::Pool;
use trommel_dataflow::part::PartInTwo;

const DIM: usize = 24;

/// A sample as a test may clone it.
#[derive(Clone)]
struct Plain {
    id: SampleId,
    vector: Vec<f16>,
    caption: bool,
    work: Work,
}

impl Plain {
    fn embedded(self) -> Sample<Embedded> {
        let key = format!("{:09}", self.id.index);
        let info = Arc::new(SampleInfo { id: self.id, key, size: 10, ..SampleInfo::default() });
        Sample {
            info,
            pass: 0,
            work: self.work,
            caption: self.caption.then(|| "a caption".into()),
            encoded_bytes: 10,
            permit: Permit::free(),
            payload: Embedded { vector: self.vector, train: Some(vec![1; 12]) },
        }
    }
}

fn names() -> ShardNames {
    Arc::new(|ordinal| format!("{ordinal:05}.tar").into())
}

/// What the stage is given: a sample, or an event from before it.
#[derive(Clone)]
enum Given {
    Sample(Plain),
    Event(Event),
}

impl Given {
    fn ordinal(&self) -> u64 {
        match self {
            Self::Sample(sample) => sample.id.ordinal,
            Self::Event(Event::Fate(fate)) => fate.info.id.ordinal,
            Self::Event(Event::End(end)) => end.ordinal,
        }
    }
}

/// Samples, shard by shard, with an end behind each.
fn in_order(samples: &[Plain]) -> Vec<Given> {
    let mut shards = BTreeMap::<u64, Vec<Plain>>::new();
    samples.iter().for_each(|sample| shards.entry(sample.id.ordinal).or_default().push(sample.clone()));
    let of = |(ordinal, mut samples): (u64, Vec<Plain>)| {
        samples.sort_by_key(|sample| sample.id);
        let end = ShardEnd { count: samples.len() as u32, ..ShardEnd::new(ordinal) };
        samples.into_iter().map(Given::Sample).chain([Given::Event(Event::End(end))])
    };
    shards.into_iter().flat_map(of).collect()
}

/// Kept samples, and what the ledger would hear, with their times; each shard's in the order in which they came.
type Seen = (Vec<(u64, SampleId)>, Vec<(u64, Event)>);

/// The fates among what was heard.
fn fates_of(heard: &[(u64, Event)]) -> Vec<(u64, Arc<Fate>)> {
    let fate = |(time, event): &(u64, Event)| match event {
        Event::Fate(fate) => Some((*time, fate.clone())),
        Event::End(_) => None,
    };
    heard.iter().filter_map(fate).collect()
}

/// What the points saw of each shard whose end was heard: once, with all of its fates.
fn points_of(heard: &[(u64, Event)]) -> BTreeMap<u64, Vec<PointRow>> {
    let (mut all, fates) = (BTreeMap::new(), fates_of(heard));
    for (time, event) in heard {
        let Event::End(end) = event else { continue };
        let count = fates.iter().filter(|(of, _)| of == time).count();
        assert_eq!((end.ordinal, end.count as usize), (*time, count));
        assert!(all.insert(*time, end.points.to_vec()).is_none(), "shard {time} ended twice");
    }
    all
}

/// Runs the graph; what came out at which time.
fn run(samples: &[Plain], joiner: &Arc<Joiner>, verdict: &Arc<dyn Verdict>, workers: usize) -> Seen {
    run_on(in_order(samples), joiner, verdict, workers, Pool::new("join", 2))
}

/// A shard is a time, and is read by one worker; what comes in between is worked on or waits.
fn run_on(given: Vec<Given>, joiner: &Arc<Joiner>, verdict: &Arc<dyn Verdict>, workers: usize, pool: Pool) -> Seen {
    let (joiner, verdict) = (joiner.clone(), verdict.clone());
    let out: (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) = Default::default();
    let (kept_out, heard_out) = out.clone();
    timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);
        let mine: Vec<Given> = given.iter().filter(|given| given.ordinal() % peers == index).cloned().collect();
        let (kept, heard) = (kept_out.clone(), heard_out.clone());
        let mut input = InputHandle::<u64, CapacityContainerBuilder<Vec<Given>>>::new();
        worker.dataflow(|scope| {
            let given = scope.input_from(&mut input);
            let timed =
                given.unary::<CapacityContainerBuilder<Vec<Given>>, _, _, _>(Pipeline, "ToTime", |cap, _info| {
                    drop(cap);
                    |input, output| {
                        input.for_each(|cap, data| {
                            for given in data.drain(..) {
                                output.session(&cap.delayed(&given.ordinal(), 0)).give(given);
                            }
                        });
                    }
                });
            let (embedded, events) = timed.part(|given| match given {
                Given::Sample(sample) => Ok(sample.embedded()),
                Given::Event(event) => Err(event),
            });
            let known = Arc::new(KnownMaxima::new(joiner.benchmarks()));
            let joins = Joins { joiner: &joiner, pool: &pool, points: Some(&known) };
            let (kept_stream, events) = embedded.decide(events, Some(joins), &verdict, &names());
            kept_stream.inspect_core(move |event| {
                let Ok((stamp, batch)) = event else { return };
                let time = *stamp.least().unwrap();
                kept.lock().unwrap().extend(batch.iter().map(|sample: &Sample<TrainView>| (time, sample.info.id)));
            });
            events.inspect_core(move |event| {
                let Ok((stamp, batch)) = event else { return };
                let time = *stamp.least().unwrap();
                heard.lock().unwrap().extend(batch.iter().map(|event: &Event| (time, event.clone())));
            });
        });
        for (at, given) in mine.into_iter().enumerate() {
            input.send(given);
            if at % 13 == 0 {
                input.flush();
                worker.step();
            }
        }
    })
    .unwrap();
    (std::mem::take(&mut out.0.lock().unwrap()), std::mem::take(&mut out.1.lock().unwrap()))
}

#[test]
fn every_sample_has_one_fate_for_any_number_of_workers() {
    let mut dice = Dice(11);
    let vectors = dice.family(400, DIM, &[]);
    let points = dice.family(150, DIM, &vectors);
    let radii: Vec<f64> = points.iter().map(|t| naive::cosine(&vectors[dice.below(400)], t).max(0.7)).collect();
    let benchmark =
        |name, radii| Arc::new(Benchmark::new(name, DIM, points.concat(), vec![], vec![], radii, None).unwrap());
    let benchmarks = vec![benchmark("near", Some(radii)), benchmark("plain", None)];
    let mut samples: Vec<Plain> = Vec::new();
    for (at, vector) in vectors.iter().enumerate() {
        let id = SampleId { ordinal: (at % 5) as u64, index: (at / 5) as u32 };
        let work = if at % 7 == 0 { Work::JudgeOnly } else { Work::Judge };
        samples.push(Plain { id, vector: vector.clone(), caption: at % 4 != 0, work });
    }
    // Not to be judged: rejects of their own.
    samples[17].vector = vec![f16::ZERO; DIM];
    samples[18].vector = vec![f16::NAN; DIM];
    samples[19].vector.truncate(3);
    let bad = [(17, "embedding_norm"), (18, "embedding_not_finite"), (19, "embedding_dim")];
    for rule in ["near@near", "drop-above:0.9@plain", "random:40%"] {
        let judge = rule.parse::<Rule>().unwrap().check_against(&benchmarks, 5).unwrap();
        let verdict: Arc<dyn Verdict> = Arc::new(judge);
        let mut expected = BTreeMap::<SampleId, (Status, Option<Reason>, Vec<Score>)>::new();
        let mut kept_by_rule = Vec::new();
        for (at, sample) in samples.iter().enumerate() {
            if let Some((_, code)) = bad.iter().find(|(bad, _)| *bad == at) {
                expected.insert(sample.id, (Status::Rejected, Some(Reason::new(code, "")), vec![]));
                continue;
            }
            let scores: Vec<Score> = benchmarks.iter().map(|b| naive::score(&sample.vector, b)).collect();
            let key = format!("{:09}", sample.id.index);
            let keeps = match rule {
                "near@near" => scores[0].hits == Some(0),
                "random:40%" => {
                    let hash = crate::hash::random_hash(5, &names()(sample.id.ordinal), &key);
                    u128::from(hash) * 10 < 4 << 64
                }
                _ => scores[1].max_similarity <= Some(0.9),
            };
            kept_by_rule.push(keeps);
            let status = if keeps { Status::Kept } else { Status::Dropped };
            let reason = (keeps && !sample.caption).then(|| Reason::new("no_caption", ""));
            expected.insert(sample.id, (status, reason, scores));
        }
        assert!(kept_by_rule.contains(&true) && kept_by_rule.contains(&false), "{rule} decides something");
        for workers in [1, 2, 4] {
            let joiner = Arc::new(Joiner::new(benchmarks.clone(), JoinConfig::default()).unwrap());
            let (kept, heard) = run(&samples, &joiner, &verdict, workers);
            let (fates, points) = (fates_of(&heard), points_of(&heard));
            assert_eq!(fates.len(), samples.len());
            let mut trained: Vec<SampleId> = kept.iter().map(|(_, id)| *id).collect();
            assert!(kept.iter().all(|(time, id)| *time == id.ordinal));
            assert!(fates.iter().all(|(time, fate)| *time == fate.info.id.ordinal));
            trained.sort_unstable();
            let goes_on = |s: &&Plain| expected[&s.id].0 == Status::Kept && s.work == Work::Judge;
            let mut should: Vec<SampleId> = samples.iter().filter(goes_on).map(|s| s.id).collect();
            should.sort_unstable();
            assert_eq!(trained, should, "{rule} {workers}");
            for (_, fate) in &fates {
                let (status, reason, scores) = &expected[&fate.info.id];
                assert_eq!((fate.status, &fate.scores), (*status, scores));
                assert_eq!(fate.reason.as_ref().map(|r| &r.code), reason.as_ref().map(|r| &r.code));
                assert_eq!(fate.embedding.is_none(), *status == Status::Rejected);
            }
            let sound: Vec<&Plain> = samples.iter().filter(|s| expected[&s.id].0 != Status::Rejected).collect();
            let rows: Vec<JoinRow<'_>> = (sound.iter())
                .map(|s| JoinRow { vector: &s.vector, id: s.id, shard: "", key: "", points: None })
                .collect();
            assert_eq!(points, naive::items(&rows, &kept_by_rule, &benchmarks));
        }
    }
}

/// What is too little for a device while it has something else goes when that comes back, and at the end.
#[test]
fn crumbs_that_wait_for_a_device_all_come() {
    let mut dice = Dice(14);
    let vectors = dice.family(500, DIM, &[]);
    let points = dice.family(60, DIM, &vectors);
    let benchmarks = [Arc::new(Benchmark::new("plain", DIM, points.concat(), vec![], vec![], None, None).unwrap())];
    let plain = |(at, vector): (usize, &Vec<f16>)| Plain {
        id: SampleId { ordinal: at as u64 % 3, index: at as u32 / 3 },
        vector: vector.clone(),
        caption: true,
        work: Work::Judge,
    };
    let samples: Vec<Plain> = vectors.iter().enumerate().map(plain).collect();
    let verdict: Arc<dyn Verdict> = Arc::new(());
    for workers in [1, 2] {
        let joiner = Arc::new(super::kernels::on_device(&benchmarks, -1));
        let (kept, heard) = run(&samples, &joiner, &verdict, workers);
        let fates = fates_of(&heard);
        assert_eq!((kept.len(), fates.len(), points_of(&heard).len()), (500, 500, 3));
        for (_, fate) in fates {
            let at = fate.info.id.index as usize * 3 + fate.info.id.ordinal as usize;
            assert_eq!(fate.scores, [naive::score(&vectors[at], &benchmarks[0])]);
        }
        assert_eq!(joiner.counts().rows_in_place, 0);
    }
}

#[test]
fn a_panicking_verdict_makes_rejects_and_the_graph_ends() {
    struct Bad;
    impl Verdict for Bad {
        fn keeps(&self, _: &str, _: &str, _: SampleId, _: &[Score]) -> bool {
            panic!("no verdict");
        }
    }
    let mut dice = Dice(12);
    let vectors = dice.family(40, DIM, &[]);
    let benchmark = Benchmark::new("b", DIM, vectors.concat(), vec![], vec![], None, None).unwrap();
    let joiner = Arc::new(Joiner::new(vec![Arc::new(benchmark)], JoinConfig::default()).unwrap());
    let plain = |(at, vector)| Plain {
        id: SampleId { ordinal: 0, index: at as u32 },
        vector,
        caption: true,
        work: Work::Judge,
    };
    let samples: Vec<Plain> = vectors.into_iter().enumerate().map(plain).collect();
    let verdict: Arc<dyn Verdict> = Arc::new(Bad);
    let (kept, heard) = run(&samples, &joiner, &verdict, 2);
    let fates = fates_of(&heard);
    assert!(kept.is_empty());
    assert_eq!(fates.len(), 40);
    for (_, fate) in fates {
        let reason = fate.reason.as_ref().unwrap();
        assert_eq!(fate.status, Status::Rejected);
        assert_eq!(reason.to_string(), "join_failed: similarity: panicked: no verdict");
    }
}

#[test]
fn a_stop_ends_the_graph_with_samples_still_waiting() {
    /// Decides once the run has been stopped.
    struct Slow(Stop);
    impl Verdict for Slow {
        fn keeps(&self, _: &str, _: &str, _: SampleId, _: &[Score]) -> bool {
            self.0.request();
            true
        }
    }
    let mut dice = Dice(13);
    let vectors = dice.family(1000, DIM, &[]);
    let benchmark = Benchmark::new("b", DIM, vectors[..50].concat(), vec![], vec![], None, None).unwrap();
    let joiner = Arc::new(Joiner::new(vec![Arc::new(benchmark)], JoinConfig::default()).unwrap());
    let plain = |(at, vector)| Plain {
        id: SampleId { ordinal: at as u64 / 100, index: at as u32 % 100 },
        vector,
        caption: true,
        work: Work::Judge,
    };
    let samples: Vec<Plain> = vectors.into_iter().enumerate().map(plain).collect();
    let stop = Stop::new();
    let verdict: Arc<dyn Verdict> = Arc::new(Slow(stop.clone()));
    let pool = Pool::with_stop("join", 1, &stop);
    let (kept, heard) = run_on(in_order(&samples), &joiner, &verdict, 2, pool);
    let fates = fates_of(&heard);
    assert_eq!(kept.len(), fates.len());
    assert!(fates.len() < 1000, "what waited was let go: {}", fates.len());
}

/// Micro-batches of any composition, on any threads, in any order, with rejects from before and an end that comes at any time: what the
/// points saw comes once, whole, and is the naive model's.
#[test]
fn points_travel_in_the_end_whatever_comes_when() {
    /// Takes its time, differently for each sample.
    struct Uneven(Arc<dyn Verdict>);
    impl Verdict for Uneven {
        fn keeps(&self, shard: &str, key: &str, id: SampleId, scores: &[Score]) -> bool {
            for _ in 0..Dice((u64::from(id.index) << 8) | id.ordinal).below(9) {
                std::thread::yield_now();
            }
            self.0.keeps(shard, key, id, scores)
        }
    }
    for seed in 0..12 {
        let mut dice = Dice(900 + seed);
        let vectors = dice.family(240, DIM, &[]);
        let points = dice.family(90, DIM, &vectors);
        let radii = points.iter().map(|t| naive::cosine(&vectors[dice.below(240)], t).max(0.5)).collect();
        let benchmark =
            |name, radii| Arc::new(Benchmark::new(name, DIM, points.concat(), vec![], vec![], radii, None).unwrap());
        let benchmarks = vec![benchmark("near", Some(radii)), benchmark("plain", None)];
        let rule = "near@near".parse::<Rule>().unwrap().check_against(&benchmarks, seed).unwrap();
        let verdict: Arc<dyn Verdict> = Arc::new(Uneven(Arc::new(rule)));
        // Shards of very different sizes; the last but one has rejects alone, the last one nothing.
        let (shards, mut sizes) = (6u64, [0u32; 8]);
        let (mut given, mut sound) = (Vec::new(), Vec::new());
        for vector in vectors {
            let ordinal = (dice.below(6) * dice.below(6) / 5) as u64;
            let index = &mut sizes[ordinal as usize];
            let id = SampleId { ordinal, index: *index };
            *index += 1;
            if dice.below(5) == 0 {
                let info = Arc::new(SampleInfo { id, ..SampleInfo::default() });
                given.push(Given::Event(Event::rejected(info, Reason::new("image_decode", ""))));
            } else {
                let sample = Plain { id, vector, caption: true, work: Work::Judge };
                sound.push(sample.clone());
                given.push(Given::Sample(sample));
            }
        }
        for index in 0..3 {
            let info = Arc::new(SampleInfo { id: SampleId { ordinal: shards, index }, ..SampleInfo::default() });
            given.push(Given::Event(Event::rejected(info, Reason::new("image_decode", ""))));
        }
        sizes[shards as usize] = 3;
        let end = |(ordinal, count): (u64, &u32)| ShardEnd { count: *count, ..ShardEnd::new(ordinal) };
        given.extend((0..).zip(&sizes).map(end).map(|end| Given::Event(Event::End(end))));
        for at in (1..given.len()).rev() {
            given.swap(at, dice.below(at + 1));
        }
        let rows: Vec<JoinRow<'_>> =
            sound.iter().map(|s| JoinRow { vector: &s.vector, id: s.id, shard: "", key: "", points: None }).collect();
        let keeps = |s: &Plain| naive::score(&s.vector, &benchmarks[0]).hits == Some(0);
        let kept: Vec<bool> = sound.iter().map(keeps).collect();
        let mut expected = naive::items(&rows, &kept, &benchmarks);
        (0..sizes.len() as u64).for_each(|ordinal| _ = expected.entry(ordinal).or_default());
        let config = JoinConfig { block_bytes: [1, 1 << 12, 64 << 20][seed as usize % 3], ..JoinConfig::default() };
        let joiner = Arc::new(Joiner::new(benchmarks.clone(), config).unwrap());
        let pool = Pool::new("join", 1 + seed as usize % 4);
        let (_, heard) = run_on(given, &joiner, &verdict, 1 + seed as usize % 3, pool);
        assert_eq!(points_of(&heard), expected, "seed {seed}");
    }
}
