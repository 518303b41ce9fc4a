//! The process tree, as it is now.

use forkless_shm::Arena;
use forkless_sys::attributes::Attributes;
use forkless_sys::{crash, proc, process};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::OrRaise;
use crate::shared::home;

/// Counts the ends of this process's children.
#[pyfunction]
pub(crate) fn child_events(py: Python<'_>) -> PyResult<u32> {
    let Some(arena) = Arena::home() else { return Ok(0) };
    let me = arena.me().or_raise(py)?;
    Ok(arena.child_events(me).map_or(0, |word| word.load(forkless_sys::atomic::Ordering::Acquire)))
}

/// Gives back to the system the memory that C and Rust have freed.
#[pyfunction]
pub(crate) fn trim_heap(py: Python<'_>) {
    py.detach(forkless_sys::heap::trim);
}

/// Threads of this process, native ones included; 0 without `/proc`.
#[pyfunction]
pub(crate) fn thread_count() -> usize {
    proc::thread_count().unwrap_or(0)
}

/// What the system keeps for this process and a fork would have copied: file mode mask, signal mask, niceness,
/// affinity, limits.
#[pyfunction]
pub(crate) fn attributes(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &Attributes::here().to_bytes())
}

/// Whether a child that this process forks has these attributes without doing anything.
#[pyfunction]
pub(crate) fn has_attributes(attributes: &[u8]) -> bool {
    Attributes::from_bytes(attributes).is_some_and(|attributes| attributes.are_inherited())
}

/// From now on SIGINT arrives; what has come while it was blocked was for others.
#[pyfunction]
pub(crate) fn accept_interrupts() {
    process::accept_interrupts();
}

/// From now on SIGINT has no effect, whatever Python's table of handlers says: for a process that is about to end.
#[pyfunction]
pub(crate) fn ignore_interrupts() {
    process::ignore_interrupts();
}

/// Takes over another process's `attributes()`.
#[pyfunction]
pub(crate) fn adopt_attributes(attributes: &[u8]) -> PyResult<()> {
    let attributes =
        Attributes::from_bytes(attributes).ok_or_else(|| PyValueError::new_err("these are no attributes"))?;
    attributes.adopt().map_err(|refused| PyOSError::new_err((refused.errno.raw_os_error(), refused.to_string())))
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

/// (blocks, leases) in the arena, counted one by one; also checks that all of it fits together.
#[pyfunction]
pub(crate) fn census(py: Python<'_>) -> PyResult<(usize, usize)> {
    let Some(arena) = Arena::home() else { return Ok((0, 0)) };
    let statistics = py.detach(|| arena.statistics()).or_raise(py)?;
    Ok((statistics.blocks, statistics.leases))
}

/// Sets how many bytes of pages the free blocks of the arena keep at most, and gives back what is more.
#[pyfunction]
pub(crate) fn set_warm_memory(py: Python<'_>, bytes: u64) -> PyResult<()> {
    let arena = home(py)?;
    py.detach(|| arena.set_warm_limit(bytes)).or_raise(py)
}

/// Gives back all pages of free blocks; how many bytes that were.
#[pyfunction]
pub(crate) fn trim_memory(py: Python<'_>) -> PyResult<u64> {
    Arena::home().map_or(Ok(0), |arena| py.detach(|| arena.trim(0)).or_raise(py))
}

/// Bytes of pages that free blocks keep now.
#[pyfunction]
pub(crate) fn warm_memory(py: Python<'_>) -> PyResult<usize> {
    Arena::home().map_or(Ok(0), |arena| Ok(py.detach(|| arena.statistics()).or_raise(py)?.warm))
}

/// For fault tests: has this process killed at the `passes`-th pass through a named point, or with `halt` stopped until
/// SIGCONT. False in release builds.
#[pyfunction]
#[pyo3(signature = (name, passes = 1, *, halt = false))]
pub(crate) fn arm_crash_point(name: &str, passes: u32, halt: bool) -> bool {
    if halt { crash::arm_halt(name, passes) } else { crash::arm(name, passes) }
}
