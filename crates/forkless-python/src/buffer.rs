//! `SharedBuffer`: an array that all processes read in place; and the reading of what other objects have.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::ops::Range;
use std::ptr::NonNull;

use forkless_ipc::Buffer;
use forkless_sys::memory::Mapping;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::errors::OrRaise;
use crate::mapped;
use crate::memory::fill;
use crate::shared::{Shared, home};

/// The bytes of an object, held in place until this is dropped.
pub(crate) struct Source(PyUntypedBuffer);

impl Source {
    pub(crate) fn get(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let view = PyUntypedBuffer::get(object)?;
        if view.is_c_contiguous() || view.is_fortran_contiguous() {
            return Ok(Self(view));
        }
        Err(PyBufferError::new_err("only contiguous buffers can be sent; make a contiguous copy first"))
    }

    /// In the order in which they are in memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.0.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: the view keeps `len_bytes` contiguous bytes alive and in place for as long as it lives. They are only
        // ever copied into the arena. Should another thread of the program change them while that happens without the
        // interpreter, the copy has some bytes from before and some from after, as with any function that reads an
        // object while another writes to it.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<u8>(), self.0.len_bytes()) }
    }
}

/// Where a buffer begins, in this process.
#[pyfunction]
pub(crate) fn address_of(source: &Bound<'_, PyAny>) -> PyResult<usize> {
    Ok(PyUntypedBuffer::get(source)?.buf_ptr().addr())
}

/// Bytes in the arena, read-only in every process: a copy of `source`, with its format and shape.
///
/// Supports the buffer protocol (`memoryview(shared)`, `numpy.asarray(shared)`) and pickles to a handle. Each process maps
/// the pages without write permission.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct SharedBuffer {
    pub(crate) buffer: Buffer,
    kind: Description,
    strides: Vec<ffi::Py_ssize_t>,
}

/// What the bytes are. In the arena: item size, number of dimensions, shape (8 bytes each), then the format.
struct Description {
    format: CString,
    item_size: ffi::Py_ssize_t,
    shape: Vec<ffi::Py_ssize_t>,
}

impl Description {
    fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.item_size, self.shape.len() as isize];
        let numbers = numbers.iter().chain(&self.shape).flat_map(|number| number.to_le_bytes());
        numbers.chain(self.format.as_bytes().iter().copied()).collect()
    }

    /// Checked: it comes from shared memory. `length` is that of the data.
    fn from_bytes(bytes: &[u8], length: usize) -> Option<Self> {
        let number = |index: usize| {
            let bytes = bytes.get(8 * index..8 * index + 8)?;
            isize::from_le_bytes(bytes.try_into().ok()?).try_into().ok()
        };
        let (item_size, dimensions): (usize, usize) = (number(0)?, number(1)?);
        if dimensions > 64 {
            return None;
        }
        let shape: Vec<usize> = (0..dimensions).map(|index| number(2 + index)).collect::<Option<_>>()?;
        let size = shape.iter().try_fold(item_size, |size, extent| size.checked_mul(*extent))?;
        let format = CString::new(bytes.get(8 * (2 + dimensions)..)?).ok()?;
        (size == length && item_size > 0).then(|| Self {
            format,
            item_size: item_size.cast_signed(),
            shape: shape.into_iter().map(usize::cast_signed).collect(),
        })
    }

    /// In bytes, last dimension fastest.
    fn strides(&self) -> Vec<ffi::Py_ssize_t> {
        let mut stride = self.item_size;
        let mut strides: Vec<_> = self
            .shape
            .iter()
            .rev()
            .map(|extent| {
                let this = stride;
                stride *= extent;
                this
            })
            .collect();
        strides.reverse();
        strides
    }
}

impl SharedBuffer {
    fn make(py: Python<'_>, buffer: Buffer) -> PyResult<Bound<'_, Self>> {
        let kind = Description::from_bytes(&buffer.description(), buffer.length())
            .ok_or(forkless_shm::Error::Corrupt("the description of a buffer"))
            .or_raise(py)?;
        let strides = kind.strides();
        let shared = Bound::new(py, PyClassInitializer::from(Shared).add_subclass(Self { buffer, kind, strides }))?;
        mapped::note(&shared)?;
        Ok(shared)
    }

    /// The addresses at which its bytes are in this process.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.buffer.address().addr().get();
        start..start + self.buffer.length()
    }

    /// The description of a buffer of plain bytes.
    pub(crate) fn of_bytes(length: usize) -> Vec<u8> {
        Description { format: c"B".into(), item_size: 1, shape: vec![length.cast_signed()] }.to_bytes()
    }

    pub(crate) fn wrap(py: Python<'_>, buffer: Buffer) -> PyResult<Py<PyAny>> {
        Ok(Self::make(py, buffer)?.into_any().unbind())
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        mapped::forget(&self.addresses());
    }
}

#[pymethods]
impl SharedBuffer {
    #[new]
    fn new<'py>(py: Python<'py>, source: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let source = Source::get(source)?;
        let view = &source.0;
        if !view.is_c_contiguous() {
            return Err(PyValueError::new_err("only C-contiguous buffers can be shared; make a contiguous copy first"));
        }
        let kind = Description {
            format: view.format().to_owned(),
            item_size: view.item_size().cast_signed(),
            shape: view.shape().iter().map(|extent| extent.cast_signed()).collect(),
        };
        // The interpreter is not released before the copy is made, so no Python code changes the bytes.
        Self::make(py, Buffer::create(home(py)?, &kind.to_bytes(), source.bytes()).or_raise(py)?)
    }

    /// One buffer, of plain bytes, with a copy of each of these, and where each begins in it: at a multiple of 64.
    #[staticmethod]
    fn gather<'py>(py: Python<'py>, sources: Vec<Bound<'py, PyAny>>) -> PyResult<(Bound<'py, Self>, Vec<usize>)> {
        let sources = sources.iter().map(Source::get).collect::<PyResult<Vec<_>>>()?;
        let pieces: Vec<&[u8]> = sources.iter().map(Source::bytes).collect();
        let places = Buffer::places(pieces.iter().map(|piece| piece.len())).unwrap_or_default();
        let length = places.last().map_or(0, |place| place.end);
        let shared = Self::make(py, Buffer::gather(home(py)?, &Self::of_bytes(length), &pieces).or_raise(py)?)?;
        Ok((shared, places.into_iter().map(|place| place.start).collect()))
    }

    /// Its bytes as a copy of this process's own, writable, that costs memory for the pages that are written to.
    fn copy_on_write<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        let (mapping, start) = slf.get().buffer.map_copy().or_raise(slf.py())?;
        let copy = OwnCopy { mapping, start, of: slf.clone().unbind() };
        PyMemoryView::from(Bound::new(slf.py(), copy)?.as_any())
    }

    /// Whether its bytes are those of `source`, as they are now.
    fn is_copy_of(&self, py: Python<'_>, source: &Bound<'_, PyAny>) -> PyResult<bool> {
        let source = Source::get(source)?;
        let (bytes, others) = (self.buffer.bytes(), source.bytes());
        Ok(py.detach(|| bytes == others))
    }

    fn __len__(&self) -> usize {
        self.kind.shape.first().map_or(1, |extent| extent.cast_unsigned())
    }

    /// Bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.buffer.length()
    }

    /// What an item is, in the notation of the `struct` module.
    #[getter]
    fn format(&self) -> String {
        self.kind.format.to_string_lossy().into_owned()
    }

    /// Items in each dimension.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, &self.kind.shape)
    }

    /// # Safety
    /// Called by the interpreter with a view to fill in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() || flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("shared buffers are read-only"));
        }
        let this = slf.get();
        let wants = |flag: c_int| flags & flag == flag;
        // SAFETY: `view` is the interpreter's, not null (checked above). Every pointer stored refers to memory that the
        // object owns and never moves (it is frozen), and the view holds a reference to the object. Consumers get
        // mutable pointers by the protocol's signature, but `readonly` is set and the pages are mapped read-only.
        unsafe {
            (*view).buf = this.buffer.address().as_ptr().cast::<c_void>();
            (*view).len = this.buffer.length().cast_signed();
            (*view).readonly = 1;
            (*view).itemsize = this.kind.item_size;
            (*view).format =
                if wants(ffi::PyBUF_FORMAT) { this.kind.format.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            (*view).ndim = this.kind.shape.len() as c_int;
            (*view).shape =
                if wants(ffi::PyBUF_ND) { this.kind.shape.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            (*view).strides =
                if wants(ffi::PyBUF_STRIDES) { this.strides.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = std::ptr::null_mut();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<SharedBuffer format={:?} shape={:?}>", self.format(), self.kind.shape)
    }
}

/// A copy on write of a shared buffer, which it keeps alive: pages that were not written to are still those of the buffer.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct OwnCopy {
    mapping: Mapping,
    start: usize,
    of: Py<SharedBuffer>,
}

#[pymethods]
impl OwnCopy {
    /// # Safety
    /// Called by the interpreter with a view to fill in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let address = this.mapping.address(this.start).unwrap_or(NonNull::dangling());
        let length = this.of.get().buffer.length();
        // SAFETY: as many bytes were mapped from there on, writable, by a mapping that this object has until it dies; what is
        // written to it nobody else sees.
        unsafe { fill(slf.as_any(), view, (address, length), true, flags) }
    }
}
