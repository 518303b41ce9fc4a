//! `SharedList`: a column, or every so many items of a part of one, looked at as a list.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use forkless_columns::{Column, Kind};
use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyBufferError, PyIndexError, PyKeyError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySlice, PyString, PyTuple, PyType};

use super::int;
use super::iterator::ListIterator;
use super::numbers::{Numbers, iterate};
use super::objects::{Containers, list, object};
use crate::buffer::SharedBuffer;
use crate::errors::{self, OrRaise};
use crate::shared::Reduced;

/// How many items a representation shows.
const SHOWN: usize = 6;

/// A list in shared memory, made by `forkless.share`; see there.
#[pyclass(frozen, weakref, module = "forkless")]
pub(crate) struct SharedList {
    owner: Py<SharedBuffer>,
    /// Where the node of the column is.
    at: usize,
    first: isize,
    step: isize,
    count: usize,
    /// For buffers, which point to them: items, and bytes from one to the next.
    shape: [ffi::Py_ssize_t; 2],
}

impl SharedList {
    /// All items of a column.
    pub(super) fn whole<'py>(owner: &Bound<'py, SharedBuffer>, column: Column<'_>) -> PyResult<Bound<'py, Self>> {
        Self::part(owner, column, 0, 1, column.len())
    }

    /// The list that is an item of a column of lists.
    pub(super) fn of<'py>(
        owner: &Bound<'py, SharedBuffer>,
        column: Column<'_>,
        index: usize,
    ) -> PyResult<Bound<'py, Self>> {
        let py = owner.py();
        let range = column.range(index).or_raise(py)?;
        let items = column.child(0).or_raise(py)?;
        Self::part(owner, items, range.start.cast_signed(), 1, range.len())
    }

    pub(super) fn part<'py>(
        owner: &Bound<'py, SharedBuffer>,
        column: Column<'_>,
        first: isize,
        step: isize,
        count: usize,
    ) -> PyResult<Bound<'py, Self>> {
        let width = column.kind().width().cast_signed();
        let shape = [count.cast_signed(), step.wrapping_mul(width)];
        let list = Self { owner: owner.clone().unbind(), at: column.place(), first, step, count, shape };
        Bound::new(owner.py(), list)
    }

    pub(super) fn column(&self, py: Python<'_>) -> PyResult<Column<'_>> {
        Column::at(self.owner.get().buffer.bytes(), self.at).or_raise(py)
    }

    /// How many items it has.
    pub(super) fn length(&self) -> usize {
        self.count
    }

    pub(super) fn owner<'py>(&self, py: Python<'py>) -> &Bound<'py, SharedBuffer> {
        self.owner.bind(py)
    }

    /// Where an item is in the column; the index is less than the length.
    pub(super) fn place(&self, index: usize) -> usize {
        (self.first + self.step * index.cast_signed()).cast_unsigned()
    }

    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.count).map(|index| self.place(index))
    }

    /// An item, by an index that is less than the length.
    pub(super) fn item<'py>(&self, py: Python<'py>, column: Column<'_>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        object(py, Containers::Shared(self.owner(py)), column, self.place(index))
    }

    /// The same items in another order, or some of them.
    fn slice<'py>(&self, py: Python<'py>, start: isize, step: isize, count: usize) -> PyResult<Bound<'py, Self>> {
        let first = self.first + self.step * start;
        Self::part(self.owner(py), self.column(py)?, first, self.step.saturating_mul(step), count)
    }

    /// An iterator over the items.
    pub(super) fn iter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let column = this.column(py)?;
        let kind = match column.kind() {
            Kind::Int if int::is_known(py) => Numbers::Ints,
            Kind::Float => Numbers::Floats,
            _ => return Ok(Bound::new(py, ListIterator::over(slf.clone().unbind()))?.into_any()),
        };
        let ends = [this.place(0), this.place(this.count.saturating_sub(1))];
        if this.count > 0 && ends.iter().any(|place| *place >= column.len()) {
            return Err(errors::columns(py, forkless_columns::Error::Damaged("a part of a list")));
        }
        let array = this.owner.get().buffer.bytes()[column.array()..].as_ptr().cast::<[u8; 8]>();
        // SAFETY: the first and the last item are in the column (checked above), so all between are; and the column's array
        // is within the bytes of its owner, since `Column::at`.
        unsafe { iterate(this.owner(py), kind, array, (this.first, this.step, this.count)) }
    }

    /// The index of the first item that equals a value, from `start` on and before `stop`.
    fn find(&self, value: &Bound<'_, PyAny>, start: usize, stop: usize) -> PyResult<Option<usize>> {
        let py = value.py();
        let column = self.column(py)?;
        for index in start..stop.min(self.count) {
            if self.item(py, column, index)?.eq(value)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

#[pymethods]
impl SharedList {
    fn __len__(&self) -> usize {
        self.count
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let count = self.count.cast_signed();
        if let Ok(slice) = index.cast::<PySlice>() {
            let indices = slice.indices(count)?;
            return Ok(self.slice(py, indices.start, indices.step, indices.slicelength)?.into_any());
        }
        let index: isize = index.extract().map_err(|error: PyErr| {
            if error.is_instance_of::<PyTypeError>(py) {
                let kind = index.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
                return PyTypeError::new_err(format!("list indices must be integers or slices, not {kind}"));
            }
            PyIndexError::new_err("list index out of range")
        })?;
        let index = if index < 0 { index + count } else { index };
        if !(0..count).contains(&index) {
            return Err(PyIndexError::new_err("list index out of range"));
        }
        self.item(py, self.column(py)?, index.cast_unsigned())
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::iter(slf)
    }

    fn __reversed__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let last = self.count.cast_signed() - 1;
        Self::iter(&self.slice(py, last, -1, self.count)?)
    }

    fn __contains__(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.find(value, 0, self.count)?.is_some())
    }

    /// The index of the first item that equals this value.
    #[pyo3(signature = (value, start = 0, stop = isize::MAX, /))]
    fn index(&self, value: &Bound<'_, PyAny>, start: isize, stop: isize) -> PyResult<usize> {
        let count = self.count.cast_signed();
        let from_begin = |index: isize| if index < 0 { (index + count).max(0) } else { index }.cast_unsigned();
        self.find(value, from_begin(start), from_begin(stop))?
            .ok_or_else(|| PyValueError::new_err(format!("{value:?} is not in list")))
    }

    /// How many items equal this value.
    fn count(&self, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (mut count, mut start) = (0, 0);
        while let Some(index) = self.find(value, start, self.count)? {
            (count, start) = (count + 1, index + 1);
        }
        Ok(count)
    }

    /// As a list of its own, and all lists and dictionaries in it, too.
    fn tolist<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let (this, py) = (slf.get(), slf.py());
        let column = this.column(py)?;
        if matches!(column.kind(), Kind::Int | Kind::Float) {
            return Ok(py.get_type::<PyList>().call1((slf,))?.cast_into()?);
        }
        list(py, column, this.places())
    }

    /// One part of all items, for a list of tuples or dictionaries.
    #[pyo3(name = "column")]
    fn part_of_all<'py>(&self, py: Python<'py>, part: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let column = self.column(py)?;
        let child = match column.kind() {
            Kind::Tuple => {
                let width = column.children().cast_signed();
                let place: isize = part.extract()?;
                let place = if place < 0 { place + width } else { place };
                if !(0..width).contains(&place) {
                    return Err(PyIndexError::new_err("tuple index out of range"));
                }
                place.cast_unsigned()
            }
            Kind::Record => {
                let name = part.cast::<PyString>()?;
                let place = column.named(name.to_str()?.as_bytes()).or_raise(py)?;
                place.ok_or_else(|| PyKeyError::new_err(part.clone().unbind()))?
            }
            _ => {
                return Err(PyTypeError::new_err(
                    "only lists of tuples of one length, or of dictionaries with much the same keys, have columns",
                ));
            }
        };
        let child = column.child(child).or_raise(py)?;
        Self::part(self.owner(py), child, self.first, self.step, self.count)
    }

    fn __richcmp__<'py>(&self, py: Python<'py>, other: &Bound<'py, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let is_list = other.cast::<Self>().is_ok() || other.cast::<PyList>().is_ok() || other.cast::<PyTuple>().is_ok();
        if !is_list || !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Ok(py.NotImplemented());
        }
        let mut is_equal = other.len()? == self.count;
        let column = self.column(py)?;
        for index in 0..self.count {
            is_equal = is_equal && self.item(py, column, index)?.eq(other.get_item(index)?)?;
            if !is_equal {
                break;
            }
        }
        let answer = is_equal == matches!(op, CompareOp::Eq);
        Ok(answer.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let open = py.import("forkless._forkless")?.getattr("open_list")?;
        let arguments = (self.owner.clone_ref(py), self.at, self.first, self.step, self.count);
        Ok((open, arguments.into_pyobject(py)?))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let column = self.column(py)?;
        let mut items: Vec<String> = (0..self.count.min(SHOWN))
            .map(|index| Ok(self.item(py, column, index)?.repr()?.to_string()))
            .collect::<PyResult<_>>()?;
        if self.count > SHOWN {
            items.push(format!("... {} items", self.count));
        }
        Ok(format!("SharedList([{}])", items.join(", ")))
    }

    /// # Safety
    /// Called by the interpreter with a view to fill in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let column = this.column(py)?;
        let format = match column.kind() {
            Kind::Int => c"q",
            Kind::Float => c"d",
            Kind::Truth => c"?",
            _ => {
                return Err(PyBufferError::new_err(
                    "only a shared list of integers, floats or bools is one block of bytes",
                ));
            }
        };
        let wants = |flag: c_int| flags & flag == flag;
        if view.is_null() || wants(ffi::PyBUF_WRITABLE) {
            return Err(PyBufferError::new_err("shared lists are read-only"));
        }
        let width = column.kind().width();
        let has_gaps = this.shape[1] != width.cast_signed() && this.count > 1;
        if has_gaps && !wants(ffi::PyBUF_STRIDES) {
            return Err(PyBufferError::new_err("a part of a shared list that has gaps; make a list of it"));
        }
        if this.count > 0 && [this.place(0), this.place(this.count - 1)].iter().any(|place| *place >= column.len()) {
            return Err(errors::columns(py, forkless_columns::Error::Damaged("a part of a list")));
        }
        let bytes = this.owner.get().buffer.bytes();
        let begin = if this.count > 0 { column.array() + width * this.place(0) } else { column.array() };
        // SAFETY: `view` is the interpreter's, not null (checked above). The items are within the bytes (checked above),
        // which the list keeps, as it does its shape; it is frozen and never moves, and the view holds a reference to
        // it. They are mapped without permission to write.
        unsafe {
            (*view).buf = bytes[begin..].as_ptr().cast_mut().cast::<c_void>();
            (*view).len = (this.count * width).cast_signed();
            (*view).readonly = 1;
            (*view).itemsize = width.cast_signed();
            (*view).format = if wants(ffi::PyBUF_FORMAT) { format.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            (*view).ndim = 1;
            (*view).shape =
                if wants(ffi::PyBUF_ND) { (&raw const this.shape[0]).cast_mut() } else { std::ptr::null_mut() };
            (*view).strides =
                if wants(ffi::PyBUF_STRIDES) { (&raw const this.shape[1]).cast_mut() } else { std::ptr::null_mut() };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = std::ptr::null_mut();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }

    /// Generic over nothing at run time: `SharedList[int]` in annotations.
    #[classmethod]
    fn __class_getitem__(class: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        class.clone().unbind()
    }
}

/// Unpickles a `SharedList`.
#[pyfunction]
pub(super) fn open_list<'py>(
    owner: &Bound<'py, SharedBuffer>,
    at: usize,
    first: isize,
    step: isize,
    count: usize,
) -> PyResult<Bound<'py, SharedList>> {
    let py = owner.py();
    let block = owner.get().buffer.bytes();
    // Checks that these are columns at all.
    Column::root(block).or_raise(py)?;
    SharedList::part(owner, Column::at(block, at).or_raise(py)?, first, step, count)
}
