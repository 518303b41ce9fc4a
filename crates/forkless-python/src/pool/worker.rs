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
use forkless_shm::{Arena, Waited};
use forkless_sys::crash::point;
use forkless_sys::process;
use forkless_sys::time::{Deadline, monotonic_ns};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

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
    /// What processes say that submit tasks of their own, see `forkless._requests`.
    pub(crate) const CONNECT: u16 = 22;
    pub(crate) const LAST_REQUEST: u16 = 26;
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

/// The worker that this process is.
static CURRENT: PyOnceLock<Py<Worker>> = PyOnceLock::new();

/// While it lives, this process's task waits for others. Without anybody being told: whoever cares looks when there are
/// tasks that nobody can do.
pub(crate) struct Blocked(Option<(Py<Worker>, u64)>);

impl Blocked {
    pub(crate) fn enter(py: Python<'_>) -> Self {
        let worker = CURRENT.get(py).filter(|worker| worker.get().process == process::id());
        Self(worker.and_then(|worker| Some((worker.clone_ref(py), worker.get().enter_wait()?))))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some((worker, task)) = &self.0 {
            worker.get().leave_wait(*task);
        }
    }
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
    ///     failure: called with an exception, and whether it is for the process that started this one; returns what is sent of it.
    ///     flush: called before an answer is sent.
    ///     retire: called after each task, or None.
    #[pyo3(signature = (limit, failure, flush, retire))]
    fn run(
        slf: &Bound<'_, Self>,
        limit: Option<u64>,
        failure: &Bound<'_, PyAny>,
        flush: &Bound<'_, PyAny>,
        retire: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let _ = CURRENT.set(py, slf.clone().unbind());
        let hooks = Hooks { failure, flush };
        let arena = this.tasks.get().channel.lease().arena();
        let mut done = 0;
        while limit.is_none_or(|limit| done < limit) {
            let message = this.receive(py)?;
            let tag = message.tag;
            if tag == 0 {
                break;
            }
            point("worker.received");
            let id = Tag::unpack(tag).id;
            if this.board().take_revoked(id).or_raise(py)? {
                point("worker.revoked");
                this.send(py, kind::REVOKED, id, &Content { parts: &[&[]], ..Content::default() })?;
            } else {
                this.perform(py, arena, message, &hooks)?;
                done += 1;
            }
            point("worker.done");
            arena.unclaim().or_raise(py)?;
            point("worker.unclaimed");
            if this.board().is_doomed(this.index, tag).or_raise(py)? {
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

    /// Says on the board that the task waits for another, and to the owner that it is to look there.
    ///
    /// Returns:
    ///     What `unblock` is to be given; 0 if no task runs here.
    fn block(&self, py: Python<'_>) -> PyResult<u64> {
        let task = if self.process == process::id() { self.enter_wait().unwrap_or(0) } else { 0 };
        if task != 0 {
            self.send(py, kind::WAKE, self.index as u64, &Content { parts: &[&[]], ..Content::default() })?;
        }
        Ok(task)
    }

    /// The task waits no more.
    fn unblock(&self, task: u64) {
        if self.process == process::id() {
            self.leave_wait(task);
        }
    }

    /// Where answers go.
    #[getter]
    fn results(&self, py: Python<'_>) -> Py<Channel> {
        self.results.clone_ref(py)
    }
}

impl Worker {
    fn board(&self) -> Board<'_> {
        Board::of(&self.board.get().memory)
    }

    /// The task that waits now.
    fn enter_wait(&self) -> Option<u64> {
        let task = self.current();
        (task != 0 && self.board().block(self.index, true).is_ok()).then_some(task)
    }

    /// One wait of a task is over. If the task is, nothing of it stands on the board any more.
    fn leave_wait(&self, task: u64) {
        if task != 0 && self.current() == task {
            let _ = self.board().block(self.index, false);
        }
    }

    fn receive(&self, py: Python<'_>) -> PyResult<Message> {
        let channel = &self.tasks.get().channel;
        if let Received::Message(message) = channel.receive_free(Claim::Tag).or_raise(py)? {
            return Ok(message);
        }
        let _note = channel.lease().note_wait(Waited::Task);
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
        let (home, value) = self.call(py, arena, &message);
        let outcome = value.and_then(|value| {
            let packed = if home { Item::pack_home(&value) } else { Item::pack(&value) };
            packed.or_else(|error| Err(self.blame(py, arena, &message, error)?))
        });
        drop(message);
        // What breaks a task off may come at the last moment, while its failure is being described.
        let (kind, item) = match outcome {
            Ok(item) => (kind::DONE + item.tag() as u16, item),
            Err(error) => (kind::FAILED, describe(py, hooks, error, home)?),
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
                let item = describe(py, hooks, error, home)?;
                self.send(py, kind::FAILED, id, &item.pieces()?.content())?;
                0
            }
        };
        point("worker.answered");
        self.board().end(self.index, size, monotonic_ns()).or_raise(py)
    }

    /// What becomes of a task; and whether that is for the process which started this one.
    fn call<'py>(
        &self,
        py: Python<'py>,
        arena: &'static Arena,
        message: &Message,
    ) -> (bool, PyResult<Bound<'py, PyAny>>) {
        match Parts::of_message(message).or_raise(py) {
            Ok(parts) => (!parts.is_foreign(), self.call_parts(py, arena, &parts)),
            Err(error) => (true, Err(error)),
        }
    }

    fn call_parts<'py>(
        &self,
        py: Python<'py>,
        arena: &'static Arena,
        parts: &Parts<'_>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(place) = parts.function() else {
            let (function, args, kwargs): (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>) =
                load(py, parts)?.extract()?;
            let rest = (args, kwargs).into_pyobject(py)?.into_any();
            return perform(Call::Whole, &function, rest);
        };
        let function = self.function(py, arena, place)?;
        let rest = load(py, parts)?;
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

/// What a task brings along. If that cannot be loaded, it is to be told from what the task itself would raise.
fn load<'py>(py: Python<'py>, parts: &Parts<'_>) -> PyResult<Bound<'py, PyAny>> {
    parts.load(py).map_err(|error| {
        let told =
            py.import("forkless._errors").and_then(|errors| errors.call_method1("of_loading", (error.into_value(py),)));
        told.map_or_else(|problem| problem, PyErr::from_value)
    })
}

/// What is sent of an error.
fn describe<'py>(py: Python<'py>, hooks: &Hooks<'_, 'py>, error: PyErr, home: bool) -> PyResult<Item<'py>> {
    let packed = match hooks.failure.call1((error.into_value(py), home)) {
        Ok(packed) => packed,
        // Broken off once more.
        Err(second) => hooks.failure.call1((second.into_value(py), home))?,
    };
    Item::pickle(packed)
}
