//! Every target with some thousand inputs of one seed, and with every input that broke something once.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use trommel_fuzz::targets::all;
use trommel_fuzz::{OF_ROOMS, check, regressions};

#[test]
fn some_thousand_inputs_break_nothing() {
    // A view costs a hundred times what others do.
    all().iter().for_each(|target| check(target, if target.name == "views" { 100 } else { 2000 }));
}

#[test]
fn every_regression_has_its_target() {
    let names: Vec<_> = all().iter().map(|target| target.name).chain(OF_ROOMS).collect();
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(regressions()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        assert!(names.contains(&name.as_str()), "{name}");
        found.insert(name, std::fs::read_dir(entry.path()).unwrap().count());
    }
    // What broke something once stays.
    for (target, least) in [("tiff", 1), ("views", 2)] {
        assert!(found.get(target).is_some_and(|count| *count >= least), "{target}: {found:?}");
    }
}
