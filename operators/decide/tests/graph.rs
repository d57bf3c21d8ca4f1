//! Similarity and prune as a graph: every sample comes out once, with the naive model's fate, for any number of workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use half::f16;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::core::Concatenate;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Input, Inspect};

use super::naive::{self, Dice};
use crate::benchmark::Benchmark;
use crate::join::{JoinConfig, JoinRow, Joiner, Verdict};
use crate::prune::{Kept, Prune};
use crate::rule::Rule;
use crate::score::Similarity;
use crate::{Embedded, ShardNames};
use trommel_core::credit::Permit;
use trommel_core::sample::{Event, Fate, Reason, SampleId, SampleInfo, Score, Status, Work};
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
    fn embedded(self) -> Embedded {
        let key = format!("{:09}", self.id.index);
        let info = Arc::new(SampleInfo { id: self.id, key, size: 10, ..SampleInfo::default() });
        Embedded {
            info,
            pass: 0,
            work: self.work,
            caption: self.caption.then(|| "a caption".into()),
            vector: self.vector,
            train: Some(vec![1; 12]),
            encoded_bytes: 10,
            permit: Permit::free(),
        }
    }
}

fn names() -> ShardNames {
    Arc::new(|ordinal| format!("{ordinal:05}.tar").into())
}

type Seen = (Vec<(u64, SampleId)>, Vec<(u64, Arc<Fate>)>);

/// Runs the graph; what came out at which time.
fn run(samples: &[Plain], joiner: &Arc<Joiner>, verdict: &Arc<dyn Verdict>, workers: usize) -> Seen {
    run_on(samples, joiner, verdict, workers, Pool::new("join", 2))
}

fn run_on(samples: &[Plain], joiner: &Arc<Joiner>, verdict: &Arc<dyn Verdict>, workers: usize, pool: Pool) -> Seen {
    let (kept, fates) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (samples, joiner, verdict) = (samples.to_vec(), joiner.clone(), verdict.clone());
    let (kept_out, fates_out) = (kept.clone(), fates.clone());
    timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let mine = samples.iter().enumerate().filter(|(at, _)| at % peers == index).map(|(_, s)| s.clone());
        let mut mine: Vec<Plain> = mine.collect();
        mine.sort_by_key(|sample| sample.id);
        let (kept, fates) = (kept_out.clone(), fates_out.clone());
        let mut input = InputHandle::<u64, CapacityContainerBuilder<Vec<Plain>>>::new();
        worker.dataflow(|scope| {
            let embedded = scope.input_from(&mut input).map(Plain::embedded);
            let (scored, rejects) = embedded.similarity(&joiner, &verdict, &names(), &pool);
            let (kept_stream, events) = scored.prune(&verdict, &names());
            kept_stream.inspect_core(move |event| {
                let Ok((stamp, batch)) = event else { return };
                let time = *stamp.least().unwrap();
                kept.lock().unwrap().extend(batch.iter().map(|sample: &Kept| (time, sample.info.id)));
            });
            scope.concatenate([rejects, events]).inspect_core(move |event| {
                let Ok((stamp, batch)) = event else { return };
                for event in batch {
                    if let Event::Fate(fate) = event {
                        fates.lock().unwrap().push((*stamp.least().unwrap(), fate.clone()));
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
    let kept = std::mem::take(&mut *kept.lock().unwrap());
    let fates = std::mem::take(&mut *fates.lock().unwrap());
    (kept, fates)
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
        let judge = rule.parse::<Rule>().unwrap().judge_with(&benchmarks, 5).unwrap();
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
            let (kept, fates) = run(&samples, &joiner, &verdict, workers);
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
            let rows: Vec<JoinRow<'_>> =
                (sound.iter()).map(|s| JoinRow { vector: &s.vector, id: s.id, shard: "", key: "" }).collect();
            for (ordinal, items) in naive::items(&rows, &kept_by_rule, &benchmarks) {
                assert_eq!(joiner.board().take(ordinal).rows, items);
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
    let (kept, fates) = run(&samples, &joiner, &verdict, 2);
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
    let (kept, fates) = run_on(&samples, &joiner, &verdict, 2, pool);
    assert_eq!(kept.len(), fates.len());
    assert!(fates.len() < 1000, "what waited was let go: {}", fates.len());
}
