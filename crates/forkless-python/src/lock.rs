//! `forkless.Lock`.

use std::sync::Arc;

use forkless_shm::{Acquired, Attempt};
use forkless_sync::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::{self, OrRaise};
use crate::shared::{Shared, home};
use crate::wait;

/// A non-recursive lock between processes that survives its owner.
///
/// Works in any process of the tree however it was started, and travels through arguments, queues, pipes and pool tasks
/// at any time. Released by any process or thread, as `multiprocessing.Lock` is.
///
/// If a process dies while it holds the lock, the next `acquire` raises `OwnerDied` once, within 100 ms, without
/// holding the lock; then the lock works as before.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct Lock {
    mutex: Arc<Mutex>,
}

impl Lock {
    fn parts(mutex: Mutex) -> PyClassInitializer<Self> {
        let mutex = Arc::new(mutex);
        PyClassInitializer::from(Shared::new(Arc::clone(&mutex) as _)).add_subclass(Self { mutex })
    }

    pub(crate) fn wrap(py: Python<'_>, mutex: Mutex) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(mutex))?.into_any())
    }

    /// Held now, unless it was taken from the dead: then free again, and the exception that says so.
    fn taken(&self, py: Python<'_>, acquired: Acquired) -> PyResult<bool> {
        match acquired {
            Acquired::Clean => Ok(true),
            Acquired::FromTheDead(owner) => {
                self.mutex.release().or_raise(py)?;
                Err(errors::owner_died(py, self.mutex.lease().arena(), owner))
            }
        }
    }
}

#[pymethods]
impl Lock {
    #[new]
    fn new(py: Python<'_>) -> PyResult<PyClassInitializer<Self>> {
        Ok(Self::parts(Mutex::create(home(py)?).or_raise(py)?))
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
        if let Some(acquired) = self.mutex.try_acquire().or_raise(py)? {
            return self.taken(py, acquired);
        }
        let deadline = wait::deadline(block, timeout)?;
        if deadline.passed() {
            return Ok(false);
        }
        let acquired = wait::until(py, deadline, |bound| {
            Ok::<_, forkless_shm::Error>(match self.mutex.acquire_within(bound)? {
                Attempt::Acquired(acquired) => Some(acquired),
                Attempt::Again | Attempt::Interrupted => None,
            })
        })?;
        acquired.map_or(Ok(false), |acquired| self.taken(py, acquired))
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
