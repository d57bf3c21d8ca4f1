//! How the stages of a process stand, as named numbers: what crosses to process 0 and what `/metrics` shows.
//!
//! A number's key is its metric's name and, in braces, its stage or status: `trommel_stage_items_total{stage="decode"}`.
//! Names end in their unit; what only grows ends in `_total`. [`Gauges`] keeps no pool, service or order alive: what is
//! gone has no numbers any more.
//!
//! ```
//! use trommel_dataflow::pool::Pool;
//! use trommel_pipelines::gauges::{Gauges, key};
//!
//! let (gauges, pool) = (Gauges::default(), Pool::new("decode", 3));
//! gauges.watch_pool("decode", &pool);
//! assert_eq!(gauges.read()[&key("trommel_stage_threads", &[("stage", "decode")])], 3.0);
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use trommel_core::credit::Credit;
use trommel_core::wake::locked;
use trommel_dataflow::batch::BatchService;
use trommel_dataflow::order::OrderService;
use trommel_dataflow::pool::Pool;

/// Numbers by their keys.
pub type Values = BTreeMap<String, f64>;

type Source = Box<dyn Fn(&mut Values) + Send>;

/// `name`, or `name{label="value",..}` with the values escaped as Prometheus wants them.
#[must_use]
pub fn key(name: &str, labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return name.to_owned();
    }
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
    format!("{name}{{{}}}", pairs.join(","))
}

/// The gauges of one process. Clones share them.
#[derive(Clone, Default)]
pub struct Gauges {
    sources: Arc<Mutex<BTreeMap<String, Source>>>,
}

impl Gauges {
    fn sources(&self) -> MutexGuard<'_, BTreeMap<String, Source>> {
        locked(&self.sources)
    }

    /// Adds what `source` writes; one of the same name is replaced.
    pub fn watch(&self, name: &str, source: impl Fn(&mut Values) + Send + 'static) {
        self.sources().insert(name.to_owned(), Box::new(source));
    }

    /// Adds a stage: `numbers` puts its gauge's numbers, as long as the gauge is there.
    fn watch_stage<G>(
        &self,
        stage: &str,
        gauge: impl Fn() -> Option<G> + Send + 'static,
        numbers: impl Fn(&G, &mut dyn FnMut(&str, f64)) + Send + 'static,
    ) {
        let stage = stage.to_owned();
        self.watch(&format!("stage {stage}"), move |values| {
            let Some(gauge) = gauge() else { return };
            numbers(&gauge, &mut |name, value| _ = values.insert(key(name, &[("stage", &stage)]), value));
        });
    }

    /// Adds a pool: busy seconds, items, what waits and runs, threads.
    pub fn watch_pool(&self, stage: &str, pool: &Pool) {
        let threads = pool.threads();
        self.watch_stage(stage, pool.weak_gauge(), move |gauge, put| {
            put("trommel_stage_busy_seconds_total", gauge.busy_micros as f64 / 1e6);
            put("trommel_stage_items_total", gauge.done as f64);
            put("trommel_stage_waiting_items", gauge.queued as f64);
            put("trommel_stage_running_items", gauge.running as f64);
            put("trommel_stage_threads", threads as f64);
        });
    }

    /// Adds a batch service: busy seconds, items, what waits, batches.
    pub fn watch_batches<I: Send + 'static, O: Send + 'static>(&self, stage: &str, service: &BatchService<I, O>) {
        self.watch_stage(stage, service.weak_gauge(), |gauge, put| {
            put("trommel_stage_busy_seconds_total", gauge.busy_micros as f64 / 1e6);
            put("trommel_stage_items_total", gauge.items as f64);
            put("trommel_stage_waiting_items", gauge.queued as f64);
            put("trommel_stage_batches_total", gauge.batches as f64);
            put("trommel_stage_full_batches_total", gauge.full_batches as f64);
            put("trommel_stage_threads", 1.0);
        });
    }

    /// Adds the credit: the budget, and what of it is held.
    pub fn watch_credit(&self, credit: &Credit) {
        let credit = credit.clone();
        self.watch("credit", move |values| {
            let gauge = credit.gauge();
            let mut put = |name: &str, value: f64| {
                values.insert(name.to_owned(), value);
            };
            put("trommel_credit_budget_bytes", gauge.budget_bytes as f64);
            put("trommel_credit_used_bytes", gauge.used_bytes as f64);
            put("trommel_credit_peak_bytes", gauge.peak_bytes as f64);
            put("trommel_credit_reserve_bytes", gauge.reserve_bytes as f64);
            put("trommel_credit_oversized_bytes", gauge.oversized_bytes as f64);
            put("trommel_credit_workspace_bytes", gauge.workspace_bytes as f64);
            put("trommel_credit_waiting_requests", gauge.waiting as f64);
            put("trommel_credit_granted_permits_total", gauge.granted as f64);
        });
    }

    /// Adds the order of a training run.
    pub fn watch_order<P: Send + 'static>(&self, order: &OrderService<P>) {
        let gauge = order.weak_gauge();
        self.watch("order", move |values| {
            let Some(gauge) = gauge() else { return };
            values.insert("trommel_order_waiting_slots".to_owned(), gauge.waiting_slots as f64);
            values.insert("trommel_order_offered_slots_total".to_owned(), gauge.offered as f64);
            values.insert("trommel_order_given_samples_total".to_owned(), gauge.given as f64);
        });
    }

    /// All numbers now.
    #[must_use]
    pub fn read(&self) -> Values {
        let mut values = Values::new();
        for source in self.sources().values() {
            source(&mut values);
        }
        values
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sources().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use trommel_core::credit::CreditConfig;
    use trommel_core::stop::Stop;

    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(key("a_total", &[]), "a_total");
        assert_eq!(key("a", &[("stage", "x"), ("shard", "q\"\\\n")]), r#"a{stage="x",shard="q\"\\\n"}"#);
    }

    #[test]
    fn what_is_gone_has_no_numbers_and_a_new_source_replaces_the_old() {
        let gauges = Gauges::default();
        let pool = Pool::new("decode", 2);
        gauges.watch_pool("decode", &pool);
        assert_eq!(gauges.read().len(), 5);
        drop(pool);
        assert_eq!(gauges.read().len(), 0);
        let credit = |bytes| Credit::new(CreditConfig { budget_bytes: bytes, lanes: 1, quantum_bytes: 1 }, Stop::new());
        gauges.watch_credit(&credit(10));
        let second = credit(100);
        gauges.watch_credit(&second);
        let _permit = second.acquire(0, 60).expect("there is credit");
        assert_eq!(gauges.read()["trommel_credit_budget_bytes"], 100.0);
        assert_eq!(gauges.read()["trommel_credit_used_bytes"], 60.0);
    }
}
