//! `forkless.Condition`.

use forkless_shm::{Acquired, Attempt, Error, Wait, Waited};
use forkless_sync::{Condvar, Waiter};
use forkless_sys::futex::Woken;
use forkless_sys::time::Deadline;
use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::errors::{Death, OrRaise};
use crate::lock::Lock;
use crate::recovery::Robust;
use crate::rlock::RLock;
use crate::shared::{Reduced, Shared, belongs_to_none, home, reduce};
use crate::wait;

/// A condition variable between processes: wait, with a lock released meanwhile, until somebody says that something has
/// changed.
///
/// Works in any process of the tree however it was started, and travels, with its lock, through arguments, queues, pipes
/// and pool tasks at any time. `notify` wakes those first that have waited longest; a waiter that is killed takes no
/// notification with it.
///
/// If a process dies while it holds the lock, `acquire` and `with` do what the lock does. `wait`, which has to take
/// the lock back, raises `OwnerDied` *holding* it, so that the `with` block around it ends as always; if the lock has a
/// `recover` function, `wait` returns true after that, as if notified.
///
/// Args:
///     lock: a `Lock` or `RLock` of forkless; None for a new `RLock`.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct Condition {
    pub(crate) condvar: Condvar,
    guard: Guard,
}

/// The lock beside it.
enum Guard {
    Lock(Py<Lock>),
    RLock(Py<RLock>),
}

/// How the lock was taken back.
enum Taken {
    Clean,
    /// From the dead, and their data were repaired.
    Repaired,
    /// From the dead: what to raise.
    Torn(PyErr),
}

impl Guard {
    fn new(py: Python<'_>, lock: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(lock) = lock else { return Ok(Self::RLock(RLock::create(py)?)) };
        let lock = match lock.cast_into::<RLock>() {
            Ok(lock) => return Ok(Self::RLock(lock.unbind())),
            Err(error) => error.into_inner(),
        };
        match lock.cast_into::<Lock>() {
            Ok(lock) => Ok(Self::Lock(lock.unbind())),
            Err(error) => Err(PyTypeError::new_err(format!(
                "a condition needs a Lock or RLock of forkless, not {}",
                error.into_inner().get_type().fully_qualified_name()?
            ))),
        }
    }

    fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        match self {
            Self::Lock(lock) => lock.bind(py).as_any(),
            Self::RLock(lock) => lock.bind(py).as_any(),
        }
    }

    /// Whether this thread holds it; of a plain lock, which knows no threads, whether this process does.
    fn is_mine(&self) -> Result<bool, Error> {
        match self {
            Self::Lock(lock) => {
                let mutex = lock.get().mutex();
                Ok(mutex.holder()? == Some(mutex.lease().arena().me()?))
            }
            Self::RLock(lock) => lock.get().mutex().is_mine(),
        }
    }

    /// Gives it back entirely; how often it was held.
    fn release_all(&self) -> Result<u32, Error> {
        match self {
            Self::Lock(lock) => lock.get().mutex().release().map(u32::from),
            Self::RLock(lock) => lock.get().mutex().release_all(),
        }
    }

    fn acquire_within(&self, wait: &mut Wait, bound: std::time::Duration) -> Result<Option<Acquired>, Error> {
        let attempt = match self {
            Self::Lock(lock) => lock.get().mutex().acquire_within(wait, bound),
            Self::RLock(lock) => lock.get().mutex().acquire_within(wait, bound),
        };
        Ok(match attempt? {
            Attempt::Acquired(acquired) => Some(acquired),
            Attempt::Again | Attempt::Interrupted => None,
        })
    }

    /// Whether its owner died with it and nobody has taken it since.
    fn is_left(&self) -> Result<bool, Error> {
        let (holder, arena) = match self {
            Self::Lock(lock) => (lock.get().mutex().holder()?, lock.get().mutex().lease().arena()),
            Self::RLock(lock) => (lock.get().mutex().holder()?, lock.get().mutex().lease().arena()),
        };
        Ok(holder.is_some_and(|holder| arena.is_dead(holder)))
    }

    /// Takes it as often as it was held before. Held in the end, but for an exception.
    fn acquire_all(&self, py: Python<'_>, count: u32) -> PyResult<Taken> {
        let mut wait = Wait::new();
        let acquired = match self.acquire_within(&mut wait, std::time::Duration::ZERO).or_raise(py)? {
            Some(acquired) => acquired,
            None => {
                let _note = match self {
                    Self::Lock(lock) => lock.get().mutex().note_wait(),
                    Self::RLock(lock) => lock.get().mutex().note_wait(),
                };
                wait::until(py, Deadline::NEVER, |bound| self.acquire_within(&mut wait, bound))?
                    .ok_or_else(|| PyValueError::new_err("a wait without end has ended"))?
            }
        };
        if let Self::RLock(lock) = self {
            lock.get().mutex().set_count(count).or_raise(py)?;
        }
        match acquired {
            Acquired::Clean => Ok(Taken::Clean),
            Acquired::FromTheDead(owner) => {
                let (death, recovery): (Result<Death, Error>, _) = match self {
                    Self::Lock(lock) => (lock.get().mutex().death(owner), lock.get().recovery()),
                    Self::RLock(lock) => (lock.get().mutex().death(owner), lock.get().recovery()),
                };
                Ok(recovery.run_holding(py, &death.or_raise(py)?).map_or(Taken::Repaired, Taken::Torn))
            }
        }
    }
}

impl Condition {
    fn parts(condvar: Condvar, guard: Guard) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { condvar, guard })
    }

    pub(crate) fn wrap(py: Python<'_>, condvar: Condvar, lock: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(condvar, Guard::new(py, lock)?))?.into_any())
    }

    fn check_mine(&self, py: Python<'_>, call: &str) -> PyResult<()> {
        if self.guard.is_mine().or_raise(py)? {
            return Ok(());
        }
        Err(PyAssertionError::new_err(format!("must acquire() condition before using {call}()")))
    }

    /// One wait: true if notified, false if the deadline passed. The lock is held before and after, whatever is raised,
    /// unless a signal handler raises while it is being taken back.
    fn wait_until(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let waiter = self.condvar.enter().or_raise(py)?;
        loop {
            let count = self.guard.release_all().or_raise(py)?;
            let note = self.condvar.lease().note_wait(Waited::Condition);
            let woken = wait::until(py, deadline, |bound| {
                let woken = self.condvar.wait_within(&waiter, bound)?.filter(|woken| *woken == Woken::Look);
                // The dead may have been about to notify: a reason to look, too.
                Ok::<_, Error>(if woken.is_some() || self.guard.is_left()? { Some(()) } else { None })
            });
            drop(note);
            let taken = match self.guard.acquire_all(py, count) {
                Ok(taken) => taken,
                Err(error) => return self.raise(py, waiter, error),
            };
            match (woken, taken) {
                (Ok(_), Taken::Torn(error)) => return self.raise(py, waiter, error),
                (Err(error), taken) => {
                    if let Taken::Torn(cause) = taken {
                        error.set_cause(py, Some(cause));
                    }
                    return self.raise(py, waiter, error);
                }
                (Ok(_), Taken::Repaired) => return self.condvar.leave(waiter).or_raise(py).map(|_| true),
                (Ok(woken), Taken::Clean) => {
                    if woken.is_none() || self.condvar.should_leave(&waiter).or_raise(py)? {
                        return self.condvar.leave(waiter).or_raise(py);
                    }
                }
            }
        }
    }

    /// Leaves with an exception; a notification that came meanwhile goes to another waiter.
    fn raise(&self, py: Python<'_>, waiter: Waiter, error: PyErr) -> PyResult<bool> {
        if self.condvar.leave(waiter).or_raise(py)? {
            self.condvar.notify(1).or_raise(py)?;
        }
        Err(error)
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (lock = None, *, ctx = None))]
    fn new(
        py: Python<'_>,
        lock: Option<Bound<'_, PyAny>>,
        ctx: Option<Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        belongs_to_none(ctx);
        let guard = Guard::new(py, lock)?;
        Ok(Self::parts(Condvar::create(home(py)?).or_raise(py)?, guard))
    }

    /// As for every shared object, with what its class keeps beside.
    #[pyo3(name = "_reduce")]
    fn reduce<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let lock = slf.get().guard.object(slf.py()).clone();
        reduce(slf.as_super(), Some(lock))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.guard {
            Guard::Lock(lock) => visit.call(lock),
            Guard::RLock(lock) => visit.call(lock),
        }
    }

    /// Takes the lock; see `Lock.acquire` and `RLock.acquire`.
    #[pyo3(signature = (*args, **kwargs))]
    fn acquire<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.guard.object(py).call_method("acquire", args, kwargs)
    }

    /// Gives the lock back; see `Lock.release` and `RLock.release`.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.guard.object(py).call_method0("release").map(|_| ())
    }

    /// Gives the lock back, waits until notified or for `timeout` seconds (None: as long as it takes), and takes the lock
    /// again.
    ///
    /// Returns:
    ///     Whether it was notified.
    ///
    /// Raises:
    ///     AssertionError: The lock is not held.
    ///     OwnerDied: The process that held the lock died; this call holds it again.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.check_mine(py, "wait")?;
        self.wait_until(py, wait::deadline(true, timeout)?)
    }

    /// Waits until `predicate()` is true, for `timeout` seconds in all (None: as long as it takes).
    ///
    /// Returns:
    ///     What `predicate` returned last.
    ///
    /// Raises:
    ///     AssertionError: The lock is not held.
    ///     OwnerDied: The process that held the lock died; this call holds it again.
    #[pyo3(signature = (predicate, timeout = None))]
    fn wait_for<'py>(
        &self,
        py: Python<'py>,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let deadline = wait::deadline(true, timeout)?;
        loop {
            let result = predicate.call0()?;
            if result.is_truthy()? || deadline.passed() {
                return Ok(result);
            }
            self.check_mine(py, "wait")?;
            self.wait_until(py, deadline)?;
        }
    }

    /// Notifies up to `n` waiters, those first that have waited longest.
    ///
    /// Raises:
    ///     AssertionError: The lock is not held.
    #[pyo3(signature = (n = 1))]
    fn notify(&self, py: Python<'_>, n: usize) -> PyResult<()> {
        self.check_mine(py, "notify")?;
        self.condvar.notify(n).or_raise(py).map(|_| ())
    }

    /// Notifies all waiters.
    ///
    /// Raises:
    ///     AssertionError: The lock is not held.
    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.notify(py, usize::MAX)
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.guard.object(py).call_method0("__enter__")
    }

    #[pyo3(signature = (kind, value, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (value, traceback);
        // A signal handler that raised twice has left `wait` without the lock, which may be somebody else's by now.
        if !kind.is_none() && !self.guard.is_mine().or_raise(py)? {
            return Ok(());
        }
        self.release(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let waiting = self.condvar.waiting().or_raise(py)?;
        Ok(format!("<Condition({}, {waiting} waiting)>", self.guard.object(py).repr()?))
    }
}
