//! `Gather`: the results of a `map`, put in their places as they come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::future::BaseFuture;

/// Where the results of many tasks go. When all are there, they are the outcome of one future: a list, or the error that
/// came first.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct Gather {
    values: Py<PyList>,
    left: AtomicUsize,
    error: Mutex<Option<Py<PyAny>>>,
    future: Py<BaseFuture>,
}

#[pymethods]
impl Gather {
    #[new]
    fn new(py: Python<'_>, total: usize, future: Py<BaseFuture>) -> PyResult<Self> {
        let values = PyList::new(py, (0..total).map(|_| py.None()))?.unbind();
        Ok(Self { values, left: AtomicUsize::new(total), error: Mutex::default(), future })
    }

    /// How many items there are no results for yet.
    #[getter]
    fn left(&self) -> usize {
        self.left.load(Ordering::Acquire)
    }

    /// The error that came first; None as long as there is none.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|error| error.clone_ref(py))
    }

    /// So many items from `start` on are done: `value` is a list of results, or an exception.
    fn put_chunk(
        slf: &Bound<'_, Self>,
        start: usize,
        count: usize,
        done: bool,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if !done {
            return Self::fail(slf, count, value);
        }
        let values = slf.get().values.bind(slf.py());
        values.set_slice(start, start + count, &value)?;
        Self::count(slf, count)
    }
}

impl Gather {
    /// The result of one item.
    pub(crate) fn put(slf: &Bound<'_, Self>, index: usize, done: bool, value: Bound<'_, PyAny>) -> PyResult<()> {
        if !done {
            return Self::fail(slf, 1, value);
        }
        slf.get().values.bind(slf.py()).set_item(index, value)?;
        Self::count(slf, 1)
    }

    fn fail(slf: &Bound<'_, Self>, count: usize, error: Bound<'_, PyAny>) -> PyResult<()> {
        let late = {
            let mut first = slf.get().error.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_none() {
                *first = Some(error.unbind());
                None
            } else {
                Some(error)
            }
        };
        drop(late);
        Self::count(slf, count)
    }

    fn count(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        let this = slf.get();
        if this.left.fetch_sub(count, Ordering::AcqRel) != count {
            return Ok(());
        }
        let future = this.future.bind(slf.py());
        match this.error(slf.py()) {
            Some(error) => BaseFuture::complete(future, false, error.into_bound(slf.py())),
            None => BaseFuture::complete(future, true, this.values.bind(slf.py()).clone().into_any()),
        }
    }
}
