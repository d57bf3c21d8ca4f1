//! The secret of a run of several processes: the one that the program was given (`TROMMEL_SECRET`), else `cluster.secret` in the run's folder, which process 0 makes and
//! only its user reads. Whoever can read the folder's files as that user belongs to the run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use trommel_cluster::secret::random_hex;
use trommel_cluster::{ClusterConfig, Secret};
use trommel_core::durable::{self, if_there};
use trommel_ledger::storage::{Disk, Storage};

use crate::error::PipelineError;

/// Gives the secret, and is not passed on in files.
pub const VARIABLE: &str = "TROMMEL_SECRET";
/// Fewer characters can be guessed.
const LEAST_CHARACTERS: usize = 16;
/// Between two looks for the file that process 0 makes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A secret that somebody gives.
///
/// # Errors
/// One that is too short.
pub fn checked(given: &[u8]) -> Result<Secret, PipelineError> {
    if given.len() < LEAST_CHARACTERS {
        let what =
            format!("{VARIABLE} is shorter than {LEAST_CHARACTERS} characters: `openssl rand -hex 32` makes one");
        return Err(PipelineError::usage(what));
    }
    Ok(Secret::new(given))
}

/// The secret of the run in `run`: the seat's, where it was given one. Process 0 makes it where there is none; the others wait for it as
/// long as for the start.
///
/// # Errors
/// A folder that cannot be written; no secret in time.
pub fn of_run(run: &Path, seat: &ClusterConfig) -> Result<Secret, PipelineError> {
    if seat.secret != Secret::default() {
        return Ok(seat.secret.clone());
    }
    let path = run.join("cluster.secret");
    let deadline = Instant::now() + seat.start_timeout;
    loop {
        if let Some(secret) = read(&path)? {
            return Ok(secret);
        }
        if seat.process == 0 {
            make(run, &path)
                .map_err(|error| PipelineError::usage(error).within(format_args!("cannot make {}", path.display())))?;
        } else if Instant::now() >= deadline {
            return Err(PipelineError::lost(format!(
                "process 0 ({}) has not made {} within {} s: all processes need the same run folder, or {VARIABLE}",
                seat.coordinator,
                path.display(),
                seat.start_timeout.as_secs()
            )));
        } else {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The secret in a file; `None` where it is not there, or not whole.
fn read(path: &Path) -> Result<Option<Secret>, PipelineError> {
    let Some(text) = if_there(fs::read_to_string(path)).map_err(PipelineError::at(path))? else { return Ok(None) };
    let metadata = fs::symlink_metadata(path).map_err(PipelineError::at(path))?;
    // SAFETY: it asks for a number and cannot fail.
    let me = unsafe { libc::geteuid() };
    if !metadata.is_file() || metadata.uid() != me || metadata.mode() & 0o077 != 0 {
        let what = format!("{}: not a file of this user alone: remove it, or chmod 600", path.display());
        return Err(PipelineError::usage(what));
    }
    let secret = text.strip_suffix('\n').filter(|secret| secret.len() >= LEAST_CHARACTERS);
    Ok(secret.map(|secret| Secret::new(secret.as_bytes())))
}

/// Seen under its name only when it is whole, and never by others.
fn make(run: &Path, path: &Path) -> io::Result<()> {
    Disk.create_dir(run)?;
    let aside = path.with_extension(format!("secret.{}.tmp", random_hex()?));
    let mut file: File = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(format!("{}\n", random_hex()?).as_bytes())?;
    file.sync_all()?;
    durable::rename(&aside, path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn process_0_makes_it_for_its_user_and_the_others_wait() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("new/run");
        let seat = |process| ClusterConfig::new(2, process, "127.0.0.1:1", "r");
        let (first, second) = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| of_run(&run, &seat(1)).unwrap());
            std::thread::sleep(Duration::from_millis(120));
            (of_run(&run, &seat(0)).unwrap(), waiting.join().unwrap())
        });
        assert!(first == second && first != Secret::default());
        let path = run.join("cluster.secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&run).unwrap().count(), 1, "nothing is left aside");
        // The next run on the folder keeps it; one that was cut off is made anew.
        assert!(of_run(&run, &seat(0)).unwrap() == first);
        fs::write(&path, "0123").unwrap();
        assert!(of_run(&run, &seat(0)).unwrap() != first);
        // One that others may read or have planted is none.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(of_run(&run, &seat(0)).unwrap_err().to_string().contains("chmod 600"));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(of_run(&run, &seat(0)).is_err());
        fs::remove_file(&path).unwrap();
        let soon = ClusterConfig { start_timeout: Duration::from_millis(60), ..seat(1) };
        let late = of_run(&folder.path().join("another"), &soon).unwrap_err();
        assert!(late.to_string().contains("process 0 (127.0.0.1:1) has not made"), "{late}");
    }
}
