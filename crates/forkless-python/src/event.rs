//! `forkless.Event`.

use forkless_shm::Waited;
use forkless_sys::futex::Woken;
use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::shared::{Shared, belongs_to_none, home};
use crate::wait;

/// A flag that processes wait for. Works in any process of the tree however it was started, and travels through
/// arguments, queues, pipes and pool tasks at any time.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct Event {
    pub(crate) event: forkless_sync::Event,
}

impl Event {
    fn parts(event: forkless_sync::Event) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { event })
    }

    pub(crate) fn wrap(py: Python<'_>, event: forkless_sync::Event) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(event))?.into_any())
    }
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*, ctx = None))]
    fn new(py: Python<'_>, ctx: Option<Bound<'_, PyAny>>) -> PyResult<PyClassInitializer<Self>> {
        belongs_to_none(ctx);
        Ok(Self::parts(forkless_sync::Event::create(home(py)?).or_raise(py)?))
    }

    /// Whether it is set.
    fn is_set(&self, py: Python<'_>) -> PyResult<bool> {
        self.event.is_set().or_raise(py)
    }

    /// Sets it and wakes everyone who waits for it.
    fn set(&self, py: Python<'_>) -> PyResult<()> {
        self.event.set().or_raise(py)
    }

    /// Clears it.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.event.clear().or_raise(py)
    }

    /// Waits until it is set, up to `timeout` seconds (None: as long as it takes). A waiter sees a `set` that was
    /// cleared before it woke.
    ///
    /// Returns:
    ///     Whether it was set.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.event.is_set().or_raise(py)? {
            return Ok(true);
        }
        let deadline = wait::deadline(true, timeout)?;
        let ticket = self.event.ticket().or_raise(py)?;
        let _note = self.event.lease().note_wait(Waited::Event);
        let set = wait::until(py, deadline, |bound| {
            let woken = self.event.wait_within(ticket, bound)?;
            Ok::<_, forkless_shm::Error>(woken.filter(|woken| *woken == Woken::Look))
        })?;
        Ok(set.is_some())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = if self.is_set(py)? { "set" } else { "unset" };
        // The place in the arena, the same in every process.
        Ok(format!("<Event at {:#x} {state}>", self.event.lease().block().offset()))
    }
}
