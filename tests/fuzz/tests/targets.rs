//! Every target with some thousand inputs of one seed, and with every input that broke something once.

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
    for entry in std::fs::read_dir(regressions()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        assert!(names.iter().any(|target| name == *target), "{name:?}");
    }
}
