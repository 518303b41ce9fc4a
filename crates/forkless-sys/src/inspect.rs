//! What another process does, from `/proc`: its state, its threads' system calls, its pipes.
//!
//! Nothing here stops the process that is looked at, so each answer is of its own moment. What needs the right to
//! trace it (`PTRACE_MODE_ATTACH`, [`ptrace(2)`]) says so: system calls.
//!
//! [`ptrace(2)`]: https://man7.org/linux/man-pages/man2/ptrace.2.html

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use crate::process::ExitStatus;

/// What `/proc/PID/stat` says, [`proc_pid_stat(5)`].
///
/// [`proc_pid_stat(5)`]: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// A letter: R runs, S sleeps, D waits for a disk, T is stopped, t is traced, Z waits to be reaped.
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// When it started, in clock ticks (hundredths of a second) since boot.
    pub started: u64,
    /// Processor time that it has used, in clock ticks.
    pub used: u64,
    /// Whether it is a copy of its parent: made by fork, with no program of its own since.
    pub is_copy: bool,
    /// How it ended, if it waits to be reaped.
    pub ended: Option<ExitStatus>,
}

/// As much of a process as everybody may know; `None` if it is gone.
#[must_use]
pub fn status(pid: u32) -> Option<Status> {
    parse_status(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// How much a thread has done: a number that grows when it goes to sleep, loses its processor, or has used one for some time.
/// That of one that waits for ever does not. `None` if it is gone.
#[must_use]
pub fn activity(pid: u32, tid: u32) -> Option<u64> {
    let task = format!("/proc/{pid}/task/{tid}");
    let used = parse_status(&fs::read_to_string(format!("{task}/stat")).ok()?)?.used;
    let text = fs::read_to_string(format!("{task}/status")).ok()?;
    let counts =
        text.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:")?.1.trim().parse::<u64>().ok());
    Some(used + counts.sum::<u64>())
}

/// `PF_FORKNOEXEC` of the kernel's `sched.h`.
const FORKED: u64 = 0x40;

fn parse_status(stat: &str) -> Option<Status> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let state = fields.first()?.chars().next()?;
    let exit_code = fields.get(49).and_then(|code| code.parse().ok());
    Some(Status {
        state,
        parent: u32::try_from(number(1)?).ok()?,
        started: number(19)?,
        used: number(11)? + number(12)?,
        is_copy: number(6)? & FORKED != 0,
        ended: if state == 'Z' { exit_code.map(ExitStatus::from_wait_status) } else { None },
    })
}

/// The threads of a process, the main one first.
#[must_use]
pub fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut threads: Vec<u32> = entries.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok()).collect();
    threads.sort_unstable_by_key(|&tid| (tid != pid, tid));
    threads
}

/// What a thread does in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It runs.
    Runs,
    /// It sleeps on a word of its memory, [`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html).
    Futex {
        /// Of the word.
        address: u64,
        /// Whether it gives up some time.
        timed: bool,
    },
    /// It reads from a descriptor.
    Read(u32),
    /// It writes to a descriptor.
    Write(u32),
    /// It waits for a child to end; -1 for any.
    Child(i32),
    /// It waits for any of several descriptors; whether it gives up some time.
    Poll {
        /// Whether it gives up some time.
        timed: bool,
    },
    /// It sleeps for a time.
    Sleep,
    /// Something else, by its number.
    Other(i64),
}

/// What a thread does in the kernel now.
///
/// # Errors
/// `EACCES` or `EPERM` if the process is not ours to trace, `ESRCH` or `ENOENT` if it is gone.
pub fn call(pid: u32, tid: u32) -> Result<Call, Errno> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall"));
    let text = text.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(parse_call(&text))
}

fn parse_call(text: &str) -> Call {
    let mut fields = text.split_ascii_whitespace();
    let Some(number) = fields.next().and_then(|number| number.parse::<i64>().ok()) else { return Call::Runs };
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0);
    let arguments: Vec<u64> = fields.map(hex).collect();
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    let descriptor = argument(0) as u32;
    // Of poll: milliseconds, negative for ever; of the others: a place in memory, zero for ever.
    let timed = |index: usize| argument(index) != 0;
    match number {
        libc::SYS_futex => Call::Futex { address: argument(0), timed: timed(3) },
        libc::SYS_read | libc::SYS_readv | libc::SYS_recvfrom | libc::SYS_recvmsg => Call::Read(descriptor),
        libc::SYS_write | libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg => Call::Write(descriptor),
        libc::SYS_wait4 => Call::Child(argument(0) as u32 as i32),
        libc::SYS_waitid => Call::Child(if argument(0) == 1 { argument(1) as u32 as i32 } else { -1 }),
        libc::SYS_ppoll => Call::Poll { timed: timed(2) },
        libc::SYS_pselect6 => Call::Poll { timed: timed(4) },
        libc::SYS_epoll_pwait => Call::Poll { timed: (argument(3) as u32).cast_signed() >= 0 },
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => Call::Sleep,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => Call::Poll { timed: (argument(2) as u32).cast_signed() >= 0 },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => Call::Poll { timed: timed(4) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => Call::Poll { timed: (argument(3) as u32).cast_signed() >= 0 },
        other => Call::Other(other),
    }
}

/// A pipe that a process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pipe {
    /// The descriptor.
    pub descriptor: u32,
    /// Names the pipe.
    pub inode: u64,
    /// Whether it is the end for writing.
    pub writes: bool,
}

/// The pipes that a process has open; none if it is not ours to look at.
#[must_use]
pub fn pipes(pid: u32) -> Vec<Pipe> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let pipe = |path: &Path| {
        let target = fs::read_link(path).ok()?;
        let inode = target.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()?;
        let descriptor = path.file_name()?.to_str()?.parse().ok()?;
        // The rights of the link itself say what the descriptor is open for.
        Some(Pipe { descriptor, inode, writes: fs::symlink_metadata(path).ok()?.mode() & 0o200 != 0 })
    };
    entries.flatten().filter_map(|entry| pipe(&entry.path())).collect()
}

/// How many processes the memory killer has ended in the control group of this one; `None` where nobody counts.
#[must_use]
pub fn memory_kills(pid: u32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.events"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.oom_control"),
            _ => return None,
        };
        let text = fs::read_to_string(Path::new(mount).join(path).join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_looked_at() {
        let me = std::process::id();
        let status = status(me).unwrap();
        assert!(status.parent == crate::process::parent_id() && status.ended.is_none() && !status.is_copy);
        assert_eq!(threads(me)[0], me);
        assert!(activity(me, me).is_some() && activity(me, 0).is_none());
    }

    #[test]
    fn calls_are_told_apart() {
        assert_eq!(parse_call("running\n"), Call::Runs);
        let futex = libc::SYS_futex;
        let wait = parse_call(&format!("{futex} 0x7f00 0x189 0x0 0x0 0x0 0xffffffff 0x1 0x2\n"));
        assert_eq!(wait, Call::Futex { address: 0x7f00, timed: false });
        let wait = parse_call(&format!("{futex} 0x7f00 0x189 0x0 0x7ffc 0x0 0xffffffff 0x1 0x2\n"));
        assert_eq!(wait, Call::Futex { address: 0x7f00, timed: true });
        let wait4 = libc::SYS_wait4;
        assert_eq!(parse_call(&format!("{wait4} 0xffffffff 0x0 0x0 0x0 0x0 0x0 0x1 0x2")), Call::Child(-1));
        assert_eq!(parse_call("-1 0x1 0x2"), Call::Other(-1));
    }

    #[test]
    fn a_pipe_has_an_end_for_writing() {
        let (_reader, _writer) = std::io::pipe().unwrap();
        let pipes = pipes(std::process::id());
        assert!(
            pipes.iter().any(|one| pipes.iter().any(|other| one.inode == other.inode && one.writes != other.writes))
        );
    }
}
