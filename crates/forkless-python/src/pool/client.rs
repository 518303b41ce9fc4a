//! `Client`: what another process of the tree has of a pool. It asks the pool's owner to have calls made; what becomes of
//! them it gets through a channel of its own. The rest is in `forkless._nested`, its subclass.

use forkless_ipc::Content;
use forkless_process::pool::{Board, Payload};
use forkless_shm::{Arena, Owner};
use forkless_sys::time::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::call::{Call, Function};
use super::dispatcher::Packer;
use crate::channel::Channel;
use crate::errors::OrRaise;
use crate::memory::SharedBytes;
use crate::shared::home;
use crate::wait;

/// A pool of another process.
#[pyclass(subclass, frozen, weakref, module = "forkless")]
pub(crate) struct Client {
    arena: &'static Arena,
    /// What the owner reads.
    requests: Py<Channel>,
    board: Py<SharedBytes>,
    /// Published functions, by the function.
    functions: Py<PyDict>,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (requests, board, *_arguments, **_keywords))]
    fn new(
        py: Python<'_>,
        requests: Py<Channel>,
        board: Py<SharedBytes>,
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self { arena: home(py)?, requests, board, functions: PyDict::new(py).unbind() })
    }

    /// Asks for the call of a function.
    ///
    /// Args:
    ///     tag: of the message.
    ///     terms: what the owner has to know, pickled.
    ///     keep: it may be called several times.
    fn _request(
        &self,
        py: Python<'_>,
        tag: u64,
        terms: &[u8],
        call: (Bound<'_, PyAny>, Bound<'_, PyTuple>, Bound<'_, PyDict>),
        keep: bool,
    ) -> PyResult<()> {
        let (function, args, kwargs) = call;
        let (payload, _) = self.packer(terms).pack_call(py, &function, &args, &kwargs, keep)?;
        self.send(py, tag, payload)
    }

    /// Asks for the call of a published function with one argument, an item of an input, at this place in it.
    fn _request_item(
        &self,
        py: Python<'_>,
        tag: u64,
        terms: &[u8],
        call: (Bound<'_, Function>, Bound<'_, PyAny>, usize),
        keep: bool,
    ) -> PyResult<()> {
        let (function, item, place) = call;
        let payload = self.packer(terms).pack_item(py, &function.unbind(), &item, Some(place), keep)?;
        self.send(py, tag, payload)
    }

    /// Asks for calls of a published function, one for each item of a tuple; with `star`, an item is several arguments. The last
    /// is the place of the first one in the input, if there is one.
    fn _request_chunk(
        &self,
        py: Python<'_>,
        tag: u64,
        terms: &[u8],
        call: (Bound<'_, Function>, Bound<'_, PyTuple>, bool, Option<usize>),
        keep: bool,
    ) -> PyResult<()> {
        let (function, items, star, start) = call;
        let kind = if star { Call::StarChunk } else { Call::Chunk };
        let payload = self.packer(terms).pack_rest(py, kind, &function.unbind(), items.as_any(), start, keep)?;
        self.send(py, tag, payload)
    }

    /// What the owner accepts: 0 all, 1 what its running tasks submit, 2 nothing. None: it has ended.
    fn _accepted(&self, py: Python<'_>) -> PyResult<Option<u8>> {
        let board = Board::of(&self.board.get().memory);
        let owner = Owner::from_word(board.owner().or_raise(py)?);
        if owner.is_none_or(|owner| self.arena.is_dead(owner)) {
            return Ok(None);
        }
        Ok(Some(board.accepts().or_raise(py)? as u8))
    }

    /// The word that stands for this process.
    fn _me(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.arena.me().or_raise(py)?.word())
    }
}

impl Client {
    fn packer<'a>(&'a self, terms: &'a [u8]) -> Packer<'a> {
        Packer { arena: self.arena, functions: &self.functions, terms }
    }

    fn send(&self, py: Python<'_>, tag: u64, payload: Payload) -> PyResult<()> {
        let channel = &self.requests.get().channel;
        let (parts, handles): ([&[u8]; 1], Vec<_>) = match &payload {
            Payload::Bytes(bytes) => ([&**bytes], Vec::new()),
            Payload::Kept(kept) => ([&kept.bytes], kept.leases.iter().collect()),
            Payload::Parcel(_) | Payload::Whole(_) | Payload::Gone => ([&[]], Vec::new()),
        };
        let content = Content { parts: &parts, handles: &handles, ..Content::default() };
        let mut outbox = match payload {
            Payload::Parcel(parcel) | Payload::Whole(parcel) => channel.forward(tag, *parcel),
            Payload::Bytes(_) | Payload::Kept(_) => channel.pack(tag, &content),
            Payload::Gone => return Err(PyValueError::new_err("a task without anything to be sent")),
        }
        .or_raise(py)?;
        wait::until(py, Deadline::NEVER, |bound| {
            Ok::<_, forkless_shm::Error>(match outbox.send_within(bound)? {
                forkless_ipc::Sent::Sent | forkless_ipc::Sent::Closed => Some(()),
                forkless_ipc::Sent::Full | forkless_ipc::Sent::Interrupted => None,
            })
        })?;
        Ok(())
    }
}
