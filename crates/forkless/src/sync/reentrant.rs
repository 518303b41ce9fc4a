//! A lock that its owner may take again.

use std::marker::PhantomData;
use std::time::Duration;

use forkless_shm::{Acquired, Arena, Handle, Lease, Owner, Waited};
use forkless_sync::ReentrantMutex;
use forkless_sys::time::Deadline;

use super::guard::{LockError, LockResult, sealed, told};
use crate::shared::named;
use crate::wait::acquire;
use crate::{Error, arena};

/// A [`Lock`](super::Lock) that the thread which holds it may take again, and which is free when all guards are dropped.
/// In Python it is `forkless.RLock`.
///
/// If the process that holds it dies, the next one takes it within 100 ms and [is told](LockError::OwnerDied), once.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), forkless::Error> {
/// let lock = forkless::sync::ReentrantLock::create()?;
/// let outer = lock.lock()?;
/// let inner = lock.lock()?;
/// drop((outer, inner));
/// assert_eq!(lock.holder()?, None);
/// # Ok(())
/// # }
/// ```
pub struct ReentrantLock {
    inner: ReentrantMutex,
    handle: Handle,
}

named!(ReentrantLock, ReentrantMutex, holder);

impl ReentrantLock {
    /// A new lock, free, in this process's [`arena`](crate::arena()).
    ///
    /// # Errors
    /// [`Error::Arena`] if there is no arena, or no room in it.
    pub fn create() -> Result<Self, Error> {
        Self::wrap(ReentrantMutex::create(arena()?)?)
    }

    /// Waits for the lock and takes it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] if its owner died with it: it brings the guard. [`LockError::Failed`] if this process
    /// cannot get a place in the tree.
    pub fn lock(&self) -> LockResult<ReentrantGuard<'_>> {
        self.lock_deadline(Deadline::NEVER).map(|guard| guard.expect("a wait without end ends with the lock"))
    }

    /// Takes the lock if that needs no waiting: if it is free or this thread's, or its owner is dead.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<Option<ReentrantGuard<'_>>, LockError<ReentrantGuard<'_>>> {
        self.inner.try_acquire()?.map(|acquired| self.guard(acquired)).transpose()
    }

    /// As [`lock`](Self::lock), but gives up after this long: `None`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<ReentrantGuard<'_>>, LockError<ReentrantGuard<'_>>> {
        self.lock_deadline(Deadline::after(timeout))
    }

    /// As [`lock`](Self::lock), but gives up at this moment: `None`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_deadline(
        &self,
        deadline: impl Into<Deadline>,
    ) -> Result<Option<ReentrantGuard<'_>>, LockError<ReentrantGuard<'_>>> {
        let waited = (self.inner.lease(), Waited::RLock);
        let acquired = acquire(deadline.into(), self.inner.acquire_free(), waited, |wait, bound| {
            self.inner.acquire_within(wait, bound)
        })?;
        acquired.map(|acquired| self.guard(acquired)).transpose()
    }

    fn guard(&self, acquired: Acquired) -> LockResult<ReentrantGuard<'_>> {
        if acquired != Acquired::Clean {
            // From now on it is this process that holds it, for whoever asks since when.
            self.inner.mark()?;
        }
        told(self.lease().arena(), acquired, ReentrantGuard { lock: self, thread: PhantomData })
    }

    /// Which process holds it, dead or alive. By the time this returns that may have changed.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn holder(&self) -> Result<Option<Owner>, Error> {
        Ok(self.inner.holder()?)
    }
}

/// A [`ReentrantLock`] that is held until this, and every other guard of this thread, is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back at once when its guard is not kept"]
pub struct ReentrantGuard<'a> {
    lock: &'a ReentrantLock,
    /// Only the thread that took it gives it back.
    thread: PhantomData<*const ()>,
}

impl Drop for ReentrantGuard<'_> {
    fn drop(&mut self) {
        // Nothing, if it is not this thread's: in a fork of the process by user code.
        let _ = self.lock.inner.release();
    }
}

impl<'a> sealed::Guard for ReentrantGuard<'a> {
    /// The lock, and how often this thread held it.
    type Lock = (&'a ReentrantLock, u32);

    fn unlock(self) -> Self::Lock {
        let lock = self.lock;
        // Of all guards, only this one is here; the others find the lock as they left it when the wait is over.
        let count = lock.inner.release_all().unwrap_or(1);
        std::mem::forget(self);
        (lock, count)
    }

    fn relock((lock, count): Self::Lock) -> LockResult<Self> {
        let taken = lock.lock();
        if !matches!(taken, Err(LockError::Failed(_))) {
            lock.inner.set_count(count)?;
        }
        taken
    }

    fn is_left((lock, _): Self::Lock) -> Result<bool, Error> {
        Ok(lock.holder()?.is_some_and(|holder| lock.lease().arena().is_dead(holder)))
    }

    fn clear_poison(&self) {}
}
