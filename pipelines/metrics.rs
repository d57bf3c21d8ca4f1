//! Counters of all processes as Prometheus' text exposition (version 0.0.4).
//!
//! Every sample bears the label `process`; most of them a `stage` or a `status` as well, from their key (`gauges.rs`).
//! `HELP` and `TYPE` stand once, before a metric's first sample. What ends in `_total` is a counter, the rest are gauges.
//!
//! ```
//! use trommel_cluster::Counters;
//! use trommel_pipelines::metrics::exposition;
//!
//! let counters = Counters([("trommel_steps_total".to_owned(), 7.0)].into());
//! assert!(exposition(&[(0, counters)]).ends_with("trommel_steps_total{process=\"0\"} 7\n"));
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use trommel_cluster::Counters;

/// What `Content-Type` says of [`exposition`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What each metric means. One that is not listed has no `HELP`.
const HELP: &[(&str, &str)] = &[
    ("trommel_credit_budget_bytes", "Bytes that samples in flight may hold."),
    ("trommel_credit_granted_permits_total", "Samples that were admitted."),
    ("trommel_credit_oversized_bytes", "Bytes of samples larger than the budget, which pass outside of it."),
    ("trommel_credit_peak_bytes", "Most bytes ever held inside the budget."),
    ("trommel_credit_reserve_bytes", "Bytes that left the credit into a stage's own reserve."),
    ("trommel_credit_used_bytes", "Bytes held inside the budget."),
    ("trommel_credit_waiting_requests", "Readers that wait for credit."),
    ("trommel_credit_workspace_bytes", "Bytes of the budget that readers' decompressors have."),
    ("trommel_order_given_samples_total", "Samples given to the trainer."),
    ("trommel_order_offered_slots_total", "Samples and holes that reached the order."),
    ("trommel_order_waiting_slots", "Samples and holes that wait for their turn in the order."),
    ("trommel_planned_bytes", "Bytes of the plan's shards, where known."),
    ("trommel_planned_shards", "Shards of the plan."),
    ("trommel_planned_steps", "Optimiser steps wanted."),
    ("trommel_process_ended", "1 once the process has ended well."),
    ("trommel_process_silent_seconds", "Seconds since the process was last heard."),
    ("trommel_read_bytes_total", "Bytes of committed shards."),
    ("trommel_resumed_shards", "Shards that earlier runs had finished."),
    ("trommel_resumed_steps", "Optimiser steps that earlier runs had done."),
    ("trommel_running_seconds", "Seconds since the process began this run."),
    ("trommel_samples_total", "Samples judged by this run, by their fate."),
    ("trommel_shards_total", "Shards committed by this run."),
    ("trommel_stage_batches_total", "Batches a stage has run."),
    ("trommel_stage_busy_seconds_total", "Seconds a stage's threads have worked, summed over threads."),
    ("trommel_stage_full_batches_total", "Batches that were full."),
    ("trommel_stage_items_total", "Items a stage has finished."),
    ("trommel_stage_running_items", "Items a stage works on."),
    ("trommel_stage_threads", "Threads of a stage."),
    ("trommel_stage_waiting_items", "Items that wait before a stage."),
    ("trommel_stage_waiting_seconds_total", "Seconds a stage has waited for what comes before it."),
    ("trommel_steps_total", "Optimiser steps done, earlier runs' included."),
    ("trommel_watch_arranged_bytes", "Bytes that the watch's dataflow has arranged."),
    ("trommel_watch_epoch", "Number of the watch's newest epoch."),
    ("trommel_watch_lag_seconds", "Seconds that the oldest complete shard waits for the epoch that shows it."),
    ("trommel_watch_shards", "Shards of the watch's newest epoch."),
    ("trommel_watch_waiting_shards", "Complete shards that wait for the epoch that shows them."),
];

/// The text for `processes`, each with its counters.
#[must_use]
pub fn exposition(processes: &[(usize, Counters)]) -> String {
    let mut metrics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (process, counters) in processes {
        for (key, value) in &counters.0 {
            let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
            if !is_name(name) || !labels.ends_with('}') {
                continue; // it came over a network: nothing of it may break the page
            }
            let comma = if labels == "}" { "" } else { "," };
            let line = format!("{name}{{process=\"{process}\"{comma}{labels} {}", number(*value));
            if !line.contains('\n') {
                metrics.entry(name).or_default().push(line);
            }
        }
    }
    let mut text = String::new();
    for (name, lines) in metrics {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        if let Ok(at) = HELP.binary_search_by_key(&name, |(known, _)| known) {
            let _infallible = writeln!(text, "# HELP {name} {}", HELP[at].1);
        }
        let _infallible = writeln!(text, "# TYPE {name} {kind}\n{}", lines.join("\n"));
    }
    text
}

/// A float as Prometheus reads it.
fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::gauges::key;
    use crate::progress::Progress;

    /// Name, labels and value.
    type Parsed = (String, Vec<(String, String)>, f64);

    /// Each sample; panics where the text is no exposition.
    fn parse(text: &str) -> Vec<Parsed> {
        let (mut typed, mut last, mut samples) = (BTreeSet::new(), String::new(), Vec::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (what, name) = (words.next().expect("a word"), words.next().expect("a name").to_owned());
                let rest = words.next().expect("a text");
                match what {
                    "HELP" => assert!(!rest.is_empty()),
                    "TYPE" => {
                        assert!(matches!(rest, "counter" | "gauge"));
                        assert!(typed.insert(name.clone()), "{name} is typed twice");
                        last = name;
                    }
                    other => panic!("{other}"),
                }
                continue;
            }
            let (name, rest) = line.split_once('{').expect("labels");
            assert_eq!(name, last, "samples of a metric stand together, after its TYPE");
            let (labels, value) = rest.rsplit_once("} ").expect("a value");
            let labels = labels.split(',').map(|pair| {
                let (label, value) = pair.split_once('=').expect("a pair");
                (
                    label.to_owned(),
                    value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).expect("quoted").to_owned(),
                )
            });
            samples.push((name.to_owned(), labels.collect(), value.parse().expect("a number")));
        }
        samples
    }

    #[test]
    fn the_list_of_meanings_is_sorted() {
        assert!(HELP.is_sorted_by(|a, b| a.0 < b.0));
    }

    /// The metrics that stand in a text between such quotes.
    fn quoted(text: &str, quote: char) -> BTreeSet<&str> {
        text.split(quote).filter(|word| word.starts_with("trommel_") && is_name(word)).collect()
    }

    #[test]
    fn each_metric_has_a_meaning_and_stands_in_the_documentation() {
        let meant: BTreeSet<&str> = HELP.iter().map(|(name, _)| *name).collect();
        assert_eq!(quoted(include_str!("../docs/cluster.md"), '`'), meant);
        let sources = [
            include_str!("fleet.rs"),
            include_str!("gauges.rs"),
            include_str!("progress.rs"),
            include_str!("torch/train_on.rs"),
            include_str!("torch/watch/turns.rs"),
        ];
        let names = sources.into_iter().flat_map(|source| quoted(source, '"'));
        // What ends so begins several.
        assert_eq!(names.filter(|name| !name.ends_with('_')).collect::<BTreeSet<_>>(), meant);
    }

    #[test]
    fn two_processes_share_a_metrics_head() {
        let counters = |items: f64| {
            Counters(
                [
                    (key("trommel_stage_items_total", &[("stage", "decode")]), items),
                    (key("trommel_stage_items_total", &[("stage", "embed")]), 2.0 * items),
                    ("trommel_running_seconds".to_owned(), 0.5),
                ]
                .into(),
            )
        };
        let text = exposition(&[(0, counters(3.0)), (1, counters(4e6))]);
        let samples = parse(&text);
        assert_eq!(samples.len(), 6);
        assert_eq!(text.matches("# TYPE").count(), 2);
        assert_eq!(text.matches("# HELP").count(), 2);
        let label = |at: usize, name: &str| {
            samples[at].1.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(
            (samples[0].0.as_str(), label(0, "process"), samples[0].2),
            ("trommel_running_seconds", Some("0"), 0.5)
        );
        assert_eq!((label(5, "process"), label(5, "stage"), samples[5].2), (Some("1"), Some("embed"), 8e6));
    }

    #[test]
    fn numbers_that_are_none_have_their_words() {
        let counters =
            Counters([("a".into(), f64::NAN), ("b".into(), f64::INFINITY), ("c".into(), -f64::INFINITY)].into());
        let text = exposition(&[(0, counters)]);
        assert!(text.contains("a{process=\"0\"} NaN\n") && text.contains("} +Inf\n") && text.contains("} -Inf\n"));
    }

    #[test]
    fn a_key_that_is_none_is_left_out() {
        let keys = ["", "1a", "a b", "a{x=\"1\"", "a{x=\"\n\"}", "ä"];
        let counters = Counters(keys.iter().map(|key| ((*key).to_owned(), 1.0)).collect());
        assert_eq!(exposition(&[(0, counters)]), "");
    }

    #[test]
    fn a_run_has_a_meaning_for_each_of_its_numbers() {
        let text = exposition(&[(0, Progress::default().counters())]);
        assert!(parse(&text).len() >= 9, "{text}");
        assert_eq!(text.matches("# TYPE").count(), text.matches("# HELP").count(), "{text}");
    }
}
