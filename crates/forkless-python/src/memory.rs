//! `SharedBytes`: what shared values and arrays are made of.
#![allow(unsafe_code)]

use std::ffi::c_int;

use forkless_ipc::Memory;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::shared::{Shared, home};

/// Bytes in the arena that every process reads and writes in place, zero at first.
///
/// Supports the buffer protocol (`memoryview(shared)`, `ctypes.c_int.from_buffer(shared)`) and pickles to a handle. What
/// several processes do to it at once has no order but that of a lock beside it.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct SharedBytes {
    pub(crate) memory: Memory,
}

impl SharedBytes {
    fn parts(memory: Memory) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { memory })
    }

    pub(crate) fn wrap(py: Python<'_>, memory: Memory) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(memory))?.into_any())
    }
}

#[pymethods]
impl SharedBytes {
    #[new]
    fn new(py: Python<'_>, size: usize) -> PyResult<PyClassInitializer<Self>> {
        Ok(Self::parts(Memory::create(home(py)?, size).or_raise(py)?))
    }

    fn __len__(&self) -> usize {
        self.memory.length()
    }

    /// # Safety
    /// Called by the interpreter with a view to fill in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill in"));
        }
        let memory = &slf.get().memory;
        let (address, length) = (memory.address().as_ptr().cast(), memory.length().cast_signed());
        // SAFETY: `view` is the interpreter's, not null. `address` is the start of `length` bytes of the arena's mapping,
        // which is writable and never unmapped; the block is this object's for as long as it lives, and the view
        // keeps a reference to the object.
        let result = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), address, length, 0, flags) };
        if result < 0 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        format!("<SharedBytes length={}>", self.memory.length())
    }
}
