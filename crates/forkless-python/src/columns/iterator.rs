//! Iteration over items of any kind.

use pyo3::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::list::SharedList;

/// An iterator over a shared list.
#[pyclass(frozen, module = "forkless")]
pub(super) struct ListIterator {
    list: Py<SharedList>,
    next: AtomicUsize,
}

impl ListIterator {
    pub(super) fn over(list: Py<SharedList>) -> Self {
        Self { list, next: AtomicUsize::new(0) }
    }
}

#[pymethods]
impl ListIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let list = self.list.get();
        let count = list.length();
        // No other order is needed than that of the interpreter, which is held.
        let index = self.next.load(Ordering::Relaxed);
        if index >= count {
            return Ok(None);
        }
        self.next.store(index + 1, Ordering::Relaxed);
        list.item(py, list.column(py)?, index).map(Some)
    }

    fn __length_hint__(&self) -> usize {
        self.list.get().length().saturating_sub(self.next.load(Ordering::Relaxed))
    }
}
