//! Against the order itself, on random shards.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use super::*;
use crate::sequencer::{Ready, Sequencer, Slot};

/// Samples of each shard: their bytes where they are trained on.
struct World(Vec<Vec<Option<u64>>>);

impl JudgedShards for World {
    type Error = Infallible;

    fn count(&self, ordinal: u64) -> Option<ShardCount> {
        let shard = self.0.get(ordinal as usize)?;
        Some(ShardCount { raw: shard.len() as u64, trained: shard.iter().flatten().count() as u64 })
    }

    fn trained_before(&self, ordinal: u64, index: u64) -> Result<u64, Infallible> {
        Ok(self.0[ordinal as usize][..index as usize].iter().flatten().count() as u64)
    }
}

/// What a walk says of each sample, and at what it ended. A sample comes once, and those of one window in the order of their numbers.
fn walked<S: JudgedShards<Error = Infallible>>(
    order: &PassOrder<'_, S>,
    world: &World,
) -> (BTreeMap<SampleId, Option<u64>>, Option<Unknown<Infallible>>) {
    let open = |ordinal: u64| {
        let samples = (0u32..).zip(world.0[ordinal as usize].clone());
        Ok(samples.map(move |(index, bytes)| Ok::<_, Infallible>(bytes.map(|_| SampleId { ordinal, index }))))
    };
    let (mut told, mut last) = (BTreeMap::new(), None);
    let ended = order.walk(open, |number, id| {
        assert!(told.insert(id, number).is_none(), "{id:?} came twice");
        if let Some(number) = number {
            assert!(last.is_none_or(|last| last < number), "{number} behind {last:?}");
            last = Some(number);
        }
        Ok(())
    });
    (told, ended.unwrap())
}

#[test]
fn every_sample_stands_where_the_order_put_it() {
    let mut state = 5u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let (mut by_bytes, mut skips, mut given_up) = (0, 0, 0);
    for round in 0..300 {
        let shards = 1 + below(8);
        let keeps = 1 + below(4);
        let mut shard =
            || -> Vec<Option<u64>> { (0..below(20)).map(|_| (below(4) < keeps).then(|| 1 + below(9))).collect() };
        let world = World((0..shards).map(|_| shard()).collect());
        let order = OrderConfig {
            lanes: 1 + below(5) as usize,
            window_samples: 1 + below(12) as usize,
            window_bytes: [20, u64::MAX][below(2) as usize],
            seed: round,
            ..OrderConfig::default()
        };
        let lanes = Arc::new(Lanes::new(order.lanes, order.seed, (0..shards).map(|at| (at, format!("{at}.tar")))));
        let mut sequencer = Sequencer::<()>::new(&order, lanes.clone(), Some(3));
        let mut due = BTreeMap::new();
        let mut numbered = Vec::new();
        for pass in 0..3 {
            for (ordinal, shard) in (0u64..).zip(&world.0) {
                let cut = if below(9) == 0 { below(shard.len() as u64 + 1) as u32 } else { shard.len() as u32 };
                for (index, bytes) in (0u32..cut).zip(shard) {
                    match bytes {
                        Some(_) if below(12) == 0 => {
                            sequencer.skip(pass, SampleId { ordinal, index }).unwrap();
                            due.insert((pass, SampleId { ordinal, index }), None);
                            skips += 1;
                        }
                        Some(bytes) => sequencer.offer(Slot::kept(pass, ordinal, index, *bytes, ())).unwrap(),
                        None => sequencer.offer(Slot::hole(pass, ordinal, index)).unwrap(),
                    }
                }
                if cut < shard.len() as u32 {
                    given_up += 1;
                    sequencer.give_up(pass, ordinal, cut).unwrap();
                    let lost = (cut..).zip(&shard[cut as usize..]).filter(|(_, bytes)| bytes.is_some());
                    due.extend(lost.map(|(index, _)| ((pass, SampleId { ordinal, index }), None)));
                } else {
                    sequencer.end(pass, ordinal, cut).unwrap();
                }
            }
            while sequencer.fill() {
                match sequencer.take().unwrap() {
                    Ready::Window(window) => {
                        due.extend(window.samples.iter().map(|sample| ((pass, sample.id), Some(sample.number))));
                    }
                    Ready::PassEnd { numbered: count, .. } => numbered.push(count),
                    Ready::Torn(shard) => panic!("a fresh order repeats no window: {shard:?}"),
                }
            }
        }
        let irregular = sequencer.take_irregular();
        by_bytes += irregular.iter().filter(|it| matches!(it.what, What::Closed(_))).count();
        // As a file keeps it.
        let text: Vec<String> = irregular.iter().map(|it| serde_json::to_string(it).unwrap()).collect();
        let irregular: Vec<Irregular> = text.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        for pass in 0..3 {
            let order = PassOrder::new(&order, &lanes, pass, &irregular, &world);
            assert_eq!(order.samples(), Ok(numbered[pass as usize]));
            let (told, ended) = walked(&order, &world);
            let of_pass = due.iter().filter(|((of, _), _)| *of == pass).map(|((_, id), number)| (*id, *number));
            assert_eq!((told, ended), (of_pass.collect(), None), "round {round}, pass {pass}");
            for ((_, id), number) in due.iter().filter(|((of, _), _)| *of == pass) {
                assert_eq!(order.number(*id), Ok(*number), "round {round}, pass {pass}, {id:?} of {:?}", world.0);
            }
        }
    }
    assert!(
        by_bytes > 100 && skips > 100 && given_up > 100,
        "{by_bytes} {skips} {given_up}: too few to prove anything"
    );
}

/// Whoever stands before the first shard that nobody knows has his number, the others have none.
#[test]
fn a_shard_that_nobody_knows_hides_what_stands_behind_it() {
    struct Half(World);
    impl JudgedShards for Half {
        type Error = Infallible;
        fn count(&self, ordinal: u64) -> Option<ShardCount> {
            self.0.count(ordinal).filter(|_| ordinal != 1)
        }
        fn trained_before(&self, ordinal: u64, index: u64) -> Result<u64, Infallible> {
            self.0.trained_before(ordinal, index)
        }
    }
    let order = OrderConfig { lanes: 1, window_samples: 2, ..OrderConfig::default() };
    let lanes = Lanes::new(1, 0, (0..2).map(|at| (at, format!("{at}.tar"))));
    let (first, last) = (lanes.ordinal(0, 0, 0).unwrap(), lanes.ordinal(0, 0, 1).unwrap());
    let pass = (0..9).find(|pass| lanes.ordinal(*pass, 0, 0) == Some(0)).unwrap();
    assert!(first != last);
    let half = Half(World(vec![vec![Some(1); 3]; 2]));
    let order = PassOrder::new(&order, &lanes, pass, &[], &half);
    let number = |index| order.number(SampleId { ordinal: 0, index });
    assert!(number(0).is_ok() && number(1).is_ok());
    assert_eq!((number(2), order.samples()), (Err(Unknown::Shard(1)), Err(Unknown::Shard(1))));
    let told = [0, 1].map(|index| (SampleId { ordinal: 0, index }, number(index).unwrap()));
    assert_eq!(walked(&order, &half.0), (told.into(), Some(Unknown::Shard(1))));
}

/// The walk numbers exactly whom [`PassOrder::number`] numbers, whichever shards are not known.
#[test]
fn a_walk_ends_where_numbers_end() {
    struct Part<'a>(&'a World, Vec<bool>);
    impl JudgedShards for Part<'_> {
        type Error = Infallible;
        fn count(&self, ordinal: u64) -> Option<ShardCount> {
            self.0.count(ordinal).filter(|_| self.1[ordinal as usize])
        }
        fn trained_before(&self, ordinal: u64, index: u64) -> Result<u64, Infallible> {
            self.0.trained_before(ordinal, index)
        }
    }
    let mut state = 11u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let (mut numbered, mut hidden) = (0, 0);
    for seed in 0..200 {
        let shards = 1 + below(7);
        let world = World((0..shards).map(|_| (0..below(15)).map(|_| (below(4) > 0).then_some(1)).collect()).collect());
        let half = Part(&world, (0..shards).map(|_| below(4) > 0).collect());
        let (lanes, window_samples) = (1 + below(4) as usize, 1 + below(9) as usize);
        let order = OrderConfig { lanes, window_samples, seed, ..OrderConfig::default() };
        let lanes = Lanes::new(lanes, seed, (0..shards).map(|at| (at, format!("{at}.tar"))));
        let order = PassOrder::new(&order, &lanes, 0, &[], &half);
        let all =
            (0u64..).zip(&world.0).filter(|(ordinal, _)| half.1[*ordinal as usize]).flat_map(|(ordinal, shard)| {
                let trained = (0u32..).zip(shard).filter(|(_, bytes)| bytes.is_some());
                trained.map(move |(index, _)| SampleId { ordinal, index })
            });
        let (known, unknown): (Vec<_>, Vec<_>) =
            all.map(|id| (id, order.number(id))).partition(|(_, number)| number.is_ok());
        let (told, ended) = walked(&order, &world);
        assert_eq!(told, known.iter().map(|(id, number)| (*id, number.clone().unwrap())).collect(), "seed {seed}");
        assert_eq!(ended.is_some(), half.1.contains(&false), "seed {seed}");
        (numbered, hidden) = (numbered + known.len(), hidden + unknown.len());
    }
    assert!(numbered > 500 && hidden > 500, "{numbered} {hidden}: too few to prove anything");
}
