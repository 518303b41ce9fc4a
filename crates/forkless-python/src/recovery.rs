//! What happens to a lock whose owner died, and where locks are made.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::errors::{Death, FREE_AGAIN, HELD_AGAIN, OrRaise, owner_died};

/// The function that repairs what a lock protects, or none.
pub(crate) struct Recovery {
    function: Option<Py<PyAny>>,
}

impl Recovery {
    pub(crate) fn new(function: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        match function {
            Some(function) if !function.is_callable() => {
                Err(PyTypeError::new_err(format!("recover must be callable, not {}", function.get_type().name()?)))
            }
            function => Ok(Self { function: function.map(Bound::unbind) }),
        }
    }

    pub(crate) fn function<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.function.as_ref().map(|function| function.bind(py).clone())
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.function.iter().try_for_each(|function| visit.call(function))
    }

    /// For a lock taken from the dead, which the caller holds: repairs, and true. Without a function, or if that fails,
    /// gives the lock back and raises.
    pub(crate) fn run(
        &self,
        py: Python<'_>,
        death: &Death,
        release: impl FnOnce() -> Result<bool, forkless_shm::Error>,
    ) -> PyResult<bool> {
        let Some(function) = self.function(py) else {
            release().or_raise(py)?;
            return Err(owner_died(py, death, FREE_AGAIN));
        };
        if let Err(error) = repair(py, &function, death) {
            release().or_raise(py)?;
            return Err(error);
        }
        Ok(true)
    }

    /// As [`Self::run`] for a caller that keeps the lock in any case: the exception, if there is one.
    pub(crate) fn run_holding(&self, py: Python<'_>, death: &Death) -> Option<PyErr> {
        match self.function(py) {
            None => Some(owner_died(py, death, HELD_AGAIN)),
            Some(function) => repair(py, &function, death).err(),
        }
    }
}

fn repair(py: Python<'_>, function: &Bound<'_, PyAny>, death: &Death) -> PyResult<()> {
    function.call1((owner_died(py, death, HELD_AGAIN).into_value(py),)).map(|_| ())
}

/// The file and line of the program that is being executed: "program.py:12". Empty if there is none.
pub(crate) fn origin(py: Python<'_>) -> String {
    find_origin(py).unwrap_or_default()
}

fn find_origin(py: Python<'_>) -> PyResult<String> {
    let mut frame = py.import(pyo3::intern!(py, "sys"))?.call_method0(pyo3::intern!(py, "_getframe"))?;
    loop {
        let globals = frame.getattr(pyo3::intern!(py, "f_globals"))?;
        let module = globals.get_item(pyo3::intern!(py, "__name__")).and_then(|name| name.extract::<String>());
        // Contexts make locks for others.
        if !module.is_ok_and(|module| module == "forkless" || module.starts_with("forkless.")) {
            break;
        }
        let caller = frame.getattr(pyo3::intern!(py, "f_back"))?;
        if caller.is_none() {
            break;
        }
        frame = caller;
    }
    let code = frame.getattr(pyo3::intern!(py, "f_code"))?;
    let file: String = code.getattr(pyo3::intern!(py, "co_filename"))?.extract()?;
    let line: u32 = frame.getattr(pyo3::intern!(py, "f_lineno"))?.extract()?;
    Ok(format!("{}:{line}", file.rsplit('/').next().unwrap_or_default()))
}
