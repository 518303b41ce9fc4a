//! `Arrivals`: the results of an `imap`, between the pool that brings them and the iterator that gives them out.
//!
//! A *part* is a task: one item of the input, or several. What counts for backpressure are the parts that were submitted
//! and not taken out yet: results that nobody takes make nobody read more input.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use forkless_shm::Waited;
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::future;
use super::worker::Blocked;
use crate::wait;

/// Results on their way to an iterator.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct Arrivals {
    ordered: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// To be given out next.
    ready: VecDeque<Arrival>,
    /// Parts that came before their predecessors.
    parked: BTreeMap<u64, Vec<Arrival>>,
    /// The part that is to be given out next.
    next: u64,
    /// Parts submitted.
    submitted: u64,
    /// Parts of which the last item was taken.
    taken: u64,
    /// No more will be submitted.
    ended: bool,
    /// Nobody takes any more.
    abandoned: bool,
}

struct Arrival {
    done: bool,
    value: Py<PyAny>,
    /// The last one of its part.
    last: bool,
}

#[pymethods]
impl Arrivals {
    /// `ordered`: given out in the order of the input.
    #[new]
    fn new(ordered: bool) -> Self {
        Self { ordered, state: Mutex::default() }
    }

    /// Another part is submitted; its number.
    #[pyo3(name = "expect")]
    fn expect_one(&self) -> u64 {
        self.expect()
    }

    /// A part is there. `chunk`: its value is a list of results.
    #[pyo3(name = "put")]
    fn put_one(&self, part: u64, chunk: bool, done: bool, value: Bound<'_, PyAny>) -> PyResult<()> {
        let put = self.put(part, chunk, done, value);
        future::ring();
        put
    }

    /// Parts that were submitted and not taken out.
    #[getter]
    fn outstanding(&self) -> u64 {
        let state = self.state();
        state.submitted - state.taken
    }

    /// Whether the next result is there.
    #[getter(is_ready)]
    fn ready(&self) -> bool {
        !self.state().ready.is_empty()
    }

    /// No more parts will be submitted.
    fn end(&self) {
        self.state().ended = true;
        future::ring();
    }

    /// Nobody will take anything any more.
    fn abandon(&self) {
        let dropped = {
            let mut state = self.state();
            state.abandoned = true;
            state.taken += state.ready.iter().filter(|arrival| arrival.last).count() as u64;
            state.taken += state.parked.len() as u64;
            (std::mem::take(&mut state.ready), std::mem::take(&mut state.parked))
        };
        drop(dropped);
    }

    /// The next result: (True, value) or (False, exception). None: it was not there after `timeout` seconds.
    ///
    /// Raises:
    ///     StopIteration: There are no more.
    #[pyo3(signature = (timeout = None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<(bool, Py<PyAny>)>> {
        match self.pop() {
            Popped::Arrival(arrival) => return Ok(Some((arrival.done, arrival.value))),
            Popped::End => return Err(PyStopIteration::new_err(())),
            Popped::Nothing => {}
        }
        let deadline = wait::deadline(true, timeout)?;
        let _blocked = Blocked::enter(py);
        let _note = wait::note(py, Waited::Result, 0);
        let found = wait::until(py, deadline, |bound| {
            future::sleep(|| self.is_ready(), bound);
            Ok::<_, forkless_shm::Error>(match self.pop() {
                Popped::Arrival(arrival) => Some(Some((arrival.done, arrival.value))),
                Popped::End => Some(None),
                Popped::Nothing => None,
            })
        })?;
        match found {
            None => Ok(None),
            Some(None) => Err(PyStopIteration::new_err(())),
            Some(found) => Ok(found),
        }
    }
}

enum Popped {
    Arrival(Arrival),
    Nothing,
    End,
}

impl Arrivals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another part is submitted; its number.
    pub(crate) fn expect(&self) -> u64 {
        let mut state = self.state();
        state.submitted += 1;
        state.submitted - 1
    }

    /// A part is there. `chunk`: its value is a list of results.
    pub(crate) fn put(&self, part: u64, chunk: bool, done: bool, value: Bound<'_, PyAny>) -> PyResult<()> {
        let mut arrivals = Vec::new();
        if done && chunk {
            let values =
                value.cast_into::<PyList>().map_err(|_| PyTypeError::new_err("a part is a list of results"))?;
            let last = values.len().saturating_sub(1);
            arrivals.extend(values.iter().enumerate().map(|(index, value)| Arrival {
                done,
                value: value.unbind(),
                last: index == last,
            }));
        } else {
            arrivals.push(Arrival { done, value: value.unbind(), last: true });
        }
        let dropped = {
            let mut state = self.state();
            if state.abandoned {
                state.taken += 1;
                arrivals
            } else {
                state.add(self.ordered, part, arrivals);
                Vec::new()
            }
        };
        drop(dropped);
        Ok(())
    }

    fn pop(&self) -> Popped {
        let mut state = self.state();
        match state.ready.pop_front() {
            Some(arrival) => {
                state.taken += u64::from(arrival.last);
                Popped::Arrival(arrival)
            }
            None if state.ended && state.taken == state.submitted => Popped::End,
            None => Popped::Nothing,
        }
    }

    fn is_ready(&self) -> bool {
        let state = self.state();
        !state.ready.is_empty() || state.ended && state.taken == state.submitted
    }
}

impl State {
    fn add(&mut self, ordered: bool, part: u64, arrivals: Vec<Arrival>) {
        if ordered && part != self.next {
            self.parked.insert(part, arrivals);
            return;
        }
        self.ready.extend(arrivals);
        self.next += 1;
        while let Some(arrivals) = self.parked.remove(&self.next) {
            self.ready.extend(arrivals);
            self.next += 1;
        }
    }
}
