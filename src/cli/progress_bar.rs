//! Shows a pipeline's progress: bars on a terminal, a line every few seconds otherwise. On stderr, always.
//!
//! A run of several processes has one bar for the whole and one for each: as long as the fastest's where it is as fast.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use indicatif::ProgressStyle;
use trommel_core::escape::escape_controls;
use trommel_core::wake::locked;
use trommel_pipelines::fleet::{Fleet, Rates};
use trommel_pipelines::progress::Progress;

use crate::beside::Beside;
use crate::say::{is_screen, say, screen};

/// Seconds between lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Length of a full bar, in its own units.
const FULL: u64 = 1000;
/// More bars than this do not fit a terminal: the slowest are shown.
const MOST_BARS: usize = 16;

/// A thread that shows progress until it is dropped.
pub struct ProgressBar {
    _thread: Beside,
}

impl ProgressBar {
    /// Starts showing `progress`.
    pub fn show(progress: Arc<Progress>) -> Self {
        Self::titled(progress, String::new())
    }

    fn titled(progress: Arc<Progress>, title: String) -> Self {
        let show = move |done: &AtomicBool| {
            if is_screen() {
                bars(&progress, &title, done);
            } else {
                lines(&progress, &title, done);
            }
        };
        Self { _thread: Beside::spawn(show) }
    }
}

/// Bars of a command that does several things, one after the other or side by side.
#[derive(Default)]
pub struct ProgressBars {
    shown: Mutex<Vec<(Weak<Progress>, ProgressBar)>>,
}

impl ProgressBars {
    /// Says what begins, and shows its progress until it is at its end.
    pub fn begin(&self, part: &str) -> Arc<Progress> {
        say(part);
        let progress = Arc::new(Progress::default());
        let mut shown = locked(&self.shown);
        // What has ended holds its progress no longer; its bar does.
        shown.retain(|(progress, _)| progress.strong_count() > 1);
        let bar = ProgressBar::titled(progress.clone(), format!("{}: ", escape_controls(part)));
        shown.push((Arc::downgrade(&progress), bar));
        progress
    }
}

fn bars(progress: &Progress, title: &str, done: &AtomicBool) {
    let whole = screen().add(indicatif::ProgressBar::new_spinner());
    let (mut each, mut rates) = (Vec::new(), Rates::default());
    while !done.load(Ordering::Acquire) {
        match progress.peers.ask() {
            Some(peers) => {
                let fleet = rates.look(&peers);
                whole.set_message(format!("{title}{}", fleet.line()));
                show_each(&mut each, &fleet);
            }
            None => whole.set_message(format!("{title}{}", progress.line())),
        }
        whole.tick();
        std::thread::park_timeout(Duration::from_millis(100));
    }
    for bar in each {
        bar.finish_and_clear();
    }
    whole.finish_and_clear();
}

/// One bar a process: its speed beside the fastest's.
fn show_each(bars: &mut Vec<indicatif::ProgressBar>, fleet: &Fleet) {
    let mut members: Vec<_> = fleet.members.iter().collect();
    if members.len() > MOST_BARS {
        members.sort_by(|a, b| a.samples_per_second.total_cmp(&b.samples_per_second));
        members.truncate(MOST_BARS);
        members.sort_by_key(|member| member.process);
    }
    let fastest = fleet.members.iter().map(|member| member.samples_per_second).fold(1e-9, f64::max);
    while bars.len() < members.len() {
        let style = ProgressStyle::with_template("  {prefix:>4} {bar:20} {msg}");
        let bar = indicatif::ProgressBar::new(FULL);
        bars.push(screen().add(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))));
    }
    for (bar, member) in bars.iter().zip(members) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and FULL")]
        let length = (member.samples_per_second / fastest * FULL as f64).clamp(0.0, FULL as f64) as u64;
        bar.set_prefix(format!("[{}]", member.process));
        bar.set_position(length);
        bar.set_message(member.line());
    }
}

fn lines(progress: &Progress, title: &str, done: &AtomicBool) {
    let (mut last, mut rates) = (Instant::now(), Rates::default());
    while !done.load(Ordering::Acquire) {
        std::thread::park_timeout(Duration::from_millis(200));
        if last.elapsed() >= LINE_EVERY {
            let line = progress.peers.ask().map_or_else(|| progress.line(), |peers| rates.look(&peers).line());
            say(format!("{title}{line}"));
            last = Instant::now();
        }
    }
}
