//! The order, straight from the document, in the plainest way: no streams, no slots, no resuming.

use std::collections::VecDeque;

use super::scenario::{Fate, Holed, Scenario};

type Id = (u64, u32);

/// A batch: its pass, its samples, and the raw samples of the pass that had their turn before it.
pub type Batch = (u32, Vec<Id>, u64);

fn mix(mut z: u128) -> u64 {
    const M: u128 = 1 << 64;
    z = (z ^ (z >> 30)) * 0xbf58_476d_1ce4_e5b9 % M;
    z = (z ^ (z >> 27)) * 0x94d0_49bb_1331_11eb % M;
    (z ^ (z >> 31)) as u64
}

fn words(words: &[u64]) -> u64 {
    words.iter().fold(0, |hash, word| mix((u128::from(hash ^ word) + 0x9e37_79b9_7f4a_7c15) % (1 << 64)))
}

fn text(text: &str) -> Vec<u64> {
    let chunks =
        text.as_bytes().chunks(8).map(|chunk| chunk.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)));
    std::iter::once(text.len() as u64).chain(chunks).collect()
}

/// All batches, and how many samples were left over.
pub fn batches(scenario: &Scenario, seed: u64) -> (Vec<Batch>, u64) {
    let (mut all, mut left_over) = (Vec::new(), 0);
    for pass in 0..scenario.passes {
        let numbered = numbered(scenario, seed, pass);
        let full = numbered.chunks_exact(scenario.batch);
        left_over += full.remainder().len() as u64;
        all.extend(full.map(|batch| (pass, batch.iter().map(|(id, _)| *id).collect(), batch[0].1)));
    }
    (all, left_over)
}

/// The pass's kept samples by number, each with the turns before it.
fn numbered(scenario: &Scenario, seed: u64, pass: u32) -> Vec<(Id, u64)> {
    let mut shards: Vec<usize> = (0..scenario.shards.len()).collect();
    let hash =
        |shard: usize| words(&[text("shard"), vec![seed, u64::from(pass)], text(&Scenario::name(shard))].concat());
    if !scenario.growing {
        shards.sort_by_key(|shard| (hash(*shard), *shard));
    }
    let mut lanes = vec![VecDeque::new(); scenario.readers];
    for (at, shard) in shards.iter().enumerate() {
        let count = if scenario.holes[*shard] == Holed::No { scenario.shards[*shard].len() } else { 0 };
        lanes[at % scenario.readers].extend((0..count).map(|index| (*shard, index)));
    }
    let mut global = Vec::new();
    while lanes.iter().any(|lane| !lane.is_empty()) {
        for lane in &mut lanes {
            global.extend(lane.pop_front());
        }
    }
    let raw = global.len() as u64;
    let (mut numbered, mut window, mut windows, mut bytes, mut begun) = (Vec::new(), Vec::new(), 0u64, 0u64, 0u64);
    let mut close = |window: &mut Vec<Id>, gone: u64| {
        let (turns, samples) = (gone - begun, window.len() as u64);
        let mut sorted: Vec<(u64, usize, Id)> = Vec::new();
        for (position, id) in window.drain(..).enumerate() {
            let fields = [text("window"), vec![seed, u64::from(pass), windows, position as u64]].concat();
            sorted.push((words(&fields), position, id));
        }
        sorted.sort_unstable();
        windows += 1;
        let spread = sorted.into_iter().zip(0u64..).map(|((_, _, id), at)| (id, begun + turns * at / samples));
        numbered.extend(spread);
        begun = gone;
    };
    for ((shard, index), turn) in global.into_iter().zip(0u64..) {
        if scenario.shards[shard][index].fate != Fate::Kept {
            continue;
        }
        let next = scenario.shards[shard][index].bytes / 2;
        if !window.is_empty() && bytes + next > scenario.window_bytes {
            close(&mut window, turn);
            bytes = 0;
        }
        window.push((shard as u64, index as u32));
        bytes += next;
        if window.len() == scenario.window_samples {
            close(&mut window, turn + 1);
            bytes = 0;
        }
    }
    if !window.is_empty() {
        close(&mut window, raw);
    }
    numbered
}
