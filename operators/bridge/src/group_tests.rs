//! Ranks as threads of one process, each with its own connection to the table.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use tch::{Kind, Tensor};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `body` on `size` ranks; gives what each returned, by rank.
fn on_ranks<T: Send>(size: usize, timeout: Duration, body: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let (store, port) = Store::serve("127.0.0.1", 0, size, PATIENCE).unwrap();
    std::thread::scope(|scope| {
        let (body, store) = (&body, &store);
        let ranks: Vec<_> = (0..size)
            .map(|rank| {
                scope.spawn(move || {
                    let own = (rank > 0).then(|| Store::connect("127.0.0.1", port, size, PATIENCE).unwrap());
                    let store = own.as_ref().unwrap_or(store);
                    body(Group::gloo(store, rank, size, "127.0.0.1", timeout).unwrap())
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).reshape([-1])).unwrap()
}

fn leaf(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

#[test]
fn sums_maxima_and_broadcasts() {
    for size in [2, 4] {
        let all = on_ranks(size, PATIENCE, |group| {
            let rank = group.rank() as f64;
            let sum = Tensor::from_slice(&[1.0, rank]);
            let other = Tensor::from_slice(&[group.rank() as i64]);
            group.all_reduce_sum(&[sum.shallow_clone(), other.shallow_clone()]).unwrap();
            let largest = Tensor::from_slice(&[rank, -rank]);
            group.all_reduce_max(&[largest.shallow_clone()]).unwrap();
            let from = Tensor::from_slice(&[rank]);
            group.broadcast(&[from.shallow_clone()], 1).unwrap();
            group.barrier().unwrap();
            assert!(group.broadcast(&[from.shallow_clone()], group.size()).is_err());
            [values(&sum), values(&other), values(&largest), values(&from)]
        });
        let n = size as f64;
        let total = n * (n - 1.0) / 2.0;
        for rank in all {
            assert_eq!(rank, [vec![n, total], vec![total], vec![n - 1.0, 0.0], vec![1.0]]);
        }
    }
}

/// Rank r's loss is (r + 1) * sum of squares of all rows, so that the gradient by any row is 2 * row * (1 + .. + size).
#[test]
fn gathered_rows_carry_gradients_back() {
    let all = on_ranks(3, PATIENCE, |group| {
        let rank = group.rank() as f64;
        let rows = leaf(&[rank, rank + 0.5, -1.0, rank * 3.0]);
        let gathered = group.all_gather_with_grad(&rows.reshape([2, 2])).unwrap();
        assert_eq!(gathered.size(), [6, 2]);
        let loss = (&gathered * &gathered).sum(Kind::Double) * (rank + 1.0);
        backward(&[loss], &[Tensor::from(1.0f64)]).unwrap();
        let plain = tch::no_grad(|| group.all_gather_with_grad(&rows.reshape([2, 2])).unwrap());
        assert!(!plain.requires_grad());
        assert!(group.all_gather_with_grad(&Tensor::from(1.0f64)).is_err(), "no axes");
        (values(&gathered), values(&rows), values(&rows.grad()))
    });
    let expected: Vec<f64> = all.iter().flat_map(|(_, own, _)| own.clone()).collect();
    for (gathered, own, grad) in all {
        assert_eq!(gathered, expected);
        assert_eq!(grad, own.iter().map(|x| x * 12.0).collect::<Vec<_>>());
    }
}

/// Three parameters in buckets of one, two or all of them; two backwards a step, of which the last is announced.
#[test]
fn gradients_are_averaged_where_announced() {
    for bucket_bytes in [1, 40, 1 << 20] {
        let all = on_ranks(3, PATIENCE, |group| {
            let (rank, mut steps) = (group.rank() as f64, Vec::new());
            let params = [leaf(&[1.0, 2.0]), leaf(&[3.0]), leaf(&[4.0, 5.0, 6.0])];
            let reducer = Reducer::new(&params, &group, bucket_bytes).unwrap();
            for step in 0..4 {
                zero_grad(&params).unwrap();
                let pass = |factor: f64| {
                    let parts: Vec<_> = params.iter().map(|p| (p * p).sum(Kind::Double) * factor).collect();
                    backward(&parts, &[1.0, 1.0, 1.0].map(|x: f64| Tensor::from(x))).unwrap();
                };
                pass(rank);
                let own: Vec<f64> = params.iter().flat_map(|p| values(&p.grad())).collect();
                reducer.prepare().unwrap();
                pass(f64::from(step));
                reducer.finish().unwrap();
                steps.push((own, params.iter().flat_map(|p| values(&p.grad())).collect::<Vec<_>>()));
            }
            steps
        });
        for (rank, steps) in all.into_iter().enumerate() {
            for (step, (own, average)) in steps.into_iter().enumerate() {
                for (value, (own, average)) in (1..=6).zip(own.into_iter().zip(average)) {
                    assert_eq!(own, 2.0 * f64::from(value) * rank as f64);
                    let expected = 2.0 * f64::from(value) * (1.0 + step as f64);
                    assert!((average - expected).abs() < 1e-12, "{bucket_bytes} {rank} {step}: {average} {expected}");
                }
            }
        }
    }
}

#[test]
fn a_parameter_without_gradient_is_named_an_error() {
    on_ranks(2, PATIENCE, |group| {
        let params = [leaf(&[1.0]), leaf(&[2.0])];
        let reducer = Reducer::new(&params, &group, 1).unwrap();
        reducer.prepare().unwrap();
        // The first is in the last bucket, so that the other's average comes out.
        backward(&[&params[1] * 2.0], &[Tensor::from_slice(&[1.0f64])]).unwrap();
        let error = reducer.finish().unwrap_err();
        assert!(error.message.contains("finished reduction"), "{error}");
        assert!(Reducer::new(&[], &group, 1).is_err());
    });
}

/// A rank that stays away is an error of the others, once the timeout is over.
#[test]
fn a_late_rank_is_an_error() {
    let (told, heard) = std::sync::mpsc::channel();
    let heard = std::sync::Mutex::new(heard);
    let all = on_ranks(3, Duration::from_secs(2), |group| {
        group.barrier().unwrap();
        if group.rank() == 2 {
            // It is there, and its connections are, until both have given it up.
            let heard = heard.lock().unwrap();
            return [(); 2].map(|()| heard.recv_timeout(PATIENCE).unwrap()).concat();
        }
        let error = group.all_reduce_sum(&[Tensor::from_slice(&[1.0f64])]).unwrap_err().to_string();
        told.send(format!("{error}\n")).unwrap();
        error
    });
    assert!(all[..2].iter().all(|message| !message.is_empty() && !message.contains(".cc:")), "{all:?}");
    // The ring: one of them waits for the late one itself.
    assert!(all[..2].iter().any(|message| is_timeout(message)), "{all:?}");
}

fn is_timeout(message: &str) -> bool {
    ["Timed out", "timeout"].iter().any(|words| message.contains(words))
}

/// Ranks that are connected may wait for each other longer than they could for the connection.
#[test]
fn a_connected_group_has_a_patience_of_its_own() {
    let soon = Duration::from_secs(2);
    let sums = on_ranks(2, soon, |group| {
        let group = group.with_timeout(PATIENCE).unwrap();
        let one = Tensor::from_slice(&[1.0f64]);
        if group.rank() == 1 {
            std::thread::sleep(soon * 2);
        }
        group.all_reduce_sum(&[one.shallow_clone()]).unwrap();
        values(&one)
    });
    assert_eq!(sums, [[2.0], [2.0]]);
}

#[test]
fn a_rank_that_goes_is_an_error_at_once() {
    let all = on_ranks(2, PATIENCE, |group| {
        group.barrier().unwrap();
        if group.rank() == 1 { String::new() } else { group.barrier().unwrap_err().to_string() }
    });
    assert!(!all[0].is_empty() && !is_timeout(&all[0]), "{all:?}");
}

#[test]
fn nobody_there_and_no_such_address_are_errors() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(Store::connect("127.0.0.1", closed, 2, Duration::from_secs(2)).is_err());
    let (store, port) = Store::serve("127.0.0.1", 0, 2, PATIENCE).unwrap();
    let error = Store::serve("127.0.0.1", port, 2, PATIENCE).unwrap_err();
    assert!(error.message.contains(&format!("127.0.0.1:{port}")), "{error}");
    // TEST-NET-1: no machine's own.
    assert!(Store::serve("192.0.2.1", 0, 2, PATIENCE).is_err());
    assert!(Group::gloo(&store, 2, 2, "127.0.0.1", PATIENCE).is_err());
    // The other rank never comes.
    let error = Group::gloo(&store, 0, 2, "127.0.0.1", Duration::from_secs(2)).unwrap_err();
    assert!(is_timeout(&error.message), "{error}");
}

#[test]
fn an_abort_ends_a_wait_on_all_ranks() {
    let all = on_ranks(2, PATIENCE, |group| {
        group.barrier().unwrap();
        let ended = std::thread::scope(|scope| {
            if group.rank() == 1 {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(300));
                    group.abort();
                });
                // Nobody answers a broadcast from this rank while the other waits for its own.
                return group.broadcast(&[Tensor::from_slice(&[0.0f64])], 0).and_then(|()| group.barrier());
            }
            group.all_reduce_max(&[Tensor::from_slice(&[0.0f64; 3])])
        });
        [ended.unwrap_err().to_string(), group.barrier().unwrap_err().to_string()]
    });
    assert!(all.iter().flatten().all(|message| !is_timeout(message)), "{all:?}");
    assert!(all[1][1].contains("aborted"), "{all:?}");
}

/// The library is opened and asked for its version; its collectives need GPUs, and are not run here.
#[test]
fn nccl_opens() {
    let missing = nccl_version(Path::new("/nowhere/libnccl.so.2")).unwrap_err();
    assert!(missing.message.contains("/nowhere/libnccl.so.2"), "{missing}");
    let other = nccl_version(Path::new("libc.so.6")).unwrap_err();
    assert!(other.message.contains("ncclGetVersion"), "{other}");
    let Some(library) = std::env::var_os("TROMMEL_NCCL") else {
        crate::skipped::skipped("set TROMMEL_NCCL to a libnccl.so.2");
        return;
    };
    let version = nccl_version(Path::new(&library)).unwrap();
    assert!(version >= 21_000, "{version}");
    if !tch::Cuda::is_available() {
        let (store, _) = Store::serve("127.0.0.1", 0, 1, PATIENCE).unwrap();
        let error = Group::nccl(&store, 0, 1, 0, PATIENCE, Path::new(&library)).unwrap_err();
        assert!(error.message.contains("CUDA"), "{error}");
    }
}
