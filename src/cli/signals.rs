//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::sync::Once;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use trommel_core::stop::Stop;
use trommel_pipelines::error::ErrorKind;

use crate::say::say;

/// Has a file that may not grow any more be an error of whoever writes it, and not the end of the process.
pub fn write_errors_alone() {
    // SAFETY: to ignore a signal runs nothing.
    unsafe { libc::signal(SIGXFSZ, libc::SIG_IGN) };
}

/// Has a signal end a command that has done nothing yet with the status of an interrupted one, until they are [`taken`]: libraries and models
/// may take long to load, and a scheduler that stops a job then asks for the status too.
pub fn end_interrupted() {
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: `_exit` may be called in a handler.
        unsafe { libc::_exit(ErrorKind::Interrupted.status().into()) }
    }
    for signal in [SIGINT, SIGTERM] {
        // SAFETY: the handler does what handlers may.
        unsafe { libc::signal(signal, end as *const () as libc::sighandler_t) };
    }
}

/// SIGINT and SIGTERM, for who looks at them from here on.
///
/// # Errors
/// The system refuses.
pub fn taken() -> std::io::Result<Signals> {
    static FIRST: Once = Once::new();
    // A handler that is there is called as well, so the one that ends goes.
    FIRST.call_once(|| {
        for signal in [SIGINT, SIGTERM] {
            // SAFETY: what a signal does by itself is no handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    });
    Signals::new([SIGINT, SIGTERM])
}

/// Winds the run down on the first signal; exits with status 3 on the second.
pub fn install(stop: Stop) -> std::io::Result<()> {
    let mut signals = taken()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            if count > 0 {
                // The run folder is made for being left at any instant.
                signal_hook::low_level::exit(ErrorKind::Interrupted.status().into());
            }
            say("finishing what is begun; once more to stop at once");
            stop.wind_down();
        }
    })?;
    Ok(())
}
