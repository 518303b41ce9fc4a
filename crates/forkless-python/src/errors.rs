//! Rust errors become Python exceptions here, and nowhere else.

use forkless_shm::slot::End;
use forkless_shm::{Arena, Owner};
use forkless_sys::futex;
use forkless_sys::process::{ExitStatus, signal_name};
use forkless_sys::time::SLICE;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;

/// An exception class of `forkless.exceptions`, imported when the first one is raised: most programs never need it.
fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
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
        Error::Full { .. } => PyMemoryError::new_err(message),
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

/// The owner of a lock died with it.
pub(crate) fn owner_died(py: Python<'_>, arena: &'static Arena, owner: Owner) -> PyErr {
    let who = match arena.process(owner) {
        Some(process) => format!("{} (pid {})", process.name, process.pid),
        None => "a process of this tree".to_owned(),
    };
    // Whoever reaps it knows within a moment; the kernel has marked it before that.
    if let Some(word) = arena.end_word(owner).filter(|_| arena.end(owner).is_none()) {
        py.detach(|| futex::wait(word, 0, SLICE));
    }
    let how = match arena.end(owner) {
        Some(End::Status(ExitStatus::Signaled(signal))) => format!("killed by {}", signal_name(signal)),
        Some(End::Status(ExitStatus::Exited(code))) => format!("exit code {code}"),
        _ => "how is not known yet".to_owned(),
    };
    let message = format!(
        "{who} died while it held this lock ({how}); what the lock protects may be half-written. The lock is free \
         again and this call has not taken it: check the data, then acquire again"
    );
    raise(py, "OwnerDied", message)
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
