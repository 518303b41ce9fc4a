//! `SharedDict`: a record or a map of a column, looked at as a dictionary.

use forkless_columns::{Column, Key, Kind};
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString, PyType};

use super::list::SharedList;
use super::objects::{self, Containers, dict, object};
use super::source::Object;
use crate::buffer::SharedBuffer;
use crate::errors::{self, OrRaise};
use crate::shared::Reduced;

/// A dictionary in shared memory, made by `forkless.share`; see there.
#[pyclass(frozen, weakref, module = "forkless")]
pub(crate) struct SharedDict {
    owner: Py<SharedBuffer>,
    /// Where the node of the column is, and which of its items this is.
    at: usize,
    row: usize,
}

impl SharedDict {
    pub(super) fn row<'py>(
        owner: &Bound<'py, SharedBuffer>,
        column: Column<'_>,
        row: usize,
    ) -> PyResult<Bound<'py, Self>> {
        Bound::new(owner.py(), Self { owner: owner.clone().unbind(), at: column.place(), row })
    }

    fn column(&self, py: Python<'_>) -> PyResult<Column<'_>> {
        Column::at(self.owner.get().buffer.bytes(), self.at).or_raise(py)
    }

    /// The column that has the value for a key, and its place there.
    fn find(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<(Column<'_>, usize)>> {
        let py = key.py();
        let column = self.column(py)?;
        if column.kind() == Kind::Map {
            let Some(key) = canonical(key)? else { return Ok(None) };
            let place = column.find(self.row, &key).or_raise(py)?;
            return place.map(|place| Ok((column.child(1).or_raise(py)?, place))).transpose();
        }
        let Ok(name) = key.cast::<PyString>() else {
            key.hash()?;
            return Ok(None);
        };
        let place = match name.to_str() {
            Ok(name) => column.named(name.as_bytes()).or_raise(py)?,
            // Text with half of a surrogate pair.
            Err(_) => column.named(name.call_method1("encode", ("utf-8", "surrogatepass"))?.extract()?).or_raise(py)?,
        };
        let Some(place) = place else { return Ok(None) };
        let part = column.child(place).or_raise(py)?;
        Ok((!part.is_missing(self.row).or_raise(py)?).then_some((part, self.row)))
    }

    /// The names of a record that has them.
    fn names(&self, py: Python<'_>, column: Column<'_>) -> PyResult<Vec<usize>> {
        let mut found = Vec::new();
        for name in 0..column.names().or_raise(py)?.len() {
            if !column.child(name + 1).or_raise(py)?.is_missing(self.row).or_raise(py)? {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// A part of all entries of a map: of the keys (0) or of the values (1).
    fn entries<'py>(&self, py: Python<'py>, column: Column<'_>, part: usize) -> PyResult<Bound<'py, SharedList>> {
        let range = column.range(self.row).or_raise(py)?;
        let part = column.child(part).or_raise(py)?;
        SharedList::part(self.owner.bind(py), part, range.start.cast_signed(), 1, range.len())
    }
}

/// A key as it is looked for. None if it can be no key of columns, and so is none.
///
/// What is not one of the plain types itself may still be equal to a value of one: it is turned into that.
fn canonical(key: &Bound<'_, PyAny>) -> PyResult<Option<Key>> {
    let mut canonical = Key::new();
    if canonical.set(Object::new(key)) {
        return Ok(Some(canonical));
    }
    key.hash()?;
    let py = key.py();
    let plain = if let Ok(text) = key.cast::<PyString>() {
        py.get_type::<PyString>().call_method1("__str__", (text,))?
    } else if key.is_instance_of::<PyFloat>() {
        PyFloat::new(py, key.extract()?).into_any()
    } else if let Ok(index) = py.import("operator")?.call_method1("index", (key,)) {
        py.get_type::<PyInt>().call1((index,))?
    } else {
        return Ok(None);
    };
    Ok(canonical.set(Object::new(&plain)).then_some(canonical))
}

#[pymethods]
impl SharedDict {
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let column = self.column(py)?;
        if column.kind() == Kind::Map {
            return Ok(column.range(self.row).or_raise(py)?.len());
        }
        Ok(self.names(py, column)?.len())
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        match self.find(key)? {
            Some((column, place)) => object(py, Containers::Shared(self.owner.bind(py)), column, place),
            None => Err(PyKeyError::new_err(key.clone().unbind())),
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.find(key)?.is_some())
    }

    /// The value for a key, or `default`.
    #[pyo3(signature = (key, default = None, /))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        match self.find(key)? {
            Some((column, place)) => object(py, Containers::Shared(self.owner.bind(py)), column, place).map(Some),
            None => Ok(default),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let column = self.column(py)?;
        if column.kind() == Kind::Map {
            return SharedList::iter(&self.entries(py, column, 0)?);
        }
        let names = column.names().or_raise(py)?;
        let found = self.names(py, column)?;
        objects::list(py, names, found.into_iter())?.call_method0("__iter__")
    }

    /// A view of the keys, as a dictionary has it.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("forkless._columns")?.call_method1("Keys", (slf,))
    }

    /// A view of the entries, as a dictionary has it.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("forkless._columns")?.call_method1("Items", (slf,))
    }

    /// The values, in the order of the keys.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let column = self.column(py)?;
        if column.kind() == Kind::Map {
            return Ok(self.entries(py, column, 1)?.into_any());
        }
        let shared = Containers::Shared(self.owner.bind(py));
        let values = self
            .names(py, column)?
            .into_iter()
            .map(|name| object(py, shared, column.child(name + 1).or_raise(py)?, self.row));
        Ok(PyList::new(py, values.collect::<PyResult<Vec<_>>>()?)?.into_any())
    }

    /// As a dictionary of its own, and all lists and dictionaries in it, too.
    fn todict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict(py, self.column(py)?, self.row)
    }

    fn __richcmp__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let is_dict = other.cast::<Self>().is_ok() || other.cast::<PyDict>().is_ok();
        if !is_dict || !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Ok(py.NotImplemented());
        }
        let mut is_equal = other.len()? == slf.len()?;
        if is_equal {
            for key in slf.try_iter()? {
                let key = key?;
                is_equal = other.contains(&key)? && slf.get_item(&key)?.eq(other.get_item(&key)?)?;
                if !is_equal {
                    break;
                }
            }
        }
        let answer = is_equal == matches!(op, CompareOp::Eq);
        Ok(answer.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let open = py.import("forkless._forkless")?.getattr("open_dict")?;
        Ok((open, (self.owner.clone_ref(py), self.at, self.row).into_pyobject(py)?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        const SHOWN: usize = 6;
        let mut parts = Vec::new();
        for key in slf.try_iter()?.take(SHOWN) {
            let key = key?;
            parts.push(format!("{}: {}", key.repr()?, slf.get_item(&key)?.repr()?));
        }
        let count = slf.len()?;
        if count > SHOWN {
            parts.push(format!("... {count} items"));
        }
        Ok(format!("SharedDict({{{}}})", parts.join(", ")))
    }

    /// Generic over nothing at run time: `SharedDict[str, int]` in annotations.
    #[classmethod]
    fn __class_getitem__(class: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        class.clone().unbind()
    }
}

/// Unpickles a `SharedDict`.
#[pyfunction]
pub(super) fn open_dict<'py>(
    owner: &Bound<'py, SharedBuffer>,
    at: usize,
    row: usize,
) -> PyResult<Bound<'py, SharedDict>> {
    let py = owner.py();
    let block = owner.get().buffer.bytes();
    Column::root(block).or_raise(py)?;
    let column = Column::at(block, at).or_raise(py)?;
    match column.kind() {
        Kind::Record | Kind::Map if row < column.len() => SharedDict::row(owner, column, row),
        _ => Err(errors::columns(py, forkless_columns::Error::Damaged("a dictionary"))),
    }
}
