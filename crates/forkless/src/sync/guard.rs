//! What the guards of all locks have in common, and what happens when an owner died.

use std::fmt::{Debug, Display, Formatter};

use forkless_shm::{Acquired, Arena};

use crate::Error;
use crate::error::Death;

/// A lock was taken, or the news that it was taken from the dead, or an error.
pub type LockResult<G> = Result<G, LockError<G>>;

/// Why [`lock`](super::Mutex::lock) and its like did not simply return a guard.
///
/// `?` turns it into an [`Error`] and so gives the lock back: see [`Error::OwnerDied`].
///
/// # Examples
/// ```
/// use forkless::sync::{LockError, Mutex};
///
/// # fn main() -> Result<(), forkless::Error> {
/// let mutex = Mutex::create([0.0, 0.0])?;
/// let mut point = match mutex.lock() {
///     Ok(guard) => guard,
///     Err(LockError::OwnerDied(died)) => {
///         eprintln!("{} died while it held the mutex", died.death());
///         died.recover()
///     }
///     Err(LockError::Failed(error)) => return Err(error),
/// };
/// point[0] = 1.0;
/// # Ok(())
/// # }
/// ```
pub enum LockError<G> {
    /// The process that held the lock died. The caller holds it now, and is told.
    OwnerDied(OwnerDied<G>),
    /// The lock was not taken.
    Failed(Error),
}

impl<G: Guard> LockError<G> {
    /// Goes on as if nothing had happened, if the owner died: for who has nothing to repair.
    ///
    /// # Errors
    /// What was not a death.
    ///
    /// # Examples
    /// ```
    /// use forkless::sync::{LockError, Mutex};
    ///
    /// # fn main() -> Result<(), forkless::Error> {
    /// let counter = Mutex::create(0_u64)?;
    /// *counter.lock().or_else(LockError::recover)? += 1;
    /// # Ok(())
    /// # }
    /// ```
    pub fn recover(self) -> Result<G, Error> {
        match self {
            Self::OwnerDied(died) => Ok(died.recover()),
            Self::Failed(error) => Err(error),
        }
    }
}

/// The guard of a lock whose owner died, and who that was.
///
/// Dropped, it gives the lock back as it is. A [`Mutex`](super::Mutex) then tells the next one too.
#[must_use = "the lock is given back at once when this is not kept"]
pub struct OwnerDied<G> {
    guard: G,
    death: Death,
}

impl<G> OwnerDied<G> {
    /// Who died.
    #[must_use]
    pub fn death(&self) -> &Death {
        &self.death
    }

    /// The guard. The lock stays poisoned: if a [`Mutex`](super::Mutex) is given back like that, the next one is told,
    /// too. [`Mutex::clear_poison`](super::Mutex::clear_poison) ends it.
    pub fn into_inner(self) -> G {
        self.guard
    }
}

impl<G: Guard> OwnerDied<G> {
    /// The guard, and the lock is poisoned no longer: says that what it protects is in order, or will be when the guard
    /// is dropped.
    pub fn recover(self) -> G {
        self.guard.clear_poison();
        self.guard
    }
}

/// A guard of a lock: [`MutexGuard`](super::MutexGuard), [`LockGuard`](super::LockGuard) or
/// [`ReentrantGuard`](super::ReentrantGuard).
pub trait Guard: sealed::Guard {}

impl<G: sealed::Guard> Guard for G {}

pub(crate) mod sealed {
    use super::{Error, LockResult};

    /// What a condition variable does with a guard.
    pub trait Guard: Sized {
        /// What is needed to take the lock again.
        type Lock: Copy;
        /// Gives the lock back.
        fn unlock(self) -> Self::Lock;
        /// Takes it again, as long as that takes.
        fn relock(lock: Self::Lock) -> LockResult<Self>;
        /// Whether its owner died with it and nobody has seen to that.
        fn is_left(lock: Self::Lock) -> Result<bool, Error>;
        /// Says that what the dead left is in order.
        fn clear_poison(&self);
    }
}

/// A guard of a lock that was taken, or the news that it was taken from the dead.
pub(crate) fn told<G>(arena: &Arena, acquired: Acquired, guard: G) -> LockResult<G> {
    match acquired {
        Acquired::Clean => Ok(guard),
        Acquired::FromTheDead(owner) => Err(LockError::OwnerDied(OwnerDied { guard, death: Death::of(arena, owner) })),
    }
}

impl<G> From<Error> for LockError<G> {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<G> From<forkless_shm::Error> for LockError<G> {
    fn from(error: forkless_shm::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl<G> From<LockError<G>> for Error {
    fn from(error: LockError<G>) -> Self {
        match error {
            LockError::OwnerDied(OwnerDied { death, .. }) => Self::OwnerDied(death),
            LockError::Failed(error) => error,
        }
    }
}

/// Says nothing of the guard, so that any result can be unwrapped.
impl<G> Debug for LockError<G> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OwnerDied(died) => formatter.debug_tuple("OwnerDied").field(&died.death).finish(),
            Self::Failed(error) => formatter.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<G> Display for LockError<G> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OwnerDied(died) => write!(formatter, "{} died while it held the lock", died.death),
            Self::Failed(error) => Display::fmt(error, formatter),
        }
    }
}

impl<G> std::error::Error for LockError<G> {}

/// See [`LockError`].
impl<G> Debug for OwnerDied<G> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OwnerDied").field("death", &self.death).finish_non_exhaustive()
    }
}
