//! `Deposit`: a descriptor on its way from one process to another.

use forkless_ipc::State;
use forkless_process::{Deposition, Redemption};
use forkless_sys::time::Deadline;
use forkless_sys::{Errno, IntoRawFd, RawFd, process};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::child::{PyProgram, publish};
use crate::errors::OrRaise;
use crate::shared::{Shared, home};
use crate::wait;

/// A copy of a descriptor, kept by a template for whoever opens this object. It survives the process that made it, and is
/// closed once nobody holds this object any more, messages that carry it included.
///
/// Args:
///     program: How to start a template, should there be none.
///     descriptor: The number of an open descriptor; it stays the caller's.
///
/// Raises:
///     OSError: The descriptor is not open, or the system refuses.
///     ProcessError: The template keeps as many as it can.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct Deposit {
    pub(crate) deposit: forkless_ipc::Deposit,
}

impl Deposit {
    fn parts(deposit: forkless_ipc::Deposit) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { deposit })
    }

    pub(crate) fn wrap(py: Python<'_>, deposit: forkless_ipc::Deposit) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(deposit))?.into_any())
    }
}

#[pymethods]
impl Deposit {
    #[new]
    fn new(py: Python<'_>, program: &Bound<'_, PyProgram>, descriptor: RawFd) -> PyResult<PyClassInitializer<Self>> {
        let arena = home(py)?;
        let program = &program.get().program;
        let copy = process::duplicate(descriptor).map_err(|errno| os_error(errno, descriptor))?;
        let mut deposition = py.detach(|| Deposition::begin(arena, program, copy)).or_raise(py)?;
        publish(py)?;
        let kept = wait::until(py, Deadline::NEVER, |bound| deposition.wait_within(bound))?;
        kept.map(Self::parts).ok_or_else(|| PyValueError::new_err("a wait without end has ended"))
    }

    /// A descriptor of this process's own for the same file.
    ///
    /// Raises:
    ///     ProcessError: The template that kept it was killed, or has given it away.
    fn redeem(&self, py: Python<'_>) -> PyResult<RawFd> {
        let mut redemption = Redemption::new(&self.deposit);
        let descriptor = wait::until(py, Deadline::NEVER, |bound| redemption.wait_within(bound))?;
        let descriptor = descriptor.ok_or_else(|| PyValueError::new_err("a wait without end has ended"))?;
        Ok(descriptor.into_raw_fd())
    }

    /// From now on the first that redeems it gets what the template has, and nobody else does: for those that are held by
    /// their sender until they are taken.
    fn give_once(&self, py: Python<'_>) -> PyResult<()> {
        self.deposit.set_for_one().or_raise(py)
    }

    /// Whether it was given away, once.
    #[getter]
    fn given(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.deposit.state().or_raise(py)? == State::Given)
    }

    /// For picklers of others: held by this process until it is taken, once.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("forkless.reduction")?.call_method1("hold", (slf,))?;
        Shared::__reduce__(slf.as_super())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (_, pid) = self.deposit.keeper().or_raise(py)?;
        Ok(format!("<Deposit at {:#x} with the template {pid}>", self.deposit.lease().block().offset()))
    }
}

fn os_error(errno: Errno, descriptor: RawFd) -> PyErr {
    let what = if errno == Errno::BADF { "is not open" } else { "cannot be copied" };
    PyOSError::new_err((errno.raw_os_error(), format!("descriptor {descriptor} {what}: {errno}")))
}
