//! How the interpreter lays integers out, which is the same in all versions that forkless knows: a word that says how many
//! digits there are and of which sign, then the digits, of 30 bits each. Up to 3.11 the word is their number, negative for
//! negative integers; from 3.12 on it is their number times eight, plus two for negative ones (`longintrepr.h`).
#![allow(unsafe_code)]

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

const BITS: u32 = 30;
const MASK: u64 = (1 << BITS) - 1;

#[repr(C)]
struct Layout {
    head: ffi::PyObject,
    size: isize,
    digits: [u32; 0],
}

/// Whether this interpreter has such integers; there are builds with digits of 15 bits.
pub(super) fn is_known(py: Python<'_>) -> bool {
    static KNOWN: PyOnceLock<bool> = PyOnceLock::new();
    let bits = || py.import("sys")?.getattr("int_info")?.getattr("bits_per_digit")?.extract::<u32>();
    *KNOWN.get_or_init(py, || bits().is_ok_and(|bits| bits == BITS))
}

/// How many digits an integer has, and whether it is negative.
///
/// # Safety
/// It is an integer, alive, and [`is_known`] was true.
unsafe fn size(int: *mut ffi::PyObject) -> (usize, bool) {
    // SAFETY: the caller's promise.
    let size = unsafe { (*int.cast::<Layout>()).size };
    if cfg!(Py_3_12) { ((size >> 3).cast_unsigned(), size & 3 == 2) } else { (size.unsigned_abs(), size < 0) }
}

/// Bytes that are enough for it in two's complement.
///
/// # Safety
/// As for `size`.
pub(super) unsafe fn length(int: *mut ffi::PyObject) -> usize {
    // SAFETY: the caller's promise. One bit more, for the sign.
    unsafe { size(int).0 * BITS as usize / 8 + 1 }
}

/// Writes an integer in two's complement, the lowest byte first.
///
/// # Safety
/// As for `size`; `into` has [`length`] bytes.
pub(super) unsafe fn write(int: *mut ffi::PyObject, into: &mut [u8]) {
    // SAFETY: the caller's promise; as many digits follow as the size says.
    let (digits, is_negative) = unsafe {
        let (count, is_negative) = size(int);
        let first = (&raw const (*int.cast::<Layout>()).digits).cast::<u32>();
        (std::slice::from_raw_parts(first, count), is_negative)
    };
    let (mut bits, mut held, mut digits) = (0_u64, 0, digits.iter());
    let mut carry = true;
    for byte in into {
        if held < 8 {
            bits |= u64::from(digits.next().copied().unwrap_or(0)) << held;
            held += BITS;
        }
        *byte = bits as u8;
        bits >>= 8;
        held -= 8;
        if is_negative {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
}

/// How many digits an integer of 64 bits takes.
#[inline]
pub(super) fn digits(number: i64) -> u8 {
    let magnitude = number.unsigned_abs();
    1 + u8::from(magnitude > MASK) + u8::from(magnitude >> (2 * BITS) != 0)
}

/// Makes an integer another one.
///
/// # Safety
/// It is an integer made by the interpreter's functions, and nobody but the caller has it: its reference count is 1. It
/// has room for the digits of `number`. [`is_known`] was true, and the interpreter is held.
#[inline]
pub(super) unsafe fn set(int: *mut ffi::PyObject, number: i64) {
    let (count, magnitude) = (digits(number), number.unsigned_abs());
    let sign = number.signum() as isize;
    let size = if cfg!(Py_3_12) { isize::from(count) << 3 | (1 - sign) } else { sign * isize::from(count) };
    let digit = |index: u32| (magnitude >> (BITS * index) & MASK) as u32;
    // SAFETY: the caller's promise: nobody looks at it, and there are as many digits.
    unsafe {
        let layout = int.cast::<Layout>();
        (*layout).size = size;
        let first = ptr::addr_of_mut!((*layout).digits).cast::<u32>();
        first.write(digit(0));
        if count > 1 {
            first.add(1).write(digit(1));
            if count > 2 {
                first.add(2).write(digit(2));
            }
        }
    }
}
