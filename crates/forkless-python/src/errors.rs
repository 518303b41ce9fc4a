//! Rust errors become Python exceptions here, and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forkless_shm::slot::End;
use forkless_shm::{Arena, Owner};
use forkless_sys::futex;
use forkless_sys::process::{ExitStatus, signal_name};
use forkless_sys::time::SLICE;
use pyo3::exceptions::{PyIndexError, PyOSError, PyValueError};
use pyo3::prelude::*;

/// An exception class of `forkless.exceptions`, imported when the first one is raised: most programs never need it.
pub(crate) fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
    let class = py.import("forkless.exceptions").and_then(|module| module.getattr(class));
    match class.and_then(|class| class.call1((message,))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// From an error of the arena.
pub(crate) fn arena(py: Python<'_>, error: &forkless_shm::Error) -> PyErr {
    use forkless_shm::Error;
    let message = error.to_string();
    match error {
        Error::Stale(_) => raise(py, "StaleHandle", message),
        Error::Full { .. } | Error::NoMemory { .. } => raise(py, "SharedMemoryFull", message),
        Error::Setting { .. } | Error::TooLarge { .. } => PyValueError::new_err(message),
        Error::System { errno, .. } => PyOSError::new_err((errno.raw_os_error(), message)),
        Error::NoSlot | Error::Corrupt(_) => raise(py, "ProcessError", message),
    }
}

/// From an error about processes.
pub(crate) fn process(py: Python<'_>, error: &forkless_process::Error) -> PyErr {
    use forkless_process::Error;
    match error {
        Error::Arena(inner) => arena(py, inner),
        Error::StillRunning { .. } => PyValueError::new_err(error.to_string()),
        _ => raise(py, "ProcessError", error.to_string()),
    }
}

/// From an error of columns in shared memory.
pub(crate) fn columns(py: Python<'_>, error: forkless_columns::Error) -> PyErr {
    match error {
        forkless_columns::Error::Absent(_) => PyIndexError::new_err("list index out of range"),
        _ => raise(py, "ProcessError", error.to_string()),
    }
}

/// The death of a lock's owner, as the next one finds it.
pub(crate) struct Death {
    pub(crate) arena: &'static Arena,
    pub(crate) owner: Owner,
    /// For how long it had been held.
    pub(crate) held_for: Duration,
    /// Where the lock was made, or nothing.
    pub(crate) origin: String,
}

/// What whoever is told of a death should know about the lock now.
pub(crate) const FREE_AGAIN: &str =
    "The lock is free again and this call has not taken it: check the data, then acquire again";
pub(crate) const HELD_AGAIN: &str = "This call holds the lock again: check the data before you go on";

/// The exception that tells of a death; also what recovery functions get.
pub(crate) fn owner_died(py: Python<'_>, death: &Death, state: &str) -> PyErr {
    let Death { arena, owner, held_for, origin } = death;
    let process = arena.last_known(*owner);
    let who = match &process {
        Some(process) => format!("{} (pid {})", process.name, process.pid),
        None => "a process of this tree".to_owned(),
    };
    // Whoever reaps it knows within a moment; the kernel has marked it before that.
    if let Some(word) = arena.end_word(*owner).filter(|_| arena.end(*owner).is_none()) {
        py.detach(|| futex::wait(word, 0, SLICE));
    }
    let (how, code) = match arena.end(*owner) {
        Some(End::Status(status @ ExitStatus::Signaled(signal))) => {
            (format!("killed by {}", signal_name(signal)), Some(status.code()))
        }
        Some(End::Status(status @ ExitStatus::Exited(code))) => (format!("exit code {code}"), Some(status.code())),
        _ => ("how is not known yet".to_owned(), None),
    };
    let made = if origin.is_empty() { String::new() } else { format!(", made at {origin}") };
    let message = format!(
        "{who} died while it held this lock{made} ({how}); what the lock protects may be half-written. {state}"
    );
    let since = SystemTime::now().checked_sub(*held_for).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let arguments = (
        message,
        process.as_ref().map(|process| process.pid),
        process.as_ref().map(|process| process.name.as_str()),
        code,
        since.map(|since| since.as_secs_f64()),
        Some(origin.as_str()).filter(|origin| !origin.is_empty()),
    );
    let class = py.import("forkless.exceptions").and_then(|module| module.getattr("OwnerDied"));
    match class.and_then(|class| class.call1(arguments)) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// A shorthand for results of the arena.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception that stands for the error.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, forkless_shm::Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| arena(py, &error))
    }
}

impl<T> OrRaise<T> for Result<T, forkless_process::Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| process(py, &error))
    }
}

impl<T> OrRaise<T> for Result<T, forkless_columns::Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| columns(py, error))
    }
}
