//! The interpreter's objects, as they are looked at while they become columns.
//!
//! Only objects of the plain types themselves are taken, not of subclasses: those may be more than their value.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ptr;

use forkless_columns::{Item, Look};
use pyo3::ffi;
use pyo3::prelude::*;

use super::int;

/// A borrowed object, or none for a part that a record does not have.
///
/// While there is one, the interpreter is held and runs no code: whoever makes one, or plans columns from one, sees to it. So
/// the object, and all that it contains, is alive and does not change.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Object<'a>(*mut ffi::PyObject, PhantomData<&'a ()>);

impl<'a> Object<'a> {
    pub(super) fn new(object: &'a Bound<'_, PyAny>) -> Self {
        Self(object.as_ptr(), PhantomData)
    }

    /// # Safety
    /// `items` are the items of a living container; see [`Object`].
    unsafe fn slice(items: *const *mut ffi::PyObject, count: isize) -> &'a [Self] {
        if count == 0 {
            return &[];
        }
        // SAFETY: the caller's promise; an `Object` is a pointer, whatever its lifetime.
        unsafe { std::slice::from_raw_parts(items.cast::<Self>(), count.cast_unsigned()) }
    }
}

/// Text as the interpreter has it: 1, 2 or 4 bytes for each character.
struct Characters {
    kind: u32,
    data: *const u8,
    count: usize,
}

impl Characters {
    /// # Safety
    /// It is text, alive for as long as this is used.
    unsafe fn of(text: *mut ffi::PyObject) -> Self {
        // SAFETY: the caller's promise. Text that old functions have made may have to be made ready; that runs no code of
        // Python. When there is no memory for it, it reads as empty, and so is no danger.
        unsafe {
            if ffi::PyUnicode_READY(text) != 0 {
                ffi::PyErr_Clear();
                return Self { kind: 1, data: ptr::null(), count: 0 };
            }
            let count = ffi::PyUnicode_GET_LENGTH(text).cast_unsigned();
            Self { kind: ffi::PyUnicode_KIND(text), data: ffi::PyUnicode_DATA(text).cast::<u8>(), count }
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count).map(|index| {
            // SAFETY: within the text, whose characters are as wide as its kind says, and aligned to that.
            unsafe {
                match self.kind {
                    1 => u32::from(*self.data.add(index)),
                    2 => u32::from(*self.data.cast::<u16>().add(index)),
                    _ => *self.data.cast::<u32>().add(index),
                }
            }
        })
    }
}

/// Bytes of UTF-8. Halves of surrogate pairs take three, as if they were characters.
fn utf8_length(character: u32) -> usize {
    match character {
        0..0x80 => 1,
        0x80..0x800 => 2,
        0x800..0x1_0000 => 3,
        _ => 4,
    }
}

fn write_utf8(characters: impl Iterator<Item = u32>, into: &mut [u8]) {
    let mut rest = into;
    for character in characters {
        let length = utf8_length(character);
        let Some((here, after)) = rest.split_at_mut_checked(length) else { return };
        let lead = [0, 0, 0xc0, 0xe0, 0xf0][length];
        for (index, byte) in here.iter_mut().enumerate() {
            let bits = (character >> (6 * (length - 1 - index))) as u8;
            *byte = match (index, length) {
                (0, 1) => character as u8,
                (0, _) => lead | bits,
                _ => 0x80 | bits & 0x3f,
            };
        }
        rest = after;
    }
}

impl<'a> Item<'a> for Object<'a> {
    const MISSING: Self = Self(ptr::null_mut(), PhantomData);

    #[inline]
    fn look(self) -> Look {
        let object = self.0;
        if object.is_null() {
            return Look::Missing;
        }
        // SAFETY: it is alive and of the type that was asked for; see `Object`. None of these functions runs code of Python.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == &raw mut ffi::PyLong_Type {
                let mut overflow = 0;
                let number = ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow);
                if overflow == 0 { Look::Int(number) } else { Look::Big(int::length(object)) }
            } else if kind == &raw mut ffi::PyFloat_Type {
                Look::Float(ffi::PyFloat_AS_DOUBLE(object))
            } else if kind == &raw mut ffi::PyUnicode_Type {
                let characters = Characters::of(object);
                if ffi::PyUnicode_IS_ASCII(object) != 0 {
                    Look::Text(characters.count)
                } else {
                    Look::Text(characters.iter().map(utf8_length).sum())
                }
            } else if kind == &raw mut ffi::PyBool_Type {
                Look::Truth(object == ffi::Py_True())
            } else if object == ffi::Py_None() {
                Look::Nothing
            } else if kind == &raw mut ffi::PyBytes_Type {
                Look::Bytes(ffi::PyBytes_Size(object).cast_unsigned())
            } else if kind == &raw mut ffi::PyTuple_Type {
                Look::Tuple
            } else if kind == &raw mut ffi::PyList_Type {
                Look::List
            } else if kind == &raw mut ffi::PyDict_Type {
                Look::Map
            } else {
                Look::Other
            }
        }
    }

    fn identity(self) -> usize {
        self.0.addr()
    }

    fn write(self, into: &mut [u8]) {
        let object = self.0;
        // SAFETY: as in `look`, which is where the length of `into` comes from; nothing has changed since.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == &raw mut ffi::PyLong_Type {
                int::write(object, into);
            } else if kind == &raw mut ffi::PyBytes_Type {
                let bytes = ffi::PyBytes_AsString(object).cast::<u8>();
                into.copy_from_slice(std::slice::from_raw_parts(bytes, into.len()));
            } else {
                let characters = Characters::of(object);
                if ffi::PyUnicode_IS_ASCII(object) != 0 && into.len() == characters.count && !into.is_empty() {
                    into.copy_from_slice(std::slice::from_raw_parts(characters.data, into.len()));
                } else {
                    write_utf8(characters.iter(), into);
                }
            }
        }
    }

    fn items(self) -> Cow<'a, [Self]> {
        let object = self.0;
        // SAFETY: it is a list or a tuple, as whoever calls this has seen; see `Object`.
        let items = unsafe {
            if ffi::Py_TYPE(object) == &raw mut ffi::PyList_Type {
                Self::slice((*object.cast::<ffi::PyListObject>()).ob_item, ffi::PyList_GET_SIZE(object))
            } else {
                let first = &raw const (*object.cast::<ffi::PyTupleObject>()).ob_item;
                Self::slice(first.cast(), ffi::PyTuple_GET_SIZE(object))
            }
        };
        Cow::Borrowed(items)
    }

    fn entries(self, each: &mut dyn FnMut(Self, Self)) {
        let (mut place, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        // SAFETY: it is a dictionary, as whoever calls this has seen, and does not change; see `Object`.
        while unsafe { ffi::PyDict_Next(self.0, &raw mut place, &raw mut key, &raw mut value) } != 0 {
            each(Self(key, PhantomData), Self(value, PhantomData));
        }
    }
}
