use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::leases::Dynamic;
use trommel_core::credit::CreditConfig;

/// A shard without a sample.
struct Nothing;

impl ReadShard for Nothing {
    type Item = ();

    fn read(&self, _: &Lease, _: &mut Outlet<()>) -> Result<(), Stopped> {
        Ok(())
    }
}

#[test]
fn batches_hurry_while_a_reader_waits_for_a_lease() {
    timely::execute_directly(|worker| {
        let stop = Stop::new();
        let credit = Credit::new(CreditConfig { budget_bytes: 1, lanes: 2, quantum_bytes: 0 }, stop.clone());
        let leases = Arc::new(Dynamic::new(0..2, 1));
        worker.dataflow(|scope| {
            let _items = source(scope, "Nothing", leases.clone(), Arc::new(Nothing), 0..2, credit.clone(), stop);
        });
        worker.step();
        assert!(credit.hurries(), "the first shard is open, and no other may be");
        leases.committed(0);
        for _ in 0..1000 {
            if !credit.hurries() {
                return;
            }
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
        panic!("a reader waits, and every shard has been leased");
    });
}
