//! Every wait of the module.

use std::time::Duration;

use forkless_shm::{WaitNote, Waited};
use forkless_sys::time::{Deadline, SLICE};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::shared::home;

/// The moment at which a wait with these arguments gives up. Negative timeouts mean zero, as in the standard library.
pub(crate) fn deadline(block: bool, timeout: Option<f64>) -> PyResult<Deadline> {
    match timeout {
        _ if !block => Ok(Deadline::after(Duration::ZERO)),
        None => Ok(Deadline::NEVER),
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err("timeout is not a number")),
        Some(seconds) if seconds <= 0.0 => Ok(Deadline::after(Duration::ZERO)),
        Some(seconds) => match Duration::try_from_secs_f64(seconds) {
            Ok(timeout) => Ok(Deadline::after(timeout)),
            Err(_) if seconds.is_infinite() => Ok(Deadline::NEVER),
            Err(_) => Err(PyOverflowError::new_err("timeout is too large")),
        },
    }
}

/// Notes that the calling thread waits for something that is no object of shared memory: for what this process does, 0 if
/// there is no such process.
pub(crate) fn note(py: Python<'_>, waited: Waited, pid: u32) -> Option<WaitNote> {
    home(py).ok()?.note_wait(waited, pid)
}

/// Repeats `step`, a sleep of at most the duration it is given, until it has a value or the deadline passes. The last step
/// begins after the deadline, and does not sleep: this process may have been stopped until then, and what it waits for be
/// there. The interpreter is released during each step; between steps signal handlers run, and what they raise ends the wait.
pub(crate) fn until<T, E>(
    py: Python<'_>,
    deadline: Deadline,
    mut step: impl FnMut(Duration) -> Result<Option<T>, E> + Send,
) -> PyResult<Option<T>>
where
    T: Send,
    E: Send,
    Result<Option<T>, E>: OrRaise<Option<T>>,
{
    loop {
        let bound = deadline.remaining(SLICE);
        if let Some(value) = py.detach(|| step(bound)).or_raise(py)? {
            return Ok(Some(value));
        }
        py.check_signals()?;
        if bound.is_zero() {
            return Ok(None);
        }
    }
}
