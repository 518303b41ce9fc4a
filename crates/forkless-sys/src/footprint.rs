//! What processes cost: their memory, page by page, and who descends from whom.
//!
//! All of it is read from `/proc`, for any process that this user may look at, and nothing of it disturbs that process.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::io::Errno;

use crate::proc::origin;

/// What a process really costs, in bytes, from `/proc/PID/smaps_rollup` ([`proc_pid_smaps(5)`]).
///
/// [`proc_pid_smaps(5)`]: https://man7.org/linux/man-pages/man5/proc_pid_smaps.5.html
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Resident: counts every shared page in full.
    pub rss: u64,
    /// Proportional: each page divided by the number of its users; sums up over processes.
    pub pss: u64,
    /// Unique: what would come back if this process ended.
    pub uss: u64,
    /// Written by this process and shared with nobody, copied pages of a fork included.
    pub private_dirty: u64,
    /// What others have, too, written to or not.
    pub shared: u64,
    /// In swap, divided as `pss` is. Pages of memory files that are in swap are in nobody's.
    pub swap: u64,
    /// Of `rss`, what is in no file: each process made it, or has it from the one that it was forked from.
    pub anonymous: u64,
    /// Of `pss`, the same.
    pub proportional_anonymous: u64,
}

/// Why a process cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is no such process.
    #[error("no such process")]
    Gone,
    /// It has no memory: it is ending, or has ended and its parent has not asked how; or it is a thread of the kernel.
    #[error("it has no memory any more: it has ended, and its parent has not reaped it yet")]
    Zombie,
    /// It belongs to another user, or is protected.
    #[error("its memory is not ours to read")]
    Denied,
    /// The system refused.
    #[error("{0}")]
    System(Errno),
}

/// Measures a process.
///
/// # Errors
/// [`Unreadable`] says why there is no answer.
pub fn measure(pid: u32) -> Result<Footprint, Unreadable> {
    match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Ok(text) => parse(&text).ok_or(Unreadable::Zombie),
        Err(error) => Err(match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::SRCH) if origin(pid).is_some() => Unreadable::Zombie,
            Some(Errno::NOENT | Errno::SRCH) => Unreadable::Gone,
            Some(Errno::ACCESS | Errno::PERM) => Unreadable::Denied,
            errno => Unreadable::System(errno.unwrap_or(Errno::IO)),
        }),
    }
}

fn parse(text: &str) -> Option<Footprint> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kilobytes.checked_mul(1024)
    };
    let private_dirty = field("Private_Dirty")?;
    let anonymous = field("Anonymous")?;
    Some(Footprint {
        rss: field("Rss")?,
        pss: field("Pss")?,
        uss: field("Private_Clean")?.checked_add(private_dirty)?,
        private_dirty,
        shared: field("Shared_Clean")?.checked_add(field("Shared_Dirty")?)?,
        swap: field("SwapPss").unwrap_or(0),
        anonymous,
        // Kernels before 5.9 do not tell: then nothing counts as shared.
        proportional_anonymous: field("Pss_Anon").unwrap_or(anonymous),
    })
}

/// These processes and all that descend from them, each once, parents before their children and elder ones before younger
/// ones; nothing of one that is not there.
///
/// One whose parent has ended belongs to init, and is not found.
#[must_use]
pub fn families(roots: &[u32]) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut children: HashMap<u32, Vec<(u64, u32)>> = HashMap::new();
    let mut unseen = HashSet::new();
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some((parent, started)) = origin(pid) {
            // Numbers start again from the first, so they do not tell who is elder.
            children.entry(parent).or_default().push((started, pid));
            unseen.insert(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = 0;
    for root in roots {
        found.extend(unseen.take(root));
        while let Some(pid) = found.get(next) {
            let mut children = children.remove(pid).unwrap_or_default();
            children.sort_unstable();
            found.extend(children.into_iter().filter_map(|(_, child)| unseen.take(&child)));
            next += 1;
        }
    }
    found
}

/// The command line of a process with its program's name for its path, or that name alone, in brackets, if it has none.
/// Not longer than 200 characters, all of which can be shown. `None` if it is gone.
#[must_use]
pub fn title(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let mut title = words.join(" ").trim_end().to_owned();
    if title.is_empty() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        title = format!("[{}]", name.trim_end());
    } else if let Some(end) = words.first().and_then(|program| program.rfind('/')) {
        title.drain(..=end);
    }
    Some(title.chars().map(|it| if it.is_control() { ' ' } else { it }).take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_title() {
        let it = measure(std::process::id()).unwrap();
        assert!(it.rss >= it.pss && it.pss >= it.uss && it.uss >= it.private_dirty && it.private_dirty > 0);
        assert!(it.rss >= it.anonymous && it.anonymous >= it.proportional_anonymous);
        assert_eq!(it.rss, it.uss + it.shared);
        let title = title(std::process::id()).unwrap();
        assert!(title.starts_with("forkless_sys-"), "{title}");
    }

    #[test]
    fn a_child_descends_from_this_process_until_it_is_reaped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (me, pid) = (std::process::id(), child.id());
        assert_eq!(families(&[me])[0], me);
        assert!(families(&[me]).contains(&pid));
        assert_eq!(families(&[pid]), [pid]);
        let both = families(&[pid, me, pid]);
        assert_eq!(both[..2], [pid, me]);
        assert!(!both[2..].contains(&pid));
        assert!(measure(pid).is_ok());
        child.kill().unwrap();
        while measure(pid).is_ok() {
            std::thread::yield_now();
        }
        assert_eq!(measure(pid), Err(Unreadable::Zombie));
        assert!(families(&[me]).contains(&pid));
        child.wait().unwrap();
        assert_eq!(measure(pid), Err(Unreadable::Gone));
        assert!(families(&[pid]).is_empty() && title(pid).is_none());
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(measure(u32::MAX), Err(Unreadable::Gone));
        assert!(families(&[u32::MAX]).is_empty());
    }

    #[test]
    fn a_torn_rollup_is_nothing() {
        assert_eq!(parse("Rss: 12 kB\nPss: x kB\n"), None);
    }
}
