//! The stage that decides, as a graph: every sample comes out once, with the naive model's fate, for any number of workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use half::f16;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Input, Inspect};

use super::naive::{self, Dice};
use crate::ShardNames;
use crate::benchmark::Benchmark;
use crate::join::{JoinConfig, JoinRow, Joiner, Verdict};
use crate::rule::Rule;
use crate::stage::{Decide, Joins, TrainView};
use trommel_core::credit::Permit;
use trommel_core::sample::{
    Embedded, Event, Fate, Reason, Sample, SampleId, SampleInfo, Score, ShardPoints, Status, Work,
};
use trommel_core::stop::Stop;
use trommel_dataflow::offload::Pool;

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

type Shared<T> = Arc<Mutex<Vec<T>>>;

/// Kept samples, fates and shards' points, with their times.
type Seen = (Vec<(u64, SampleId)>, Vec<(u64, Arc<Fate>)>, Vec<(u64, Arc<dyn ShardPoints>)>);

/// Runs the graph; what came out at which time.
fn run(samples: &[Plain], joiner: &Arc<Joiner>, verdict: &Arc<dyn Verdict>, workers: usize) -> Seen {
    run_on(samples, joiner, verdict, workers, Pool::new("join", 2))
}

fn run_on(samples: &[Plain], joiner: &Arc<Joiner>, verdict: &Arc<dyn Verdict>, workers: usize, pool: Pool) -> Seen {
    let (kept, fates, points) = (Arc::default(), Arc::default(), Arc::default());
    let (samples, joiner, verdict) = (samples.to_vec(), joiner.clone(), verdict.clone());
    let out: (Shared<_>, Shared<_>, Shared<_>) = (kept, fates, points);
    let (kept_out, fates_out, points_out) = out.clone();
    timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let mine = samples.iter().enumerate().filter(|(at, _)| at % peers == index).map(|(_, s)| s.clone());
        let mut mine: Vec<Plain> = mine.collect();
        mine.sort_by_key(|sample| sample.id);
        let (kept, fates, points) = (kept_out.clone(), fates_out.clone(), points_out.clone());
        let mut input = InputHandle::<u64, CapacityContainerBuilder<Vec<Plain>>>::new();
        worker.dataflow(|scope| {
            let embedded = scope.input_from(&mut input).map(Plain::embedded);
            let joins = Joins { joiner: &joiner, pool: &pool, points: true };
            let (kept_stream, events) = embedded.decide(Some(joins), &verdict, &names());
            kept_stream.inspect_core(move |event| {
                let Ok((stamp, batch)) = event else { return };
                let time = *stamp.least().unwrap();
                kept.lock().unwrap().extend(batch.iter().map(|sample: &Sample<TrainView>| (time, sample.info.id)));
            });
            events.inspect_core(move |event| {
                let Ok((stamp, batch)) = event else { return };
                let time = *stamp.least().unwrap();
                for event in batch {
                    match event {
                        Event::Fate(fate) => fates.lock().unwrap().push((time, fate.clone())),
                        Event::Points(seen) => points.lock().unwrap().push((time, seen.clone())),
                        Event::End(_) => unreachable!("no reader ends a shard here"),
                    }
                }
            });
        });
        // A shard is a time; what comes in between is worked on or waits.
        for (at, sample) in mine.into_iter().enumerate() {
            input.advance_to(sample.id.ordinal);
            input.send(sample);
            if at % 13 == 0 {
                input.flush();
                worker.step();
            }
        }
    })
    .unwrap();
    (
        std::mem::take(&mut out.0.lock().unwrap()),
        std::mem::take(&mut out.1.lock().unwrap()),
        std::mem::take(&mut out.2.lock().unwrap()),
    )
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
            let (kept, fates, points) = run(&samples, &joiner, &verdict, workers);
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
            for (ordinal, expected) in naive::items(&rows, &kept_by_rule, &benchmarks) {
                // Here workers share a shard, so each of them has points of its own that saw a part of it.
                let parts = points.iter().filter(|(time, _)| *time == ordinal).flat_map(|(_, points)| points.rows());
                assert_eq!(naive::merged(parts), expected);
            }
        }
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
    let (kept, fates, _) = run(&samples, &joiner, &verdict, 2);
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
    let pool = Pool::with("join", 1, Some(stop), |_| {});
    let (kept, fates, _) = run_on(&samples, &joiner, &verdict, 2, pool);
    assert_eq!(kept.len(), fates.len());
    assert!(fates.len() < 1000, "what waited was let go: {}", fates.len());
}
