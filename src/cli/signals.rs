//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use trommel_core::stop::Stop;
use trommel_pipelines::error::ErrorKind;

use crate::say::say;

/// Winds the run down on the first signal; exits with status 3 on the second.
pub fn install(stop: Stop) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
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
