//! What the benches share: a number that the environment may give, and one line of the results.

use std::fmt::Debug;
use std::io::Write;
use std::str::FromStr;

/// The number that `name` gives, such as `TROMMEL_BENCH_ROWS`; `default` where it is not set.
///
/// # Panics
/// It is set to something else.
pub fn number<N: FromStr<Err: Debug>>(name: &str, default: N) -> N {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// A rate of ours beside a peer's, taken alternately in the same run.
pub struct Compared<'a> {
    /// What was done, on what.
    pub what: &'a str,
    /// Of what so many a second.
    pub unit: &'a str,
    /// Ours, one for each round.
    pub ours: &'a [f64],
    /// Who the peer is.
    pub peer: &'a str,
    /// The peer's, one for each round; empty without a peer.
    pub theirs: &'a [f64],
    /// How many times the peer's rate is aimed at.
    pub wanted: f64,
}

impl Compared<'_> {
    /// Prints medians, spreads and their ratio as a line of a table, and adds it to the file that `TROMMEL_BENCH_TABLE` names.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn tell(&self) {
        let rate = |rates: &[f64]| {
            let most = rates.iter().copied().fold(0.0, f64::max);
            let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
            let digits = usize::from(most < 100.0);
            format!("{:.digits$} ({least:.digits$} to {most:.digits$}) {}", median(rates), self.unit)
        };
        let (theirs, ratio) = match self.theirs {
            [] => ("not run".to_owned(), String::new()),
            some => (format!("{}: {}", self.peer, rate(some)), format!("{:.2}", median(self.ours) / median(some))),
        };
        let line = format!("| {} | {} | {theirs} | {ratio} | {} |", self.what, rate(self.ours), self.wanted);
        println!("{line}");
        if let Some(path) = std::env::var_os("TROMMEL_BENCH_TABLE") {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            writeln!(file.unwrap(), "{line}").unwrap();
        }
    }
}

/// The middle one; of an even number, the upper of the two.
pub fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
