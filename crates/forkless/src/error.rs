//! What can go wrong.

use std::fmt::{Display, Formatter};
use std::io;

use forkless_shm::{Arena, Owner};

/// What can go wrong. A lock whose owner died has an error of its own, which brings the guard:
/// [`LockError`](crate::sync::LockError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shared memory is full or damaged, or a handle names nothing that is there.
    #[error(transparent)]
    Arena(#[from] forkless_shm::Error),
    /// The tree of a Python program cannot be joined, or what a parent passed cannot be taken up.
    #[error(transparent)]
    Process(#[from] forkless_process::Error),
    /// The system refused.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// As the [`Command`](crate::process::Command) has it.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A child ended, and somebody else reaped it: this process's own code, or a library that waits for all children.
    #[error("process {name} (pid {pid}) has ended, but somebody else has reaped it: its exit status is lost")]
    StatusLost {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// The process that held a lock died, and the caller did not keep the guard that came with that news.
    #[error("{0} died while it held the lock; what it protects may not be in order")]
    OwnerDied(Death),
    /// A handle names a mutex whose value is of another type.
    #[error("the mutex holds a value of type {found}, not of type {wanted}")]
    WrongType {
        /// What it was opened as.
        wanted: String,
        /// What it was created as.
        found: String,
    },
    /// The parent passed no object of this name; or this process was not started by a
    /// [`Command`](crate::process::Command).
    #[error("no object named {name:?} was passed to this process by its parent")]
    NotPassed {
        /// What was asked for.
        name: String,
    },
    /// There is no process tree to join.
    #[error(
        "no process tree to join: FORKLESS_TREE is not set; a Python program sets it when it starts its first process"
    )]
    NoTree,
    /// Somebody who waited at the barrier died or gave up, or it was broken on purpose.
    #[error("the barrier is broken: somebody who waited at it died or gave up, or broke it; reset it to go on")]
    BarrierBroken,
    /// A permit was released that would have been one too many.
    #[error("the semaphore has all its permits already")]
    TooManyPermits,
    /// A value was not sent, and the caller did not look into [`SendError`](crate::messages::SendError), which says why.
    #[error("{0}")]
    NotSent(String),
    /// No value was received, and the caller did not look into [`RecvError`](crate::messages::RecvError), which says why.
    #[error("{0}")]
    NotReceived(String),
}

impl Error {
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

/// Who died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    owner: Owner,
    known: Option<(String, u32)>,
}

impl Death {
    pub(crate) fn of(arena: &Arena, owner: Owner) -> Self {
        Self { owner, known: arena.last_known(owner).map(|process| (process.name, process.pid)) }
    }

    /// What the arena called it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Its process id, unless it is so long ago that another process has its place.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.known.as_ref().map(|(_, pid)| *pid)
    }

    /// Its name, unless it is so long ago that another process has its place.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.known.as_ref().map(|(name, _)| name.as_str())
    }
}

impl Display for Death {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match &self.known {
            Some((name, pid)) => write!(formatter, "process {name} (pid {pid})"),
            None => formatter.write_str("a process that is long gone"),
        }
    }
}
