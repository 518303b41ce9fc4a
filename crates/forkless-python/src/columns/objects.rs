//! Items of columns as the interpreter's objects.
#![allow(unsafe_code)]

use std::ffi::c_char;

use forkless_columns::{Column, Kind};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::dict::SharedDict;
use super::list::SharedList;
use crate::buffer::SharedBuffer;
use crate::errors::OrRaise;

/// What lists and dictionaries within an item become.
#[derive(Clone, Copy)]
pub(super) enum Containers<'a, 'py> {
    /// Looked at where they are.
    Shared(&'a Bound<'py, SharedBuffer>),
    /// Copied.
    Own,
}

/// An item, as an object.
pub(super) fn object<'py>(
    py: Python<'py>,
    containers: Containers<'_, 'py>,
    column: Column<'_>,
    index: usize,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match column.kind() {
        Kind::Nothing | Kind::Missing => {
            column.check(index).or_raise(py)?;
            py.None().into_bound(py)
        }
        Kind::Truth => PyBool::new(py, column.truth(index).or_raise(py)?).to_owned().into_any(),
        Kind::Int => PyInt::new(py, column.int(index).or_raise(py)?).into_any(),
        Kind::Float => PyFloat::new(py, column.float(index).or_raise(py)?).into_any(),
        Kind::Text => text(py, column.text(index).or_raise(py)?)?,
        Kind::Bytes => PyBytes::new(py, column.text(index).or_raise(py)?).into_any(),
        Kind::Big => {
            let bytes = PyBytes::new(py, column.text(index).or_raise(py)?);
            let signed = PyDict::new(py);
            signed.set_item("signed", true)?;
            py.get_type::<PyInt>().call_method("from_bytes", (bytes, "little"), Some(&signed))?
        }
        Kind::Sequence => {
            let (items, range) = (column.child(0).or_raise(py)?, column.range(index).or_raise(py)?);
            let items: Vec<_> = range.map(|place| object(py, containers, items, place)).collect::<PyResult<_>>()?;
            PyTuple::new(py, items)?.into_any()
        }
        Kind::Tuple => {
            let parts =
                (0..column.children()).map(|child| object(py, containers, column.child(child).or_raise(py)?, index));
            PyTuple::new(py, parts.collect::<PyResult<Vec<_>>>()?)?.into_any()
        }
        Kind::Union => {
            let (member, place) = column.member(index).or_raise(py)?;
            object(py, containers, member, place)?
        }
        Kind::List | Kind::Record | Kind::Map => match (containers, column.kind()) {
            (Containers::Shared(owner), Kind::List) => SharedList::of(owner, column, index)?.into_any(),
            (Containers::Shared(owner), _) => SharedDict::row(owner, column, index)?.into_any(),
            (Containers::Own, Kind::List) => {
                let (items, range) = (column.child(0).or_raise(py)?, column.range(index).or_raise(py)?);
                list(py, items, range)?.into_any()
            }
            (Containers::Own, _) => dict(py, column, index)?.into_any(),
        },
    })
}

/// A list of its own of these items.
pub(super) fn list<'py>(
    py: Python<'py>,
    column: Column<'_>,
    places: impl Iterator<Item = usize>,
) -> PyResult<Bound<'py, PyList>> {
    let items: Vec<_> = places.map(|place| object(py, Containers::Own, column, place)).collect::<PyResult<_>>()?;
    PyList::new(py, items)
}

/// A dictionary of its own of a record or a map.
pub(super) fn dict<'py>(py: Python<'py>, column: Column<'_>, index: usize) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    if column.kind() == Kind::Record {
        let names = column.names().or_raise(py)?;
        for name in 0..names.len() {
            let part = column.child(name + 1).or_raise(py)?;
            if !part.is_missing(index).or_raise(py)? {
                let key = object(py, Containers::Own, names, name)?;
                dict.set_item(key, object(py, Containers::Own, part, index)?)?;
            }
        }
    } else {
        let (keys, values) = (column.child(0).or_raise(py)?, column.child(1).or_raise(py)?);
        for place in column.range(index).or_raise(py)? {
            let key = object(py, Containers::Own, keys, place)?;
            dict.set_item(key, object(py, Containers::Own, values, place)?)?;
        }
    }
    Ok(dict)
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(PyString::new(py, text).into_any());
    }
    // SAFETY: `bytes` are as many, and the name of the error handler ends with a zero; the result is a new reference, or
    // null with an exception.
    unsafe {
        let text = ffi::PyUnicode_DecodeUTF8(
            bytes.as_ptr().cast::<c_char>(),
            bytes.len().cast_signed(),
            c"surrogatepass".as_ptr(),
        );
        Bound::from_owned_ptr_or_err(py, text)
    }
}
