//! What memory reports are made of: processes, and arenas seen from outside.

use std::time::Duration;

use forkless_ipc::{Buffer, Channel, Deposit, KINDS, Memory, Parcel, Segment};
use forkless_shm::Survey;
use forkless_shm::arena::FILE_NAME;
use forkless_shm::block::{LEASE, PLAIN};
use forkless_shm::survey::Surveyed;
use forkless_sync::{Barrier, Condvar, Event, Mutex, ReentrantMutex, Semaphore, ValueMutex};
use forkless_sys::footprint::{self, Unreadable};
use forkless_sys::memory::MemoryFile;
use forkless_sys::proc;
use pyo3::exceptions::{PyOSError, PyPermissionError, PyProcessLookupError};
use pyo3::prelude::*;

/// Bytes of (RSS, PSS, USS, private dirty, shared, swap, saved) of one process.
///
/// Raises:
///     ProcessLookupError: It is gone, or has no memory any more.
///     PermissionError: It is not ours to look at.
#[pyfunction]
pub(crate) fn memory(py: Python<'_>, pid: u32) -> PyResult<(u64, u64, u64, u64, u64, u64, u64)> {
    let it = py.detach(|| footprint::measure(pid)).map_err(|error| {
        let message = format!("process {pid}: {error}");
        match error {
            Unreadable::Gone | Unreadable::Zombie => PyProcessLookupError::new_err(message),
            Unreadable::Denied => PyPermissionError::new_err(message),
            Unreadable::System(errno) => PyOSError::new_err((errno.raw_os_error(), message)),
        }
    })?;
    let saved = it.anonymous.saturating_sub(it.proportional_anonymous);
    Ok((it.rss, it.pss, it.uss, it.private_dirty, it.shared, it.swap, saved))
}

/// (pid, command line) of these processes and all that descend from them, each once, parents first; nothing of one that is
/// not there.
#[pyfunction]
pub(crate) fn families(py: Python<'_>, roots: Vec<u32>) -> Vec<(u32, String)> {
    py.detach(|| {
        let found = footprint::families(&roots).into_iter();
        found.map(|pid| (pid, footprint::title(pid).unwrap_or_else(|| "?".to_owned()))).collect()
    })
}

/// (kind, blocks, bytes) of objects of one kind in an arena.
type Kind = (&'static str, u64, u64);
/// (pid, name, role, whether it lives, leases, bytes, bytes of those that others hold too) of a process with a place in
/// an arena.
type Holder = (u32, String, &'static str, bool, usize, u64, u64);
/// (id, bytes, whether all of it could be read, bytes that processes hold, bytes that several hold, kinds, holders).
type Arena = (u64, u64, bool, u64, u64, Vec<Kind>, Vec<Holder>);

/// The arenas that these processes have open, each once, and why some could not be read. Takes no lock and no place in them,
/// and waits at most so many seconds for changes that somebody is making.
#[pyfunction]
pub(crate) fn arenas(py: Python<'_>, pids: Vec<u32>, patience: f64) -> (Vec<Arena>, Vec<String>) {
    let patience = Duration::try_from_secs_f64(patience).unwrap_or_default();
    py.detach(|| {
        let (mut known, mut found, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for pid in pids {
            // Who may not look at a process's files may not look at its memory either, and is told that.
            for (identity, file) in MemoryFile::of_process(pid, FILE_NAME, &known).unwrap_or_default() {
                known.push(identity);
                match Survey::read(&file, patience) {
                    Ok(survey) => found.push(summary(&survey)),
                    Err(error) => refused.push(format!("the shared memory of process {pid} cannot be read: {error}")),
                }
            }
        }
        (found, refused)
    })
}

fn summary(survey: &Survey) -> Arena {
    let bytes = |block: &Surveyed| block.pages as u64;
    let total = |least: u32| survey.blocks.iter().filter(|block| block.holders >= least).map(bytes).sum();
    // The slot of a process that has ended stays until somebody has asked how.
    let holders = survey.holders.iter().filter(|holder| holder.process.live || holder.leases > 0);
    let holders = holders.map(|holder| {
        let blocks = || holder.blocks.iter().filter_map(|&index| survey.blocks.get(index));
        let process = &holder.process;
        let all = blocks().map(bytes).sum();
        let shared = blocks().filter(|block| block.holders > 1).map(bytes).sum();
        // Its slot does not know yet that it was killed a moment ago.
        let lives = process.live && !proc::is_gone(process.pid, 0);
        (process.pid, process.name.clone(), process.role.name(), lives, holder.leases, all, shared)
    });
    (survey.id, survey.pages, survey.is_whole, total(1), total(2), kinds(survey), holders.collect())
}

/// What there is of each kind, largest first.
fn kinds(survey: &Survey) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for block in &survey.blocks {
        let (name, bytes) = (kind(block), block.pages as u64);
        match kinds.iter_mut().find(|kind| kind.0 == name) {
            Some(kind) => *kind = (name, kind.1 + 1, kind.2 + bytes),
            None => kinds.push((name, 1, bytes)),
        }
    }
    let in_blocks: u64 = kinds.iter().map(|kind| kind.2).sum();
    // The header, the slots, last words, and what pages round up to.
    kinds.push(("tables", 0, survey.pages.saturating_sub(in_blocks)));
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.2));
    kinds
}

/// The size of a channel's chunks.
const CHUNK: usize = 64 << 10;

/// What users know a block as.
fn kind(block: &Surveyed) -> &'static str {
    let Some(kind) = block.kind else {
        return if block.size < CHUNK { "free" } else { "kept warm" };
    };
    match kind {
        Buffer::KIND => "shared objects",
        Memory::KIND => "arrays and values",
        Segment::KIND => "named segments",
        Parcel::KIND if block.holders == 0 => "messages on their way",
        Parcel::KIND => "messages in use",
        Channel::KIND => "queues",
        PLAIN if block.size == CHUNK => "queues",
        PLAIN => "in the making",
        LEASE | Deposit::KIND => "bookkeeping",
        Mutex::KIND | ReentrantMutex::KIND | Event::KIND | Semaphore::KIND | Condvar::KIND | Barrier::KIND => "locks",
        ValueMutex::KIND => "locks",
        _ if KINDS.iter().any(|known| known.id == kind && known.private) => "bookkeeping",
        _ => "other",
    }
}
