//! Runs one input under watch: panics, memory, time.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use crate::memory::most_held;
use crate::{Outcome, Target};

/// What an input took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Most bytes of the heap at one time.
    pub heap_bytes: u64,
    /// Processor time.
    pub time: Duration,
}

thread_local! {
    /// Panics of this thread since it was last looked at: in this workspace's code or another's, and what was said.
    static PANICS: RefCell<Option<Vec<(bool, String)>>> = const { RefCell::new(None) };
}

/// Notes panics of threads that are under watch, silently; others are told as ever.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|at| (at.file().to_owned(), format!("{}:{}", at.file(), at.line())));
            let (file, place) = place.unwrap_or_default();
            // Cargo compiles the workspace's files by their relative paths, and everybody else's by absolute ones.
            let ours = !file.starts_with('/');
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text");
            let noted = PANICS.with_borrow_mut(|noted| {
                noted.as_mut().map(|noted| noted.push((ours, format!("{place}: {text}")))).is_some()
            });
            if !noted {
                told(info);
            }
        }));
    });
}

/// Runs `input`: what came of it, or the promise that was broken; and what it took.
pub fn run(target: &Target, input: &[u8]) -> (Outcome, Cost) {
    note_panics();
    PANICS.set(Some(Vec::new()));
    let start = processor_time();
    let (caught, heap_bytes) = most_held(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let time = processor_time().saturating_sub(start);
    let panics = PANICS.take().unwrap_or_default();
    let limits = &target.limits;
    let patience = if cfg!(debug_assertions) { 10 } else { 1 };
    let said = |(_, text): &(bool, String)| text.clone();
    let outcome = match caught {
        Err(_) => Err(format!("a panic: {}", panics.last().map(said).unwrap_or_default())),
        Ok(_) if panics.iter().any(|(ours, _)| *ours) => {
            let ours = panics.iter().find(|(ours, _)| *ours).map(said).unwrap_or_default();
            Err(format!("a panic that was caught: {ours}"))
        }
        Ok(_) if heap_bytes > limits.heap_bytes => {
            Err(format!("{heap_bytes} bytes of memory at one time, of {} stated", limits.heap_bytes))
        }
        Ok(_) if time > limits.time * patience => {
            Err(format!("{time:.1?} of processor time, of {:?} stated", limits.time * patience))
        }
        // What decoders of others panic about tells new behaviour as errors do.
        Ok(outcome) => outcome.map(|text| panics.iter().map(said).fold(text, |text, panic| text + &panic)),
    };
    (outcome, Cost { heap_bytes, time })
}

/// Processor time of this thread, which a busy machine does not lengthen.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours, and is filled or left as it is.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
