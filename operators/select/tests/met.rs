//! Which names of a list never came, beside sets of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::world::Dice;
use crate::membership::{Membership, Picker};
use crate::met::Unmet;

/// A list of DataComp's, uids again as often as they come.
fn uid_list(path: &Path, uids: &[u128]) {
    let mut uids = uids.to_vec();
    uids.sort_unstable();
    let mut bytes = trommel_columnar::npy::pair_head_bytes(uids.len() as u64);
    for uid in &uids {
        bytes.extend(((uid >> 64) as u64).to_le_bytes());
        bytes.extend((*uid as u64).to_le_bytes());
    }
    std::fs::write(path, &bytes).unwrap();
}

/// What never came, by a picker of samples and by what is told of them afterwards.
fn unmet(path: &Path, came: &[String]) -> Unmet {
    let split = Membership::open(path).unwrap();
    let (mut told, met) = (split.met().unwrap(), Arc::new(Mutex::new(split.met().unwrap())));
    let kept = split.shard("any.tar").unwrap().unwrap();
    let mut picker = Picker::new(path, "any.tar", &kept).after(Some(Arc::clone(&met)));
    for (name, index) in came.iter().zip(0..) {
        let keeps = picker.keeps(index, name, || Some(name.clone())).unwrap();
        assert!(!told.again(name, Some(name)).unwrap());
        assert_eq!(told.again(name, Some(name)).unwrap(), keeps, "{name}");
    }
    let unmet = met.lock().unwrap().unmet().unwrap();
    assert_eq!(told.unmet().unwrap(), unmet);
    unmet
}

fn due(listed: &BTreeSet<String>, came: &BTreeSet<String>) -> Unmet {
    let never: Vec<&String> = listed.difference(came).collect();
    Unmet { count: never.len() as u64, first: never.first().map(|first| (*first).clone()).unwrap_or_default() }
}

#[test]
fn names_that_never_came_are_those_of_two_sets() {
    let folder = tempfile::tempdir().unwrap();
    let (uids, keys) = (folder.path().join("list.npy"), folder.path().join("list.keys"));
    let mut dice = Dice(12);
    for round in 0..60 {
        let name = |dice: &mut Dice| u128::from(dice.next() % 3) << 64 | u128::from(dice.next() % 60);
        let many = [0, 1, 2, 40][round % 4];
        let listed: Vec<u128> = (0..many).map(|_| name(&mut dice)).collect();
        let samples: BTreeSet<u128> = (0..dice.below(90)).map(|_| name(&mut dice)).collect();
        let hex = |all: &mut dyn Iterator<Item = u128>| all.map(|uid| format!("{uid:032x}")).collect::<BTreeSet<_>>();
        let (set, came) = (hex(&mut listed.iter().copied()), hex(&mut samples.into_iter()));
        let all: Vec<String> = came.iter().cloned().collect();
        uid_list(&uids, &listed);
        assert_eq!(unmet(&uids, &all), due(&set, &came), "round {round}");
        let lines: Vec<&str> = set.iter().map(String::as_str).collect();
        std::fs::write(&keys, lines.join(["\n", "\r\n"][round % 2])).unwrap();
        assert_eq!(unmet(&keys, &all), due(&set, &came), "round {round}");
    }
    let table = folder.path().join("s.txt");
    std::fs::write(&table, "0.tar/a\n").unwrap();
    assert!(Membership::open(&table).unwrap().met().is_none(), "it says where its samples stand");
    // Not sorted: whoever never came could not be told.
    uid_list(&uids, &[1, 2, 3 << 100]);
    let mut bytes = std::fs::read(&uids).unwrap();
    let (at, second) = (bytes.len() - 48, bytes.len() - 32);
    bytes.copy_within(second + 16.., at);
    std::fs::write(&uids, bytes).unwrap();
    // Neither would a search find all that stand there: it is refused before anybody searches.
    let error = Membership::open(&uids).err().unwrap().to_string();
    assert!(error.contains("its uids are not sorted, at row 1: "), "{error}");
}
