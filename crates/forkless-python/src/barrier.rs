//! `forkless.Barrier`.

use std::time::Duration;

use forkless_shm::Waited;
use forkless_sync::{Arrival, Passage};
use forkless_sys::time::Deadline;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::errors::OrRaise;
use crate::shared::{Reduced, Shared, belongs_to_none, home, reduce};
use crate::wait;

type Core = forkless_sync::Barrier;

/// Lets processes pass a point together: `wait` returns once `parties` threads of any processes have called it.
///
/// Works in any process of the tree however it was started, and travels through arguments, queues, pipes and pool tasks
/// at any time. A process that dies while it waits breaks the barrier for the others within 100 ms.
///
/// Args:
///     parties: how many pass together.
///     action: called by one of them when all have arrived, before any passes. Travels with the barrier, so it
///         must pickle where the barrier is pickled.
///     timeout: seconds after which `wait` gives up, if it is not told otherwise; None for never.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct Barrier {
    pub(crate) barrier: Core,
    action: Option<Py<PyAny>>,
    timeout: Option<f64>,
}

fn broken(py: Python<'_>) -> PyErr {
    match py.import("threading").and_then(|module| module.getattr("BrokenBarrierError")?.call0()) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

impl Barrier {
    fn parts(barrier: Core, action: Option<Py<PyAny>>, timeout: Option<f64>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { barrier, action, timeout })
    }

    pub(crate) fn wrap(py: Python<'_>, barrier: Core, extra: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let (action, timeout) = extra.map_or(Ok((None, None)), |extra| extra.extract())?;
        Ok(Py::new(py, Self::parts(barrier, action, timeout))?.into_any())
    }

    /// In the generation that is open, or the next one if all of this have arrived.
    fn arrive(&self, py: Python<'_>) -> PyResult<Arrival> {
        let arrived = match self.barrier.arrive_within(Duration::ZERO).or_raise(py)? {
            Some(arrived) => Some(arrived),
            None => {
                let _note = self.barrier.lease().note_wait(Waited::Barrier);
                wait::until(py, Deadline::NEVER, |bound| self.barrier.arrive_within(bound))?
            }
        };
        match arrived {
            Some(Ok(arrival)) => Ok(arrival),
            Some(Err(_)) | None => Err(broken(py)),
        }
    }

    /// Of the last to arrive.
    fn complete(&self, py: Python<'_>, arrival: Arrival) -> PyResult<Passage> {
        if let Some(action) = &self.action
            && let Err(error) = action.call0(py)
        {
            self.barrier.give_up(arrival).or_raise(py)?;
            return Err(error);
        }
        self.barrier.pass(arrival).or_raise(py)
    }

    fn await_others(&self, py: Python<'_>, arrival: Arrival, deadline: Deadline) -> PyResult<Passage> {
        let _note = self.barrier.lease().note_wait(Waited::Barrier);
        match wait::until(py, deadline, |bound| self.barrier.wait_within(arrival, bound)) {
            Ok(Some(passage)) => Ok(passage),
            Ok(None) => self.barrier.give_up(arrival).or_raise(py),
            Err(error) => {
                self.barrier.withdraw(arrival).or_raise(py)?;
                Err(error)
            }
        }
    }
}

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (parties, action = None, timeout = None, *, ctx = None))]
    fn new(
        py: Python<'_>,
        parties: i64,
        action: Option<Bound<'_, PyAny>>,
        timeout: Option<f64>,
        ctx: Option<Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        belongs_to_none(ctx);
        let parties = u32::try_from(parties).ok().filter(|parties| (1..=1 << 20).contains(parties));
        let parties = parties.ok_or_else(|| PyValueError::new_err("parties must be at least 1 and at most 1048576"))?;
        if action.as_ref().is_some_and(|action| !action.is_callable()) {
            return Err(PyTypeError::new_err("action must be callable"));
        }
        wait::deadline(true, timeout)?;
        Ok(Self::parts(Core::create(home(py)?, parties).or_raise(py)?, action.map(Bound::unbind), timeout))
    }

    /// As for every shared object, with what its class keeps beside.
    #[pyo3(name = "_reduce")]
    fn reduce<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let (py, this) = (slf.py(), slf.get());
        let extra = (this.action.as_ref().map(|action| action.bind(py)), this.timeout);
        reduce(slf.as_super(), Some(extra.into_pyobject(py)?.into_any()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.action.iter().try_for_each(|action| visit.call(action))
    }

    /// Waits until all parties have arrived.
    ///
    /// Args:
    ///     timeout: seconds after which to give up, which breaks the barrier; None for that of the barrier.
    ///
    /// Returns:
    ///     How many had arrived before: a number from 0 to `parties - 1`, different for each.
    ///
    /// Raises:
    ///     threading.BrokenBarrierError: Another party died or gave up, `abort` or `reset` was called, or the time is over.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u32> {
        let deadline = wait::deadline(true, timeout.or(self.timeout))?;
        let arrival = self.arrive(py)?;
        let passage =
            if arrival.last { self.complete(py, arrival)? } else { self.await_others(py, arrival, deadline)? };
        match passage {
            Passage::Passed => Ok(arrival.index),
            Passage::Broken => Err(broken(py)),
        }
    }

    /// Breaks the barrier: whoever waits, or comes before `reset`, gets a BrokenBarrierError.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.barrier.abort().or_raise(py)
    }

    /// Makes it as new; whoever waits gets a BrokenBarrierError.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.barrier.reset().or_raise(py)
    }

    /// How many pass together.
    #[getter]
    fn parties(&self) -> u32 {
        self.barrier.parties()
    }

    /// How many wait now.
    #[getter]
    fn n_waiting(&self, py: Python<'_>) -> PyResult<u32> {
        self.barrier.waiting().or_raise(py)
    }

    /// Whether it is broken.
    #[getter]
    fn broken(&self, py: Python<'_>) -> PyResult<bool> {
        self.barrier.is_broken().or_raise(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = match (self.broken(py)?, self.n_waiting(py)?) {
            (true, _) => "broken".to_owned(),
            (false, waiting) => format!("{waiting}/{}", self.parties()),
        };
        Ok(format!("<Barrier({state})>"))
    }
}
