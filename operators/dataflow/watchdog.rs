//! A watchdog: when nothing has moved for a stated time, it says who waits for what.
//!
//! Everything that can wait registers a closure that gives a [`GaugeReading`]: a number that grows while it moves, and a text
//! that says what it waits for. It keeps no pool, service or order alive. Cost: a look at each a few times in the quiet time.
//!
//! ```
//! use std::time::Duration;
//! use trommel_dataflow::watchdog::{GaugeReading, Watchdog};
//!
//! let watchdog = Watchdog::default();
//! watchdog.watch("order", || GaugeReading { moved: 3, waits_for: "lane 1, shard 7, sample 12".into() });
//! assert_eq!(watchdog.report(), ["order: 3 moved; lane 1, shard 7, sample 12"]);
//! ```

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::batch::BatchService;
use super::order::OrderService;
use super::pool::Pool;
use trommel_core::credit::Credit;
use trommel_core::stop::Stop;
use trommel_core::wake::locked;

/// How one thing stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GaugeReading {
    /// Grows while it moves.
    pub moved: u64,
    /// What it waits for, in words; may be empty.
    pub waits_for: String,
}

type Gauge = Box<dyn Fn() -> GaugeReading + Send>;

/// The named gauges of a run. Clones share them.
#[derive(Clone, Default)]
pub struct Watchdog {
    gauges: Arc<Mutex<Vec<(String, Gauge)>>>,
}

impl Watchdog {
    /// Adds a gauge, which the watchdog reads now and then and prints under `name`.
    pub fn watch(&self, name: &str, gauge: impl Fn() -> GaugeReading + Send + 'static) {
        locked(&self.gauges).push((name.to_owned(), Box::new(gauge)));
    }

    /// Adds a credit's gauge.
    pub fn watch_credit(&self, credit: &Credit) {
        let credit = credit.clone();
        self.watch("credit", move || {
            let gauge = credit.gauge();
            let waits_for = format!(
                "{} wait; {} of {} bytes in use, {} oversized with {} bytes, {} in workspaces, {} in reserve",
                gauge.waiting,
                gauge.used_bytes,
                gauge.budget_bytes,
                gauge.oversized,
                gauge.oversized_bytes,
                gauge.workspace_bytes,
                gauge.reserve_bytes
            );
            GaugeReading { moved: gauge.granted, waits_for }
        });
    }

    /// Adds a pool's gauge.
    pub fn watch_pool(&self, pool: &Pool) {
        let gauge = pool.weak_gauge();
        self.watch(&format!("pool {}", pool.name()), move || {
            let gauge = gauge().unwrap_or_default();
            GaugeReading { moved: gauge.done, waits_for: format!("{} jobs run, {} wait", gauge.running, gauge.queued) }
        });
    }

    /// Adds a batch service's gauge.
    pub fn watch_batches<I: Send + 'static, O: Send + 'static>(&self, service: &BatchService<I, O>) {
        let gauge = service.weak_gauge();
        self.watch(&format!("batches {}", service.name()), move || {
            let gauge = gauge().unwrap_or_default();
            GaugeReading { moved: gauge.items, waits_for: format!("{} items wait", gauge.queued) }
        });
    }

    /// Adds an order's gauge.
    pub fn watch_order<P: Send + 'static>(&self, order: &OrderService<P>) {
        let gauge = order.weak_gauge();
        self.watch("order", move || {
            let gauge = gauge().unwrap_or_default();
            let for_whom = gauge.waits_for.map_or_else(
                || "a full window waits for the trainer".to_owned(),
                |w| {
                    format!(
                        "the order waits for pass {}, lane {}, shard {}, sample {}",
                        w.pass, w.lane, w.ordinal, w.index
                    )
                },
            );
            let waits_for = format!("{for_whom}; {} slots wait for their turn", gauge.waiting_slots);
            GaugeReading { moved: gauge.offered + gauge.given, waits_for }
        });
    }

    /// All gauges, a line each.
    #[must_use]
    pub fn report(&self) -> Vec<String> {
        self.read().into_iter().map(|(name, r)| format!("{name}: {} moved; {}", r.moved, r.waits_for)).collect()
    }

    fn read(&self) -> Vec<(String, GaugeReading)> {
        locked(&self.gauges).iter().map(|(name, gauge)| (name.clone(), gauge())).collect()
    }

    /// Starts a thread that writes the report through `tracing` whenever no gauge has moved for `quiet`, until `stop`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(&self, quiet: Duration, stop: &Stop) -> io::Result<()> {
        let (watchdog, closed) = (self.clone(), stop.channel());
        let watch = move || {
            let (mut last, mut since) = (Vec::new(), Instant::now());
            while closed.recv_timeout(quiet / 4).is_err_and(|error| error == RecvTimeoutError::Timeout) {
                let moved: Vec<u64> = watchdog.read().into_iter().map(|(_, reading)| reading.moved).collect();
                if moved != last {
                    (last, since) = (moved, Instant::now());
                } else if since.elapsed() >= quiet {
                    for line in watchdog.report() {
                        tracing::warn!(quiet_seconds = quiet.as_secs_f64(), "nothing moves: {line}");
                    }
                    since = Instant::now();
                }
            }
        };
        thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.read()).finish()
    }
}
