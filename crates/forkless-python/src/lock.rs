//! `forkless.Lock`.

use forkless_sync::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::errors::OrRaise;
use crate::recovery::{self, Recovery, origin};
use crate::shared::{Reduced, Shared, belongs_to_none, home, reduce};

/// A non-recursive lock between processes that survives its owner.
///
/// Works in any process of the tree however it was started, and travels through arguments, queues, pipes and pool tasks
/// at any time. Released by any process or thread, as `multiprocessing.Lock` is.
///
/// If a process dies while it holds the lock, the next `acquire` raises `OwnerDied` once, within 100 ms, without
/// holding the lock; then the lock works as before. With `recover`, that `acquire` takes the lock, calls
/// `recover(info)`, where `info` is the `OwnerDied` that would have been raised, and returns as if nothing had happened.
/// What `recover` raises is raised by `acquire`, which then does not hold the lock.
///
/// Args:
///     recover: repairs what the lock protects. Travels with the lock, so it must pickle where the lock is pickled;
///         the transports of forkless pickle any function.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct Lock {
    pub(crate) mutex: Mutex,
    recovery: Recovery,
}

impl Lock {
    fn parts(mutex: Mutex, recovery: Recovery) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { mutex, recovery })
    }

    pub(crate) fn wrap(py: Python<'_>, mutex: Mutex, recover: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(mutex, Recovery::new(recover)?))?.into_any())
    }

    pub(crate) fn mutex(&self) -> &Mutex {
        &self.mutex
    }

    pub(crate) fn recovery(&self) -> &Recovery {
        &self.recovery
    }
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (*, recover = None, ctx = None))]
    fn new(
        py: Python<'_>,
        recover: Option<Bound<'_, PyAny>>,
        ctx: Option<Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        belongs_to_none(ctx);
        let recovery = Recovery::new(recover)?;
        Ok(Self::parts(Mutex::create_at(home(py)?, &origin(py)).or_raise(py)?, recovery))
    }

    /// As for every shared object, with what its class keeps beside.
    #[pyo3(name = "_reduce")]
    fn reduce<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf.as_super(), slf.get().recovery.function(slf.py()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.recovery.traverse(&visit)
    }

    /// Takes the lock, waiting for it up to `timeout` seconds (None: as long as it takes).
    ///
    /// Returns:
    ///     Whether it was taken.
    ///
    /// Raises:
    ///     OwnerDied: The process that held it died; this call has not taken it.
    #[pyo3(signature = (block = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        recovery::acquire(py, &self.mutex, &self.recovery, block, timeout)
    }

    /// Gives the lock back.
    ///
    /// Raises:
    ///     ValueError: It was not held.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if self.mutex.release().or_raise(py)? {
            return Ok(());
        }
        Err(PyValueError::new_err("semaphore or lock released too many times"))
    }

    /// Whether somebody holds it.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.mutex.holder().or_raise(py)?.is_some())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
    }

    #[pyo3(signature = (kind, value, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (kind, value, traceback);
        self.release(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let arena = self.mutex.lease().arena();
        Ok(match self.mutex.holder().or_raise(py)? {
            None => "<Lock(owner=None)>".to_owned(),
            Some(owner) => match arena.process(owner) {
                Some(process) => format!("<Lock(owner={}, pid={})>", process.name, process.pid),
                None => "<Lock(owner=a dead process)>".to_owned(),
            },
        })
    }
}
