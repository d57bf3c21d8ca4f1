//! Scans and clusters equal the naive ones to the bit, for any machine.

use half::f16;
use trommel_kernels::int8::Instructions;

use super::naive::{self, Dice, row, rows, unit};
use crate::clusters::{Clustering, KMeans, cluster, smallest};
use crate::inside::{Members, Order, inside, ordered};
use crate::names::{Caption, Naming, RowName};
use crate::nearest::Centres;
use crate::neighbours::neighbour_distances;
use crate::scan::{Machine, Rule, Scanned, against, apart, scan_with, within};
use crate::spool::{Filling, Spool};
use crate::vectors::{Gathered, Slice, Vectors};
use crate::work::Work;

/// One thread and the least memory; two with some; four with much.
const MACHINES: [Machine; 3] = [
    Machine { threads: 1, memory_bytes: 0 },
    Machine { threads: 2, memory_bytes: 3 << 20 },
    Machine { threads: 4, memory_bytes: 1 << 30 },
];

fn on<T: Send>(machine: Machine, what: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(machine.threads).build().unwrap().install(what)
}

/// The answer of every machine, which is one.
fn everywhere<T: Send + PartialEq + std::fmt::Debug>(what: impl Fn(Machine) -> T + Sync) -> T {
    let mut answers = MACHINES.map(|machine| on(machine, || what(machine))).into_iter();
    let first = answers.next().unwrap();
    answers.for_each(|other| assert!(other == first, "machines differ"));
    first
}

fn spool(all: &[f16], dim: usize, memory_bytes: u64) -> Spool {
    let mut filling = Filling::begin(dim, memory_bytes, &std::env::temp_dir());
    all.chunks_exact(dim).for_each(|row| filling.push(row).unwrap());
    filling.finish().unwrap()
}

fn plan(count: usize) -> Vec<u32> {
    (0..count as u32).collect()
}

#[test]
fn a_scan_is_the_naive_one_to_the_bit() {
    let mut dice = Dice(7);
    let mut suppressed = 0;
    for (count, dim) in [(0, 3), (1, 5), (2, 1), (65, 7), (300, 16), (700, 33), (1000, 3)] {
        let (all, others) = (rows(&mut dice, count, dim), rows(&mut dice, 90, dim));
        // A threshold that some pairs meet exactly, one that all exceed, and usual ones.
        let exact = match count {
            0 | 1 => 0.5,
            _ => trommel_kernels::dot::dot(row(&all, dim, 0), row(&all, dim, count / 2)),
        };
        for above in [exact, -1.0, 0.0, 0.876, 0.99, 1.0] {
            for greedy in [false, true] {
                let rule = Rule { above, greedy };
                let expected = naive::scan(&all, None, dim, &plan(count), above, greedy);
                let found = everywhere(|machine| {
                    within(&Slice { vectors: &all, dim }, rule, machine, &Work::default()).unwrap()
                });
                assert_eq!(found, expected, "{count} rows of {dim} above {above}, greedy {greedy}");
                let spooled = within(&spool(&all, dim, 512), rule, MACHINES[0], &Work::default()).unwrap();
                assert_eq!(spooled, expected);
                suppressed += found.suppressed.len();
            }
            let expected = naive::scan(&all, Some(&others), dim, &plan(count), above, false);
            let others = Slice { vectors: &others, dim };
            let found = everywhere(|machine| {
                against(&Slice { vectors: &all, dim }, &others, above, machine, &Work::default()).unwrap()
            });
            assert_eq!(found, expected);
        }
    }
    assert!(suppressed > 5000, "{suppressed}");
}

/// Every seventh row becomes one that codes suit badly: along one axis, all elements equal, outliers, all but one nearly zero; or the negative of the one before.
fn with_odd_ones(mut all: Vec<f16>, dim: usize, dice: &mut Dice) -> Vec<f16> {
    for at in (6..all.len() / dim).step_by(7) {
        let mut raw: Vec<f64> = row(&all, dim, at).iter().map(|x| x.to_f64()).collect();
        match dice.below(5) {
            0 => raw.iter_mut().enumerate().for_each(|(k, x)| *x = f64::from(u8::from(k == at % dim))),
            1 => raw.fill(if at % 2 == 0 { 1.0 } else { -1.0 }),
            2 => (raw[dim / 7], raw[dim / 3]) = (2.0, -1.0),
            3 => raw.iter_mut().skip(1).for_each(|x| *x *= 1e-6),
            _ => raw.iter_mut().zip(row(&all, dim, at - 1)).for_each(|(x, before)| *x = -before.to_f64()),
        }
        if raw.iter().any(|x| x.abs() > 1e-3) {
            all[at * dim..(at + 1) * dim].copy_from_slice(&unit(&raw));
        }
    }
    all
}

/// Whatever multiplies: thresholds that a pair meets to the bit, a step beside it, and such that nearly all pairs are shown, so that f32 takes over.
#[test]
fn a_scan_in_codes_is_the_naive_one_to_the_bit() {
    let mut dice = Dice(31);
    for (count, dim) in [(1, 32), (70, 33), (600, 40), (300, 64), (130, 257)] {
        let [all, others] = [count, 300].map(|count| {
            let all = rows(&mut dice, count, dim);
            with_odd_ones(all, dim, &mut dice)
        });
        let met = trommel_kernels::dot::dot(row(&all, dim, 0), row(&all, dim, count / 2));
        for above in [met, met.next_down(), -1.0, 0.3, 0.876, 0.99] {
            for (greedy, others) in [(false, None), (true, None), (false, Some(&others[..]))] {
                let expected = naive::scan(&all, others, dim, &plan(count), above, greedy);
                let (slice, rule) = (Slice { vectors: &all, dim }, Rule { above, greedy });
                let others = others.map(|vectors| Slice { vectors, dim });
                for with in Instructions::all().map(Some).chain([None]) {
                    let found = everywhere(|machine| {
                        let others = others.as_ref().map(|others| others as &dyn Vectors);
                        scan_with(with, &slice, others, rule, machine).unwrap()
                    });
                    assert_eq!(found, expected, "{count} rows of {dim} above {above}, {with:?}");
                }
            }
        }
    }
}

/// So many rows that codes are taken where the processor has the instructions.
#[test]
fn a_scan_of_many_rows_is_the_naive_one_to_the_bit() {
    let mut dice = Dice(37);
    let (count, dim) = (2100, 32);
    let all = rows(&mut dice, count, dim);
    for (above, greedy) in [(0.95, false), (0.9, true)] {
        let expected = naive::scan(&all, None, dim, &plan(count), above, greedy);
        let slice = Slice { vectors: &all, dim };
        let found = everywhere(|machine| within(&slice, Rule { above, greedy }, machine, &Work::default()).unwrap());
        assert_eq!(found, expected);
        assert!(found.suppressed.len() > 500);
    }
}

#[test]
fn an_equal_similarity_stays_and_ties_go_to_the_first() {
    // 0.75 = 3/4 exactly, as f16 and as product with the first axis.
    let [one, zero, three] = [1.0, 0.0, 0.75].map(f16::from_f64);
    let side = f16::from_f64((1.0f64 - 0.75 * 0.75).sqrt());
    let all = [[one, zero], [three, side], [one, zero], [one, zero]].concat();
    let scan = |above, greedy| {
        within(&Slice { vectors: &all, dim: 2 }, Rule { above, greedy }, MACHINES[0], &Work::default()).unwrap()
    };
    let by = |found: Scanned| found.suppressed.iter().map(|s| (s.row, s.by)).collect::<Vec<_>>();
    assert_eq!(by(scan(0.75, false)), [(2, 0), (3, 0)]);
    assert_eq!(by(scan(0.75f64.next_down(), false)), [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(by(scan(1.0, false)), []);
    assert_eq!(scan(0.5, false).pairs_above, 6);
}

/// Each row is like the one before it and not like the one before that: all but the first go, or every other one.
#[test]
fn chains_of_duplicates() {
    let step = 0.3f64;
    let all: Vec<f16> =
        (0..5).flat_map(|at| unit(&[(step * f64::from(at)).cos(), (step * f64::from(at)).sin()])).collect();
    let gone = |greedy| {
        let rule = Rule { above: (1.5 * step).cos(), greedy };
        let found = within(&Slice { vectors: &all, dim: 2 }, rule, MACHINES[2], &Work::default()).unwrap();
        found.suppressed.iter().map(|s| s.row).collect::<Vec<_>>()
    };
    assert_eq!(gone(false), [1, 2, 3, 4]);
    assert_eq!(gone(true), [1, 3]);
}

fn ranks(dice: &mut Dice, count: usize) -> Vec<u64> {
    (0..count).map(|_| dice.next() % (count as u64 / 2 + 1)).collect()
}

fn how(clusters: usize) -> KMeans {
    KMeans { clusters, seed: 3, apart: 0.9, rounds: 20, moved: 1e-7, sample: None, batch: None, spherical: false }
}

#[test]
fn k_means_is_the_naive_one_to_the_bit() {
    let mut dice = Dice(11);
    for (count, dim, clusters) in [(1, 4, 1), (5, 3, 9), (60, 2, 1), (400, 12, 7), (900, 20, 70), (500, 3, 130)] {
        let (all, ranks) = (rows(&mut dice, count, dim), ranks(&mut dice, count));
        let found: Clustering = everywhere(|machine| {
            cluster(&Slice { vectors: &all, dim }, &ranks, &how(clusters), machine, &Work::default()).unwrap()
        });
        let mut ranked = plan(count);
        ranked.sort_by_key(|&row| (ranks[row as usize], row));
        assert_eq!(smallest(&ranks, count), ranked);
        let centres = naive::k_means(&all, dim, &ranked, clusters, 0.9, found.rounds.len());
        assert_eq!(found.centres.vectors(), centres, "{count} rows of {dim}, {clusters} clusters");
        assert!(found.centres.len() <= clusters.min(count) && !found.centres.is_empty());
        let mut mean = 0.0;
        for (x, nearest) in all.chunks_exact(dim).zip(&found.nearest) {
            let (cluster, squared_distance) = naive::nearest(x, &centres, dim, false);
            assert_eq!(nearest.cluster as usize, cluster);
            assert!((nearest.squared_distance - squared_distance).abs() < 1e-12);
            mean += squared_distance / count as f64;
        }
        assert!((mean - found.mean_squared_distance).abs() < 1e-9);
        let of = |round: usize| found.rounds[round].mean_squared_distance;
        // Lloyd's rounds descend, but for the rounding of the centres to f16.
        assert!((1..found.rounds.len()).all(|round| of(round) <= of(round - 1) + 1e-6));
        assert!(found.rounds.len() == 20 || found.rounds.last().unwrap().moved == 0);
    }
}

#[test]
fn rounds_end_when_less_than_the_stated_share_has_moved() {
    let mut dice = Dice(41);
    let (count, dim) = (900, 20);
    let (all, ranks) = (rows(&mut dice, count, dim), ranks(&mut dice, count));
    let rounds = |moved, batch| {
        let how = KMeans { moved, batch, ..how(70) };
        cluster(&Slice { vectors: &all, dim }, &ranks, &how, MACHINES[0], &Work::default()).unwrap().rounds
    };
    let (whole, short) = (rounds(0.0, None), rounds(0.1, None));
    let due = 1 + whole.iter().position(|round| round.moved < 90).unwrap();
    assert!(due < whole.len());
    assert_eq!(short, whole[..due]);
    assert_eq!(rounds(0.1, Some(50)).len(), 20, "of a batch nobody knows what has moved");
}

#[test]
fn samples_batches_and_directions_are_the_same_everywhere() {
    let mut dice = Dice(13);
    let (count, dim) = (1200, 9);
    let (all, ranks) = (rows(&mut dice, count, dim), ranks(&mut dice, count));
    let of = |how: KMeans| {
        everywhere(|machine| cluster(&spool(&all, dim, 4096), &ranks, &how, machine, &Work::default()).unwrap())
    };
    let whole = of(how(30));
    let sampled = of(KMeans { sample: Some(500), ..how(30) });
    // A sample is those with the smallest ranks: the same as a set that holds them alone.
    let mut first = smallest(&ranks, 500);
    first.sort_unstable();
    let few = Slice { vectors: &all, dim };
    let few = Gathered { of: &few, rows: &first };
    let few_ranks: Vec<u64> = first.iter().map(|&row| ranks[row as usize]).collect();
    let alone = cluster(&few, &few_ranks, &how(30), MACHINES[0], &Work::default()).unwrap();
    assert_eq!((sampled.centres, sampled.learnt_from), (alone.centres, 500));
    let mut ranked = plan(count);
    ranked.sort_by_key(|&row| (ranks[row as usize], row));
    for (batch, rounds, seed, spherical) in
        [(1, 20, 3, false), (200, 20, 3, false), (37, 9, 4, true), (3000, 2, 5, false)]
    {
        let found = of(KMeans { batch: Some(batch), rounds, seed, spherical, ..how(30) });
        let due = naive::mini_batches(&all, dim, &ranked, (30, 0.9, spherical), (rounds, batch, seed));
        assert_eq!(found.centres.vectors(), due, "batches of {batch}");
        assert_eq!(found.rounds.len(), rounds);
    }
    let batches = of(KMeans { batch: Some(200), ..how(30) });
    assert_eq!((batches.rounds.len(), batches.rounds[19].moved), (20, 200));
    assert!(batches.mean_squared_distance < 1.3 * whole.mean_squared_distance);
    let spherical = of(KMeans { spherical: true, ..how(30) });
    for (x, nearest) in all.chunks_exact(dim).zip(&spherical.nearest) {
        let (cluster, _) = naive::nearest(x, spherical.centres.vectors(), dim, true);
        assert_eq!(nearest.cluster as usize, cluster);
    }
    let norm = |centre| trommel_kernels::dot::norm(centre);
    assert!(spherical.centres.vectors().chunks_exact(dim).all(|centre| (norm(centre) - 1.0).abs() < 1e-3));
    assert!(whole.centres.vectors().chunks_exact(dim).any(|centre| norm(centre) < 0.99));
}

/// Each cluster's distance from those around it, by sorting all.
#[test]
fn distances_between_clusters_are_the_naive_ones() {
    let mut dice = Dice(29);
    for (count, dim) in [(1, 3), (2, 5), (21, 4), (22, 4), (90, 7)] {
        let all = rows(&mut dice, count, dim);
        let centres = Centres::new(dim, all.clone(), false);
        for every in [1, 2, 5] {
            let has_rows = |at: usize| at.is_multiple_of(every);
            let found = everywhere(|_| neighbour_distances(&centres, has_rows));
            assert_eq!(found.len(), count);
            for (at, found) in found.iter().enumerate() {
                let apart = |other: usize| {
                    let both = row(&all, dim, at).iter().zip(row(&all, dim, other));
                    both.map(|(a, b)| (a.to_f64() - b.to_f64()).powi(2)).sum::<f64>()
                };
                let mut due: Vec<f64> = (0..count).filter(|&other| other != at && has_rows(other)).map(apart).collect();
                due.sort_by(f64::total_cmp);
                due.truncate(20);
                let Some(found) = found else {
                    assert!(!has_rows(at) || due.is_empty());
                    continue;
                };
                let mean = |of: fn(f64) -> f64| due.iter().map(|squared| of(*squared)).sum::<f64>() / due.len() as f64;
                assert!((found.distance - mean(f64::sqrt)).abs() < 1e-7, "{found:?} {due:?}");
                assert!((found.half_square - mean(|squared| squared / 2.0)).abs() < 1e-7, "{found:?} {due:?}");
            }
        }
    }
}

/// Equally near centres: the lowest takes the row, and the others stay empty and where they are.
#[test]
fn the_lowest_of_equal_centres_and_empty_clusters() {
    let one = unit(&[1.0, 0.0, 0.0]);
    let all = [one.clone(), unit(&[0.0, 1.0, 0.0]), one.clone(), one].concat();
    let how = KMeans { apart: 1.5, ..how(4) };
    let found = cluster(&Slice { vectors: &all, dim: 3 }, &[0, 1, 2, 3], &how, MACHINES[1], &Work::default()).unwrap();
    assert_eq!(found.centres.vectors(), all);
    assert_eq!(found.nearest.iter().map(|nearest| nearest.cluster).collect::<Vec<_>>(), [0, 1, 0, 0]);
    assert_eq!((found.mean_squared_distance, found.rounds.len()), (0.0, 2));
    let members = Members::of(&plan(4), &found.nearest, 4);
    assert_eq!((0..4).map(|at| members.cluster(at).len()).collect::<Vec<_>>(), [3, 1, 0, 0]);
}

#[test]
fn inside_clusters_every_order_is_the_naive_one() {
    let mut dice = Dice(17);
    for (count, dim, clusters) in [(1, 3, 2), (500, 6, 9), (1500, 10, 4)] {
        let (all, ranks) = (rows(&mut dice, count, dim), ranks(&mut dice, count));
        let slice = Slice { vectors: &all, dim };
        let found = cluster(&slice, &ranks, &how(clusters), MACHINES[2], &Work::default()).unwrap();
        for order in [Order::Plan, Order::Random, Order::CentroidFar, Order::CentroidNear] {
            let mut expected_order = plan(count);
            let distance = |row: &u32| found.nearest[*row as usize].squared_distance;
            expected_order.sort_by(|a, b| match order {
                Order::Plan => a.cmp(b),
                Order::Random => (ranks[*a as usize], a).cmp(&(ranks[*b as usize], b)),
                Order::CentroidFar => distance(b).partial_cmp(&distance(a)).unwrap().then(a.cmp(b)),
                Order::CentroidNear => distance(a).partial_cmp(&distance(b)).unwrap().then(a.cmp(b)),
            });
            let all_rows = ordered(order, count, &ranks, &found.nearest);
            assert_eq!(all_rows, expected_order);
            let members = Members::of(&all_rows, &found.nearest, found.centres.len());
            for rule in [Rule { above: 0.876, greedy: false }, Rule { above: 0.95, greedy: true }] {
                let got = everywhere(|machine| inside(&slice, &members, rule, machine, &Work::default()).unwrap());
                let mut expected = Scanned::default();
                for cluster in 0..found.centres.len() as u32 {
                    let its = expected_order.iter().filter(|row| found.nearest[**row as usize].cluster == cluster);
                    let its: Vec<u32> = its.copied().collect();
                    let one = naive::scan(&all, None, dim, &its, rule.above, rule.greedy);
                    expected.pairs_above += one.pairs_above;
                    expected.suppressed.extend(one.suppressed);
                }
                expected.suppressed.sort_by_key(|suppressed| suppressed.row);
                assert_eq!(got, expected);
                assert!(count == 1 || got.suppressed.len() > 50);
            }
        }
    }
}

#[test]
fn first_ones_apart() {
    let mut dice = Dice(19);
    let all = rows(&mut dice, 600, 8);
    let gone: Vec<u32> =
        naive::scan(&all, None, 8, &plan(600), 0.9, true).suppressed.iter().map(|one| one.row).collect();
    let stay: Vec<u32> = plan(600).into_iter().filter(|row| !gone.contains(row)).collect();
    let slice = Slice { vectors: &all, dim: 8 };
    for count in [0, 1, 40, 600] {
        let taken = everywhere(|machine| apart(&slice, 0.9, count, machine, &Work::default()).unwrap());
        assert_eq!(taken, stay[..count.min(stay.len())]);
    }
}

#[test]
fn a_spool_takes_unit_vectors_and_gives_them_back() {
    let mut dice = Dice(23);
    let all = rows(&mut dice, 50, 6);
    for memory_bytes in [0, 100, 1 << 20] {
        let spool = spool(&all, 6, memory_bytes);
        let mut back = vec![f16::ZERO; 6 * 20];
        spool.read(7, &mut back).unwrap();
        assert_eq!(back, all[42..42 + 120]);
        assert!(spool.memory_bytes() <= memory_bytes * 2);
    }
    let mut filling = Filling::begin(2, 100, &std::env::temp_dir());
    for bad in [[2.0, 0.0], [0.0, 0.0], [f64::NAN, 1.0]] {
        assert!(filling.push(&bad.map(f16::from_f64)).is_err());
    }
}

#[test]
fn names_come_back_in_the_order_of_a_split() {
    let mut naming = Naming::begin(&std::env::temp_dir()).unwrap();
    let caption = [Caption::There, Caption::Missing, Caption::Unknown];
    let name = |at: u32| RowName {
        index: at,
        key: "é".repeat(at as usize % 4),
        uid: (at > 2).then(|| "f".repeat(at as usize - 3)),
        caption: caption[at as usize % 3],
    };
    let given = [("b", 3), ("b", 4), ("a", 7), ("b", 0), ("b", 2), ("a", 9)];
    given.iter().for_each(|&(shard, at)| naming.push(shard, &name(at)).unwrap());
    let names = naming.finish().unwrap();
    let mut ordered = Vec::new();
    for segment in names.in_order() {
        let read = names.read(segment.rows.clone()).unwrap();
        ordered.extend(read.into_iter().map(|read| (segment.shard.clone(), read.index, read == name(read.index))));
    }
    let expected = [("a", 7), ("a", 9), ("b", 0), ("b", 2), ("b", 3), ("b", 4)];
    assert_eq!(ordered, expected.map(|(shard, at)| (shard.to_owned(), at, true)));
    assert_eq!(names.of(5).unwrap(), ("a", name(9)));
    assert_eq!(names.shards(), 2);
    let mut naming = Naming::begin(&std::env::temp_dir()).unwrap();
    [("b", 3), ("a", 4), ("b", 3)].iter().for_each(|&(shard, at)| naming.push(shard, &name(at)).unwrap());
    assert!(naming.finish().err().unwrap().to_string().contains("shard b"));
}
