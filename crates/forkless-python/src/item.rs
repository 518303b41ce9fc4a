//! Objects as messages: what has no parts and no class of its own goes as it is, all else as a pickle.

use std::sync::Arc;

use forkless_ipc::{Content, Message, Parcel, format};
use forkless_shm::{Error, Lease};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PySlice, PyString};
use smallvec::{SmallVec, smallvec};

use crate::buffer::Source;
use crate::channel::{all, bytes_of, sources};
use crate::errors::arena;
use crate::memory::{view_of_bytes, views_of_extents};
use crate::shared::{Shared, leases};

/// An item on its way: the tag and the bytes of its message, kept alive.
pub(crate) enum Item<'py> {
    Bytes(Bound<'py, PyBytes>),
    Text(Bound<'py, PyString>),
    Plain(u64, [u8; 8], usize),
    Pickle(Bound<'py, PyBytes>),
    Large(Large<'py>),
}

/// A pickle in pieces, and what travels beside it.
pub(crate) struct Large<'py> {
    parts: Vec<Source>,
    buffers: Vec<Source>,
    handles: Vec<Bound<'py, Shared>>,
}

impl<'py> Item<'py> {
    /// What has no parts and no class of its own goes as it is, all else as a pickle.
    pub(crate) fn pack(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        match Self::plain(object)? {
            Some(plain) => Ok(plain),
            None => Self::pickle(PACK.import(object.py(), "forkless._pickling", "pack_item")?.call1((object,))?),
        }
    }

    /// As [`Self::pack`], for the process that started this one.
    pub(crate) fn pack_home(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        static PACK_HOME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        match Self::plain(object)? {
            Some(plain) => Ok(plain),
            None => Self::pickle(PACK_HOME.import(object.py(), "forkless._pickling", "pack_result")?.call1((object,))?),
        }
    }

    /// An object that goes as it is.
    fn plain(object: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return Ok(Some(Self::Bytes(bytes.clone())));
        }
        if let Ok(text) = object.cast_exact::<PyString>() {
            // Unless it has halves of surrogate pairs, which UTF-8 has not.
            if text.to_str().is_ok() {
                return Ok(Some(Self::Text(text.clone())));
            }
        } else if object.cast_exact::<PyInt>().is_ok() {
            if let Ok(number) = object.extract::<i64>() {
                return Ok(Some(Self::Plain(format::INT, number.to_le_bytes(), 8)));
            }
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            return Ok(Some(Self::Plain(format::FLOAT, number.value().to_le_bytes(), 8)));
        } else if object.is_none() {
            return Ok(Some(Self::Plain(format::NONE, [0; 8], 0)));
        } else if let Ok(truth) = object.cast_exact::<PyBool>() {
            return Ok(Some(Self::Plain(if truth.is_true() { format::TRUE } else { format::FALSE }, [0; 8], 0)));
        }
        Ok(None)
    }

    /// What a function of `forkless._pickling` has made: bytes, or `Packed`.
    pub(crate) fn pickle(packed: Bound<'py, PyAny>) -> PyResult<Self> {
        let packed = match packed.cast_into_exact::<PyBytes>() {
            Ok(pickle) => return Ok(Self::Pickle(pickle)),
            Err(other) => other.into_inner(),
        };
        let (payload, handles, buffers): (Bound<'py, PyAny>, _, Vec<_>) = packed.extract()?;
        Ok(Self::Large(Large { parts: sources(&payload)?, buffers: all(&buffers)?, handles }))
    }

    /// Which format it has.
    pub(crate) fn tag(&self) -> u64 {
        match self {
            Self::Bytes(_) => format::BYTES,
            Self::Text(_) => format::STR,
            Self::Plain(tag, ..) => *tag,
            Self::Pickle(_) | Self::Large(_) => format::PICKLE,
        }
    }

    /// Refers to all of it.
    pub(crate) fn pieces(&self) -> PyResult<Pieces<'_>> {
        Ok(match self {
            Self::Bytes(bytes) | Self::Pickle(bytes) => Pieces::of(bytes.as_bytes()),
            Self::Text(text) => Pieces::of(text.to_str()?.as_bytes()),
            Self::Plain(_, bytes, length) => Pieces::of(&bytes[..*length]),
            Self::Large(large) => Pieces {
                parts: bytes_of(&large.parts).into(),
                extents: bytes_of(&large.buffers),
                handles: leases(&large.handles)?,
            },
        })
    }
}

/// What a [`Content`] is made of.
pub(crate) struct Pieces<'a> {
    pub(crate) parts: SmallVec<[&'a [u8]; 1]>,
    pub(crate) extents: Vec<&'a [u8]>,
    pub(crate) handles: Vec<&'a Lease>,
}

impl<'a> Pieces<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { parts: smallvec![bytes], extents: Vec::new(), handles: Vec::new() }
    }

    pub(crate) fn content(&self) -> Content<'_> {
        Content { parts: &self.parts, extents: &self.extents, handles: &self.handles }
    }
}

static PACK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
/// The one in C.
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The item of a message. `writable`: whether what is used where it arrived can be written to.
pub(crate) fn unpack<'py>(
    py: Python<'py>,
    message: &Message,
    format: u64,
    writable: bool,
) -> PyResult<Bound<'py, PyAny>> {
    match message.parcel() {
        None => unpack_bytes(py, format, message.inline().unwrap_or_default()),
        Some(parcel) => unpack_parcel(py, format, parcel, 0, writable),
    }
}

/// An item that is in these bytes.
pub(crate) fn unpack_bytes<'py>(py: Python<'py>, format: u64, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let damaged = || arena(py, &Error::Corrupt("the format of a message"));
    let word = || bytes.try_into().map_err(|_| damaged());
    Ok(match format {
        format::PICKLE => return LOADS.import(py, "_pickle", "loads")?.call1((PyBytes::new(py, bytes),)),
        format::BYTES => PyBytes::new(py, bytes).into_any(),
        format::STR => PyString::from_bytes(py, bytes)?.into_any(),
        format::INT => i64::from_le_bytes(word()?).into_pyobject(py)?.into_any(),
        format::FLOAT => PyFloat::new(py, f64::from_le_bytes(word()?)).into_any(),
        format::NONE => py.None().into_bound(py),
        format::FALSE | format::TRUE => PyBool::new(py, format == format::TRUE).to_owned().into_any(),
        _ => return Err(damaged()),
    })
}

/// An item that is in a parcel, behind its first `skip` bytes.
pub(crate) fn unpack_parcel<'py>(
    py: Python<'py>,
    format: u64,
    parcel: &Arc<Parcel>,
    skip: usize,
    writable: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let view = view_of_bytes(py, parcel)?;
    if format != format::PICKLE {
        let view = Source::get(&view)?;
        return unpack_bytes(py, format, view.bytes().get(skip..).unwrap_or_default());
    }
    let body =
        if skip == 0 { view.into_any() } else { view.get_item(PySlice::new(py, skip.cast_signed(), isize::MAX, 1))? };
    let keywords = PyDict::new(py);
    keywords.set_item("buffers", views_of_extents(py, parcel, writable)?)?;
    LOADS.import(py, "_pickle", "loads")?.call((body,), Some(&keywords))
}
