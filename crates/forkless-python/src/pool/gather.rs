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
    /// Until it has its outcome: it may know this object, and neither would ever be freed.
    future: Mutex<Option<Py<BaseFuture>>>,
}

#[pymethods]
impl Gather {
    #[new]
    fn new(py: Python<'_>, total: usize, future: Py<BaseFuture>) -> PyResult<Self> {
        let values = PyList::new(py, (0..total).map(|_| py.None()))?.unbind();
        Ok(Self { values, left: AtomicUsize::new(total), error: Mutex::default(), future: Mutex::new(Some(future)) })
    }

    /// How many items there are no results for yet.
    #[getter]
    fn left(&self) -> usize {
        self.left.load(Ordering::Acquire)
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
        let py = slf.py();
        let future = this.future.lock().unwrap_or_else(PoisonError::into_inner).take();
        let error = this.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(future) = future else { return Ok(()) };
        match error {
            Some(error) => BaseFuture::complete(future.bind(py), false, error.into_bound(py)),
            None => BaseFuture::complete(future.bind(py), true, this.values.bind(py).clone().into_any()),
        }
    }
}
