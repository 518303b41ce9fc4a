//! Lists and dictionaries of plain values as columns in shared memory: how the interpreter's objects become columns, and
//! how columns are looked at as its objects again. What the columns are, and all reading and writing of them, is in
//! `forkless-columns`.

mod dict;
mod int;
mod iterator;
mod list;
mod numbers;
mod objects;
mod source;

use forkless_columns::{Plan, Refusal};
use forkless_ipc::Buffer;
use pyo3::exceptions::{PyRecursionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::buffer::SharedBuffer;
use crate::errors::{OrRaise, raise};
use crate::shared::home;
use dict::SharedDict;
use list::SharedList;
use source::Object;

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SharedList>()?;
    module.add_class::<SharedDict>()?;
    module.add_function(wrap_pyfunction!(share_columns, module)?)?;
    module.add_function(wrap_pyfunction!(list::open_list, module)?)?;
    module.add_function(wrap_pyfunction!(dict::open_dict, module)?)?;
    // So that `isinstance` and `match` know what they are.
    let abc = module.py().import("collections.abc")?;
    abc.getattr("Sequence")?.call_method1("register", (module.getattr("SharedList")?,))?;
    abc.getattr("Mapping")?.call_method1("register", (module.getattr("SharedDict")?,))?;
    Ok(())
}

/// Copies a list, a tuple or a dictionary of plain values into shared memory: a `SharedList`, or a `SharedDict`.
///
/// None if there is something in it that is no plain value: nothing has been copied then.
#[pyfunction]
fn share_columns<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = value.py();
    let is_list = value.cast_exact::<PyList>().is_ok() || value.cast_exact::<PyTuple>().is_ok();
    if !is_list && value.cast_exact::<PyDict>().is_err() {
        return Ok(None);
    }
    if !int::is_known(py) {
        return Err(raise(py, "ProcessError", "this build of Python has integers of another layout".into()));
    }
    // From here to the end of the copy the interpreter is held, and no code of Python runs: nothing is allocated with it,
    // and no reference dropped. So what the plan refers to stays.
    let object = Object::new(value);
    let plan = if is_list { Plan::of(forkless_columns::Item::items(object)) } else { Plan::of(vec![object]) };
    let plan = match plan {
        Ok(plan) => plan,
        Err(Refusal::Other) => return Ok(None),
        Err(refusal) => return Err(refused(refusal)),
    };
    let size = plan.size();
    let description = SharedBuffer::of_bytes(size);
    let buffer = Buffer::create_with(home(py)?, &description, size, |write| plan.write(write)).or_raise(py)?;
    drop(plan);
    let owner = SharedBuffer::wrap(py, buffer)?.into_bound(py).cast_into::<SharedBuffer>()?;
    let root = forkless_columns::Column::root(owner.get().buffer.bytes()).or_raise(py)?;
    if is_list {
        Ok(Some(SharedList::whole(&owner, root)?.into_any()))
    } else {
        // Whatever a dictionary has become, it is no union: it is alone.
        Ok(Some(SharedDict::row(&owner, root, 0)?.into_any()))
    }
}

fn refused(refusal: Refusal) -> PyErr {
    match refusal {
        Refusal::Other | Refusal::Key => {
            PyTypeError::new_err("a key of a shared dictionary is a number, a string, bytes, None, or a tuple of those")
        }
        Refusal::ContainsItself => PyValueError::new_err("it contains itself, and columns have an end"),
        Refusal::TooDeep => PyRecursionError::new_err(refusal.to_string()),
        Refusal::TooMany => PyValueError::new_err(refusal.to_string()),
    }
}
