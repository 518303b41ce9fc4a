//! Which addresses of this process are those of shared buffers.
//!
//! Libraries keep addresses, not our objects: a column of a table that was made of a `SharedBuffer` is a pointer and a
//! length. What is pickled out of band is looked up here, and where it lies within a buffer it travels as a reference to
//! that, whatever library made the view.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::buffer::SharedBuffer;

/// Buffers by where they begin. Each has a mapping of its own, so no two of them overlap. Only used by threads that are
/// attached to the interpreter, so no copy of the process is made while the lock is held.
static MAPPED: Mutex<BTreeMap<usize, Entry>> = Mutex::new(BTreeMap::new());

/// Where it ends, and which object it is.
type Entry = (usize, Py<PyWeakrefReference>);

fn mapped() -> MutexGuard<'static, BTreeMap<usize, Entry>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a buffer that is new in this process, weakly: it is forgotten when it dies.
pub(crate) fn note(shared: &Bound<'_, SharedBuffer>) -> PyResult<()> {
    let addresses = shared.get().addresses();
    if addresses.is_empty() {
        return Ok(());
    }
    let entry = (addresses.end, PyWeakrefReference::new(shared.as_any())?.unbind());
    let before = mapped().insert(addresses.start, entry);
    drop(before); // without the lock
    Ok(())
}

/// Forgets a buffer that dies.
pub(crate) fn forget(addresses: &Range<usize>) {
    if !addresses.is_empty() {
        let entry = mapped().remove(&addresses.start);
        drop(entry); // without the lock
    }
}

/// The shared buffer of this process that has these addresses, and where in it they begin.
///
/// Args:
///     address: As of `address_of`, or whatever a library says.
///     size: Bytes.
///
/// Returns:
///     None if they are not all in one buffer, or are none.
#[pyfunction]
pub(crate) fn find_shared(
    py: Python<'_>,
    address: usize,
    size: usize,
) -> PyResult<Option<(Bound<'_, SharedBuffer>, usize)>> {
    let found = mapped().range(..=address).next_back().map(|(start, (end, weak))| (*start, *end, weak.clone_ref(py)));
    let Some((start, end, weak)) = found else { return Ok(None) };
    if size == 0 || address.checked_add(size).is_none_or(|last| last > end) {
        return Ok(None);
    }
    let shared = weak.bind(py).upgrade_as::<SharedBuffer>()?;
    Ok(shared.map(|shared| (shared, address - start)))
}
