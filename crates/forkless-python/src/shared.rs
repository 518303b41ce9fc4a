//! What all objects in the arena have in common.

use std::sync::Arc;

use forkless_ipc::{Buffer, Channel, KINDS, Memory};
use forkless_shm::{Arena, Handle, Lease};
use forkless_sync::{Barrier, Condvar, Event, Mutex, ReentrantMutex, Semaphore};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::errors::OrRaise;

/// What is behind a `Shared`.
pub(crate) trait Object: Send + Sync {
    /// What keeps it alive.
    fn lease(&self) -> &Lease;
    /// Which type opens it.
    fn kind(&self) -> u8;
}

macro_rules! objects {
    ($($type:ty),*) => {
        $(impl Object for $type {
            fn lease(&self) -> &Lease {
                Self::lease(self)
            }

            fn kind(&self) -> u8 {
                Self::KIND
            }
        })*
    };
}

objects!(Mutex, Event, Channel, Buffer, ReentrantMutex, Semaphore, Condvar, Barrier, Memory);

/// An object in the arena. Belongs to no context and no parent; pickles to a handle of three integers.
#[pyclass(subclass, frozen, weakref, module = "forkless")]
pub(crate) struct Shared {
    object: Arc<dyn Object>,
}

impl Shared {
    pub(crate) fn new(object: Arc<dyn Object>) -> Self {
        Self { object }
    }

    pub(crate) fn lease(&self) -> &Lease {
        self.object.lease()
    }

    /// What `pickle` writes down, with what else the object needs in its new process.
    pub(crate) fn reduce<'py>(&self, py: Python<'py>, extra: Option<Bound<'py, PyAny>>) -> PyResult<Reduced<'py>> {
        let (arena, offset, generation) = self.handle(py)?;
        let open = py.import("forkless._forkless")?.getattr("open_shared")?;
        let handle = (self.object.kind(), arena, offset, generation);
        let arguments = match extra {
            None => handle.into_pyobject(py)?,
            Some(extra) => (handle.0, handle.1, handle.2, handle.3, extra).into_pyobject(py)?,
        };
        Ok((open, arguments))
    }
}

/// A function and its arguments.
pub(crate) type Reduced<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>);

#[pymethods]
impl Shared {
    /// (arena id, offset in bytes, generation).
    #[getter]
    fn handle(&self, py: Python<'_>) -> PyResult<(u64, u64, u32)> {
        let Handle { arena, offset, generation } = self.object.lease().handle().or_raise(py)?;
        Ok((arena, offset, generation))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        self.reduce(py, None)
    }

    /// Generic over nothing at run time: `Queue[int]` in annotations.
    #[classmethod]
    fn __class_getitem__(class: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        class.clone().unbind()
    }
}

/// The arena in which this process makes its objects; the first use makes or joins one.
pub(crate) fn home(py: Python<'_>) -> PyResult<&'static Arena> {
    if let Some(arena) = Arena::home() {
        return Ok(arena);
    }
    expect_forks(py)?;
    Arena::create(KINDS).or_raise(py)
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

/// The arena with this id, if need be by joining the tree that the environment names.
fn arena_of(py: Python<'_>, id: u64) -> PyResult<&'static Arena> {
    if let Some(arena) = Arena::find(id) {
        return Ok(arena);
    }
    expect_forks(py)?;
    let joined = py.detach(forkless_process::attach_by_environment);
    match joined {
        Ok(Some(arena)) if arena.id() == id => Ok(arena),
        _ => Err(forkless_shm::Error::Stale(
            "the object belongs to a process tree that this process is not part of and cannot reach: it has ended, or \
             FORKLESS_TREE does not name it",
        ))
        .or_raise(py),
    }
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
        Mutex::KIND => crate::lock::Lock::wrap(py, Mutex::open(arena, handle).or_raise(py)?, extra),
        Event::KIND => crate::event::Event::wrap(py, Event::open(arena, handle).or_raise(py)?),
        Channel::KIND => crate::channel::Channel::wrap(py, Channel::open(arena, handle).or_raise(py)?),
        Buffer::KIND => crate::buffer::SharedBuffer::wrap(py, Buffer::open(arena, handle).or_raise(py)?),
        ReentrantMutex::KIND => crate::rlock::RLock::wrap(py, ReentrantMutex::open(arena, handle).or_raise(py)?, extra),
        Semaphore::KIND => crate::semaphore::wrap(py, Semaphore::open(arena, handle).or_raise(py)?),
        Condvar::KIND => crate::condition::Condition::wrap(py, Condvar::open(arena, handle).or_raise(py)?, extra),
        Barrier::KIND => crate::barrier::Barrier::wrap(py, Barrier::open(arena, handle).or_raise(py)?, extra),
        Memory::KIND => crate::memory::SharedBytes::wrap(py, Memory::open(arena, handle).or_raise(py)?),
        _ => Err(forkless_shm::Error::Stale("the handle is of a kind that this version does not know")).or_raise(py),
    }
}
