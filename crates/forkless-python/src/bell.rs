//! `Bell`: what event loops wait for.

use forkless_sys::{AsFd, AsRawFd};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// A descriptor that other processes make readable when there is a reason to look.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct Bell {
    bell: forkless_sys::bell::Bell,
}

#[pymethods]
impl Bell {
    #[new]
    fn new() -> PyResult<Self> {
        let refused = |errno: forkless_sys::Errno| PyOSError::new_err((errno.raw_os_error(), "cannot make a bell"));
        Ok(Self { bell: forkless_sys::bell::Bell::new().map_err(refused)? })
    }

    /// Readable once it was rung; owned by this object.
    fn fileno(&self) -> i32 {
        self.bell.as_fd().as_raw_fd()
    }

    /// What queues know it by.
    #[getter]
    fn number(&self) -> u64 {
        self.bell.number()
    }

    /// No longer readable, until it is rung again.
    fn silence(&self) {
        self.bell.silence();
    }
}
