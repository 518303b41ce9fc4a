//! The process tree, as it is now.

use forkless_shm::Arena;
use forkless_sys::{crash, proc, process};
use pyo3::exceptions::PyProcessLookupError;
use pyo3::prelude::*;

use crate::errors::OrRaise;

/// Counts the ends of this process's children.
#[pyfunction]
pub(crate) fn child_events(py: Python<'_>) -> PyResult<u32> {
    let Some(arena) = Arena::home() else { return Ok(0) };
    let me = arena.me().or_raise(py)?;
    Ok(arena.child_events(me).map_or(0, |word| word.load(forkless_sys::atomic::Ordering::Acquire)))
}

/// Forgets what this process had claimed: it is done.
#[pyfunction]
pub(crate) fn unclaim(py: Python<'_>) -> PyResult<()> {
    Arena::home().map_or(Ok(()), Arena::unclaim).or_raise(py)
}

/// Threads of this process, native ones included; 0 without `/proc`.
#[pyfunction]
pub(crate) fn thread_count() -> usize {
    proc::thread_count().unwrap_or(0)
}

/// (pid, name, role) of every process of the tree.
#[pyfunction]
pub(crate) fn processes() -> Vec<(u32, String, &'static str)> {
    let Some(arena) = Arena::home() else {
        return vec![(process::id(), "MainProcess".to_owned(), "main")];
    };
    let live = arena.processes().into_iter().filter(|process| process.live && !arena.is_dead(process.owner));
    live.map(|process| (process.pid, process.name, process.role.name())).collect()
}

/// Bytes of (RSS, PSS, USS, private dirty) of one process.
#[pyfunction]
pub(crate) fn memory(py: Python<'_>, pid: u32) -> PyResult<(u64, u64, u64, u64)> {
    let memory = py.detach(|| proc::memory(pid)).ok_or_else(|| {
        PyProcessLookupError::new_err(format!("process {pid} is gone, or its memory is not ours to read"))
    })?;
    Ok((memory.rss, memory.pss, memory.uss, memory.private_dirty))
}

/// For fault tests: has this process killed at the `passes`-th pass through a named point. False in release builds.
#[pyfunction]
#[pyo3(signature = (name, passes = 1))]
pub(crate) fn arm_crash_point(name: &str, passes: u32) -> bool {
    crash::arm(name, passes)
}
