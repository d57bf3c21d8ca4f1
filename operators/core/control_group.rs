//! What the process's own control group lets it have, of either version: memory and processor time.
//!
//! `/proc/self/cgroup` names the group, `/proc/self/mountinfo` says where its hierarchy is to be seen. A batch system or a
//! container puts the limit on any group above the process's own, so all of them count, up to the last that can be seen;
//! the smallest limit is the answer. Version 1 and 2 may be mounted side by side.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// What version 2 calls a limit, the one that slows down and the one that kills; in version 1 it is one file.
const LIMITS: [&str; 3] = ["memory.high", "memory.max", "memory.limit_in_bytes"];

/// The smallest limit over the process's groups, in bytes; `None` where there is none. `root` is `/` but for tests.
#[must_use]
pub fn memory_limit_bytes(root: &Path) -> Option<u64> {
    smallest(root, "memory", memory_of_group)
}

/// The smallest quota of processor time over the process's groups, in thousandths of a core; `None` where there is none.
#[must_use]
pub fn cpu_quota_millicores(root: &Path) -> Option<u64> {
    smallest(root, "cpu", quota_of_group)
}

/// The smallest limit that `of_group` finds in the files of the groups that this controller has the process in.
fn smallest(root: &Path, controller: &str, of_group: fn(&Path) -> Option<u64>) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let (groups, mounts) = (read("proc/self/cgroup")?, read("proc/self/mountinfo")?);
    let mounts: Vec<Mount> = mounts.lines().filter_map(|line| Mount::parse(line, controller)).collect();
    let groups = groups.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let is_first_version = controllers.split(',').any(|name| name == controller);
        (is_first_version || controllers.is_empty()).then_some((is_first_version, Path::new(group)))
    });
    let limits = groups.flat_map(|(is_first_version, group)| {
        let fitting = mounts.iter().filter(move |mount| mount.is_first_version == is_first_version);
        fitting.filter_map(move |mount| mount.smallest(root, group, of_group))
    });
    limits.min()
}

/// A hierarchy that has the controller, or may have it.
struct Mount {
    is_first_version: bool,
    /// The group that is seen at `point`.
    top: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// `31 23 0:24 /top /point rw,relatime shared:1 - cgroup cgroup rw,memory`.
    fn parse(line: &str, controller: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (file_system, options) = (kind.next()?, kind.nth(1).unwrap_or_default());
        let is_first_version = match file_system {
            "cgroup2" => false,
            "cgroup" if options.split(',').any(|option| option == controller) => true,
            _ => return None,
        };
        let mut place = place.split(' ').skip(3).map(|field| PathBuf::from(unescaped(field)));
        Some(Self { is_first_version, top: place.next()?, point: place.next()? })
    }

    /// The smallest limit from `group` up to the top of what is seen here.
    fn smallest(&self, root: &Path, group: &Path, of_group: fn(&Path) -> Option<u64>) -> Option<u64> {
        let point = root.join(self.point.strip_prefix("/").unwrap_or(&self.point));
        // A process outside of its namespace's root, or beside what is mounted: of its groups only the top is seen.
        let below = group.strip_prefix(&self.top).unwrap_or(Path::new(""));
        let is_seen = below.components().all(|component| matches!(component, Component::Normal(_)));
        let own = point.join(if is_seen { below } else { Path::new("") });
        own.ancestors().take_while(|folder| folder.starts_with(&point)).filter_map(of_group).min()
    }
}

/// The smallest limit that a group's own files state. Of version 1 the statistics know of groups above that are not seen.
fn memory_of_group(folder: &Path) -> Option<u64> {
    let stated = LIMITS.iter().filter_map(|name| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok());
    let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let above = statistics.lines().filter_map(|line| line.strip_prefix("hierarchical_memory_limit ")?.parse().ok());
    // Version 1 says `no limit` as the largest number of whole pages.
    stated.chain(above).min().filter(|&bytes: &u64| bytes < 1 << 60)
}

/// Processor time a period: `200000 100000` in version 2, two files in version 1. No quota is `max` there and -1 here, and no number.
fn quota_of_group(folder: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let stated = read("cpu.max").or_else(|| Some(read("cpu.cfs_quota_us")? + " " + &read("cpu.cfs_period_us")?))?;
    let mut numbers = stated.split_whitespace().map(str::parse::<u64>);
    let (quota, period) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    quota.checked_mul(1000)?.checked_div(period)
}

/// A field of mountinfo: blanks and the like are written as `\040`.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => out.extend([char::from(code).to_string().as_str(), &part[3..]]),
            None => out.extend(["\\", part]),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What a machine with these files gives.
    fn of(files: &[(&str, &str)], what: fn(&Path) -> Option<u64>) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        what(root.path())
    }

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        of(files, memory_limit_bytes)
    }

    const SECOND: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const FIRST: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                         34 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    const UNLIMITED: &str = "9223372036854771712\n";

    #[test]
    fn the_batch_systems_limit_stands_above_the_step() {
        let step = "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n";
        let at = |name: &str| format!("sys/fs/cgroup/system.slice/slurmstepd.scope/{name}/memory.max");
        let files = [("job_7", "4294967296\n"), ("job_7/step_0", "max\n"), ("job_7/step_0/user/task_0", "max\n")];
        let paths = files.map(|(name, text)| (at(name), text));
        let mut machine: Vec<(&str, &str)> = paths.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        machine.extend([("proc/self/cgroup", step), ("proc/self/mountinfo", SECOND)]);
        assert_eq!(limit(&machine), Some(4 << 30));
        // What slows down before it kills is a limit as well.
        let high = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_0/memory.high";
        machine.push((high, "3221225472\n"));
        assert_eq!(limit(&machine), Some(3 << 30));
    }

    #[test]
    fn the_first_version_is_walked_upwards_too() {
        let cgroup = "4:memory:/slurm/uid_0/job_7/step_0\n3:cpu,cpuacct:/\n";
        let own = "sys/fs/cgroup/memory/slurm/uid_0/job_7/step_0/memory.limit_in_bytes";
        let job = "sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.limit_in_bytes";
        let mut machine =
            vec![("proc/self/cgroup", cgroup), ("proc/self/mountinfo", FIRST), (own, UNLIMITED), (job, "2147483648\n")];
        assert_eq!(limit(&machine), Some(2 << 30));
        machine[3] = (job, UNLIMITED);
        assert_eq!(limit(&machine), None);
    }

    #[test]
    fn both_versions_count_where_both_are_mounted() {
        let cgroup = "9:name=systemd:/a\n4:memory:/a/b\n0::/c\n";
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let mounts = [FIRST, unified].concat();
        let (first, second) = ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "sys/fs/cgroup/unified/c/memory.max");
        let machine = |first_bytes, second_bytes| {
            let groups = [(first, first_bytes), (second, second_bytes)];
            limit(&[&[("proc/self/cgroup", cgroup), ("proc/self/mountinfo", &mounts)], &groups[..]].concat())
        };
        assert_eq!(machine("1073741824\n", "max\n"), Some(1 << 30));
        assert_eq!(machine(UNLIMITED, "536870912\n"), Some(512 << 20));
        assert_eq!(machine(UNLIMITED, "max\n"), None);
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount() {
        // Without a namespace of its own: the mount shows a part of the hierarchy, the path is the whole one.
        let mounts = "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n";
        let own = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
        let of = |cgroup| limit(&[("proc/self/cgroup", cgroup), ("proc/self/mountinfo", mounts), own]);
        assert_eq!(of("4:memory:/docker/ab\n"), Some(1 << 30));
        assert_eq!(of("4:memory:/docker/ab/child\n"), Some(1 << 30));
        assert_eq!(of("4:memory:/elsewhere\n"), Some(1 << 30));
        // A pod's limit stands above what is mounted; the kernel's statistics know it.
        let statistics = ("sys/fs/cgroup/memory/memory.stat", "cache 3\nhierarchical_memory_limit 536870912\nrss 5\n");
        let cgroup = ("proc/self/cgroup", "4:memory:/docker/ab\n");
        assert_eq!(limit(&[cgroup, ("proc/self/mountinfo", mounts), own, statistics]), Some(512 << 20));
    }

    #[test]
    fn a_path_outside_of_the_namespace_is_the_top_that_is_seen() {
        let top = ("sys/fs/cgroup/memory.max", "1073741824\n");
        let of = |cgroup| limit(&[("proc/self/cgroup", cgroup), ("proc/self/mountinfo", SECOND), top]);
        assert_eq!(of("0::/../..\n"), Some(1 << 30));
        assert_eq!(of("0::/../neighbour\n"), Some(1 << 30));
        assert_eq!(of("0::/\n"), Some(1 << 30));
        assert_eq!(of("0::/gone/by/now\n"), Some(1 << 30));
    }

    #[test]
    fn odd_files_are_no_limit() {
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[("proc/self/cgroup", "0::/\n")]), None);
        let odd = ("sys/fs/cgroup/memory.max", "many\n");
        assert_eq!(limit(&[("proc/self/cgroup", "nonsense\n\n:\n0::/\n"), ("proc/self/mountinfo", SECOND), odd]), None);
        let blank = "29 23 0:26 / /with\\040blank rw - cgroup2 cgroup2 rw\nodd\n";
        let file = ("with blank/memory.max", "4096\n");
        assert_eq!(limit(&[("proc/self/cgroup", "0::/\n"), ("proc/self/mountinfo", blank), file]), Some(4096));
    }

    /// This machine's own, found by walking every hierarchy there is by hand.
    #[test]
    fn the_real_one_agrees_with_a_walk_by_the_shell() {
        let script = r#"
            best=
            take() { case $1 in ''|max) ;; *) if [ ${#1} -lt 19 ] && { [ -z "$best" ] || [ $1 -lt $best ]; }; then best=$1; fi;; esac; }
            while IFS=: read -r _ controllers group; do
                case ,$controllers, in *,memory,*) kind=memory; top=/sys/fs/cgroup/memory;; ,,) kind=; top=/sys/fs/cgroup;; *) continue;; esac
                [ -z "$kind" ] && [ -d /sys/fs/cgroup/unified ] && top=/sys/fs/cgroup/unified
                case $group in *..*) group=/;; esac
                [ -d "$top$group" ] || group=/
                while :; do
                    for name in memory.high memory.max memory.limit_in_bytes; do
                        [ -r "$top$group/$name" ] && take "$(cat "$top$group/$name")"
                    done
                    [ -r "$top$group/memory.stat" ] && take "$(sed -n 's/^hierarchical_memory_limit //p' "$top$group/memory.stat")"
                    [ "$group" = / ] && break
                    group=$(dirname "$group")
                done
            done < /proc/self/cgroup
            echo "$best"
        "#;
        let out = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
        let walked = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(memory_limit_bytes(Path::new("/")), walked.trim().parse().ok());
    }

    #[test]
    fn a_pods_quota_stands_above_its_containers() {
        let group = "0::/kubepods.slice/kubepods-burstable.slice/pod1.slice/container.scope\n";
        let pod = "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/pod1.slice/cpu.max";
        let container = "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/pod1.slice/container.scope/cpu.max";
        let quota = |pod_max, container_max| {
            let seen = [("proc/self/cgroup", group), ("proc/self/mountinfo", SECOND)];
            of(&[seen, [(pod, pod_max), (container, container_max)]].concat(), cpu_quota_millicores)
        };
        assert_eq!(quota("max 100000\n", "max 100000\n"), None);
        assert_eq!(quota("max 100000\n", "250000 100000\n"), Some(2500));
        assert_eq!(quota("150000 100000\n", "250000 100000\n"), Some(1500));
        assert_eq!(quota("max 100000\n", "10000 100000\n"), Some(100));
        for odd in ["", "max\n", "100000\n", "100000 0\n", "-1 100000\n", "many 100000\n"] {
            assert_eq!(quota("max 100000\n", odd), None, "{odd}");
        }
    }

    #[test]
    fn the_first_versions_quota_is_two_files() {
        // As docker writes it: both controllers at one mount, of which the container sees its own part.
        let mounts = "34 31 0:31 /docker/ab /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n";
        let quota = |quota| {
            let seen = [("proc/self/cgroup", "3:cpu,cpuacct:/docker/ab\n0::/\n"), ("proc/self/mountinfo", mounts)];
            let period = ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
            of(
                &[&seen[..], &[period, ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", quota)]].concat(),
                cpu_quota_millicores,
            )
        };
        assert_eq!(quota("-1\n"), None);
        assert_eq!(quota("400000\n"), Some(4000));
        // The controller is the whole word.
        let (group, mount) = ("3:cpuset:/\n", "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
        let stray =
            [("sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "1\n"), ("sys/fs/cgroup/cpuset/cpu.cfs_period_us", "1\n")];
        let seen = [("proc/self/cgroup", group), ("proc/self/mountinfo", mount)];
        assert_eq!(of(&[seen, stray].concat(), cpu_quota_millicores), None);
    }
}
