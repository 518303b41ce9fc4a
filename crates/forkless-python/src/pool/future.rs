//! `BaseFuture`: an outcome that is there now or later; what `Future` and `AsyncResult` inherit from.
//!
//! It has the fields of `concurrent.futures.Future` under their names, so the standard library's functions work with it. But
//! the condition, the list of waiters and the list of callbacks are made when somebody asks for them: until then the future
//! is not *watched*, and completing it is a few stores, with no lock of Python's. Nothing runs between the look whether it
//! is watched and those stores, as both happen while this thread has the interpreter.
//!
//! Threads that wait for it without being watched wait for a bell that belongs to the process: whoever has completed some
//! futures rings it once.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use forkless_shm::Waited;
use forkless_sys::process;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyList, PyString};

use super::dispatcher::Dispatcher;
use super::worker::Blocked;
use crate::errors::raise;
use crate::wait;

const PENDING: u8 = 0;
const RUNNING: u8 = 1;
const CANCELLED: u8 = 2;
const CANCELLED_AND_NOTIFIED: u8 = 3;
const FINISHED: u8 = 4;

/// As the standard library calls them, by number.
const NAMES: [&str; 5] = ["PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED"];

/// An outcome, there now or later.
#[pyclass(subclass, weakref, frozen, module = "forkless")]
pub(crate) struct BaseFuture {
    state: AtomicU8,
    /// Somebody has asked for its condition, its waiters or its callbacks.
    watched: AtomicBool,
    /// The process in which it comes true.
    process: u32,
    /// Of its task.
    id: AtomicU64,
    parts: Mutex<Parts>,
    watch: OnceLock<Box<Watch>>,
}

/// There may be millions of futures, so this is small.
#[derive(Default)]
struct Parts {
    /// Who works on it, until it is done: a `Dispatcher`; or a `forkless._nested.Remote`, for a pool of another process,
    /// by which the outcome comes when somebody looks for it.
    owner: Option<Py<PyAny>>,
    /// Until it is done, what is to live until then.
    value: Option<Py<PyAny>>,
    content: Content,
}

/// What the value is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Content {
    #[default]
    Kept,
    Result,
    Exception,
}

impl Parts {
    /// Puts a value there; what was there is to be dropped by the caller, when the lock is free.
    fn put(&mut self, content: Content, value: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        self.content = content;
        std::mem::replace(&mut self.value, value)
    }

    fn get(&self, py: Python<'_>, content: Content) -> Option<Py<PyAny>> {
        self.value.as_ref().filter(|_| self.content == content).map(|value| value.clone_ref(py))
    }
}

struct Watch {
    condition: Py<PyAny>,
    waiters: Py<PyAny>,
    callbacks: Py<PyAny>,
}

/// Rung whenever some futures of this process are done.
struct DoneBell {
    sleepers: AtomicU32,
    mutex: Mutex<()>,
    condvar: Condvar,
}

static BELL: DoneBell = DoneBell { sleepers: AtomicU32::new(0), mutex: Mutex::new(()), condvar: Condvar::new() };

impl DoneBell {
    fn ring(&self) {
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            drop(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            self.condvar.notify_all();
        }
    }

    /// Sleeps at most `bound`, unless `ready`.
    fn sleep(&self, ready: impl Fn() -> bool, bound: Duration) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready() {
            drop(self.condvar.wait_timeout(guard, bound));
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Wakes those who wait for futures that have been completed.
pub(crate) fn ring() {
    BELL.ring();
}

/// Sleeps at most `bound`, unless `ready`, which is to change before such a ring.
pub(crate) fn sleep(ready: impl Fn() -> bool, bound: Duration) {
    BELL.sleep(ready, bound);
}

fn outcome(done: bool) -> Content {
    if done { Content::Result } else { Content::Exception }
}

impl BaseFuture {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is this task of that pool now.
    pub(crate) fn assign(&self, owner: Option<Py<Dispatcher>>, id: u64) {
        self.id.store(id, Ordering::Relaxed);
        let before = std::mem::replace(&mut self.parts().owner, owner.map(Py::into_any));
        drop(before);
    }

    /// Its place among the tasks of its pool.
    pub(crate) fn set_id(&self, id: u64) {
        self.id.store(id, Ordering::Relaxed);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CANCELLED
    }

    /// Gives it its outcome, an exception unless `done`. Whoever calls this [rings](ring) afterwards.
    pub(crate) fn complete(slf: &Bound<'_, Self>, done: bool, value: Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if this.watched.load(Ordering::Acquire) {
            let method = if done { intern!(slf.py(), "set_result") } else { intern!(slf.py(), "set_exception") };
            return slf.call_method1(method, (value,)).map(|_| ());
        }
        let mut parts = this.parts();
        if this.is_done() {
            return Ok(());
        }
        let kept = (parts.put(outcome(done), Some(value.unbind())), parts.owner.take());
        this.state.store(FINISHED, Ordering::Release);
        drop(parts);
        drop(kept);
        Ok(())
    }

    /// Whether Python is told of its outcome.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    fn watch(&self, py: Python<'_>) -> PyResult<&Watch> {
        if let Some(watch) = self.watch.get() {
            return Ok(watch);
        }
        let condition = py.import("threading")?.call_method0("Condition")?.unbind();
        let (waiters, callbacks) = (PyList::empty(py).into_any().unbind(), PyList::empty(py).into_any().unbind());
        // Of two threads that get here, one has made its own in vain.
        let _ = self.watch.set(Box::new(Watch { condition, waiters, callbacks }));
        self.watched.store(true, Ordering::Release);
        // Whoever watches does not wait here, so somebody else has to bring the outcome.
        if let Some(dispatcher) = self.dispatcher(py) {
            dispatcher.get().rouse();
        } else if let Some(remote) = self.remote(py) {
            remote.call_method1(py, intern!(py, "attend"), (self.id.load(Ordering::Relaxed),))?;
        }
        let watch = self.watch.get().map(AsRef::as_ref);
        watch.ok_or_else(|| PyValueError::new_err("a future without a condition"))
    }

    /// What has to look for its outcome, if that comes from another process.
    fn remote(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self._owner(py).filter(|owner| owner.bind(py).cast::<Dispatcher>().is_err())
    }

    /// The pool that works on it, if it is one of this process.
    fn dispatcher(&self, py: Python<'_>) -> Option<Py<Dispatcher>> {
        Some(self._owner(py)?.into_bound(py).cast_into::<Dispatcher>().ok()?.unbind())
    }

    fn is_sent(&self, py: Python<'_>) -> bool {
        match self.dispatcher(py) {
            Some(dispatcher) => dispatcher.get().has_sent(self.id.load(Ordering::Relaxed)),
            // For its owner alone to know; on its way there it is.
            None => self.remote(py).is_some(),
        }
    }

    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.process == process::id() {
            return Ok(());
        }
        let message = format!(
            "what is waited for happens in process {}, which this one was forked from: submit the task here",
            self.process
        );
        Err(raise(py, "ProcessError", message))
    }
}

#[pymethods]
impl BaseFuture {
    /// Any arguments: they are those of a subclass's `__init__`.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyAny>, _keywords: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            state: AtomicU8::new(PENDING),
            watched: AtomicBool::new(false),
            process: process::id(),
            id: AtomicU64::new(0),
            parts: Mutex::default(),
            watch: OnceLock::new(),
        }
    }

    /// Waits until it is done; False if it is not after `timeout` seconds. None waits for ever.
    #[pyo3(signature = (timeout = None))]
    fn _wait(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if this.is_done() {
            return Ok(true);
        }
        this.check_process(py)?;
        if let Some(remote) = this.remote(py) {
            return remote.call_method1(py, intern!(py, "wait_for"), (slf, timeout))?.extract(py);
        }
        let deadline = wait::deadline(true, timeout)?;
        if deadline.passed() {
            return Ok(false);
        }
        let _blocked = Blocked::enter(py);
        let _note = wait::note(py, Waited::Result, 0);
        if let Some(owner) = this.dispatcher(py)
            && Dispatcher::lead(owner.bind(py), this, deadline)?
        {
            return Ok(true);
        }
        let done = wait::until(py, deadline, |bound| {
            BELL.sleep(|| this.is_done(), bound);
            Ok::<_, forkless_shm::Error>(this.is_done().then_some(()))
        })?;
        Ok(done.is_some())
    }

    /// Whether it is done, with or without success, or cancelled.
    fn done(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if !this.is_done()
            && let Some(remote) = this.remote(py)
        {
            remote.call_method1(py, intern!(py, "look"), (slf,))?;
        }
        Ok(this.is_done())
    }

    /// As `done`, without a look for outcomes that come from another process.
    fn _is_done(&self) -> bool {
        self.is_done()
    }

    /// Whether somebody may have to be told, rather than waits.
    fn _is_watched(&self) -> bool {
        self.is_watched()
    }

    /// It is this call of a pool of another process now.
    fn _assign(&self, remote: Py<PyAny>, id: u64) {
        self.id.store(id, Ordering::Relaxed);
        let before = self.parts().owner.replace(remote);
        drop(before);
    }

    /// Gives it its outcome.
    fn _complete(slf: &Bound<'_, Self>, done: bool, value: Bound<'_, PyAny>) -> PyResult<()> {
        let completed = Self::complete(slf, done, value);
        ring();
        completed
    }

    /// Whether it was cancelled.
    fn cancelled(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), CANCELLED | CANCELLED_AND_NOTIFIED)
    }

    /// Its place among the tasks of its pool.
    #[getter]
    fn _task(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// The pool that works on it; None when it is done.
    #[getter]
    fn _owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts().owner.as_ref().map(|owner| owner.clone_ref(py))
    }

    #[getter]
    fn _state<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let mut state = self.state.load(Ordering::Acquire);
        // Nobody tells the future that its task was sent.
        if state == PENDING && self.is_sent(py) {
            state = RUNNING;
        }
        PyString::intern(py, NAMES[usize::from(state).min(4)])
    }

    #[setter(_state)]
    fn store_state(&self, name: &str) -> PyResult<()> {
        let unknown = || PyValueError::new_err(format!("no state of a future: {name:?}"));
        let state = NAMES.iter().position(|known| *known == name).ok_or_else(unknown)?;
        let owner = if state >= usize::from(CANCELLED) { self.parts().owner.take() } else { None };
        self.state.store(state as u8, Ordering::Release);
        ring();
        drop(owner);
        Ok(())
    }

    #[getter]
    fn _result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts().get(py, Content::Result)
    }

    #[setter(_result)]
    fn store_result(&self, value: Option<Py<PyAny>>) {
        let before = self.parts().put(Content::Result, value);
        drop(before);
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts().get(py, Content::Exception)
    }

    #[setter(_exception)]
    fn store_exception(&self, value: Option<Py<PyAny>>) {
        let before = self.parts().put(Content::Exception, value);
        drop(before);
    }

    #[getter]
    fn _condition(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.watch(py)?.condition.clone_ref(py))
    }

    #[getter]
    fn _waiters(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.watch(py)?.waiters.clone_ref(py))
    }

    #[getter]
    fn _done_callbacks(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.watch(py)?.callbacks.clone_ref(py))
    }

    /// Keeps something alive until it is done.
    fn _keep(&self, kept: Py<PyAny>) {
        let before = self.parts().put(Content::Kept, Some(kept));
        drop(before);
    }

    /// Has `set_result` and `set_exception` called, rather than the outcome stored, when it is there.
    fn _watch(&self) {
        self.watched.store(true, Ordering::Release);
    }

    /// Stores an outcome; False if there was one.
    fn _store(&self, done: bool, value: Py<PyAny>) -> bool {
        let mut parts = self.parts();
        if self.is_done() {
            drop(parts);
            return false;
        }
        let kept = (parts.put(outcome(done), Some(value)), parts.owner.take());
        self.state.store(FINISHED, Ordering::Release);
        drop(parts);
        ring();
        drop(kept);
        true
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A callback may know its future. The list of callbacks is cleared by itself.
        if let Some(watch) = self.watch.get() {
            visit.call(&watch.condition)?;
            visit.call(&watch.waiters)?;
            visit.call(&watch.callbacks)?;
        }
        // Whoever holds the lock runs no Python, so nobody collects garbage meanwhile in this thread.
        let Ok(parts) = self.parts.try_lock() else { return Ok(()) };
        parts.value.as_ref().map_or(Ok(()), |value| visit.call(value))
    }

    fn __clear__(&self) {
        let before = match self.parts.try_lock() {
            Ok(mut parts) => parts.value.take(),
            Err(_) => return,
        };
        drop(before);
    }
}
