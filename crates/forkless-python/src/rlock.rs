//! `forkless.RLock`.

use forkless_sync::ReentrantMutex;
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::errors::OrRaise;
use crate::recovery::{self, Recovery, origin};
use crate::shared::{Reduced, Shared, belongs_to_none, home, reduce};

/// A lock between processes that the thread which holds it may take again, and that survives its owner.
///
/// It is free once it was released as often as it was acquired, by the thread that holds it and by no other. Works in any
/// process of the tree however it was started, and travels through arguments, queues, pipes and pool tasks at
/// any time.
///
/// If a process dies while it holds the lock, the next `acquire` raises `OwnerDied` once, or calls `recover`, as for
/// `Lock`.
///
/// Args:
///     recover: repairs what the lock protects; see `Lock`.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct RLock {
    pub(crate) mutex: ReentrantMutex,
    recovery: Recovery,
}

impl RLock {
    fn parts(mutex: ReentrantMutex, recovery: Recovery) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { mutex, recovery })
    }

    pub(crate) fn wrap(
        py: Python<'_>,
        mutex: ReentrantMutex,
        recover: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(mutex, Recovery::new(recover)?))?.into_any())
    }

    /// A new one, for a condition that was given none.
    pub(crate) fn create(py: Python<'_>) -> PyResult<Py<Self>> {
        let mutex = ReentrantMutex::create_at(home(py)?, &origin(py)).or_raise(py)?;
        Py::new(py, Self::parts(mutex, Recovery::new(None)?))
    }

    pub(crate) fn mutex(&self) -> &ReentrantMutex {
        &self.mutex
    }

    pub(crate) fn recovery(&self) -> &Recovery {
        &self.recovery
    }
}

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*, recover = None, ctx = None))]
    fn new(
        py: Python<'_>,
        recover: Option<Bound<'_, PyAny>>,
        ctx: Option<Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        belongs_to_none(ctx);
        let recovery = Recovery::new(recover)?;
        Ok(Self::parts(ReentrantMutex::create_at(home(py)?, &origin(py)).or_raise(py)?, recovery))
    }

    /// As for every shared object, with what its class keeps beside.
    #[pyo3(name = "_reduce")]
    fn reduce<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf.as_super(), slf.get().recovery.function(slf.py()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.recovery.traverse(&visit)
    }

    /// Takes the lock, waiting for it up to `timeout` seconds (None: as long as it takes); once more if this thread holds
    /// it.
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

    /// Gives the lock back once.
    ///
    /// Raises:
    ///     AssertionError: This thread does not hold it.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if self.mutex.release().or_raise(py)? {
            return Ok(());
        }
        Err(PyAssertionError::new_err("attempt to release recursive lock not owned by thread"))
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
        let count = self.mutex.count().or_raise(py)?;
        Ok(match self.mutex.holder().or_raise(py)? {
            None => "<RLock(owner=None, count=0)>".to_owned(),
            Some(owner) => match arena.process(owner) {
                Some(process) => format!("<RLock(owner={}, pid={}, count={count})>", process.name, process.pid),
                None => "<RLock(owner=a dead process)>".to_owned(),
            },
        })
    }
}
