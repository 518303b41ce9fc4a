//! `Dispatcher`: the owner's end of a pool, as Python sees it. What happens for every task happens here; what happens now and
//! then (deaths, deadlines, retries, new workers) is for `forkless._scheduler`, its subclass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use forkless_ipc::{Message as IpcMessage, Parcel};
use forkless_process::pool::{Accepts, Arrived, Board, Dispatch, Order, Payload, Rank, Stage, Tag};
use forkless_shm::{Arena, Error, Owner};
use forkless_sys::atomic::Ordering;
use forkless_sys::time::{Deadline, SLICE, monotonic_ns};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::arrivals::Arrivals;
use super::call::{Call, Function, Parts, encode, encode_to_keep};
use super::future::{self, BaseFuture};
use super::gather::Gather;
use super::lead::Turn;
use super::worker::kind;
use crate::channel::{Channel, Message};
use crate::errors::OrRaise;
use crate::item::{Item, unpack};
use crate::memory::SharedBytes;
use crate::shared::{Shared, home};
use crate::wait;

/// What the collector sleeps longer than it can counts if it is longer than this: then the machine or this process stood still.
const STALL: Duration = Duration::from_millis(500);
/// Items of a `map` that are packed before they are handed over.
const BATCH: usize = 256;
/// Answers that are received at once.
const MOST: usize = 256;
/// Functions that are kept published, in case that they are called again.
const MOST_FUNCTIONS: usize = 256;

/// Where the outcome of a task goes.
enum Sink {
    Future(Py<BaseFuture>),
    Item(Py<Gather>, usize),
    Arrival(Box<Part>),
    /// See `_submit_request`.
    Foreign(Py<PyAny>),
    /// Something with a method `settle(done, value)`.
    Object(Py<PyAny>),
}

/// Some items of the input of an `imap`.
struct Part {
    arrivals: Py<Arrivals>,
    number: u64,
    /// Of the items in the input.
    start: usize,
    /// How many; `None` for one that is not in a list.
    count: Option<usize>,
}

/// What this side has of a task.
struct Token {
    sink: Sink,
    /// Another process has submitted it.
    foreign: Option<Foreign>,
    /// For messages.
    function: Callee,
    /// See `forkless._options`.
    options: Option<Py<PyAny>>,
}

/// One of the tasks of other processes, as long as it has no outcome.
struct Foreign(Arc<AtomicUsize>);

impl Foreign {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a task calls: a `Function`, which keeps it published, or what went along with the task.
struct Callee(Py<PyAny>);

impl Callee {
    fn object(&self, py: Python<'_>) -> Py<PyAny> {
        match self.0.bind(py).cast::<Function>() {
            Ok(function) => function.get().object(py),
            Err(_) => self.0.clone_ref(py),
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }
}

/// The owner's end of a pool: tasks out, outcomes in.
#[pyclass(subclass, frozen, weakref, module = "forkless")]
pub(crate) struct Dispatcher {
    dispatch: Dispatch<Token>,
    arena: &'static Arena,
    board: Py<SharedBytes>,
    /// Published functions, by the function.
    functions: Py<PyDict>,
    /// How many workers work at once.
    size: AtomicUsize,
    /// Tasks of other processes that have no outcome.
    foreign: Arc<AtomicUsize>,
    turn: Turn,
    /// Nothing more is to come: `_step` returns when all is done.
    draining: AtomicBool,
    /// For how long `_step` has slept longer than it can, in nanoseconds.
    stalled: AtomicU64,
}

/// What packs calls.
pub(crate) struct Packer<'a> {
    pub(crate) arena: &'static Arena,
    /// Published functions, by the function.
    pub(crate) functions: &'a Py<PyDict>,
    /// What a pool's owner has to know of the call, if that is another process.
    pub(crate) terms: &'a [u8],
}

/// How a task is to be treated, as far as this matters here.
struct Terms {
    options: Option<Py<PyAny>>,
    rank: Rank,
    /// It may have to be sent several times.
    keep: bool,
}

impl Terms {
    fn of(options: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(options) = options else { return Ok(Self { options: None, rank: Rank::default(), keep: false }) };
        let priority = options.getattr(intern!(options.py(), "priority"))?.extract()?;
        let keep = options.getattr(intern!(options.py(), "retries"))?.is_truthy()?;
        Ok(Self { options: Some(options.unbind()), rank: Rank { priority, depth: 0 }, keep })
    }

    fn token(&self, py: Python<'_>, sink: Sink, function: &Callee) -> Token {
        let function = function.clone_ref(py);
        Token { sink, foreign: None, function, options: self.options.as_ref().map(|options| options.clone_ref(py)) }
    }
}

#[pymethods]
impl Dispatcher {
    /// `workers`: how many work at once. Others that may exist meanwhile have places on the board as well: `places` in all.
    #[new]
    #[pyo3(signature = (workers, places, *_arguments, **_keywords))]
    fn new(
        py: Python<'_>,
        workers: usize,
        places: usize,
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let arena = home(py)?;
        let dispatch = Dispatch::create(arena, workers).or_raise(py)?;
        let board = SharedBytes::create(py, Board::size(places))?;
        Board::of(&board.get().memory).set_owner(arena.me().or_raise(py)?.word()).or_raise(py)?;
        let (size, foreign) = (AtomicUsize::new(workers), Arc::default());
        let (functions, draining) = (PyDict::new(py).unbind(), AtomicBool::new(false));
        let (turn, stalled) = (Turn::new(), AtomicU64::new(0));
        Ok(Self { dispatch, arena, board, functions, size, foreign, turn, draining, stalled })
    }

    /// What a worker is given: where tasks come from, where answers go, the board.
    fn _ends(&self, py: Python<'_>) -> PyResult<(Py<PyAny>, Py<PyAny>, Py<SharedBytes>)> {
        let open = |channel: &forkless_ipc::Channel| {
            let handle = channel.lease().handle().or_raise(py)?;
            Channel::wrap(py, forkless_ipc::Channel::open(self.arena, handle).or_raise(py)?)
        };
        Ok((open(self.dispatch.tasks())?, open(self.dispatch.results())?, self.board.clone_ref(py)))
    }

    /// Accepts the call of a function; its outcome goes to `sink`, a `BaseFuture` or something with `settle(done, value)`. What
    /// cannot be pickled is an outcome too.
    ///
    /// Returns:
    ///     The id of the task, 0 if it has its outcome already.
    #[pyo3(signature = (sink, function, args, kwargs, options = None))]
    fn _submit<'py>(
        slf: &Bound<'py, Self>,
        sink: Bound<'py, PyAny>,
        function: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        kwargs: Bound<'py, PyDict>,
        options: Option<Bound<'py, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.get());
        let terms = Terms::of(options)?;
        let packed = this.packer().pack_call(py, &function, &args, &kwargs, terms.keep);
        let sink = Sink::of(sink);
        let (payload, published) = match packed {
            Ok(packed) => packed,
            Err(error) => return this.fail(py, &sink, error).map(|()| 0),
        };
        let callee = Callee(published.map_or_else(|| function.unbind(), Py::into_any));
        Self::accept(slf, sink, payload, &callee, &terms)
    }

    /// Accepts a task for each item: the call of a function with that item. Their results go to the gatherer, from `start` on.
    #[pyo3(signature = (gather, function, items, options = None))]
    fn _submit_items<'py>(
        slf: &Bound<'py, Self>,
        gather: Bound<'py, Gather>,
        function: Bound<'py, Function>,
        items: Bound<'py, PyAny>,
        options: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let terms = Terms::of(options)?;
        let function = function.unbind();
        let callee = Callee(function.clone_ref(py).into_any());
        let mut orders = Vec::with_capacity(BATCH);
        for (index, item) in items.try_iter()?.enumerate() {
            let sink = Sink::Item(gather.clone().unbind(), index);
            match this.packer().pack_item(py, &function, &item?, Some(index), terms.keep) {
                Ok(payload) => orders.push(Order { payload, token: terms.token(py, sink, &callee) }),
                Err(error) => this.fail(py, &sink, error)?,
            }
            if orders.len() == BATCH {
                let full = std::mem::replace(&mut orders, Vec::with_capacity(BATCH));
                let (_, refused) = this.dispatch.submit_all(full, terms.rank);
                this.refuse(py, refused)?;
            }
        }
        let (_, refused) = this.dispatch.submit_all(orders, terms.rank);
        this.rouse();
        this.refuse(py, refused)
    }

    /// Accepts a task for each of these, which are items, or with `chunks` tuples of items; `start` is the place of the first
    /// item in the input. Their results arrive where they are to be taken out.
    #[pyo3(signature = (arrivals, function, parts, start, chunks, options = None))]
    fn _submit_parts<'py>(
        slf: &Bound<'py, Self>,
        arrivals: Bound<'py, Arrivals>,
        function: Bound<'py, Function>,
        parts: Vec<Bound<'py, PyAny>>,
        mut start: usize,
        chunks: bool,
        options: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let terms = Terms::of(options)?;
        let function = function.unbind();
        let callee = Callee(function.clone_ref(py).into_any());
        let mut orders = Vec::with_capacity(parts.len());
        let mut interrupted = None;
        for part in parts {
            let count = if chunks { Some(part.len()?) } else { None };
            let number = arrivals.get().expect();
            let packed = if chunks {
                this.packer().pack_rest(py, Call::Chunk, &function, &part, Some(start), terms.keep)
            } else {
                this.packer().pack_item(py, &function, &part, Some(start), terms.keep)
            };
            let sink = Sink::Arrival(Box::new(Part { arrivals: arrivals.clone().unbind(), number, start, count }));
            start += count.unwrap_or(1);
            match packed {
                Ok(payload) => orders.push(Order { payload, token: terms.token(py, sink, &callee) }),
                // A part that is expected has to come, also when Ctrl-C is what kept it from being packed.
                Err(error) if !error.is_instance_of::<PyException>(py) => {
                    deliver(py, &sink, false, error.value(py).clone().into_any());
                    interrupted = Some(error);
                    break;
                }
                Err(error) => this.fail(py, &sink, error)?,
            }
        }
        let (_, refused) = this.dispatch.submit_all(orders, terms.rank);
        this.rouse();
        this.refuse(py, refused)?;
        interrupted.map_or(Ok(()), Err)
    }

    /// Accepts one task for a tuple of items, each of which is the argument (with `star`: the arguments) of a call.
    #[pyo3(signature = (sink, function, items, star, options = None))]
    fn _submit_chunk<'py>(
        slf: &Bound<'py, Self>,
        sink: Bound<'py, PyAny>,
        function: Bound<'py, Function>,
        items: Bound<'py, PyTuple>,
        star: bool,
        options: Option<Bound<'py, PyAny>>,
    ) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.get());
        let terms = Terms::of(options)?;
        let call = if star { Call::StarChunk } else { Call::Chunk };
        let function = function.unbind();
        let start = sink.getattr_opt(intern!(py, "start"))?.and_then(|start| start.extract().ok());
        let packed = this.packer().pack_rest(py, call, &function, items.as_any(), start, terms.keep);
        let sink = Sink::of(sink);
        match packed {
            Ok(payload) => Self::accept(slf, sink, payload, &Callee(function.into_any()), &terms),
            Err(error) => this.fail(py, &sink, error).map(|()| 0),
        }
    }

    /// Takes in answers, for `timeout` seconds at most, or until a child has ended or there is something for Python to decide.
    ///
    /// Args:
    ///     timeout: in seconds.
    ///     child_events: what `child_events()` said when the caller last looked for ends of children.
    ///
    /// Returns:
    ///     (kind, id, message) of all that is no mere result.
    fn _step(slf: &Bound<'_, Self>, timeout: f64, child_events: u32) -> PyResult<Vec<(u16, u64, Message)>> {
        let (py, this) = (slf.py(), slf.get());
        let me = this.arena.me().or_raise(py)?;
        let beside = this.arena.child_events(me).map(|word| (word, child_events));
        let changed = || beside.is_some_and(|(word, seen)| word.load(Ordering::Acquire) != seen);
        let deadline = wait::deadline(true, Some(timeout))?;
        let mut events = Vec::new();
        loop {
            let mut refused = Vec::new();
            let bound = deadline.remaining(SLICE);
            // Until this thread has the interpreter again: it may be stopped as it waits for that.
            let sleeping = this.note_stalls(2 * SLICE);
            let received = py.detach(|| {
                this.turn.rest(bound, || changed() || this.dispatch.counts().2 > 0);
                let Some(_turn) = this.turn.take() else {
                    // A leader receives, who is soon done or hands over.
                    std::thread::sleep(Duration::from_micros(200).min(bound));
                    return Ok::<_, Error>(Vec::new());
                };
                let left = this.turn.take_left();
                let bound = if left.is_empty() { deadline.remaining(SLICE) } else { Duration::ZERO };
                let mut arrived = this.dispatch.receive(MOST, bound, beside, is_answer, &mut refused)?;
                arrived.splice(0..0, left);
                Ok(arrived)
            });
            drop(sleeping);
            let arrived = received.or_raise(py)?;
            this.refuse(py, refused)?;
            let any = !arrived.is_empty();
            for arrived in arrived {
                Self::react(slf, arrived, &mut events)?;
            }
            if any {
                let (_, waiting, sent) = this.dispatch.counts();
                this.turn.note(waiting + sent == 0 && events.is_empty());
            }
            future::ring();
            this.refresh(py)?;
            if !events.is_empty() || changed() || deadline.passed() || this.is_drained() {
                return Ok(events);
            }
            py.check_signals()?;
        }
    }

    /// For how many seconds this process, or the whole machine, has stood still while `_step` was asleep: stopped by a signal
    /// or a debugger, paused, frozen, or without a processor.
    fn _stalled(&self) -> f64 {
        Duration::from_nanos(self.stalled.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// From now on `_step` also returns when there are no tasks left.
    fn _drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Wakes whoever is in `_step`.
    fn _wake(&self, py: Python<'_>) -> PyResult<()> {
        self.rouse();
        let channel = self.dispatch.results();
        channel.send(Tag { kind: kind::WAKE, id: 0 }.pack(), &[], &[], Deadline::NEVER).or_raise(py).map(|_| ())
    }

    /// Has one worker end, when it gets there.
    fn _send_stop(&self, py: Python<'_>) -> PyResult<()> {
        self.dispatch.send_stop().or_raise(py)
    }

    /// How many workers there are to be.
    fn _set_workers(&self, workers: usize) {
        self.size.store(workers, Ordering::Relaxed);
        self.dispatch.set_workers(workers);
    }

    /// From now on tasks may come that wait for others, and a task is sent when there is a worker for it.
    fn _expect_nested(&self) {
        self.dispatch.go_stepwise();
    }

    /// (workers that wait within a task for others, how many more are to be at work in their place). Who waits for something
    /// else than the tasks of this pool needs no replacement, so that there are no more of these than of such tasks.
    fn _blocked(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        if !self.dispatch.is_stepwise() {
            return Ok((0, 0));
        }
        let blocked = self.board().blocked().or_raise(py)?;
        Ok((blocked, blocked.min(self.foreign.load(Ordering::Relaxed))))
    }

    /// Says on the board what is accepted from now on: 1 for tasks that running tasks submit, 2 for none.
    fn _accept_only(&self, py: Python<'_>, accepts: u8) -> PyResult<()> {
        self.board().accept(if accepts == 1 { Accepts::Inner } else { Accepts::Nothing }).or_raise(py)
    }

    /// Whether a process has ended, by its word.
    fn _is_gone(&self, process: u32) -> bool {
        Owner::from_word(process).is_none_or(|process| self.arena.is_dead(process))
    }

    /// What another process says about a task that it submits, as it has pickled it.
    #[staticmethod]
    fn _terms_of(py: Python<'_>, request: PyRef<'_, Message>) -> PyResult<Vec<u8>> {
        Parts::of_message(request.inner()).and_then(|parts| parts.terms()).or_raise(py)
    }

    /// Accepts a task that another process submits; nothing but its terms is read here.
    ///
    /// Args:
    ///     reply: has `forward(kind, message)` called with the answer, or `settle(done, value)` with another outcome.
    ///     request: the message.
    ///     options: how to treat it.
    ///     depth: how many tasks it is within.
    fn _submit_request(
        &self,
        py: Python<'_>,
        reply: Py<PyAny>,
        request: PyRef<'_, Message>,
        options: Bound<'_, PyAny>,
        depth: u32,
    ) -> PyResult<u64> {
        let mut terms = Terms::of(Some(options))?;
        terms.rank.depth = depth;
        let payload = match request.inner().parcel() {
            None => Payload::Bytes(request.inner().inline().unwrap_or_default().into()),
            Some(parcel) => {
                let handle = parcel.lease().handle().or_raise(py)?;
                let parcel = Box::new(Parcel::open(self.arena, handle).or_raise(py)?);
                if terms.keep { Payload::Whole(parcel) } else { Payload::Parcel(parcel) }
            }
        };
        let mut token = terms.token(py, Sink::Foreign(reply), &Callee(py.None()));
        token.foreign = Some(Foreign::new(&self.foreign));
        let (id, refused) = self.dispatch.submit(Order { payload, token }, terms.rank);
        self.refuse(py, refused)?;
        Ok(id)
    }

    /// Gives a task its outcome, unless it has one; False if so.
    fn _settle(slf: &Bound<'_, Self>, id: u64, done: bool, value: Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(token) = slf.get().dispatch.take(id) else { return Ok(false) };
        deliver(slf.py(), &token.sink, done, value);
        future::ring();
        Ok(true)
    }

    /// Takes a task out without an outcome. "pending": it had not been sent; "sent": it is left, because it has been; None:
    /// there is none.
    fn _withdraw(&self, id: u64) -> Option<&'static str> {
        match self.dispatch.take_pending(id) {
            Ok(token) => {
                drop(token);
                Some("pending")
            }
            Err(Some(_)) => Some("sent"),
            Err(None) => None,
        }
    }

    /// Takes a task out without an outcome, whatever its stage; its answer will find nothing.
    fn _forget(&self, id: u64) -> bool {
        self.dispatch.take(id).is_some()
    }

    /// Has the task of a message that a worker had claimed when it died wait for `_again`; None if it was answered.
    fn _hold_lost(&self, tag: u64) -> Option<u64> {
        self.dispatch.hold_lost(tag)
    }

    /// Sends a task again that has failed; False if it is gone.
    fn _again(&self, py: Python<'_>, id: u64) -> PyResult<bool> {
        let (again, refused) = self.dispatch.again(id);
        self.refuse(py, refused)?;
        Ok(again)
    }

    /// Asks that a task on its way is not begun; False if there are too many of those.
    fn _revoke(&self, py: Python<'_>, id: u64) -> PyResult<bool> {
        self.board().revoke(id).or_raise(py)
    }

    /// Asks no more that a task is not begun: nobody has it.
    fn _unrevoke(&self, py: Python<'_>, id: u64) -> PyResult<()> {
        self.board().take_revoked(id).or_raise(py).map(|_| ())
    }

    /// Sends what waits, if workers have taken what was sent.
    fn _feed(&self, py: Python<'_>) -> PyResult<()> {
        self.refresh(py)?;
        let refused = self.dispatch.feed_now();
        self.refuse(py, refused)
    }

    /// The ids of the tasks that wait here, or of all.
    fn _ids(&self, pending_only: bool) -> Vec<u64> {
        self.dispatch.ids(pending_only)
    }

    /// How far a task is: "pending", "sent" or "held"; None if it is gone.
    fn _stage(&self, id: u64) -> Option<&'static str> {
        self.dispatch.stage(id).map(|stage| match stage {
            Stage::Pending => "pending",
            Stage::Sent => "sent",
            Stage::Held => "held",
        })
    }

    /// The options with which a task was submitted; None if there were none, or it is gone.
    fn _options_of(&self, py: Python<'_>, id: u64) -> Option<Py<PyAny>> {
        self.dispatch.inspect(id, |_, token| token.options.as_ref().map(|options| options.clone_ref(py)))?
    }

    /// What takes the outcome of a task; None if it is gone.
    fn _sink_of(&self, py: Python<'_>, id: u64) -> Option<Py<PyAny>> {
        self.dispatch.inspect(id, |_, token| match &token.sink {
            Sink::Future(future) => future.clone_ref(py).into_any(),
            Sink::Item(gather, _) => gather.clone_ref(py).into_any(),
            Sink::Arrival(part) => part.arrivals.clone_ref(py).into_any(),
            Sink::Foreign(object) | Sink::Object(object) => object.clone_ref(py),
        })
    }

    /// Which items of an input a task is about: (the first, how many, whether it is one call for several); None if it is about
    /// none that this knows of.
    fn _items_of(&self, id: u64) -> Option<(usize, usize, bool)> {
        self.dispatch.inspect(id, |_, token| match &token.sink {
            Sink::Item(_, index) => Some((*index, 1, false)),
            Sink::Arrival(part) => Some((part.start, part.count.unwrap_or(1), part.count.is_some())),
            Sink::Future(_) | Sink::Foreign(_) | Sink::Object(_) => None,
        })?
    }

    /// `(function, args, kwargs)` of a task, for messages. `args` and `kwargs` are None where they are not kept.
    fn _call_of(&self, py: Python<'_>, id: u64) -> PyResult<Option<Py<PyAny>>> {
        let found = self.dispatch.inspect(id, |payload, token| {
            let bytes = match payload {
                // The arguments of another process are none of ours.
                _ if token.foreign.is_some() => None,
                Payload::Bytes(bytes) => Some(bytes.to_vec()),
                Payload::Kept(kept) => Some(kept.bytes.clone()),
                Payload::Parcel(_) | Payload::Whole(_) | Payload::Gone => None,
            };
            (bytes, token.function.object(py))
        });
        let Some((bytes, function)) = found else { return Ok(None) };
        let parts = bytes.as_ref().map(|bytes| Parts::of_bytes(bytes).or_raise(py)).transpose()?;
        // What does not load here is no reason to say nothing.
        let call = match parts.map(|parts| parts.describe(py, function.clone_ref(py))) {
            Some(Ok(call)) => call,
            Some(Err(_)) | None => (function, py.None(), py.None()).into_pyobject(py)?.into_any(),
        };
        Ok(Some(call.unbind()))
    }

    /// (tasks without an outcome, those that wait here, those on their way).
    fn _counts(&self) -> (usize, usize, usize) {
        self.dispatch.counts()
    }

    /// How many tasks lie in the channel: sent, and taken by no worker.
    fn _untaken(&self, py: Python<'_>) -> PyResult<u32> {
        self.dispatch.tasks().len().or_raise(py)
    }

    /// How many messages have been sent to workers in all, and how many of those some worker has taken.
    fn _passed(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let statistics = self.dispatch.tasks().statistics().or_raise(py)?;
        Ok((statistics.sent, statistics.received))
    }

    /// How many messages workers have sent in all.
    fn _answered(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.dispatch.results().statistics().or_raise(py)?.sent)
    }

    /// Whether so many of those have been taken in; if not, `_step` does it.
    fn _has_taken_in(&self, py: Python<'_>, messages: u64) -> PyResult<bool> {
        // In this order: what was received is in somebody's hands before.
        let received = self.dispatch.results().statistics().or_raise(py)?.received;
        let is_done = received >= messages && self.turn.is_empty_handed();
        if !is_done {
            self.turn.rouse(); // so that it does not rest any more, and nobody leads
        }
        Ok(is_done)
    }

    /// How many tasks may sensibly be on their way just now.
    fn _ahead(&self) -> usize {
        self.dispatch.ahead()
    }

    /// A new worker gets this entry of the board.
    fn _open_entry(&self, py: Python<'_>, index: usize) -> PyResult<()> {
        self.board().open(index, monotonic_ns()).or_raise(py)
    }

    /// The worker that had this entry of the board has ended.
    fn _vacate_entry(&self, py: Python<'_>, index: usize) -> PyResult<()> {
        self.board().vacate(index).or_raise(py)
    }

    /// What stands on the board: (task, since, tasks, busy, received, sent, born, ready, blocked); times in nanoseconds of
    /// the monotonic clock, sizes in bytes.
    #[expect(clippy::type_complexity, reason = "named where it is a class, in Python")]
    fn _entry(&self, py: Python<'_>, index: usize) -> PyResult<(u64, u64, u64, u64, u64, u64, u64, u64, u64)> {
        let entry = self.board().entry(index).or_raise(py)?;
        let forkless_process::pool::Entry { task, since, tasks, busy, received, sent, born, ready, blocked } = entry;
        Ok((Tag::unpack(task).id, since, tasks, busy, received, sent, born, ready, blocked))
    }

    /// Asks a worker to break off a task; it looks when it gets a signal. False if it does not run it any more.
    fn _ask_to_stop(&self, py: Python<'_>, index: usize, task: u64) -> PyResult<bool> {
        let tag = self.board().entry(index).or_raise(py)?.task;
        if Tag::unpack(tag).id != task {
            return Ok(false);
        }
        self.board().interrupt(index, tag).or_raise(py).map(|()| true)
    }

    /// Whether a worker still runs a task; if so, it will not go on to another one, and can be killed.
    fn _doom(&self, py: Python<'_>, index: usize, task: u64) -> PyResult<bool> {
        let tag = self.board().entry(index).or_raise(py)?.task;
        Ok(Tag::unpack(tag).id == task && self.board().doom(index, tag).or_raise(py)?)
    }
}

impl Sink {
    fn of(sink: Bound<'_, PyAny>) -> Self {
        match sink.cast_into::<BaseFuture>() {
            Ok(future) => Self::Future(future.unbind()),
            Err(other) => Self::Object(other.into_inner().unbind()),
        }
    }
}

/// What begins a sleep of a known length. What is longer when this is dropped counts as a stall.
struct Sleeping<'a> {
    stalled: &'a AtomicU64,
    begun: Instant,
    most: Duration,
}

impl Drop for Sleeping<'_> {
    fn drop(&mut self) {
        let over = self.begun.elapsed().saturating_sub(self.most);
        if over > STALL {
            self.stalled.fetch_add(u64::try_from(over.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

impl Dispatcher {
    fn note_stalls(&self, most: Duration) -> Sleeping<'_> {
        Sleeping { stalled: &self.stalled, begun: Instant::now(), most }
    }

    fn is_drained(&self) -> bool {
        self.draining.load(Ordering::Acquire) && self.dispatch.counts().0 == 0
    }

    /// Whether a task is on its way to a worker, or runs there.
    pub(crate) fn has_sent(&self, id: u64) -> bool {
        matches!(self.dispatch.stage(id), Some(Stage::Sent))
    }

    /// Accepts one task; its id.
    fn accept(slf: &Bound<'_, Self>, sink: Sink, payload: Payload, callee: &Callee, terms: &Terms) -> PyResult<u64> {
        let (py, this) = (slf.py(), slf.get());
        let future = match &sink {
            Sink::Future(future) => Some(future.clone_ref(py)),
            Sink::Item(..) | Sink::Arrival(_) | Sink::Foreign(_) | Sink::Object(_) => None,
        };
        // Before it can be done: then it is forgotten who works on it.
        if let Some(future) = &future {
            future.get().assign(Some(slf.clone().unbind()), 0);
        }
        let (id, refused) = this.dispatch.submit(Order { payload, token: terms.token(py, sink, callee) }, terms.rank);
        if let Some(future) = &future {
            future.get().set_id(id);
        }
        this.refuse(py, refused)?;
        Ok(id)
    }

    fn board(&self) -> Board<'_> {
        Board::of(&self.board.get().memory)
    }

    fn packer(&self) -> Packer<'_> {
        Packer { arena: self.arena, functions: &self.functions, terms: &[] }
    }

    /// What came: an outcome is given to whoever wants it, the rest is for Python to decide.
    fn react(slf: &Bound<'_, Self>, arrived: Arrived, events: &mut Vec<(u16, u64, Message)>) -> PyResult<()> {
        let this = slf.get();
        let Arrived { tag, message } = arrived;
        match tag.kind {
            // Without a token, it is the answer of a task that is gone.
            kind::DONE..=kind::LAST_DONE => {
                if let Some(token) = this.dispatch.take(tag.id) {
                    Self::settle(slf, token, tag.kind, message)?;
                }
            }
            // Before the task's answer, which comes next.
            kind::SLOW => {
                slf.call_method1(intern!(slf.py(), "_note_slow"), (tag.id, Message::from(message)))?;
            }
            // In their order: a task that is done is not there any more.
            kind::CONNECT..=kind::LAST_REQUEST => {
                slf.call_method1(intern!(slf.py(), "_requested"), (tag.kind, tag.id, Message::from(message)))?;
            }
            // Before the results that come after it.
            kind::OUTPUT => {
                slf.call_method1(intern!(slf.py(), "_deliver_output"), (Message::from(message),))?;
            }
            other => {
                if other == kind::FAILED {
                    this.dispatch.hold(tag.id);
                }
                events.push((other, tag.id, message.into()));
            }
        }
        Ok(())
    }

    /// Receives in place of the collector, which rests, until a future is done; `false`: it is the collector's turn.
    ///
    /// One answer at a time, so that whatever runs when it is loaded finds no answer that was received and not given out.
    pub(crate) fn lead(slf: &Bound<'_, Self>, future: &BaseFuture, deadline: Deadline) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        while !future.is_done() {
            // Looks once more after the deadline: this process may have been stopped until then.
            let is_last = deadline.passed();
            let mut refused = Vec::new();
            let hands = this.turn.hold();
            let received = py.detach(|| {
                let _turn = this.turn.lead()?;
                let begun = this.turn.look_out(|| this.dispatch.results().len().is_ok_and(|count| count > 0));
                let bound = deadline.remaining(SLICE);
                let mut received = this.dispatch.receive(1, bound, None, is_answer, &mut refused);
                this.turn.note_quick(begun);
                // While it is our turn: nobody may give out the result that comes next before this.
                if let Ok(arrived) = &mut received {
                    arrived
                        .extract_if(.., |arrived| !is_result(arrived.tag.kind))
                        .for_each(|other| this.turn.leave(other));
                }
                Some(received)
            });
            let Some(received) = received else { return Ok(false) };
            let arrived = received.or_raise(py)?;
            let mut outcome = None;
            for arrived in arrived {
                if !this.is_simple(&arrived) {
                    this.turn.leave(arrived);
                } else if let Some(token) = this.dispatch.take(arrived.tag.id) {
                    outcome = Some((token, arrived));
                }
            }
            // Before anything of the user's runs: whoever waits for this would wait for that.
            drop(hands);
            if let Some((token, Arrived { tag, message })) = outcome {
                let interrupt = Self::settle(slf, token, tag.kind, message)?;
                // Ctrl-C while it was loaded is for whoever waits here.
                if let Some(interrupt) = interrupt.filter(|error| error.is_instance_of::<PyKeyboardInterrupt>(py)) {
                    return Err(interrupt);
                }
            }
            this.refuse(py, refused)?;
            let (_, waiting, sent) = this.dispatch.counts();
            if waiting + sent > usize::from(!future.is_done()) {
                this.turn.rouse();
            }
            py.check_signals()?;
            if is_last {
                break;
            }
        }
        Ok(future.is_done())
    }

    /// Whether an answer is a result for a future that nobody watches: to give it out runs nothing of the user's, but what
    /// loads it.
    fn is_simple(&self, arrived: &Arrived) -> bool {
        let simple = |_: &Payload, token: &Token| match &token.sink {
            Sink::Future(future) => !future.get().is_watched(),
            Sink::Item(..) | Sink::Arrival(_) | Sink::Foreign(_) | Sink::Object(_) => false,
        };
        is_result(arrived.tag.kind) && self.dispatch.inspect(arrived.tag.id, simple).unwrap_or(false)
    }

    /// The collector is needed, should it rest.
    pub(crate) fn rouse(&self) {
        if self.turn.is_resting() {
            self.turn.rouse();
        }
    }

    /// In a pool whose tasks wait for others: counts anew who waits, and sends what there is a worker for.
    fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        if self.dispatch.is_stepwise() {
            let wanted = self.size.load(Ordering::Relaxed) + self._blocked(py)?.1;
            self.dispatch.set_workers(wanted.min(self.board().workers()));
            let refused = self.dispatch.feed_now();
            self.refuse(py, refused)?;
        }
        Ok(())
    }

    /// An outcome that came.
    ///
    /// Returns:
    ///     What was raised while it was loaded, for the first time, if that was Ctrl-C or the like: then it is loaded once
    ///     more, so that the outcome is not lost by it.
    fn settle(slf: &Bound<'_, Self>, token: Token, kind: u16, message: IpcMessage) -> PyResult<Option<PyErr>> {
        let py = slf.py();
        if let Sink::Foreign(reply) = &token.sink {
            reply.bind(py).call_method1(intern!(py, "forward"), (kind, Message::from(message)))?;
            return Ok(None);
        }
        let load = || unpack(py, &message, u64::from(kind - kind::DONE), true);
        let (loaded, interrupt) = match load() {
            Err(error) if !error.is_instance_of::<PyException>(py) => (load(), Some(error)),
            loaded => (loaded, None),
        };
        match loaded {
            Ok(value) => deliver(py, &token.sink, true, value),
            Err(error) => {
                let function = token.function.object(py);
                let error = slf.call_method1(intern!(py, "_unreadable"), (function, error.into_value(py)))?;
                deliver(py, &token.sink, false, error);
            }
        }
        Ok(interrupt)
    }

    /// The outcome of a task that could not be sent, or pickled. What is no `Exception` (Ctrl-C) is the caller's.
    fn fail(&self, py: Python<'_>, sink: &Sink, error: PyErr) -> PyResult<()> {
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        deliver(py, sink, false, error.into_value(py).into_bound(py).into_any());
        future::ring();
        Ok(())
    }

    fn refuse(&self, py: Python<'_>, refused: Vec<(Token, Error)>) -> PyResult<()> {
        refused.into_iter().try_for_each(|(token, error)| {
            let error = Err::<(), _>(error).or_raise(py).err();
            error.map_or(Ok(()), |error| self.fail(py, &token.sink, error))
        })
    }
}

impl Packer<'_> {
    pub(crate) fn pack_call(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
        keep: bool,
    ) -> PyResult<(Payload, Option<Py<Function>>)> {
        let Some(published) = self.publish(function)? else {
            let whole = (function, args, kwargs).into_pyobject(py)?.into_any();
            let blame = Blame { what: "call", function: None, first: None };
            if keep {
                return Ok((self.keep_whole(py, Call::Whole, None, &whole, &blame)?, None));
            }
            let item = blame.of(py, pickled(py, &whole), &whole)?;
            return Ok((encode(py, self.arena, Call::Whole, None, self.terms, &item)?, None));
        };
        let payload = if !kwargs.is_empty() {
            self.pack_rest(py, Call::Keywords, &published, (args, kwargs).into_pyobject(py)?.as_any(), None, keep)?
        } else if args.len() == 1 {
            self.pack_item(py, &published, &args.get_item(0)?, None, keep)?
        } else {
            self.pack_rest(py, Call::Arguments, &published, args.as_any(), None, keep)?
        };
        Ok((payload, Some(published)))
    }

    pub(crate) fn pack_item(
        &self,
        py: Python<'_>,
        function: &Py<Function>,
        item: &Bound<'_, PyAny>,
        first: Option<usize>,
        keep: bool,
    ) -> PyResult<Payload> {
        let blame = Blame { what: "argument", function: Some(function), first };
        if keep {
            return self.keep_whole(py, Call::Item, Some(function.get()), item, &blame);
        }
        let packed = blame.of(py, Item::pack(item), item)?;
        encode(py, self.arena, Call::Item, Some(function.get()), self.terms, &packed)
    }

    pub(crate) fn pack_rest(
        &self,
        py: Python<'_>,
        call: Call,
        function: &Py<Function>,
        rest: &Bound<'_, PyAny>,
        first: Option<usize>,
        keep: bool,
    ) -> PyResult<Payload> {
        let what = if call == Call::Keywords { "keywords" } else { "arguments" };
        let blame = Blame { what, function: Some(function), first };
        if keep {
            return self.keep_whole(py, call, Some(function.get()), rest, &blame);
        }
        let packed = blame.of(py, pickled(py, rest), rest)?;
        encode(py, self.arena, call, Some(function.get()), self.terms, &packed)
    }

    /// One piece, for a task that may be sent several times.
    fn keep_whole(
        &self,
        py: Python<'_>,
        call: Call,
        function: Option<&Function>,
        object: &Bound<'_, PyAny>,
        blame: &Blame<'_>,
    ) -> PyResult<Payload> {
        let dumped = py.import("forkless._pickling")?.call_method1("dumps", (object,));
        let dumped = match dumped {
            // Fails again, and says more.
            Err(error) if error.is_instance_of::<PyException>(py) => blame.pack(py, object).and(Err(error)),
            other => other,
        };
        let (pickle, handles): (Vec<u8>, Vec<Bound<'_, Shared>>) = dumped?.extract()?;
        encode_to_keep(py, call, function, self.terms, &pickle, &handles)
    }

    /// A function that can be named, rather than sent along: one that is called by many tasks, and has no state.
    fn publish<'py>(&self, function: &Bound<'py, PyAny>) -> PyResult<Option<Py<Function>>> {
        static PUBLISH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = function.py();
        // To another process a function goes along with its task.
        if !self.terms.is_empty() || !is_plain_function(function) {
            return Ok(None);
        }
        let functions = self.functions.bind(py);
        if let Some(known) = functions.get_item(function)? {
            return Ok(Some(known.cast_into::<Function>()?.unbind()));
        }
        let published = PUBLISH.import(py, "forkless._pickling", "publish_if_lasting")?.call1((function,))?;
        let Ok(published) = published.cast_into::<Function>() else { return Ok(None) };
        if functions.len() >= MOST_FUNCTIONS {
            functions.clear();
        }
        functions.set_item(function, &published)?;
        Ok(Some(published.unbind()))
    }
}

/// Tells whoever wants to know; that may run callbacks of the user, whose errors are not the pool's.
fn deliver(py: Python<'_>, sink: &Sink, done: bool, value: Bound<'_, PyAny>) {
    let told = match sink {
        Sink::Future(future) => BaseFuture::complete(future.bind(py), done, value),
        Sink::Item(gather, index) => Gather::put(gather.bind(py), *index, done, value),
        Sink::Arrival(part) => part.arrivals.get().put(part.number, part.count.is_some(), done, value),
        Sink::Foreign(object) | Sink::Object(object) => {
            object.bind(py).call_method1(intern!(py, "settle"), (done, value)).map(|_| ())
        }
    };
    if let Err(error) = told {
        static REPORT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let reported = REPORT
            .import(py, "forkless._futures", "report_callback")
            .and_then(|report| report.call1((error.value(py),)));
        if let Err(second) = reported {
            second.write_unraisable(py, None);
        }
    }
}

fn is_answer(kind: u16) -> bool {
    is_result(kind) || kind == kind::FAILED
}

fn is_result(kind: u16) -> bool {
    matches!(kind, kind::DONE..=kind::LAST_DONE)
}

/// Functions by `def` and `lambda`, and those of modules in C.
fn is_plain_function(object: &Bound<'_, PyAny>) -> bool {
    static FUNCTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static BUILTIN: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = object.py();
    let kind = object.get_type();
    [(&FUNCTION, "FunctionType"), (&BUILTIN, "BuiltinFunctionType")]
        .iter()
        .any(|(cell, name)| cell.import(py, "types", name).is_ok_and(|class| class.is(&kind)))
}

/// A pickle, whatever the object.
fn pickled<'py>(py: Python<'py>, object: &Bound<'py, PyAny>) -> PyResult<Item<'py>> {
    static PACK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Item::pickle(PACK.import(py, "forkless._pickling", "pack_item")?.call1((object,))?)
}

/// What it is that is packed, for messages.
struct Blame<'a> {
    what: &'static str,
    function: Option<&'a Py<Function>>,
    /// Of some items of an input: the place of the first.
    first: Option<usize>,
}

impl Blame<'_> {
    /// What was packed; an error of it made once more, by a slower function whose message says what is what.
    fn of<'py>(&self, py: Python<'py>, packed: PyResult<Item<'py>>, object: &Bound<'py, PyAny>) -> PyResult<Item<'py>> {
        match packed {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                drop(error);
                Item::pickle(self.pack(py, object)?)
            }
            other => other,
        }
    }

    fn pack<'py>(&self, py: Python<'py>, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.map(|function| function.get().object(py));
        py.import("forkless._pickling")?.call_method1("pack_named", (self.what, object, function, self.first))
    }
}
