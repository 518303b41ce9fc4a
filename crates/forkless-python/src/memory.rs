//! Bytes in the arena that Python uses in place: `SharedBytes`, what shared values and arrays are made of, and `View`,
//! what large parts of messages arrive as.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use forkless_ipc::{Memory, Parcel};
use forkless_sys::memory::Mapping;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::errors::OrRaise;
use crate::shared::{Shared, home};

/// Bytes in the arena that every process reads and writes in place, zero at first.
///
/// Supports the buffer protocol (`memoryview(shared)`, `ctypes.c_int.from_buffer(shared)`) and pickles to a handle. What
/// several processes do to it at once has no order but that of a lock beside it. Once it is sealed, in any process, all that
/// ask for its buffer get one that is mapped without permission to write.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct SharedBytes {
    pub(crate) memory: Memory,
    /// Once it is sealed: a mapping, and where the bytes begin in it.
    read_only: OnceLock<(Mapping, usize)>,
}

impl SharedBytes {
    fn parts(memory: Memory) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { memory, read_only: OnceLock::new() })
    }

    /// Where the bytes are for those who only read.
    fn read_only(&self) -> Result<NonNull<u8>, forkless_shm::Error> {
        let (mapping, start) = match self.read_only.get() {
            Some(known) => known,
            None => {
                let fresh = self.memory.map_read_only()?;
                self.read_only.get_or_init(|| fresh)
            }
        };
        mapping.address(*start).ok_or(forkless_shm::Error::Corrupt("shared memory"))
    }

    pub(crate) fn wrap(py: Python<'_>, memory: Memory) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(memory))?.into_any())
    }

    pub(crate) fn create(py: Python<'_>, size: usize) -> PyResult<Py<Self>> {
        Py::new(py, Self::parts(Memory::create(home(py)?, size).or_raise(py)?))
    }
}

#[pymethods]
impl SharedBytes {
    /// Without `zero`, the bytes are whatever they are.
    #[new]
    #[pyo3(signature = (size, *, zero = true))]
    fn new(py: Python<'_>, size: usize, zero: bool) -> PyResult<PyClassInitializer<Self>> {
        let arena = home(py)?;
        let create = if zero { Memory::create } else { Memory::create_unset };
        Ok(Self::parts(py.detach(|| create(arena, size)).or_raise(py)?))
    }

    /// Has all buffers that anybody asks for from now on be read-only, in every process.
    fn seal(&self, py: Python<'_>) -> PyResult<()> {
        self.memory.seal().or_raise(py)
    }

    /// How far from its beginning an address is that this process has for it, from before it was sealed or after.
    fn place_of(&self, py: Python<'_>, address: usize) -> PyResult<usize> {
        let is_within = |start: usize| (start..=start + self.memory.length()).contains(&address);
        let mut start = self.memory.address().addr().get();
        if !is_within(start) && self.memory.is_sealed() {
            start = self.read_only().or_raise(py)?.addr().get();
        }
        if is_within(start) {
            Ok(address - start)
        } else {
            Err(PyBufferError::new_err("not an address of this memory"))
        }
    }

    /// Whether somebody has sealed it.
    #[getter]
    fn sealed(&self) -> bool {
        self.memory.is_sealed()
    }

    fn __len__(&self) -> usize {
        self.memory.length()
    }

    /// # Safety
    /// Called by the interpreter with a view to fill in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let (memory, sealed) = (&this.memory, this.memory.is_sealed());
        let address = if sealed { this.read_only().or_raise(slf.py())? } else { memory.address() };
        // SAFETY: the address is the start of as many bytes of the arena's mapping, which is writable and never unmapped,
        // or of one without permission to write, which this object has until it dies; the block is this object's for as
        // long as it lives.
        unsafe { fill(slf.as_any(), view, (address, memory.length()), !sealed, flags) }
    }

    fn __repr__(&self) -> String {
        format!("<SharedBytes length={}>", self.memory.length())
    }
}

/// A piece of a message, where it arrived. Keeps the message's memory for as long as it, or a view of it, lives.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct View {
    parcel: Arc<Parcel>,
    place: Range<usize>,
    writable: bool,
}

#[pymethods]
impl View {
    /// # Safety
    /// Called by the interpreter with a view to fill in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let address = this.parcel.address(&this.place).or_raise(slf.py())?;
        // SAFETY: `place` was checked to lie within the parcel's block, in the arena's mapping, which is writable and never
        // unmapped; the block is kept by `parcel` for as long as this object lives.
        unsafe { fill(slf.as_any(), view, (address, this.place.len()), this.writable, flags) }
    }
}

/// A memoryview of the bytes of a parcel, read-only, without a copy.
pub(crate) fn view_of_bytes<'py>(py: Python<'py>, parcel: &Arc<Parcel>) -> PyResult<Bound<'py, PyMemoryView>> {
    view(py, parcel, parcel.place().or_raise(py)?, false)
}

/// Memoryviews of the extents of a parcel, without a copy.
pub(crate) fn views_of_extents<'py>(
    py: Python<'py>,
    parcel: &Arc<Parcel>,
    writable: bool,
) -> PyResult<Vec<Bound<'py, PyMemoryView>>> {
    let places = parcel.extents().or_raise(py)?;
    places.into_iter().map(|place| view(py, parcel, place, writable)).collect()
}

fn view<'py>(
    py: Python<'py>,
    parcel: &Arc<Parcel>,
    place: Range<usize>,
    writable: bool,
) -> PyResult<Bound<'py, PyMemoryView>> {
    let view = Bound::new(py, View { parcel: Arc::clone(parcel), place, writable })?;
    PyMemoryView::from(view.as_any())
}

/// Fills a view of the interpreter's in, over plain bytes.
///
/// # Safety
/// From the address on there are that many bytes, which stay in place for as long as `object` lives, and may be written if
/// `writable`.
pub(crate) unsafe fn fill(
    object: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    (address, length): (NonNull<u8>, usize),
    writable: bool,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("no view to fill in"));
    }
    let (address, length) = (address.as_ptr().cast(), length.cast_signed());
    // SAFETY: `view` is the interpreter's, not null, and will keep a reference to the object; the rest is the caller's
    // promise.
    let result = unsafe { ffi::PyBuffer_FillInfo(view, object.as_ptr(), address, length, (!writable).into(), flags) };
    if result < 0 { Err(PyErr::fetch(object.py())) } else { Ok(()) }
}
