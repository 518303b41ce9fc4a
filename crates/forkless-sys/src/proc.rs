//! The few files of `/proc`, and those of control groups, that are read in-process.

use std::fs;
use std::path::Path;

use crate::process;

/// The memory that this process may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryCapacity {
    /// What the machine has, or what a control group is limited to.
    pub total: u64,
    /// What is to be had without taking it from others: swap and caches included.
    pub available: u64,
}

/// The smallest that the machine and this process's control groups ([`cgroups(7)`]) allow; `None` without `/proc`.
///
/// [`cgroups(7)`]: https://man7.org/linux/man-pages/man7/cgroups.7.html
#[must_use]
pub fn memory_capacity() -> Option<MemoryCapacity> {
    let machine = parse_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(within_groups(machine, &groups, Path::new("/sys/fs/cgroup")))
}

fn parse_meminfo(text: &str) -> Option<MemoryCapacity> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let available = field("MemAvailable")?.saturating_add(field("SwapFree").unwrap_or(0));
    Some(MemoryCapacity { total: field("MemTotal")?, available })
}

/// `groups` is what `/proc/self/cgroup` says. A process in a namespace of its own sees its group as the root; one without
/// may see a path that is not mounted for it: then the root is the best there is.
fn within_groups(machine: MemoryCapacity, groups: &str, mount: &Path) -> MemoryCapacity {
    let mut capacity = machine;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, files) = match controllers {
            "" => (mount.to_owned(), ["memory.max", "memory.current", "inactive_file"]),
            "memory" => {
                let files = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
                (mount.join("memory"), files)
            }
            _ => continue,
        };
        for group in root.join(path.trim_start_matches('/')).ancestors().take_while(|group| group.starts_with(&root)) {
            let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
            let [limit, usage, inactive] = files;
            let Some(limit) = number(limit) else { continue };
            let statistics = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
            let cached = statistics.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok());
            let used = number(usage).unwrap_or(0).saturating_sub(cached.unwrap_or(0));
            capacity.total = capacity.total.min(limit);
            capacity.available = capacity.available.min(limit.saturating_sub(used));
        }
    }
    capacity
}

/// The threads of this process, native ones included, or `None` without `/proc`. Those on their way out are not counted:
/// they run nothing any more, but the kernel lists them for a moment after `pthread_join` has returned (one time in a
/// thousand, measured on a machine of two cores).
#[must_use]
pub fn thread_count() -> Option<usize> {
    // A directory has a link from itself, one from the name it has, and one from each directory in it.
    let listed = usize::try_from(rustix::fs::stat("/proc/self/task").ok()?.st_nlink).ok()?.checked_sub(2)?;
    if listed <= 1 {
        return Some(listed);
    }
    // Without a descriptor to look closer with, what is listed counts.
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Some(listed) };
    let stats = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    Some(stats.filter(|stat| !is_exiting(stat)).count())
}

/// Whether the kernel's flags for a task, the seventh field after the name (`proc_pid_stat(5)`), have `PF_EXITING`
/// (`linux/sched.h`), which is set before anybody learns of its end.
fn is_exiting(stat: &str) -> bool {
    const PF_EXITING: u64 = 0x4;
    let flags = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_ascii_whitespace().nth(6));
    flags.and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & PF_EXITING != 0)
}

/// The names of a process's threads other than the main one.
#[must_use]
pub fn other_thread_names(pid: u32) -> Vec<String> {
    let main = pid.to_string();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter(|task| task.file_name().to_string_lossy() != main)
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

/// When a process started, in clock ticks since boot: with the pid, its identity. `None` if it is gone or only
/// waits to be reaped.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The parent of a process, and when it started, in clock ticks since boot; also of one that only waits to be reaped.
#[must_use]
pub fn origin(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.nth(1)?.parse().ok()?, fields.nth(17)?.parse().ok()?))
}

/// Whether the process with this id and [start](start_time) (0 if that is not known) has ended.
///
/// Without a descriptor to read `/proc` with, or without `/proc`, a process counts as gone only once its id is nobody's:
/// later than it should, but never a living one.
#[must_use]
pub fn is_gone(pid: u32, started: u64) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => parse_stat(&stat).is_none_or(|now| started != 0 && now != started),
        Err(_) => !process::exists(pid),
    }
}

/// Whether a process was stopped by a signal, and not by a debugger.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, fields)| fields.starts_with(" T ")))
}

/// The status of a process that has ended and waits to be reaped, as `waitpid(2)` would report it; `None` if it runs, is
/// gone, or is not ours to read.
#[must_use]
pub fn wait_status_of_zombie(pid: u32) -> Option<i32> {
    parse_zombie(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `exit_code` is the last field, the 50th after the name (`proc_pid_stat(5)`).
fn parse_zombie(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? != "Z" {
        return None;
    }
    fields.nth(48)?.parse().ok()
}

/// The name in parentheses may hold anything, so fields are counted from its end: state is the first after it,
/// `starttime` the twentieth (`proc_pid_stat(5)`).
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_threads_a_parent_and_a_start() {
        let started = start_time(std::process::id()).unwrap();
        assert_eq!(origin(std::process::id()), Some((process::parent_id(), started)));
        assert!(thread_count().unwrap() >= 1);
        assert_eq!(start_time(std::process::id()), start_time(std::process::id()));
        assert!(start_time(u32::MAX).is_none());
        let (pid, started) = (std::process::id(), start_time(std::process::id()).unwrap());
        assert!(!is_gone(pid, started) && !is_gone(pid, 0));
        assert!(is_gone(pid, started + 1), "another process had that number");
        assert!(is_gone(u32::MAX, 0) && is_gone(0, 0));
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let fields: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        assert_eq!(parse_stat(&format!("7 (a) b) S {}", fields.join(" "))), Some(18));
        assert_eq!(parse_stat("7 (a) Z 1 2 3"), None);
        assert_eq!(parse_stat("garbage"), None);
        let fields: Vec<String> = (4..53).map(|n| n.to_string()).collect();
        assert_eq!(parse_zombie(&format!("7 (a) b) Z {}", fields.join(" "))), Some(52));
        assert_eq!(parse_zombie(&format!("7 (a) b) S {}", fields.join(" "))), None);
    }

    #[test]
    fn a_task_on_its_way_out_is_told_by_its_flags() {
        // State, parent, group, session, terminal and its group, then the flags.
        assert!(is_exiting("7 (a) b) R 1 7 7 0 -1 4194372 0 0"));
        assert!(!is_exiting("7 (a) b) R 1 7 7 0 -1 4194368 4 4"));
        assert!(!is_exiting("7 (a) R 1"));
        assert!(!is_exiting(&fs::read_to_string("/proc/thread-self/stat").unwrap()));
    }

    #[test]
    fn this_machine_has_memory() {
        let MemoryCapacity { total, available } = memory_capacity().unwrap();
        assert!(total > 64 << 20 && available > 0);
    }

    #[test]
    fn the_narrowest_group_decides() {
        let mount = std::env::temp_dir().join(format!("forkless-groups-{}", std::process::id()));
        let files = [
            ("memory.max", "max\n"),
            ("a/memory.max", "2000\n"),
            ("a/memory.current", "900\n"),
            ("a/memory.stat", "anon 1\ninactive_file 100\n"),
            ("a/b/memory.max", "5000\n"),
            ("memory/memory.limit_in_bytes", "3000\n"),
            ("memory/memory.usage_in_bytes", "2900\n"),
        ];
        for (name, text) in files {
            fs::create_dir_all(mount.join(name).parent().unwrap()).unwrap();
            fs::write(mount.join(name), text).unwrap();
        }
        let machine = MemoryCapacity { total: 10_000, available: 4000 };
        let within = |groups| within_groups(machine, groups, &mount);
        assert_eq!(within(""), machine);
        assert_eq!(within("0::/\n"), machine);
        assert_eq!(within("0::/a/b\n"), MemoryCapacity { total: 2000, available: 1200 });
        assert_eq!(within("3:cpu:/a\n4:memory:/elsewhere\n"), MemoryCapacity { total: 3000, available: 100 });
        fs::remove_dir_all(mount).unwrap();
    }
}
