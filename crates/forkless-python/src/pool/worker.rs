//! `Worker`: the loop of a worker process. Takes a task, calls, sends back what became of it.
//!
//! While a task runs, its id stands in the process's slot, as the claim of the message, which tells exactly what was lost
//! with a worker; and on the [board](forkless_process::pool::Board), with the time, which tells what it does now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use forkless_ipc::{Claim, Content, Message, Received};
use forkless_process::pool::{Board, Tag};
use forkless_shm::Arena;
use forkless_sys::crash::point;
use forkless_sys::process;
use forkless_sys::time::{Deadline, monotonic_ns};
use pyo3::prelude::*;

use super::call::{Call, Loaded, Parts, perform};
use crate::channel::Channel;
use crate::errors::OrRaise;
use crate::item::Item;
use crate::memory::SharedBytes;
use crate::wait;

/// What an answer is, as the kind in its tag. From [`DONE`] on, it is a result, and the difference is its format.
pub(crate) mod kind {
    /// Something has changed.
    pub(crate) const WAKE: u16 = 0;
    pub(crate) const DONE: u16 = 1;
    pub(crate) const LAST_DONE: u16 = 15;
    /// The task was not begun, as it was cancelled.
    pub(crate) const REVOKED: u16 = 16;
    /// The task has failed; a pickled report tells how.
    pub(crate) const FAILED: u16 = 17;
    /// Something that the worker has printed, logged or warned of.
    pub(crate) const OUTPUT: u16 = 19;
    /// The task, whose answer comes next, is one of the slowest of its worker; nanoseconds.
    pub(crate) const SLOW: u16 = 20;
}

/// The slowest tasks that a worker tells of, and from when on a task is slow.
const MOST_SLOW: usize = 5;
const SLOW_NS: u64 = 1_000_000;

/// Functions that a worker keeps.
const MOST_FUNCTIONS: usize = 256;

/// The worker's end of a pool.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct Worker {
    tasks: Py<Channel>,
    results: Py<Channel>,
    board: Py<SharedBytes>,
    /// Of its entry on the board.
    index: usize,
    /// The tag of the task that user code runs in now.
    current: AtomicU64,
    functions: Mutex<HashMap<(u64, u32), Loaded>>,
    /// How long the slowest tasks took, in nanoseconds.
    slowest: Mutex<Vec<u64>>,
    process: u32,
}

/// What the loop asks of Python.
struct Hooks<'a, 'py> {
    failure: &'a Bound<'py, PyAny>,
    flush: &'a Bound<'py, PyAny>,
}

#[pymethods]
impl Worker {
    #[new]
    fn new(tasks: Py<Channel>, results: Py<Channel>, board: Py<SharedBytes>, index: usize) -> Self {
        Self {
            tasks,
            results,
            board,
            index,
            current: AtomicU64::new(0),
            functions: Mutex::default(),
            slowest: Mutex::default(),
            process: process::id(),
        }
    }

    /// Says on the board that it is ready for tasks.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.board().ready(self.index, monotonic_ns()).or_raise(py)
    }

    /// Runs tasks until told to stop, or until `limit` of them are done, or `retire()` is true after one.
    ///
    /// Args:
    ///     limit: how many tasks at most.
    ///     failure: called with an exception; returns what is sent of it.
    ///     flush: called before an answer is sent.
    ///     retire: called after each task, or None.
    #[pyo3(signature = (limit, failure, flush, retire))]
    fn run(
        &self,
        py: Python<'_>,
        limit: Option<u64>,
        failure: &Bound<'_, PyAny>,
        flush: &Bound<'_, PyAny>,
        retire: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let hooks = Hooks { failure, flush };
        let arena = self.tasks.get().channel.lease().arena();
        let mut done = 0;
        while limit.is_none_or(|limit| done < limit) {
            let message = self.receive(py)?;
            let tag = message.tag;
            if tag == 0 {
                break;
            }
            point("worker.received");
            let id = Tag::unpack(tag).id;
            if self.board().take_revoked(id).or_raise(py)? {
                point("worker.revoked");
                self.send(py, kind::REVOKED, id, &Content { parts: &[&[]], ..Content::default() })?;
            } else {
                self.perform(py, arena, message, &hooks)?;
                done += 1;
            }
            point("worker.done");
            arena.unclaim().or_raise(py)?;
            point("worker.unclaimed");
            if self.board().is_doomed(self.index, tag).or_raise(py)? {
                break;
            }
            if let Some(retire) = retire
                && retire.call0()?.is_truthy()?
            {
                break;
            }
        }
        Ok(())
    }

    /// Sends something that is no outcome of a task.
    fn notify(&self, py: Python<'_>, kind: u16, payload: &[u8]) -> PyResult<()> {
        self.send(py, kind, self.index as u64, &Content { parts: &[payload], ..Content::default() })
    }

    /// The task that user code runs in now, 0 for none.
    #[getter]
    fn current(&self) -> u64 {
        Tag::unpack(self.current.load(Ordering::Relaxed)).id
    }

    /// Whether the owner asks for the task that runs now to be broken off.
    fn is_interrupted(&self, py: Python<'_>) -> PyResult<bool> {
        let current = self.current.load(Ordering::Relaxed);
        Ok(current != 0 && self.board().interrupted(self.index).or_raise(py)? == current)
    }

    /// Says on the board that the task waits for another of its own pool, or does so no more.
    fn block(&self, py: Python<'_>, blocked: bool) -> PyResult<()> {
        self.board().block(self.index, blocked).or_raise(py)
    }
}

impl Worker {
    fn board(&self) -> Board<'_> {
        Board::of(&self.board.get().memory)
    }

    fn receive(&self, py: Python<'_>) -> PyResult<Message> {
        let channel = &self.tasks.get().channel;
        if let Received::Message(message) = channel.receive_free(Claim::Tag).or_raise(py)? {
            return Ok(message);
        }
        let message = wait::until(py, Deadline::NEVER, |bound| {
            Ok::<_, forkless_shm::Error>(match channel.receive_within(bound, Claim::Tag, None)? {
                Received::Message(message) => Some(message),
                Received::Empty | Received::Interrupted | Received::Closed => None,
            })
        })?;
        message.ok_or(forkless_shm::Error::Corrupt("the tasks of a pool")).or_raise(py)
    }

    fn perform(&self, py: Python<'_>, arena: &'static Arena, message: Message, hooks: &Hooks<'_, '_>) -> PyResult<()> {
        let tag = message.tag;
        let id = Tag::unpack(tag).id;
        let size = message.parcel().map_or(Ok(message.inline().map_or(0, <[u8]>::len) as u64), |parcel| parcel.size());
        let begun = monotonic_ns();
        self.board().begin(self.index, tag, size.or_raise(py)?, begun).or_raise(py)?;
        point("worker.begun");
        self.current.store(tag, Ordering::Relaxed);
        let outcome = self
            .call(py, arena, &message)
            .and_then(|value| Item::pack_home(&value).or_else(|error| Err(self.blame(py, arena, &message, error)?)));
        drop(message);
        // What breaks a task off may come at the last moment, while its failure is being described.
        let (kind, item) = match outcome {
            Ok(item) => (kind::DONE + item.tag() as u16, item),
            Err(error) => (kind::FAILED, describe(py, hooks, error)?),
        };
        self.current.store(0, Ordering::Relaxed);
        point("worker.called");
        let _ = hooks.flush.call0();
        self.end_copy(py)?;
        let took = monotonic_ns().saturating_sub(begun);
        if self.is_slow(took) {
            self.send(py, kind::SLOW, id, &Content { parts: &[&took.to_le_bytes()], ..Content::default() })?;
        }
        let sent = item.pieces().and_then(|pieces| {
            let content = pieces.content();
            self.send(py, kind, id, &content)?;
            Ok(content.size().unwrap_or_default() as u64)
        });
        let size = match sent {
            Ok(size) => size,
            // No room for the answer in shared memory: there may still be some for the reason.
            Err(error) => {
                let item = describe(py, hooks, error)?;
                self.send(py, kind::FAILED, id, &item.pieces()?.content())?;
                0
            }
        };
        point("worker.answered");
        self.board().end(self.index, size, monotonic_ns()).or_raise(py)
    }

    fn call<'py>(&self, py: Python<'py>, arena: &'static Arena, message: &Message) -> PyResult<Bound<'py, PyAny>> {
        let parts = Parts::of_message(message).or_raise(py)?;
        let Some(place) = parts.function() else {
            let (function, args, kwargs): (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>) =
                parts.load(py)?.extract()?;
            let rest = (args, kwargs).into_pyobject(py)?.into_any();
            return perform(Call::Whole, &function, rest);
        };
        let function = self.function(py, arena, place)?;
        let rest = parts.load(py)?;
        perform(parts.call, &function, rest)
    }

    /// An error in packing a result, which is to say whose result that is.
    fn blame(&self, py: Python<'_>, arena: &'static Arena, message: &Message, error: PyErr) -> PyResult<PyErr> {
        let parts = Parts::of_message(message).or_raise(py)?;
        let function = match parts.function() {
            Some(place) => self.function(py, arena, place)?,
            None => parts.load(py)?.get_item(0)?,
        };
        let named = py.import("forkless._pickling")?.call_method1("of_call", (error.into_value(py), function))?;
        Ok(PyErr::from_value(named))
    }

    fn function<'py>(&self, py: Python<'py>, arena: &'static Arena, place: (u64, u32)) -> PyResult<Bound<'py, PyAny>> {
        let known = {
            let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
            match functions.get(&place) {
                Some(Loaded::Reusable(function)) => Some(Loaded::Reusable(function.clone_ref(py))),
                Some(Loaded::Fresh(parcel)) => Some(Loaded::Fresh(parcel.clone())),
                None => None,
            }
        };
        if let Some(loaded) = known {
            return loaded.get(py);
        }
        let loaded = Loaded::open(py, arena, place)?;
        let function = loaded.get(py)?;
        let dropped = {
            let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
            let full = functions.len() >= MOST_FUNCTIONS;
            let old = if full { std::mem::take(&mut *functions) } else { HashMap::new() };
            (functions.insert(place, loaded), old)
        };
        drop(dropped);
        Ok(function)
    }

    /// Whether a task that took so long is one of the slowest.
    fn is_slow(&self, took: u64) -> bool {
        if took < SLOW_NS {
            return false;
        }
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        if slowest.len() < MOST_SLOW {
            slowest.push(took);
            return true;
        }
        let quickest = slowest.iter_mut().min();
        quickest.filter(|quickest| took > **quickest).is_some_and(|quickest| {
            *quickest = took;
            true
        })
    }

    fn send(&self, py: Python<'_>, kind: u16, id: u64, content: &Content<'_>) -> PyResult<()> {
        let channel = &self.results.get().channel;
        let tag = Tag { kind, id }.pack();
        let mut outbox = crate::channel::unless_small(py, content, || channel.pack(tag, content)).or_raise(py)?;
        if outbox.send_free().or_raise(py)? == forkless_ipc::Sent::Sent {
            return Ok(());
        }
        wait::until(py, Deadline::NEVER, |bound: Duration| {
            Ok::<_, forkless_shm::Error>(match outbox.send_within(bound)? {
                forkless_ipc::Sent::Sent | forkless_ipc::Sent::Closed => Some(()),
                forkless_ipc::Sent::Full | forkless_ipc::Sent::Interrupted => None,
            })
        })?;
        Ok(())
    }

    /// A copy of this process that user code has made, and that came back from its task, is not a second worker: its
    /// answer would be the same as the original's.
    fn end_copy(&self, py: Python<'_>) -> PyResult<()> {
        if process::id() != self.process {
            py.import("os")?.call_method1("_exit", (0,))?;
        }
        Ok(())
    }
}

/// What is sent of an error.
fn describe<'py>(py: Python<'py>, hooks: &Hooks<'_, 'py>, error: PyErr) -> PyResult<Item<'py>> {
    let packed = match hooks.failure.call1((error.into_value(py),)) {
        Ok(packed) => packed,
        // Broken off once more.
        Err(second) => hooks.failure.call1((second.into_value(py),))?,
    };
    Item::pickle(packed)
}
