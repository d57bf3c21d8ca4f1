//! Every target with some thousand inputs of one seed, and with every input that broke something once.

use std::path::Path;

use trommel_fuzz::check;
use trommel_fuzz::targets::all;

#[test]
fn some_thousand_inputs_break_nothing() {
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    all().iter().for_each(|target| check(target, &regressions, 2000));
}

#[test]
fn every_regression_has_its_target() {
    let names: Vec<_> = all().iter().map(|target| target.name).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        assert!(names.iter().any(|target| name == *target), "{name:?}");
    }
}
