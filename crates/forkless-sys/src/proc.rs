//! The few files of `/proc` that are read in-process.

use std::fs;

use crate::process;

/// What a process really costs, in bytes, from `/proc/PID/smaps_rollup` ([`proc_pid_smaps(5)`]).
///
/// [`proc_pid_smaps(5)`]: https://man7.org/linux/man-pages/man5/proc_pid_smaps.5.html
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident: counts every shared page in full.
    pub rss: u64,
    /// Proportional: each page divided by the number of its users; sums up over processes.
    pub pss: u64,
    /// Unique: what would come back if this process ended.
    pub uss: u64,
    /// Written by this process and shared with nobody, copied pages of a fork included.
    pub private_dirty: u64,
}

/// Reads a process's [`Memory`], or `None` if it is gone or not ours to read.
#[must_use]
pub fn memory(pid: u32) -> Option<Memory> {
    parse_smaps_rollup(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn parse_smaps_rollup(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kilobytes.checked_mul(1024)
    };
    let private_dirty = field("Private_Dirty")?;
    let uss = field("Private_Clean")? + private_dirty;
    Some(Memory { rss: field("Rss")?, pss: field("Pss")?, uss, private_dirty })
}

/// The threads of this process, native ones included, or `None` without `/proc`.
#[must_use]
pub fn thread_count() -> Option<usize> {
    // A directory has a link from itself, one from the name it has, and one from each directory in it.
    usize::try_from(rustix::fs::stat("/proc/self/task").ok()?.st_nlink).ok()?.checked_sub(2)
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
    fn this_process_has_memory_threads_and_a_start() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.rss >= memory.pss && memory.pss >= memory.uss && memory.uss >= memory.private_dirty);
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
    fn a_torn_rollup_is_no_memory() {
        assert_eq!(parse_smaps_rollup("Rss: 12 kB\nPss: x kB\n"), None);
    }
}
