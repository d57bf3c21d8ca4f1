//! Shows a pipeline's progress: a bar on a terminal, a line every few seconds otherwise. On stderr, always.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use trommel_pipelines::progress::Progress;

/// Seconds between lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A thread that shows progress until it is dropped.
pub struct ProgressBar {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressBar {
    /// Starts showing `progress`.
    pub fn show(progress: Arc<Progress>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let thread = {
            let done = done.clone();
            std::thread::spawn(move || {
                if std::io::stderr().is_terminal() { bar(&progress, &done) } else { lines(&progress, &done) }
            })
        };
        Self { done, thread: Some(thread) }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn bar(progress: &Progress, done: &AtomicBool) {
    let bar = indicatif::ProgressBar::new_spinner();
    while !done.load(Ordering::Acquire) {
        bar.set_message(progress.line());
        bar.tick();
        std::thread::park_timeout(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}

fn lines(progress: &Progress, done: &AtomicBool) {
    let mut last = Instant::now();
    while !done.load(Ordering::Acquire) {
        std::thread::park_timeout(Duration::from_millis(200));
        if last.elapsed() >= LINE_EVERY {
            eprintln!("trommel: {}", progress.line());
            last = Instant::now();
        }
    }
}
