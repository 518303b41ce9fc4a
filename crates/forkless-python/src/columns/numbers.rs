//! Iteration over numbers, about as fast as over a list of them.
//!
//! A list has its numbers as objects; here each is made as it is asked for, and freed soon. What takes time is the
//! allocator, which would make `sum` three times as slow as for a list. So an iterator keeps the last two objects that it
//! gave out: one that nobody else has any more, as its reference count says, becomes the next number. `sum` drops each number
//! before it asks for the next, a `for` loop the one before the last; hence two. Tuples are reused like this by the
//! interpreter itself, in `zip` and `enumerate`.
//!
//! This is a type made by hand: calling one of PyO3's costs more than all that is done here.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::int;
use crate::buffer::SharedBuffer;

/// What an iterator goes over.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Numbers {
    Ints,
    Floats,
}

/// The integers that the interpreter has once for all (`_PY_NSMALLNEGINTS`, `_PY_NSMALLPOSINTS`).
const SMALLEST: i64 = -5;
const SMALL: u64 = 5 + 256;

#[repr(C)]
struct Iterator {
    head: ffi::PyObject,
    /// Keeps the memory.
    owner: *mut ffi::PyObject,
    kind: Numbers,
    /// Where the next number is; how far to the one after it, in numbers; how many there are.
    next: *const [u8; 8],
    step: isize,
    left: usize,
    /// Numbers that were given out, with the digits that they have room for, and which of them is the older one.
    kept: [*mut ffi::PyObject; 2],
    room: [u8; 2],
    older: usize,
}

/// An iterator over `count` numbers of this kind: items `first`, `first + step`, ... from `array` on.
///
/// # Safety
/// All these items are within the bytes of `owner`.
pub(super) unsafe fn iterate<'py>(
    owner: &Bound<'py, SharedBuffer>,
    kind: Numbers,
    array: *const [u8; 8],
    (first, step, count): (isize, isize, usize),
) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    let class = class(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: the type is one whose instances are an `Iterator`, and all its fields are set before anybody has it. Without
    // memory it is null, and an exception is set.
    unsafe {
        let object = ffi::PyType_GenericAlloc(class, 0);
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let this = object.as_ptr().cast::<Iterator>();
        (*this).owner = owner.clone().into_ptr();
        (*this).kind = kind;
        (*this).next = array.wrapping_offset(first);
        (*this).step = step;
        (*this).left = count;
        (*this).kept = [ptr::null_mut(); 2];
        (*this).room = [0; 2];
        (*this).older = 0;
        Ok(object)
    }
}

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
        let mut slots = [
            slot(ffi::Py_tp_iter, ffi::PyObject_SelfIter as *mut c_void),
            slot(ffi::Py_tp_iternext, next as *mut c_void),
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(0, ptr::null_mut()),
        ];
        let mut spec = ffi::PyType_Spec {
            name: c"forkless.NumberIterator".as_ptr(),
            basicsize: size_of::<Iterator>() as c_int,
            itemsize: 0,
            flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as u32,
            slots: slots.as_mut_ptr(),
        };
        // SAFETY: the slots end with an empty one, and their functions have the signatures that they should.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec)).map(Bound::unbind) }
    })?;
    Ok(class.bind(py))
}

/// # Safety
/// Called by the interpreter, which is held, with an `Iterator`.
unsafe extern "C" fn next(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise. `next` is at an item as long as some are left (`iterate`). Nothing here runs code of
    // Python: only numbers are made and dropped.
    unsafe {
        let this = &mut *this.cast::<Iterator>();
        if this.left == 0 {
            return ptr::null_mut();
        }
        let bytes = this.next.read();
        this.left -= 1;
        this.next = this.next.wrapping_offset(this.step);
        match this.kind {
            Numbers::Ints => this.int(i64::from_le_bytes(bytes)),
            Numbers::Floats => this.float(f64::from_le_bytes(bytes)),
        }
    }
}

impl Iterator {
    /// # Safety
    /// The interpreter is held.
    unsafe fn int(&mut self, number: i64) -> *mut ffi::PyObject {
        // SAFETY: what is kept is an integer that is none of the small ones, so with a reference count of 1 it is ours alone,
        // and it has the room that was noted.
        unsafe {
            if number.wrapping_sub(SMALLEST).cast_unsigned() <= SMALL {
                return ffi::PyLong_FromLongLong(number);
            }
            let kept = self.kept[self.older];
            let digits = int::digits(number);
            if !kept.is_null() && digits <= self.room[self.older] && ffi::Py_REFCNT(kept) == 1 {
                int::set(kept, number);
                return self.give_out(kept);
            }
            self.keep(ffi::PyLong_FromLongLong(number), digits)
        }
    }

    /// # Safety
    /// The interpreter is held.
    unsafe fn float(&mut self, number: f64) -> *mut ffi::PyObject {
        // SAFETY: what is kept is a float, and with a reference count of 1 it is ours alone.
        unsafe {
            let kept = self.kept[self.older];
            if !kept.is_null() && ffi::Py_REFCNT(kept) == 1 {
                (*kept.cast::<ffi::PyFloatObject>()).ob_fval = number;
                return self.give_out(kept);
            }
            self.keep(ffi::PyFloat_FromDouble(number), 1)
        }
    }

    /// # Safety
    /// The interpreter is held, and `kept` is the older one of those kept.
    unsafe fn give_out(&mut self, kept: *mut ffi::PyObject) -> *mut ffi::PyObject {
        self.older ^= 1;
        // SAFETY: it is alive.
        unsafe { ffi::Py_INCREF(kept) };
        kept
    }

    /// # Safety
    /// The interpreter is held, and `fresh` is a new reference, or null.
    unsafe fn keep(&mut self, fresh: *mut ffi::PyObject, room: u8) -> *mut ffi::PyObject {
        if fresh.is_null() {
            return fresh;
        }
        let dropped = std::mem::replace(&mut self.kept[self.older], fresh);
        self.room[self.older] = room;
        // SAFETY: a reference of ours, or null.
        unsafe { ffi::Py_XDECREF(dropped) };
        // SAFETY: it is kept now, as the older one until it is given out.
        unsafe { self.give_out(fresh) }
    }
}

/// # Safety
/// Called by the interpreter, which is held, with an `Iterator` that nobody has any more.
unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the caller's promise; the references are ours. An instance of a type made at run time has a reference to it.
    unsafe {
        let this = object.cast::<Iterator>();
        let class = ffi::Py_TYPE(object);
        ffi::Py_XDECREF((*this).kept[0]);
        ffi::Py_XDECREF((*this).kept[1]);
        ffi::Py_XDECREF((*this).owner);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}
