//! Which cores are the process's own. Whoever starts threads by the number of cores asks here, and nobody else asks the system:
//! `docs/design/cores.md` has the rule.
//!
//! A machine's cores are not the process's: `taskset`, a batch system (`--cpus-per-task`) or a cpuset leaves it some of them, and a
//! control group (a container's `--cpus`, a pod's limit) gives it a quota of time, which more threads only spend sooner.
//!
//! ```
//! let cores = trommel_core::cores::Cores::of_this_process();
//! assert!((1..=cores.machine).contains(&cores.usable));
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::control_group::cpu_quota_millicores;

/// A machine's cores, and what the process may use of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cores {
    /// The machine's, as far as they are switched on.
    pub machine: usize,
    /// Those that the process may run on.
    pub affinity: usize,
    /// The quota of its control groups, in thousandths of a core.
    pub quota_millicores: Option<u64>,
    /// Whole cores that it may keep busy all the time, at least 1.
    pub usable: usize,
}

/// Whole cores that the process may keep busy all the time, at least 1.
#[must_use]
pub fn usable() -> usize {
    Cores::of_this_process().usable
}

impl Cores {
    /// This process's, at this moment.
    #[must_use]
    pub fn of_this_process() -> Self {
        // The standard library asks the kernel for mask and quota itself; what it cannot see, as a hierarchy that is mounted elsewhere,
        // is found below, and where `/proc` is missing it alone knows.
        #[expect(clippy::disallowed_methods, reason = "here is where everybody else asks")]
        let known = std::thread::available_parallelism().map_or(1, usize::from);
        Self::found(Path::new("/"), known)
    }

    /// What the files under `root` say, where the standard library has counted `known` usable ones.
    fn found(root: &Path, known: usize) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let online = read("sys/devices/system/cpu/online").and_then(|text| listed(&text));
        let allowed = read("proc/thread-self/status")
            .and_then(|text| listed(text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?));
        let machine = online.as_ref().map_or(known, BTreeSet::len);
        // A mask may name cores that are switched off, or that the machine could have.
        let affinity = match (&online, &allowed) {
            (Some(online), Some(allowed)) => online.intersection(allowed).count(),
            (None, Some(allowed)) => allowed.len(),
            (_, None) => machine,
        };
        let quota_millicores = cpu_quota_millicores(root);
        let whole = quota_millicores.map_or(usize::MAX, |quota| usize::try_from(quota / 1000).unwrap_or(usize::MAX));
        let usable = known.min(affinity).min(whole).max(1);
        Self { machine: machine.max(usable), affinity: affinity.max(usable), quota_millicores, usable }
    }
}

/// `1 of 64 cores (8 in the affinity mask, a quota of 1.5 in the control group)`.
impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, affinity, quota_millicores, usable } = self;
        let mask = (affinity < machine).then(|| format!("{affinity} in the affinity mask"));
        #[expect(clippy::cast_precision_loss, reason = "a few digits for people")]
        let quota = quota_millicores.map(|quota| format!("a quota of {} in the control group", quota as f64 / 1000.0));
        write!(f, "{usable} of {machine} cores")?;
        match (mask, quota) {
            (Some(mask), Some(quota)) => write!(f, " ({mask}, {quota})"),
            (Some(why), None) | (None, Some(why)) => write!(f, " ({why})"),
            (None, None) => Ok(()),
        }
    }
}

/// The kernel's list of numbers: `0-3,8`.
fn listed(text: &str) -> Option<BTreeSet<usize>> {
    let mut numbers = BTreeSet::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= 1 << 20 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], known: usize) -> Cores {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Cores::found(root.path(), known)
    }

    fn mask(list: &str) -> (&'static str, &str) {
        ("proc/thread-self/status", list)
    }

    const ONLINE: (&str, &str) = ("sys/devices/system/cpu/online", "0-63\n");
    const GROUP: [(&str, &str); 2] = [
        ("proc/self/cgroup", "0::/pod\n"),
        ("proc/self/mountinfo", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
    ];

    #[test]
    fn the_smallest_of_machine_mask_and_quota_counts() {
        // As this kernel writes it, with what stands before and after.
        let status =
            |list| format!("Name:\tcat\nCpus_allowed:\tff\nCpus_allowed_list:\t{list}\nMems_allowed_list:\t0\n");
        let (eight, all) = (status("0-3,8-11"), status("0-127"));
        let quota = |text| [GROUP[0], GROUP[1], ("sys/fs/cgroup/pod/cpu.max", text)];

        let cores = found(&[ONLINE, mask(&all)], 64);
        assert_eq!((cores.affinity, cores.usable, cores.to_string().as_str()), (64, 64, "64 of 64 cores"));
        let cores = found(&[ONLINE, mask(&eight)], 8);
        assert_eq!((cores.usable, cores.to_string().as_str()), (8, "8 of 64 cores (8 in the affinity mask)"));
        let cores = found(&[&quota("250000 100000\n")[..], &[ONLINE, mask(&eight)]].concat(), 8);
        assert_eq!((cores.machine, cores.affinity, cores.quota_millicores, cores.usable), (64, 8, Some(2500), 2));
        assert_eq!(cores.to_string(), "2 of 64 cores (8 in the affinity mask, a quota of 2.5 in the control group)");
        let cores = found(&[&quota("20000 100000\n")[..], &[ONLINE, mask(&all)]].concat(), 64);
        assert_eq!(cores.to_string(), "1 of 64 cores (a quota of 0.2 in the control group)");
    }

    #[test]
    fn without_the_kernels_files_the_standard_library_is_believed() {
        let cores = found(&[], 6);
        assert_eq!(cores, Cores { machine: 6, affinity: 6, quota_millicores: None, usable: 6 });
        let odd = found(&[("sys/devices/system/cpu/online", "zero\n"), ("proc/thread-self/status", "")], 3);
        assert_eq!((odd.machine, odd.usable), (3, 3));
    }

    /// What other programs count: coreutils' `nproc` the mask, `getconf` the machine, and the standard library all that it sees.
    #[test]
    fn this_machine_agrees_with_others() {
        let count = |command: &str| {
            let out = std::process::Command::new("sh")
                .args(["-c", command])
                .env_remove("OMP_NUM_THREADS")
                .env_remove("OMP_THREAD_LIMIT")
                .output()
                .unwrap();
            String::from_utf8(out.stdout).unwrap().trim().parse::<usize>().unwrap()
        };
        let cores = Cores::of_this_process();
        assert_eq!(cores.machine, count("getconf _NPROCESSORS_ONLN"));
        #[expect(clippy::disallowed_methods, reason = "the other opinion")]
        let known = std::thread::available_parallelism().unwrap().get();
        assert!(cores.usable <= known, "{cores:?}");
        // A newer `nproc` counts the quota too.
        let counted = count("nproc");
        assert!(counted == cores.affinity || counted == cores.usable, "{counted}: {cores:?}");
    }
}
