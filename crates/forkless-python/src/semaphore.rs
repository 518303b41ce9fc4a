//! `forkless.Semaphore` and `forkless.BoundedSemaphore`.

use std::time::Duration;

use forkless_shm::{Attempt, Error, Wait, Waited};
use forkless_sync::Released;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::shared::{Shared, belongs_to_none, home};
use crate::wait;

type Core = forkless_sync::Semaphore;

/// A counter between processes: `acquire` takes one and waits while there is none, `release` adds one.
///
/// Works in any process of the tree however it was started, and travels through arguments, queues, pipes and pool tasks
/// at any time. What a process has taken by `with` is given back when it dies; what it took by `acquire` is not,
/// because another process may be meant to release it, as between a producer and a consumer.
///
/// Args:
///     value: what it counts at first.
#[pyclass(extends = Shared, subclass, frozen, module = "forkless")]
pub(crate) struct Semaphore {
    pub(crate) semaphore: Core,
}

/// A semaphore that `release` never takes above its first value.
///
/// Args:
///     value: what it counts at first, and at most.
#[pyclass(extends = Semaphore, frozen, module = "forkless")]
pub(crate) struct BoundedSemaphore;

fn parts(semaphore: Core) -> PyClassInitializer<Semaphore> {
    PyClassInitializer::from(Shared).add_subclass(Semaphore { semaphore })
}

/// Of the class that it was made as.
pub(crate) fn wrap(py: Python<'_>, semaphore: Core) -> PyResult<Py<PyAny>> {
    if semaphore.max().or_raise(py)? == Core::MAX_VALUE {
        return Ok(Py::new(py, parts(semaphore))?.into_any());
    }
    Ok(Py::new(py, parts(semaphore).add_subclass(BoundedSemaphore))?.into_any())
}

/// A way to take a token: one that is free, any that there is, or after a sleep.
struct Taking {
    free: fn(&Core) -> Result<bool, Error>,
    any: fn(&Core) -> Result<bool, Error>,
    within: fn(&Core, &mut Wait, Duration) -> Result<Attempt, Error>,
}

/// For good.
static ACQUIRING: Taking = Taking { free: Core::acquire_free, any: Core::try_acquire, within: Core::acquire_within };
/// Until this process gives it back, or dies.
static HOLDING: Taking = Taking { free: Core::hold_free, any: Core::try_hold, within: Core::hold_within };

fn checked(value: i64) -> PyResult<u32> {
    let checked = u32::try_from(value).ok().filter(|value| *value <= Core::MAX_VALUE);
    checked.ok_or_else(|| {
        PyValueError::new_err(format!("a semaphore's value is at least 0 and at most {}, not {value}", Core::MAX_VALUE))
    })
}

impl Semaphore {
    /// First without releasing the interpreter: most have not to wait.
    fn take(&self, py: Python<'_>, block: bool, timeout: Option<f64>, taking: &Taking) -> PyResult<bool> {
        if (taking.free)(&self.semaphore).or_raise(py)? {
            return Ok(true);
        }
        let deadline = wait::deadline(block, timeout)?;
        if deadline.passed() {
            return (taking.any)(&self.semaphore).or_raise(py);
        }
        let semaphore = &self.semaphore;
        let mut wait = Wait::new();
        let _note = semaphore.lease().note_wait(Waited::Semaphore);
        let taken = wait::until(py, deadline, |bound| {
            let attempt = (taking.within)(semaphore, &mut wait, bound)?;
            Ok::<_, Error>(matches!(attempt, Attempt::Acquired(_)).then_some(()))
        })?;
        Ok(taken.is_some())
    }

    fn given(released: Released) -> PyResult<()> {
        match released {
            Released::Released => Ok(()),
            Released::TooMany => Err(PyValueError::new_err("semaphore or lock released too many times")),
        }
    }
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (value = 1, *, ctx = None))]
    fn new(py: Python<'_>, value: i64, ctx: Option<Bound<'_, PyAny>>) -> PyResult<PyClassInitializer<Self>> {
        belongs_to_none(ctx);
        let value = checked(value)?;
        Ok(parts(Core::create(home(py)?, value, Core::MAX_VALUE).or_raise(py)?))
    }

    /// Takes one, waiting for it up to `timeout` seconds (None: as long as it takes).
    ///
    /// Returns:
    ///     Whether there was one.
    #[pyo3(signature = (block = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        self.take(py, block, timeout, &ACQUIRING)
    }

    /// Adds one and wakes one waiter.
    ///
    /// Raises:
    ///     ValueError: It counts as many as it may already.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        Self::given(self.semaphore.release().or_raise(py)?)
    }

    /// What it counts now.
    fn get_value(&self, py: Python<'_>) -> PyResult<u32> {
        self.semaphore.value().or_raise(py)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.take(py, true, None, &HOLDING)
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
        Self::given(self.semaphore.release_held().or_raise(py)?)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Semaphore(value={})>", self.get_value(py)?))
    }
}

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (value = 1, *, ctx = None))]
    fn new(py: Python<'_>, value: i64, ctx: Option<Bound<'_, PyAny>>) -> PyResult<PyClassInitializer<Self>> {
        belongs_to_none(ctx);
        let value = checked(value)?;
        Ok(parts(Core::create(home(py)?, value, value).or_raise(py)?).add_subclass(Self))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let semaphore = &slf.as_super().get().semaphore;
        let (value, max) = (semaphore.value().or_raise(slf.py())?, semaphore.max().or_raise(slf.py())?);
        Ok(format!("<BoundedSemaphore(value={value}, maxvalue={max})>"))
    }
}
