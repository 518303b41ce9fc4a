//! `Segment`: memory that processes find by a name.
#![allow(unsafe_code)]

use std::ffi::c_int;

use forkless_process::{Deposition, Program};
use forkless_shm::names::MAX_NAME;
use forkless_shm::{Arena, Error, Handle};
use forkless_sys::time::Deadline;
use forkless_sys::{AsRawFd, Errno, IntoRawFd, RawFd, process};
use pyo3::exceptions::{PyBufferError, PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::child::{PyProgram, publish};
use crate::errors::OrRaise;
use crate::memory::fill;
use crate::shared::{Shared, home, joined, open_shared};
use crate::wait;

/// Memory that processes find by a name; what `shared_memory.SharedMemory` is made of.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct Segment {
    pub(crate) segment: forkless_ipc::Segment,
}

impl Segment {
    fn new(py: Python<'_>, segment: forkless_ipc::Segment) -> PyResult<Py<Self>> {
        Py::new(py, PyClassInitializer::from(Shared).add_subclass(Self { segment }))
    }

    pub(crate) fn wrap(py: Python<'_>, segment: forkless_ipc::Segment) -> PyResult<Py<PyAny>> {
        Ok(Self::new(py, segment)?.into_any())
    }
}

fn check(name: &str) -> PyResult<()> {
    if (1..=MAX_NAME).contains(&name.len()) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("a name has 1 to {MAX_NAME} bytes, and not {}", name.len())))
}

#[pymethods]
impl Segment {
    /// A new one, all zero; None if something has that name.
    #[staticmethod]
    fn create(py: Python<'_>, name: &str, size: usize) -> PyResult<Option<Py<Self>>> {
        check(name)?;
        let arena = home(py)?;
        let created = py.detach(|| forkless_ipc::Segment::create(arena, name, size)).or_raise(py)?;
        created.map(|segment| Self::new(py, segment)).transpose()
    }

    /// One that programs outside of the tree find, with its descriptor; None if something has that name. A template, started
    /// if need be, takes the name away should this process be killed.
    #[staticmethod]
    fn create_public(
        py: Python<'_>,
        program: &Bound<'_, PyProgram>,
        name: &str,
        size: usize,
    ) -> PyResult<Option<(Py<Self>, RawFd)>> {
        check(name)?;
        let (arena, program) = (home(py)?, &program.get().program);
        be_watched(py, arena, program)?;
        let created = py.detach(|| forkless_ipc::Segment::create_public(arena, name, size)).or_raise(py)?;
        created.map(|(segment, file)| Ok((Self::new(py, segment)?, file.into_raw_fd()))).transpose()
    }

    /// The one that has this name in the tree, or None.
    #[staticmethod]
    fn find(py: Python<'_>, name: &str) -> PyResult<Option<Py<Self>>> {
        let look = |arena: &'static Arena| forkless_ipc::Segment::find(arena, name);
        let mut found = Arena::home().map_or(Ok(None), |arena| py.detach(|| look(arena))).or_raise(py)?;
        // A program that another one of the tree has started finds the tree when it looks for something there.
        if found.is_none()
            && let Some(arena) = joined(py)?
        {
            found = py.detach(|| look(arena)).or_raise(py)?;
        }
        found.map(|segment| Self::new(py, segment)).transpose()
    }

    /// Its name, whether or not it still has it.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        self.segment.name().or_raise(py)
    }

    /// Bytes.
    #[getter]
    fn size(&self) -> usize {
        self.segment.length()
    }

    /// Whether it is found by its name.
    #[getter]
    fn is_linked(&self, py: Python<'_>) -> PyResult<bool> {
        self.segment.is_linked().or_raise(py)
    }

    /// Whether its bytes are in a file that strangers find.
    #[getter]
    fn is_public(&self) -> bool {
        self.segment.is_public()
    }

    /// Its handle as text, always of the same length.
    #[getter]
    fn token(&self, py: Python<'_>) -> PyResult<String> {
        let Handle { arena, offset, generation } = self.segment.lease().handle().or_raise(py)?;
        Ok(format!("{arena:016x}-{offset:010x}-{generation:08x}"))
    }

    /// A descriptor of the file of a public one.
    fn open_file(&self, py: Python<'_>) -> PyResult<RawFd> {
        Ok(py.detach(|| self.segment.file()).or_raise(py)?.into_raw_fd())
    }

    /// Takes its name away; whether it had it.
    fn unlink(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.segment.unlink()).or_raise(py)
    }

    /// # Safety
    /// Called by the interpreter with a view to fill in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let segment = &slf.get().segment;
        let address = segment.address().ok_or_else(|| PyBufferError::new_err("a public segment is in its file"))?;
        // SAFETY: the address is the start of as many bytes of the arena's mapping (checked when it was opened), which is
        // writable and never unmapped; the block is this object's for as long as it lives.
        unsafe { fill(slf.as_any(), view, (address, segment.length()), true, flags) }
    }

    /// By its handle as text.
    #[pyo3(name = "_reduce")]
    fn reduce<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let py = slf.py();
        let open = py.import("forkless.shared_memory")?.getattr("open_pickled")?;
        Ok((open, (slf.get().token(py)?,)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Segment name={:?} size={}>", self.name(py)?, self.size()))
    }
}

/// Sees to it that a template runs which knows this process and cleans up after it, however it ends: it has one keep a
/// descriptor for a moment. To ask for that is not enough, as it may still be on its way to where it looks.
fn be_watched(py: Python<'_>, arena: &'static Arena, program: &Program) -> PyResult<()> {
    let refused = |errno: Errno| PyOSError::new_err((errno.raw_os_error(), format!("no descriptor: {errno}")));
    let any = process::duplicate(arena.file().as_raw_fd()).map_err(refused)?;
    let mut deposition = py.detach(|| Deposition::begin(arena, program, any)).or_raise(py)?;
    publish(py)?;
    wait::until(py, Deadline::NEVER, |bound| match deposition.wait_within(bound) {
        // It has no room, but it has answered.
        Err(forkless_process::Error::TooManyKept { .. }) => Ok(Some(())),
        other => Ok::<_, forkless_process::Error>(other?.map(|_| ())),
    })?;
    Ok(())
}

/// The segment with that handle.
#[pyfunction]
pub(crate) fn open_segment(py: Python<'_>, token: &str) -> PyResult<Py<PyAny>> {
    let Handle { arena, offset, generation } = token.parse().map_err(|error: Error| error).or_raise(py)?;
    open_shared(py, forkless_ipc::Segment::KIND, arena, offset, generation, None)
}
