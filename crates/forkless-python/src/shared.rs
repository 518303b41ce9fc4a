//! What all objects in the arena have in common.

use forkless_ipc::{Buffer, Channel, Deposit, KINDS, Memory, Segment};
use forkless_process::{Inheritance, Joining};
use forkless_shm::{Arena, Error, Handle, Lease};
use forkless_sync::{Barrier, Condvar, Event, Mutex, ReentrantMutex, Semaphore, ValueMutex};
use forkless_sys::time::Deadline;
use pyo3::exceptions::{PyLookupError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::barrier::Barrier as PyBarrier;
use crate::buffer::SharedBuffer;
use crate::channel::Channel as PyChannel;
use crate::child::{PyProgram, publish};
use crate::condition::Condition;
use crate::deposit::Deposit as PyDeposit;
use crate::errors::OrRaise;
use crate::event::Event as PyEvent;
use crate::lock::Lock;
use crate::memory::SharedBytes;
use crate::rlock::RLock;
use crate::segment::Segment as PySegment;
use crate::semaphore::Semaphore as PySemaphore;
use crate::wait;

/// What is behind a `Shared`.
pub(crate) trait Object: Send + Sync {
    /// What keeps it alive.
    fn lease(&self) -> &Lease;
    /// Which type opens it.
    fn kind(&self) -> u8;
}

macro_rules! objects {
    ($($class:ty, $field:ident: $type:ty;)*) => {
        $(impl Object for $type {
            fn lease(&self) -> &Lease {
                Self::lease(self)
            }

            fn kind(&self) -> u8 {
                Self::KIND
            }
        })*

        /// What is behind an object of Python. Each subclass has it inside: a pointer more would be one for each of
        /// thousands of locks.
        pub(crate) fn object<'a>(shared: &'a Bound<'_, Shared>) -> PyResult<&'a dyn Object> {
            $(if let Ok(subclass) = shared.cast::<$class>() {
                return Ok(&subclass.get().$field);
            })*
            Err(PyTypeError::new_err("an object of forkless without anything in shared memory"))
        }
    };
}

objects! {
    Lock, mutex: Mutex;
    RLock, mutex: ReentrantMutex;
    PyEvent, event: Event;
    PyChannel, channel: Channel;
    SharedBytes, memory: Memory;
    SharedBuffer, buffer: Buffer;
    PySemaphore, semaphore: Semaphore;
    Condition, condvar: Condvar;
    PyBarrier, barrier: Barrier;
    PyDeposit, deposit: Deposit;
    PySegment, segment: Segment;
}

/// An object in the arena. Belongs to no context and no parent; pickles to a handle of three integers.
#[pyclass(subclass, frozen, weakref, module = "forkless")]
pub(crate) struct Shared;

/// What keeps them alive.
pub(crate) fn leases<'a>(shared: &'a [Bound<'_, Shared>]) -> PyResult<Vec<&'a Lease>> {
    shared.iter().map(|shared| object(shared).map(Object::lease)).collect()
}

/// What `pickle` writes down, with what else the object needs in its new process.
pub(crate) fn reduce<'py>(shared: &Bound<'py, Shared>, extra: Option<Bound<'py, PyAny>>) -> PyResult<Reduced<'py>> {
    let py = shared.py();
    let (arena, offset, generation) = Shared::handle(shared)?;
    let open = py.import("forkless._forkless")?.getattr("open_shared")?;
    let handle = (object(shared)?.kind(), arena, offset, generation);
    let arguments = match extra {
        None => handle.into_pyobject(py)?,
        Some(extra) => (handle.0, handle.1, handle.2, handle.3, extra).into_pyobject(py)?,
    };
    Ok((open, arguments))
}

/// A function and its arguments.
pub(crate) type Reduced<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>);

#[pymethods]
impl Shared {
    /// (arena id, offset in bytes, generation).
    #[getter]
    fn handle(slf: &Bound<'_, Self>) -> PyResult<(u64, u64, u32)> {
        let Handle { arena, offset, generation } = object(slf)?.lease().handle().or_raise(slf.py())?;
        Ok((arena, offset, generation))
    }

    /// (this process's, all) leases on it: if these are more, another process has it, or a message on its way.
    #[pyo3(name = "_leases")]
    fn leases(slf: &Bound<'_, Self>) -> PyResult<(u64, u64)> {
        let lease = object(slf)?.lease();
        lease.arena().leases_on(lease).or_raise(slf.py())
    }

    /// How picklers of forkless write it, which keep it alive until it has arrived.
    #[pyo3(name = "_reduce")]
    fn reduce<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf, None)
    }

    /// How others do: also with how its tree is found, and held by this process until another one has it.
    pub(crate) fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let reduced = slf.call_method0("_reduce")?;
        slf.py().import("forkless._strangers")?.call_method1("reduce", (slf, reduced))
    }

    /// Itself: it belongs to all who have it, so there is nothing to copy.
    fn __copy__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    /// Itself: it belongs to all who have it, so there is nothing to copy.
    fn __deepcopy__<'py>(slf: &Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf.clone()
    }

    /// Generic over nothing at run time: `Queue[int]` in annotations.
    #[classmethod]
    fn __class_getitem__(class: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        class.clone().unbind()
    }
}

/// Takes the context that whoever makes an object may name, as in `multiprocessing`: an object belongs to none.
pub(crate) fn belongs_to_none(_context: Option<Bound<'_, PyAny>>) {}

/// The arena in which this process makes its objects; the first use makes one, or joins that of a Rust program that
/// started this one.
pub(crate) fn home(py: Python<'_>) -> PyResult<&'static Arena> {
    if let Some(arena) = Arena::home() {
        return Ok(arena);
    }
    expect_forks(py)?;
    match Inheritance::get().or_raise(py)? {
        Some(inheritance) => Ok(inheritance.arena()),
        // Asked once more: another thread may have made it while this one loaded a module.
        None => Arena::home().map_or_else(|| Arena::create(KINDS).or_raise(py), Ok),
    }
}

/// Has copies of this process take hold of its objects.
fn expect_forks(py: Python<'_>) -> PyResult<()> {
    py.import("forkless._forks")?.call_method0("expect").map(|_| ())
}

/// In a copy of this process: takes hold of the objects that the original holds.
#[pyfunction]
pub(crate) fn take_leases_after_fork(py: Python<'_>) -> PyResult<()> {
    forkless_shm::arena::take_leases_after_fork().or_raise(py)
}

/// The object that the Rust program which started this one passed under this name.
///
/// A Rust program starts others with the `Command` of the crate `forkless`, which passes them objects by name: locks,
/// events, semaphores, barriers; `Memory`, which supports the buffer protocol here; and buffers. A channel, or either end of
/// one, is a `Queue`.
///
/// Args:
///     name: What the Rust program calls it.
///
/// Raises:
///     LookupError: It has passed no object of that name, or did not start this program.
///     StaleHandle: It is something that only Rust can open, such as a `Mutex` with a value.
#[pyfunction]
pub(crate) fn inherited(py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
    expect_forks(py)?;
    let Some(passed) = Inheritance::get().or_raise(py)?.and_then(|inheritance| inheritance.find(name)) else {
        let message = format!("no object named {name:?} was passed to this process by its parent");
        return Err(PyLookupError::new_err(message));
    };
    if passed.kind == Condvar::KIND {
        return Err(Error::Stale("a condition needs its lock: only Rust programs inherit one by itself")).or_raise(py);
    }
    let Handle { arena, offset, generation } = passed.handle;
    let object = open_shared(py, passed.kind, arena, offset, generation, None)?;
    if passed.kind == Channel::KIND {
        return Ok(py.import("forkless.queues")?.call_method1("of_channel", (object,))?.unbind());
    }
    Ok(object)
}

/// The arena of the tree that the environment names, if there is one.
pub(crate) fn joined(py: Python<'_>) -> PyResult<Option<&'static Arena>> {
    expect_forks(py)?;
    let Some(joining) = Joining::by_environment() else { return Ok(None) };
    join(py, joining)
}

/// Waits to be let in by a tree; `None` if that is not there any more.
fn join(py: Python<'_>, mut joining: Joining) -> PyResult<Option<&'static Arena>> {
    let joined = wait::until(py, Deadline::NEVER, |bound| {
        Ok::<_, Error>(match joining.wait_within(bound) {
            Ok(arena) => arena.map(Some),
            Err(_) => Some(None),
        })
    })?;
    Ok(joined.flatten())
}

/// The arena with this id, if need be by joining the tree that the environment names.
fn arena_of(py: Python<'_>, id: u64) -> PyResult<&'static Arena> {
    if let Some(arena) = Arena::find(id) {
        return Ok(arena);
    }
    match joined(py)? {
        Some(arena) if arena.id() == id => Ok(arena),
        _ => Err(Error::Stale(
            "the object belongs to a process tree that this process is not part of and cannot reach: it has ended, or \
             FORKLESS_TREE does not name it",
        ))
        .or_raise(py),
    }
}

/// The name by which other processes join the tree of this one, or of the object's arena; None if that is another's.
///
/// Args:
///     program: How to start a template, should there be none.
///     arena: The arena's id.
///
/// Raises:
///     ProcessError: The system refuses.
#[pyfunction]
pub(crate) fn tree_name(py: Python<'_>, program: &Bound<'_, PyProgram>, arena: u64) -> PyResult<Option<&'static str>> {
    let home = home(py)?;
    if home.id() != arena {
        return Ok(None);
    }
    let program = &program.get().program;
    let name = py.detach(|| forkless_process::tree_name(home, program)).or_raise(py)?;
    publish(py)?;
    Ok(Some(name))
}

/// Joins the tree with that name, unless this process can reach that arena already; whether it can now.
#[pyfunction]
pub(crate) fn join_tree(py: Python<'_>, name: &str, arena: u64) -> PyResult<bool> {
    if Arena::find(arena).is_some() {
        return Ok(true);
    }
    expect_forks(py)?;
    Ok(join(py, Joining::new(name))?.is_some_and(|joined| joined.id() == arena))
}

/// Unpickles a `Shared`. `extra` is what its class keeps beside what is in the arena.
#[pyfunction]
#[pyo3(signature = (kind, arena, offset, generation, extra = None))]
pub(crate) fn open_shared(
    py: Python<'_>,
    kind: u8,
    arena: u64,
    offset: u64,
    generation: u32,
    extra: Option<Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let handle = Handle { arena, offset, generation };
    let arena = arena_of(py, arena)?;
    match kind {
        Mutex::KIND => Lock::wrap(py, Mutex::open(arena, handle).or_raise(py)?, extra),
        Event::KIND => PyEvent::wrap(py, Event::open(arena, handle).or_raise(py)?),
        Channel::KIND => PyChannel::wrap(py, Channel::open(arena, handle).or_raise(py)?),
        Buffer::KIND => SharedBuffer::wrap(py, Buffer::open(arena, handle).or_raise(py)?),
        ReentrantMutex::KIND => RLock::wrap(py, ReentrantMutex::open(arena, handle).or_raise(py)?, extra),
        Semaphore::KIND => crate::semaphore::wrap(py, Semaphore::open(arena, handle).or_raise(py)?),
        Condvar::KIND => Condition::wrap(py, Condvar::open(arena, handle).or_raise(py)?, extra),
        Barrier::KIND => PyBarrier::wrap(py, Barrier::open(arena, handle).or_raise(py)?, extra),
        Deposit::KIND => PyDeposit::wrap(py, Deposit::open(arena, handle).or_raise(py)?),
        Segment::KIND => PySegment::wrap(py, Segment::open(arena, handle).or_raise(py)?),
        Memory::KIND => SharedBytes::wrap(py, Memory::open(arena, handle).or_raise(py)?),
        ValueMutex::KIND => {
            Err(Error::Stale("a Mutex with a value opens in Rust only: share a Lock and a Memory beside it"))
                .or_raise(py)
        }
        _ => Err(Error::Stale("the handle is of a kind that this version does not know")).or_raise(py),
    }
}
