//! What a task says: which function to call, and with what.
//!
//! ```text
//! +0 how to call (u8)   +1 format of the rest (u8)   +2 bytes of the terms (u16)
//! +4 generation of the function's parcel (u32)   +8 its offset (u64)
//! +16 the terms   then the rest: an item, see `forkless_ipc::format`
//! ```
//!
//! *Terms* are what the pool's owner reads of a task that another process submits; it leaves the rest alone. The answer of such
//! a task is for that process.
//!
//! A function that many tasks call is *published*: pickled once, into a parcel that stays as long as a task may need it. Tasks
//! name it, and a worker loads it when it first meets it. One that may have state (a closure over a list, a bound method) is
//! loaded for every task, as if it had come along: a task must not see what another has left in it.

use std::sync::Arc;

use forkless_ipc::{Channel, Content, Message, Parcel, format};
use forkless_process::pool::{Kept, Payload};
use forkless_shm::{Arena, Error, Handle};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::channel::{all, bytes_of, sources, unless_small};
use crate::errors::OrRaise;
use crate::item::{Item, unpack_bytes, unpack_parcel};
use crate::shared::{Shared, home, leases};

pub(crate) const HEAD: usize = 16;

/// How to call, and what the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Call {
    /// `(function, args, kwargs)`; no function is named.
    Whole = 0,
    /// One argument.
    Item = 1,
    /// A tuple of arguments.
    Arguments = 2,
    /// `(args, kwargs)`.
    Keywords = 3,
    /// A tuple, each item of which is the argument of a call; answered by a list.
    Chunk = 4,
    /// The same, each item being the arguments of a call.
    StarChunk = 5,
}

impl Call {
    fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Whole, Self::Item, Self::Arguments, Self::Keywords, Self::Chunk, Self::StarChunk];
        all.into_iter().find(|call| *call as u8 == byte)
    }
}

/// A published function.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct Function {
    /// Keeps it there.
    parcel: Parcel,
    handle: Handle,
    /// The function itself, for messages.
    object: Py<PyAny>,
}

#[pymethods]
impl Function {
    /// `reusable`: a worker may call what it has loaded again and again.
    #[new]
    fn new(
        py: Python<'_>,
        object: Py<PyAny>,
        payload: &Bound<'_, PyAny>,
        handles: Vec<Bound<'_, Shared>>,
        buffers: Vec<Bound<'_, PyAny>>,
        reusable: bool,
    ) -> PyResult<Self> {
        let (sources, buffers, leases) = (sources(payload)?, all(&buffers)?, leases(&handles)?);
        let flag = [u8::from(reusable)];
        let mut parts = bytes_of(&sources);
        parts.insert(0, &flag);
        let extents = bytes_of(&buffers);
        let parcel =
            Parcel::pack(home(py)?, &Content { parts: &parts, extents: &extents, handles: &leases }).or_raise(py)?;
        let handle = parcel.lease().handle().or_raise(py)?;
        Ok(Self { parcel, handle, object })
    }

    /// The function itself.
    #[getter]
    pub(crate) fn object(&self, py: Python<'_>) -> Py<PyAny> {
        self.object.clone_ref(py)
    }
}

/// A published function that its task takes along: who submits to another process may end before the task.
fn travelling<'a>(function: Option<&'a Function>, terms: &[u8]) -> Option<&'a Parcel> {
    function.filter(|_| !terms.is_empty()).map(|function| &function.parcel)
}

/// The beginning of a task.
fn head(call: Call, format: u64, function: Option<&Function>, terms: &[u8]) -> PyResult<[u8; HEAD]> {
    let mut head = [0; HEAD];
    (head[0], head[1]) = (call as u8, format as u8);
    let length = u16::try_from(terms.len());
    let length =
        length.map_err(|_| PyValueError::new_err("the options of the task are too large: more than 64 KiB"))?;
    head[2..4].copy_from_slice(&length.to_le_bytes());
    if let Some(Function { handle, .. }) = function {
        head[4..8].copy_from_slice(&handle.generation.to_le_bytes());
        head[8..].copy_from_slice(&handle.offset.to_le_bytes());
    }
    Ok(head)
}

/// A task, ready to be sent. A few bytes are kept as they are; what is large, or has handles, is copied into shared memory
/// now, as it may change before a worker is free.
pub(crate) fn encode(
    py: Python<'_>,
    arena: &'static Arena,
    call: Call,
    function: Option<&Function>,
    terms: &[u8],
    item: &Item<'_>,
) -> PyResult<Payload> {
    let pieces = item.pieces()?;
    let head = head(call, item.tag(), function, terms)?;
    let length = HEAD + terms.len() + pieces.parts.iter().map(|part| part.len()).sum::<usize>();
    let mut handles = pieces.handles;
    handles.extend(travelling(function, terms).map(Parcel::lease));
    if length <= Channel::INLINE_LIMIT && pieces.extents.is_empty() && handles.is_empty() {
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(terms);
        pieces.parts.iter().for_each(|part| bytes.extend_from_slice(part));
        return Ok(Payload::Bytes(bytes.into_boxed_slice()));
    }
    let mut parts: Vec<&[u8]> = vec![&head, terms];
    parts.extend_from_slice(&pieces.parts);
    let content = Content { parts: &parts, extents: &pieces.extents, handles: &handles };
    let parcel = unless_small(py, &content, || Parcel::pack(arena, &content)).or_raise(py)?;
    Ok(Payload::Parcel(Box::new(parcel)))
}

/// A task that may have to be sent several times.
pub(crate) fn encode_to_keep(
    py: Python<'_>,
    call: Call,
    function: Option<&Function>,
    terms: &[u8],
    pickle: &[u8],
    handles: &[Bound<'_, Shared>],
) -> PyResult<Payload> {
    let mut bytes = Vec::with_capacity(HEAD + terms.len() + pickle.len());
    bytes.extend_from_slice(&head(call, format::PICKLE, function, terms)?);
    bytes.extend_from_slice(terms);
    bytes.extend_from_slice(pickle);
    let published = travelling(function, terms);
    if handles.is_empty() && published.is_none() && bytes.len() <= Channel::INLINE_LIMIT {
        return Ok(Payload::Bytes(bytes.into_boxed_slice()));
    }
    // Leases of its own: the objects may be gone when the task is sent.
    let mut kept = Vec::new();
    if let Some(parcel) = published {
        kept.push(parcel.lease().duplicate().or_raise(py)?);
    }
    for shared in handles {
        let object = crate::shared::object(shared)?;
        let lease = object.lease();
        let handle = lease.handle().or_raise(py)?;
        kept.push(lease.arena().open(handle, object.kind()).or_raise(py)?);
    }
    Ok(Payload::Kept(Box::new(Kept { bytes, leases: kept })))
}

/// A task, taken apart.
pub(crate) struct Parts<'a> {
    pub(crate) call: Call,
    format: u64,
    function: Option<(u64, u32)>,
    /// Bytes of terms.
    terms: usize,
    body: Body<'a>,
}

enum Body<'a> {
    Bytes(&'a [u8]),
    Parcel(&'a Arc<Parcel>),
}

const DAMAGED: Error = Error::Corrupt("a task");

impl<'a> Parts<'a> {
    /// Of a message that a worker has received.
    pub(crate) fn of_message(message: &'a Message) -> Result<Self, Error> {
        match message.parcel() {
            None => Self::of_bytes(message.inline().unwrap_or_default()),
            Some(parcel) => {
                let mut head = [0; HEAD];
                let place = parcel.place()?;
                let arena = parcel.lease().arena();
                if place.len() < HEAD || !arena.map().read_into(place.start, &mut head) {
                    return Err(DAMAGED);
                }
                Self::of_head(&head, Body::Parcel(parcel))
            }
        }
    }

    /// Of a task that was not sent, or is kept.
    pub(crate) fn of_bytes(bytes: &'a [u8]) -> Result<Self, Error> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(DAMAGED)?;
        Self::of_head(head, Body::Bytes(rest))
    }

    fn of_head(head: &[u8; HEAD], body: Body<'a>) -> Result<Self, Error> {
        let [call, format, t0, t1, g0, g1, g2, g3, offset @ ..] = *head;
        let call = Call::from_byte(call).ok_or(DAMAGED)?;
        let function = (u64::from_le_bytes(offset), u32::from_le_bytes([g0, g1, g2, g3]));
        let (format, terms) = (u64::from(format), usize::from(u16::from_le_bytes([t0, t1])));
        Ok(Self { call, format, function: Some(function).filter(|at| at.0 != 0), terms, body })
    }

    /// Which published function it names: offset and generation.
    pub(crate) fn function(&self) -> Option<(u64, u32)> {
        self.function
    }

    /// Whether another process than the pool's owner has submitted it, and gets the answer.
    pub(crate) fn is_foreign(&self) -> bool {
        self.terms != 0
    }

    /// What the owner reads of it.
    pub(crate) fn terms(&self) -> Result<Vec<u8>, Error> {
        match self.body {
            Body::Bytes(bytes) => Ok(bytes.get(..self.terms).ok_or(DAMAGED)?.to_vec()),
            Body::Parcel(parcel) => {
                let (place, mut terms) = (parcel.place()?, vec![0; self.terms]);
                let fits = place.len() >= HEAD + self.terms;
                let read = fits && parcel.lease().arena().map().read_into(place.start + HEAD, &mut terms);
                if read { Ok(terms) } else { Err(DAMAGED) }
            }
        }
    }

    /// The rest of it.
    pub(crate) fn load<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.body {
            Body::Bytes(bytes) => unpack_bytes(py, self.format, bytes.get(self.terms..).unwrap_or_default()),
            // Writable: nobody else has that memory.
            Body::Parcel(parcel) => unpack_parcel(py, self.format, parcel, HEAD + self.terms, true),
        }
    }

    /// `(function, args, kwargs)`, for messages. They may be what has killed a worker: nothing of theirs runs.
    pub(crate) fn describe<'py>(&self, py: Python<'py>, function: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let rest = self.recall(py)?;
        Ok(match self.call {
            Call::Whole => {
                let (_, args, kwargs): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) = rest.extract()?;
                (function, args, kwargs).into_pyobject(py)?.into_any()
            }
            Call::Item => (function, (rest,), PyDict::new(py)).into_pyobject(py)?.into_any(),
            Call::Keywords => {
                let (args, kwargs): (Bound<'_, PyAny>, Bound<'_, PyAny>) = rest.extract()?;
                (function, args, kwargs).into_pyobject(py)?.into_any()
            }
            Call::Arguments | Call::Chunk | Call::StarChunk => {
                (function, rest, PyDict::new(py)).into_pyobject(py)?.into_any()
            }
        })
    }

    fn recall<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.body {
            Body::Bytes(bytes) if self.format == format::PICKLE => {
                py.import("forkless._recall")?.call_method1("loads", (PyBytes::new(py, bytes),))
            }
            Body::Bytes(_) | Body::Parcel(_) => self.load(py),
        }
    }
}

/// What a worker has of a published function.
pub(crate) enum Loaded {
    /// The function.
    Reusable(Py<PyAny>),
    /// What it is loaded from each time.
    Fresh(Arc<Parcel>),
}

impl Loaded {
    /// Takes hold of a published function.
    pub(crate) fn open(py: Python<'_>, arena: &'static Arena, (offset, generation): (u64, u32)) -> PyResult<Self> {
        let handle = Handle { arena: arena.id(), offset, generation };
        let parcel = Arc::new(Parcel::open(arena, handle).or_raise(py)?);
        let mut flag = [0];
        let place = parcel.place().or_raise(py)?;
        if place.is_empty() || !arena.map().read_into(place.start, &mut flag) {
            return Err(DAMAGED).or_raise(py);
        }
        if flag == [0] {
            return Ok(Self::Fresh(parcel));
        }
        Ok(Self::Reusable(load_function(py, &parcel)?.unbind()))
    }

    /// The function, to be called once.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Reusable(function) => Ok(function.bind(py).clone()),
            Self::Fresh(parcel) => load_function(py, parcel),
        }
    }
}

/// It is in a tuple, behind the flag. Writable arrays in it would be those of all tasks.
fn load_function<'py>(py: Python<'py>, parcel: &Arc<Parcel>) -> PyResult<Bound<'py, PyAny>> {
    unpack_parcel(py, format::PICKLE, parcel, 1, false)?.get_item(0)
}

/// Calls.
pub(crate) fn perform<'py>(
    call: Call,
    function: &Bound<'py, PyAny>,
    rest: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    match call {
        Call::Item => function.call1((rest,)),
        Call::Arguments => function.call1(rest.cast_into::<PyTuple>()?),
        Call::Keywords | Call::Whole => {
            let (args, kwargs): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = rest.extract()?;
            drop(rest);
            function.call(args, Some(&kwargs))
        }
        Call::Chunk => {
            let items = rest.cast_into::<PyTuple>()?;
            let values = PyList::empty(py);
            for item in items {
                values.append(function.call1((item,))?)?;
            }
            Ok(values.into_any())
        }
        Call::StarChunk => {
            let items = rest.cast_into::<PyTuple>()?;
            let values = PyList::empty(py);
            for item in items {
                let arguments = PyTuple::new(py, item.try_iter()?.collect::<PyResult<Vec<_>>>()?)?;
                values.append(function.call1(arguments)?)?;
            }
            Ok(values.into_any())
        }
    }
}
