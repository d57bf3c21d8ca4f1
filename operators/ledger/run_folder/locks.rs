//! Who may work on a folder: the run's lock, one a slice, and one while a folder is being opened.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Access, CONFIG_FILE, PLAN_FILE};
use crate::LedgerError;
use crate::storage::{Lock, LockKind, Storage};

pub(super) fn take_run_locks(
    root: &Path,
    disk: &dyn Storage,
    access: Access,
) -> Result<Vec<Box<dyn Lock>>, LedgerError> {
    let busy = |what: String| LedgerError::Busy { path: root.to_path_buf(), what };
    let lock = |name: &str, kind| {
        let path = root.join(name);
        disk.try_lock(&path, kind).map_err(LedgerError::at("lock", &path))
    };
    match access {
        Access::Member => Ok(Vec::new()),
        Access::Exclusive => lock("lock", LockKind::Exclusive)?
            .map(|held| vec![held])
            .ok_or_else(|| busy("another run is using this folder (its lock is held)".into())),
        Access::Slice { index, of } => {
            if of == 0 || index >= of {
                return Err(busy(format!("--part {index}/{of}: the slice must be below the number of slices")));
            }
            let shared = lock("lock", LockKind::Shared)?
                .ok_or_else(|| busy("a run over all shards is using this folder (its lock is held)".into()))?;
            let name = |index: u64, of: u64| format!("lock.part-{index}-of-{of}");
            let slice = lock(&name(index, of), LockKind::Exclusive)?
                .ok_or_else(|| busy(format!("another program is working on part {index}/{of}")))?;
            // Slices of another number overlap with ours: none of them may be at work.
            for file in disk.list(root).map_err(LedgerError::at("list", root))? {
                let numbers = file.strip_prefix("lock.part-").and_then(|s| s.split_once("-of-"));
                let Some((i, n)) = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?))) else {
                    continue;
                };
                if n != of && lock(&name(i, n), LockKind::Exclusive)?.is_none() {
                    return Err(busy(format!("part {i}/{n} is at work; parts of one run must agree in their number")));
                }
            }
            Ok(vec![shared, slice])
        }
    }
}

/// The lock under which a folder is set up and cleaned; none where another holds it, the folder is set up, and nobody `writes` its configuration.
pub(super) fn wait_for(
    root: &Path,
    disk: &dyn Storage,
    writes: bool,
    patience: Duration,
) -> Result<Option<Box<dyn Lock>>, LedgerError> {
    let path = root.join("lock.open");
    let start = Instant::now();
    loop {
        if let Some(lock) = disk.try_lock(&path, LockKind::Exclusive).map_err(LedgerError::at("lock", &path))? {
            return Ok(Some(lock));
        }
        if !writes && [CONFIG_FILE, PLAN_FILE].iter().all(|file| disk.len(&root.join(file)).is_ok()) {
            return Ok(None);
        }
        if start.elapsed() >= patience {
            let what = format!("another program has been setting this folder up for {} s", patience.as_secs());
            return Err(LedgerError::Busy { path: root.to_path_buf(), what });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
