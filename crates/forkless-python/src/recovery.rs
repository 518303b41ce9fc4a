//! What happens to a lock whose owner died, and where locks are made.

use std::time::Duration;

use forkless_shm::{Acquired, Attempt, Error, Owner, Wait, WaitNote, Waited};
use forkless_sync::{Mutex, ReentrantMutex};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::errors::{Death, FREE_AGAIN, HELD_AGAIN, OrRaise, owner_died};
use crate::shared::Object;
use crate::wait;

/// What the locks of the core that know their owner have in common.
pub(crate) trait Robust: Object {
    fn try_acquire(&self) -> Result<Option<Acquired>, Error>;
    fn acquire_free(&self) -> Result<Option<Acquired>, Error>;
    fn acquire_within(&self, wait: &mut Wait, bound: Duration) -> Result<Attempt, Error>;
    fn release(&self) -> Result<bool, Error>;
    fn is_held(&self) -> Result<bool, Error>;
    fn held_for(&self) -> Result<Duration, Error>;
    fn origin(&self) -> String;
    fn note_wait(&self) -> Option<WaitNote>;
    fn mark(&self) -> Result<(), Error>;

    /// Of a lock just taken from the dead.
    fn death(&self, owner: Owner) -> Result<Death, Error> {
        let (arena, held_for, origin) = (self.lease().arena(), self.held_for()?, self.origin());
        self.mark()?;
        Ok(Death { arena, owner, held_for, origin })
    }
}

macro_rules! robust {
    ($($type:ty: $waited:expr),*) => {
        $(impl Robust for $type {
            fn try_acquire(&self) -> Result<Option<Acquired>, Error> {
                Self::try_acquire(self)
            }

            fn acquire_free(&self) -> Result<Option<Acquired>, Error> {
                Self::acquire_free(self)
            }

            fn acquire_within(&self, wait: &mut Wait, bound: Duration) -> Result<Attempt, Error> {
                Self::acquire_within(self, wait, bound)
            }

            fn release(&self) -> Result<bool, Error> {
                Self::release(self)
            }

            fn is_held(&self) -> Result<bool, Error> {
                Ok(self.holder()?.is_some())
            }

            fn held_for(&self) -> Result<Duration, Error> {
                Self::held_for(self)
            }

            fn origin(&self) -> String {
                Self::origin(self)
            }

            fn note_wait(&self) -> Option<WaitNote> {
                self.lease().note_wait($waited)
            }

            fn mark(&self) -> Result<(), Error> {
                Self::mark(self)
            }
        })*
    };
}

robust!(Mutex: Waited::Lock, ReentrantMutex: Waited::RLock);

/// The `acquire` of both locks: whether it was taken in time. Taken from the dead, it is held only if what they left
/// was repaired.
pub(crate) fn acquire(
    py: Python<'_>,
    mutex: &impl Robust,
    recovery: &Recovery,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<bool> {
    let taken = |acquired| {
        let Acquired::FromTheDead(owner) = acquired else { return Ok(true) };
        let death = mutex.death(owner).or_raise(py)?;
        recovery.run(py, &death, || mutex.release())
    };
    if let Some(acquired) = mutex.acquire_free().or_raise(py)? {
        return taken(acquired);
    }
    let deadline = wait::deadline(block, timeout)?;
    if deadline.passed() {
        return mutex.try_acquire().or_raise(py)?.map_or(Ok(false), taken);
    }
    let mut wait = Wait::new();
    let mut note = None;
    let acquired = wait::until(py, deadline, |bound| {
        if note.is_none() {
            if let Some(acquired) = look_out(mutex)? {
                return Ok(Some(acquired));
            }
            note = mutex.note_wait();
        }
        Ok::<_, Error>(match mutex.acquire_within(&mut wait, bound)? {
            Attempt::Acquired(acquired) => Some(acquired),
            Attempt::Again | Attempt::Interrupted => None,
        })
    })?;
    acquired.map_or(Ok(false), taken)
}

/// Looks whether the lock becomes free, for about a microsecond: where locks are held for moments most waits are over by
/// then, and shorter than it takes to note them.
fn look_out(mutex: &impl Robust) -> Result<Option<Acquired>, Error> {
    const LOOKS: usize = 100;
    for _ in 0..LOOKS {
        if !mutex.is_held()? {
            return mutex.acquire_free();
        }
        std::hint::spin_loop();
    }
    Ok(None)
}

/// The function that repairs what a lock protects, or none.
pub(crate) struct Recovery {
    function: Option<Py<PyAny>>,
}

impl Recovery {
    pub(crate) fn new(function: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        match function {
            Some(function) if !function.is_callable() => {
                Err(PyTypeError::new_err(format!("recover must be callable, not {}", function.get_type().name()?)))
            }
            function => Ok(Self { function: function.map(Bound::unbind) }),
        }
    }

    pub(crate) fn function<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.function.as_ref().map(|function| function.bind(py).clone())
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.function.iter().try_for_each(|function| visit.call(function))
    }

    /// For a lock taken from the dead, which the caller holds: repairs, and true. Without a function, or if that fails,
    /// gives the lock back and raises.
    pub(crate) fn run(
        &self,
        py: Python<'_>,
        death: &Death,
        release: impl FnOnce() -> Result<bool, Error>,
    ) -> PyResult<bool> {
        let Some(function) = self.function(py) else {
            release().or_raise(py)?;
            return Err(owner_died(py, death, FREE_AGAIN));
        };
        if let Err(error) = repair(py, &function, death) {
            release().or_raise(py)?;
            return Err(error);
        }
        Ok(true)
    }

    /// As [`Self::run`] for a caller that keeps the lock in any case: the exception, if there is one.
    pub(crate) fn run_holding(&self, py: Python<'_>, death: &Death) -> Option<PyErr> {
        match self.function(py) {
            None => Some(owner_died(py, death, HELD_AGAIN)),
            Some(function) => repair(py, &function, death).err(),
        }
    }
}

fn repair(py: Python<'_>, function: &Bound<'_, PyAny>, death: &Death) -> PyResult<()> {
    function.call1((owner_died(py, death, HELD_AGAIN).into_value(py),)).map(|_| ())
}

/// The file and line of the program that is being executed: "program.py:12". Empty if there is none.
pub(crate) fn origin(py: Python<'_>) -> String {
    find_origin(py).unwrap_or_default()
}

fn find_origin(py: Python<'_>) -> PyResult<String> {
    let mut frame = py.import(pyo3::intern!(py, "sys"))?.call_method0(pyo3::intern!(py, "_getframe"))?;
    loop {
        let globals = frame.getattr(pyo3::intern!(py, "f_globals"))?;
        let module = globals.get_item(pyo3::intern!(py, "__name__")).and_then(|name| name.extract::<String>());
        // Contexts make locks for others.
        if !module.is_ok_and(|module| module == "forkless" || module.starts_with("forkless.")) {
            break;
        }
        let caller = frame.getattr(pyo3::intern!(py, "f_back"))?;
        if caller.is_none() {
            break;
        }
        frame = caller;
    }
    let code = frame.getattr(pyo3::intern!(py, "f_code"))?;
    let file: String = code.getattr(pyo3::intern!(py, "co_filename"))?.extract()?;
    let line: u32 = frame.getattr(pyo3::intern!(py, "f_lineno"))?.extract()?;
    Ok(format!("{}:{line}", file.rsplit('/').next().unwrap_or_default()))
}
