//! What the queues have in common: items into messages and back, waiting, and what there is to say about it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forkless_ipc::{Awaited, Claim, Closing, Joined, Message, Outbox, Packed, Received, Sent};
use forkless_shm::{Error, Waited};
use forkless_sys::time::{Deadline, SLICE};
use forkless_sys::{crash, proc};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple, PyType};

use crate::channel::{Channel, unless_small};
use crate::errors::{OrRaise, raise};
use crate::item::{Item, unpack};
use crate::wait;

/// Items that are packed and sent together by `put_many`.
const BATCH: usize = 256;
/// Sleeps of [`SLICE`] before it is looked whether anybody is left, and between two looks: the first soon, as most who wait
/// in vain do so from the beginning.
const FIRST_LOOK: u32 = 2;
const NEXT_LOOKS: u32 = 20;

/// What `forkless.queues` makes its queues of.
#[pyclass(subclass, frozen, weakref, module = "forkless")]
pub(crate) struct BaseQueue {
    channel: OnceLock<Py<Channel>>,
    /// This process uses it no more.
    closed: AtomicBool,
    /// Whether what was taken is owed until `task_done`, not until `get` returns.
    tasks: OnceLock<bool>,
}

/// Why a wait came to nothing.
enum Vain {
    /// The channel was closed.
    Closed,
    /// Nobody else has it.
    LeftAlone,
}

impl BaseQueue {
    fn channel(&self) -> PyResult<&Channel> {
        let missing = || PyRuntimeError::new_err("the queue's __init__ was not called");
        Ok(self.channel.get().ok_or_else(missing)?.get())
    }

    /// Its channel, if this process may use it.
    fn open<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a forkless_ipc::Channel> {
        let this = slf.get();
        if this.closed.load(Ordering::Relaxed) {
            return Err(raise(slf.py(), "QueueClosed", format!("{} is closed in this process", slf.repr()?)));
        }
        Ok(&this.channel()?.channel)
    }

    /// Sends what is packed. In vain: how many went.
    fn send<'a, M: AsMut<[Packed<'a>]> + Send>(
        py: Python<'_>,
        channel: &forkless_ipc::Channel,
        outbox: &mut Outbox<'a, M>,
        block: bool,
        deadline: impl FnOnce() -> PyResult<Deadline>,
    ) -> PyResult<bool> {
        // First without releasing the interpreter: most sends never wait.
        let first = if block { outbox.send_free() } else { outbox.send_within(Duration::ZERO) };
        match first.or_raise(py)? {
            Sent::Sent => return Ok(true),
            Sent::Closed => return Err(vain(py, &Vain::Closed)),
            Sent::Full | Sent::Interrupted => {}
        }
        if !block {
            return Ok(false);
        }
        let deadline = deadline()?;
        let mut patience = Patience::new(deadline);
        let _note = channel.lease().note_wait(Waited::QueuePut);
        let mut attempt = |bound| {
            Ok(match outbox.send_within(bound)? {
                Sent::Sent => Some(Ok(())),
                Sent::Closed => Some(Err(Vain::Closed)),
                Sent::Full | Sent::Interrupted => None,
            })
        };
        let sent = wait::until(py, deadline, |bound| patience.attempt(channel, bound, &mut attempt))?;
        match sent {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(why)) => Err(vain(py, &why)),
        }
    }

    /// At least one message, unless there is none in time; as many as go by at once, `most` at most.
    fn receive(
        py: Python<'_>,
        channel: &forkless_ipc::Channel,
        most: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Vec<Message>> {
        let mut messages = Vec::new();
        let mut receive = |bound: Duration| -> Result<Option<Result<(), Vain>>, Error> {
            Ok(match channel.receive_many_within(most, bound, Claim::Owed, None, &mut messages)? {
                _ if !messages.is_empty() => Some(Ok(())),
                Received::Closed => Some(Err(Vain::Closed)),
                _ => None,
            })
        };
        let deadline = wait::deadline(block, timeout)?;
        let received = if deadline.passed() {
            receive(Duration::ZERO).or_raise(py)?
        } else {
            let mut patience = Patience::new(deadline);
            let _note = channel.lease().note_wait(Waited::QueueGet);
            wait::until(py, deadline, |bound| patience.attempt(channel, bound, &mut receive))?
        };
        match received {
            Some(Ok(())) => Ok(messages),
            Some(Err(why)) => Err(vain(py, &why)),
            None => Err(empty(py)),
        }
    }

    /// Says that what `get` returns is in good hands.
    fn finished(&self, py: Python<'_>, channel: &forkless_ipc::Channel, count: usize) -> PyResult<()> {
        if self.tasks.get() == Some(&true) { Ok(()) } else { channel.finished(count as u32).or_raise(py) }
    }
}

/// How long a wait without end goes on while nobody else is there.
struct Patience {
    slices: u32,
    look: u32,
    endless: bool,
}

impl Patience {
    fn new(deadline: Deadline) -> Self {
        Self { slices: 0, look: FIRST_LOOK, endless: deadline == Deadline::NEVER }
    }

    /// Makes an attempt that may sleep; and another one if nothing can come any more, as it may have come before that was so.
    fn attempt<T>(
        &mut self,
        channel: &forkless_ipc::Channel,
        bound: Duration,
        mut attempt: impl FnMut(Duration) -> Result<Option<Result<T, Vain>>, Error>,
    ) -> Result<Option<Result<T, Vain>>, Error> {
        let come = attempt(bound)?;
        crash::point("queue.waited");
        if come.is_some() || !self.is_over(channel)? {
            return Ok(come);
        }
        Ok(attempt(Duration::ZERO)?.or(Some(Err(Vain::LeftAlone))))
    }

    /// To be asked after each sleep: whether nothing can come any more, neither from another process nor from another
    /// thread of this one.
    fn is_over(&mut self, channel: &forkless_ipc::Channel) -> Result<bool, Error> {
        self.slices += 1;
        if !self.endless || self.slices < self.look {
            return Ok(false);
        }
        self.look = self.slices + NEXT_LOOKS;
        Ok(proc::thread_count() == Some(1) && channel.is_left_alone()?)
    }
}

fn awaited(room: bool) -> Awaited {
    if room { Awaited::Room } else { Awaited::Message }
}

fn vain(py: Python<'_>, why: &Vain) -> PyErr {
    match why {
        Vain::Closed => raise(py, "ShutDown", "the queue was shut down".to_owned()),
        Vain::LeftAlone => raise(
            py,
            "QueueAbandoned",
            "this would wait for ever: every other process that had the queue has ended or let it go, and this one has no \
             other thread. Look how they ended (Process.exitcode), or have the last of them put an item that says so"
                .to_owned(),
        ),
    }
}

fn empty(py: Python<'_>) -> PyErr {
    static EMPTY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match EMPTY.import(py, "_queue", "Empty") {
        Ok(class) => PyErr::from_type(class.clone(), ()),
        Err(error) => error,
    }
}

/// `sent` says how many items of several went in.
fn full(py: Python<'_>, sent: usize) -> PyErr {
    static FULL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let error = match FULL.import(py, "queue", "Full") {
        Ok(class) => PyErr::from_type(class.clone(), ()),
        Err(error) => error,
    };
    let _ = error.value(py).setattr("sent", sent);
    error
}

#[pymethods]
impl BaseQueue {
    /// Any arguments: they are those of a subclass's `__init__`.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyAny>>) -> Self {
        Self { channel: OnceLock::new(), closed: AtomicBool::new(false), tasks: OnceLock::new() }
    }

    /// Makes this the queue over a channel. `tasks`: what is taken is owed until `task_done`.
    fn _use(&self, channel: Py<Channel>, tasks: bool) {
        // A second `__init__` changes nothing.
        let _ = (self.channel.set(channel), self.tasks.set(tasks));
    }

    #[getter]
    fn _channel(&self, py: Python<'_>) -> PyResult<Py<Channel>> {
        self.channel()?;
        self.channel.get().map(|channel| channel.clone_ref(py)).ok_or_else(|| PyRuntimeError::new_err("no channel"))
    }

    /// Puts an item.
    ///
    /// Args:
    ///     obj: the item; pickled now.
    ///     block: wait while the queue is full.
    ///     timeout: how long to wait, in seconds; None waits for ever, and less than zero counts as zero.
    ///
    /// Raises:
    ///     queue.Full: there was no room in time.
    ///     pickle.PicklingError: the item cannot be sent; the message names what is wrong.
    ///     forkless.QueueClosed: the queue was closed by this process.
    ///     ValueError: the item is larger than `max_bytes`.
    ///     forkless.ShutDown: the queue was shut down.
    ///     forkless.QueueAbandoned: there is no room, and nobody else who could make some.
    #[pyo3(signature = (obj, block = true, timeout = None))]
    fn put(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<()> {
        let py = slf.py();
        let channel = Self::open(slf)?;
        let item = Item::pack(obj)?;
        let pieces = item.pieces()?;
        let content = pieces.content();
        let tag = item.tag();
        let mut outbox = unless_small(py, &content, || channel.pack(tag, &content)).or_raise(py)?;
        if Self::send(py, channel, &mut outbox, block, || wait::deadline(block, timeout))? {
            return Ok(());
        }
        Err(full(py, 0))
    }

    /// Puts several items, at less cost for each than `put`; each is put by itself, in order.
    ///
    /// Args:
    ///     items: the items; taken as they are sent, never all of them at once.
    ///     block: wait while the queue is full.
    ///     timeout: how long to wait altogether, in seconds; None waits for ever.
    ///
    /// Raises:
    ///     queue.Full: there was no room in time for all; its attribute `sent` says how many were put.
    ///     Exception: as in `put`; with `sent` if others were put before.
    #[pyo3(signature = (items, block = true, timeout = None))]
    fn put_many(slf: &Bound<'_, Self>, items: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<()> {
        let py = slf.py();
        let deadline = wait::deadline(block, timeout)?;
        let mut iterator = items.try_iter()?;
        let mut sent = 0;
        loop {
            let batch = iterator.by_ref().take(BATCH).map(|item| Item::pack(&item?)).collect::<PyResult<Vec<_>>>()?;
            if batch.is_empty() {
                return Ok(());
            }
            let pieces = batch.iter().map(Item::pieces).collect::<PyResult<Vec<_>>>()?;
            // An item's pickling may have closed it.
            let channel = Self::open(slf)?;
            let messages = batch.iter().zip(&pieces).map(|(item, pieces)| (item.tag(), pieces.content()));
            let mut outbox = channel.pack_many(messages).or_raise(py)?;
            let all = Self::send(py, channel, &mut outbox, block, || Ok(deadline));
            sent += outbox.sent();
            match all {
                Ok(true) => {}
                Ok(false) => return Err(full(py, sent)),
                Err(error) => {
                    let _ = error.value(py).setattr("sent", sent);
                    return Err(error);
                }
            }
        }
    }

    /// Takes the oldest item.
    ///
    /// Large arrays, tables and buffers in it are not copied: they are where the sender has put them, in shared memory that
    /// nobody else has any more, and that is given back when they are dropped.
    ///
    /// Args:
    ///     block: wait while the queue is empty.
    ///     timeout: how long to wait, in seconds; None waits for ever, and less than zero counts as zero.
    ///     writable: whether such arrays can be written to. It costs nothing.
    ///
    /// Raises:
    ///     queue.Empty: there was nothing in time.
    ///     forkless.QueueClosed: the queue was closed by this process.
    ///     forkless.ShutDown: the queue was shut down, and nothing is left.
    ///     forkless.QueueAbandoned: waiting without a timeout, while every other process that had the queue has ended or let it
    ///         go and this one has no other thread: nothing can come any more.
    #[pyo3(signature = (block = true, timeout = None, *, writable = false))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: bool,
        timeout: Option<f64>,
        writable: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let channel = Self::open(slf)?;
        let message = match channel.receive_free(Claim::Owed).or_raise(py)? {
            Received::Message(message) => message,
            Received::Closed => return Err(vain(py, &Vain::Closed)),
            Received::Empty | Received::Interrupted => {
                let mut messages = Self::receive(py, channel, 1, block, timeout)?;
                messages.pop().ok_or_else(|| empty(py))?
            }
        };
        let item = unpack(py, &message, message.tag, writable);
        slf.get().finished(py, channel, 1)?;
        item
    }

    /// Waits for an item and takes what else is there, at less cost for each than `get`.
    ///
    /// Args:
    ///     max_items: how many to take at most; None takes all that are there.
    ///     block: wait while the queue is empty.
    ///     timeout: how long to wait for the first, in seconds; None waits for ever.
    ///     writable: see `get`.
    ///
    /// Raises:
    ///     queue.Empty: there was nothing in time.
    ///     Exception: as in `get`. An item that cannot be rebuilt raises what `get` would raise; the others that were
    ///         taken with it are in the error's attribute `items`.
    #[pyo3(signature = (max_items = None, block = true, timeout = None, *, writable = false))]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        max_items: Option<usize>,
        block: bool,
        timeout: Option<f64>,
        writable: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = slf.py();
        let channel = Self::open(slf)?;
        let most = match max_items {
            Some(0) => return Ok(PyList::empty(py)),
            other => other.unwrap_or(usize::MAX),
        };
        let mut messages = Self::receive(py, channel, most, block, timeout)?;
        // What is there now, not what a sender adds while it is taken.
        let most = most.min(messages.len() + channel.len().or_raise(py)? as usize);
        let items = PyList::empty(py);
        let mut failed = None;
        let mut taken = 0;
        // A few at a time, so that their bytes are still in the cache, whose places the next ones take.
        while !messages.is_empty() {
            let count = messages.len();
            for message in messages.drain(..) {
                match unpack(py, &message, message.tag, writable) {
                    Ok(item) => items.append(item)?,
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
            slf.get().finished(py, channel, count)?;
            taken += count;
            // What was taken is given, whatever becomes of the rest.
            if taken < most
                && channel.receive_many_within(most - taken, Duration::ZERO, Claim::Owed, None, &mut messages).is_err()
            {
                break;
            }
        }
        match failed {
            None => Ok(items),
            Some(error) => {
                // The others are not to be lost by it. An exception without room for it loses them, and there are none.
                let _ = error.value(py).setattr("items", items);
                Err(error)
            }
        }
    }

    /// How many items there are now; another process may change it at any time.
    fn qsize(&self, py: Python<'_>) -> PyResult<u32> {
        self.channel()?.channel.len().or_raise(py)
    }

    /// Whether there is no item now.
    fn empty(&self, py: Python<'_>) -> PyResult<bool> {
        self.channel()?.channel.is_empty().or_raise(py)
    }

    /// Whether there is no room now.
    fn full(&self, py: Python<'_>) -> PyResult<bool> {
        let channel = &self.channel()?.channel;
        let max_size = channel.max_size().or_raise(py)?;
        let max_bytes = channel.max_bytes().or_raise(py)?;
        Ok(max_size != 0 && channel.len().or_raise(py)? >= max_size
            || max_bytes != 0 && channel.statistics().or_raise(py)?.bytes_waiting >= max_bytes)
    }

    /// Ends the queue, in all processes: `put` raises from now on, and so does `get` once nothing is left.
    ///
    /// Whoever waits is woken.
    ///
    /// Args:
    ///     immediate: throw away what is left. Those items count as done for `JoinableQueue.join`.
    #[pyo3(signature = (immediate = false))]
    fn shutdown(&self, py: Python<'_>, immediate: bool) -> PyResult<()> {
        let closing = if immediate { Closing::Immediate } else { Closing::Graceful };
        let channel = &self.channel()?.channel;
        py.detach(|| channel.close(closing)).or_raise(py)
    }

    /// This process will use the queue no more; others are not affected.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether this process has closed it.
    #[getter]
    fn _closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// (sent, received, bytes waiting, lost, [(name, pid, count)]).
    #[expect(clippy::type_complexity, reason = "named where it is a class, in Python")]
    fn _statistics(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64, Vec<(String, u32, u32)>)> {
        let statistics = self.channel()?.channel.statistics().or_raise(py)?;
        let lost_by = statistics.lost_by.into_iter().map(|loss| (loss.name, loss.pid, loss.count)).collect();
        Ok((statistics.sent, statistics.received, statistics.bytes_waiting, statistics.lost, lost_by))
    }

    /// One task is done. False: all were.
    fn _task_done(&self, py: Python<'_>) -> PyResult<bool> {
        self.channel()?.channel.task_done().or_raise(py)
    }

    fn _unfinished(&self, py: Python<'_>) -> PyResult<u32> {
        self.channel()?.channel.unfinished().or_raise(py)
    }

    /// Waits until all tasks are done: 0, how many were lost, or None when the time is over.
    #[pyo3(signature = (timeout = None))]
    fn _join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<u32>> {
        let channel = &self.channel()?.channel;
        let deadline = wait::deadline(true, timeout)?;
        let mut patience = Patience::new(deadline);
        let _note = channel.lease().note_wait(Waited::QueueJoin);
        let mut attempt = |bound: Duration| {
            Ok(match channel.join_within(bound.min(SLICE))? {
                Joined::Done => Some(Ok(0)),
                Joined::Lost(count) => Some(Ok(count)),
                Joined::Waiting | Joined::Interrupted => None,
            })
        };
        let joined = wait::until(py, deadline, |bound| patience.attempt(channel, bound, &mut attempt))?;
        joined.transpose().map_err(|why| vain(py, &why))
    }

    /// Has a bell rung when there may be an item, or room for one. False: too many hang there already.
    fn _hang(&self, py: Python<'_>, bell: u64, room: bool) -> PyResult<bool> {
        self.channel()?.channel.hang(awaited(room), bell).or_raise(py)
    }

    /// Undoes `_hang`.
    fn _take_down(&self, py: Python<'_>, bell: u64, room: bool) -> PyResult<()> {
        self.channel()?.channel.take_down(awaited(room), bell).or_raise(py)
    }

    /// Generic over nothing at run time: `Queue[int]` in annotations.
    #[classmethod]
    fn __class_getitem__(class: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        class.clone().unbind()
    }
}
