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

use std::collections::HashSet;
use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;

/// The whole of a reference count that stands for immortality on 3.12 and 3.13.
const IMMORTAL: u64 = u32::MAX as u64;

/// What a walk over objects finds.
struct Walk {
    /// Objects whose own references have not been looked at.
    left: Vec<*mut ffi::PyObject>,
    /// For walks that change nothing: what has been found.
    seen: Option<HashSet<*mut ffi::PyObject>>,
    count: usize,
    /// The first object that is not to be made immortal, as its end means something.
    offender: Option<*mut ffi::PyObject>,
}

impl Walk {
    /// An object was met.
    ///
    /// # Safety
    /// It is alive, and the interpreter is held.
    unsafe fn meet(&mut self, object: *mut ffi::PyObject) {
        // SAFETY: the object is alive, so it has a type; the rest is the caller's promise.
        unsafe {
            if is_left_alone(object) {
                return;
            }
            if self.offender.is_none() && has_finaliser(object) {
                self.offender = Some(object);
                return;
            }
            match &mut self.seen {
                Some(seen) => {
                    if !seen.insert(object) {
                        return;
                    }
                }
                None => {
                    // SAFETY: the reference count is the first word of an object of these versions, and the interpreter,
                    // which is held, is the only one that writes it.
                    let count = object.cast::<u64>();
                    if count.read() & IMMORTAL == IMMORTAL {
                        return;
                    }
                    count.write(IMMORTAL);
                }
            }
            self.count += 1;
            self.left.push(object);
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

/// Whether something is to happen when it is freed, or it is a generator that may still run.
///
/// # Safety
/// The object is alive, and the interpreter is held.
unsafe fn has_finaliser(object: *mut ffi::PyObject) -> bool {
    // SAFETY: a living object has a type.
    unsafe {
        let kind = &*ffi::Py_TYPE(object);
        kind.tp_finalize.is_some() || kind.tp_del.is_some()
    }
}

fn walk<'py>(object: &Bound<'py, PyAny>, changes: bool) -> (usize, Option<Bound<'py, PyAny>>) {
    let seen = if changes { None } else { Some(HashSet::new()) };
    let mut walk = Walk { left: Vec::new(), seen, count: 0, offender: None };
    // SAFETY: `object` is alive, as is what can be reached from it, for nothing drops references meanwhile; a `Bound` shows
    // that the interpreter is held. The offender is among that, so it is alive too.
    let offender = unsafe {
        walk.meet(object.as_ptr());
        walk.run();
        walk.offender.map(|offender| Bound::from_borrowed_ptr(object.py(), offender))
    };
    (walk.count, offender)
}

/// Looks at all data that can be reached from an object, and changes nothing.
///
/// Returns:
///     How many objects those are; and the first of them that has a finaliser, or None.
#[pyfunction]
pub(crate) fn survey<'py>(object: &Bound<'py, PyAny>) -> (usize, Option<Bound<'py, PyAny>>) {
    walk(object, false)
}

/// Makes an object immortal, and all data that can be reached from it. Only for CPython 3.12 and 3.13 on 64 bits, with the
/// global lock.
///
/// Returns:
///     How many objects became immortal.
#[pyfunction]
pub(crate) fn immortalise(object: &Bound<'_, PyAny>) -> usize {
    walk(object, true).0
}
