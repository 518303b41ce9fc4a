//! Making objects immortal: their reference counts are written no more, so that the pages they are in stay those that
//! processes have in common (copy on write).
//!
//! From 3.12 on (PEP 683), an object is immortal when the lower half of its reference count has all bits set; taking and
//! dropping references then leaves the count alone. It must be exactly that value: on 3.12 and 3.13 taking a reference
//! looks only for the overflow, so any other large count would be written to. Later versions keep the count in another
//! way, and builds without the global lock in yet another: this is for 64-bit builds of these two versions, and the caller
//! sees to it.
//!
//! What is made immortal is never freed. That suits a template, which lives as long as those who share its objects.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The whole of a reference count that stands for immortality on 3.12 and 3.13.
const IMMORTAL: u64 = u32::MAX as u64;

/// A walk over objects that makes them immortal.
struct Walk {
    /// Objects whose own references have not been looked at.
    left: Vec<*mut ffi::PyObject>,
    /// The type of NumPy's arrays, which do not say what objects they have; null while nobody has imported it.
    array_type: *mut ffi::PyTypeObject,
    /// Those that were met.
    arrays: Vec<*mut ffi::PyObject>,
    count: usize,
}

impl Walk {
    /// An object was met.
    ///
    /// # Safety
    /// It is alive, and the interpreter is held.
    unsafe fn meet(&mut self, object: *mut ffi::PyObject) {
        // SAFETY: the object is alive, so it has a type. The reference count is the first word of an object of these
        // versions, and the interpreter, which is held, is the only one that writes it.
        unsafe {
            let (count, kind) = (object.cast::<u64>(), ffi::Py_TYPE(object));
            if count.read() & IMMORTAL == IMMORTAL || is_left_alone(object) || has_finaliser(kind) {
                return;
            }
            count.write(IMMORTAL);
            self.count += 1;
            if (*kind).tp_traverse.is_some() {
                self.left.push(object);
            } else {
                keep_hash(object);
            }
            if !self.array_type.is_null() && ffi::PyType_IsSubtype(kind, self.array_type) != 0 {
                self.arrays.push(object);
            }
        }
    }

    /// Looks at all that is reachable.
    ///
    /// # Safety
    /// The interpreter is held, and what was met is alive.
    unsafe fn run(&mut self) {
        while let Some(object) = self.left.pop() {
            // SAFETY: it is alive; dictionaries are walked by the interpreter's own function, everything else by that of
            // its type, with a callback that does not run Python.
            unsafe {
                if ffi::PyDict_Check(object) != 0 {
                    // Types do not traverse keys that are text, as those make no cycles.
                    let (mut place, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
                    while ffi::PyDict_Next(object, &raw mut place, &raw mut key, &raw mut value) != 0 {
                        self.meet(key);
                        self.meet(value);
                    }
                }
                if let Some(traverse) = (*ffi::Py_TYPE(object)).tp_traverse {
                    traverse(object, visit, std::ptr::from_mut(self).cast::<c_void>());
                }
            }
        }
    }
}

/// # Safety
/// Called by the interpreter with a living object, and what `Walk::run` gave it.
unsafe extern "C" fn visit(object: *mut ffi::PyObject, walk: *mut c_void) -> c_int {
    // SAFETY: `walk` is the one that is running, which `run` lends for the call.
    unsafe { (*walk.cast::<Walk>()).meet(object) };
    0
}

/// Text and bytes write down their hash when they are first asked for it: better now than in each process.
///
/// # Safety
/// The object is alive, and the interpreter is held.
unsafe fn keep_hash(object: *mut ffi::PyObject) {
    // SAFETY: a living object of exactly these types, whose hash is computed by the interpreter and never fails.
    unsafe {
        if ffi::PyUnicode_CheckExact(object) != 0 || ffi::PyBytes_CheckExact(object) != 0 {
            ffi::PyObject_Hash(object);
        }
    }
}

/// What belongs to the program rather than to its data: types, modules, functions, code. Most of it lives as long as
/// the process anyway, and it leads everywhere.
///
/// # Safety
/// The object is alive, and the interpreter is held.
unsafe fn is_left_alone(object: *mut ffi::PyObject) -> bool {
    // SAFETY: checks of a living object's type.
    unsafe {
        ffi::PyType_Check(object) != 0
            || ffi::PyModule_Check(object) != 0
            || ffi::PyFunction_Check(object) != 0
            || ffi::PyCFunction_Check(object) != 0
            || ffi::PyCode_Check(object) != 0
            || ffi::PyFrame_Check(object) != 0
            || ffi::PyWeakref_Check(object) != 0
    }
}

/// Whether something is to happen when objects of this type are freed, or they are generators that may still run.
///
/// # Safety
/// The type is alive, and the interpreter is held.
unsafe fn has_finaliser(kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*kind).tp_finalize.is_some() || (*kind).tp_del.is_some() }
}

/// Makes an object immortal, and all data that can be reached from it, but for what has a finaliser. Only for CPython 3.12
/// and 3.13 on 64 bits, with the global lock.
///
/// Args:
///     object: Where to begin.
///     array_type: NumPy's `ndarray`, if somebody has imported it.
///
/// Returns:
///     How many objects became immortal, and the arrays among them: they do not say what objects they have.
#[pyfunction]
pub(crate) fn immortalise<'py>(
    object: &Bound<'py, PyAny>,
    array_type: Option<&Bound<'py, PyType>>,
) -> (usize, Vec<Bound<'py, PyAny>>) {
    let array_type = array_type.map_or(std::ptr::null_mut(), Bound::as_type_ptr);
    let mut walk = Walk { left: Vec::new(), array_type, arrays: Vec::new(), count: 0 };
    // SAFETY: `object` is alive, as is what can be reached from it, for nothing drops references meanwhile; a `Bound` shows
    // that the interpreter is held. The arrays are among that, so they are alive too.
    unsafe {
        walk.meet(object.as_ptr());
        walk.run();
        let arrays = walk.arrays.into_iter().map(|array| Bound::from_borrowed_ptr(object.py(), array)).collect();
        (walk.count, arrays)
    }
}
