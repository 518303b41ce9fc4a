//! A mutex without data.

use std::time::Duration;

use forkless_shm::{Acquired, Arena, Handle, Lease, Owner, Waited};
use forkless_sys::time::Deadline;

use super::guard::{LockError, LockResult, sealed, told};
use crate::shared::named;
use crate::wait::acquire;
use crate::{Error, arena};

/// A mutex without data: for what does not fit into a [`Mutex`](super::Mutex), or is not memory at all, and for what is
/// shared with Python, where it is `forkless.Lock`.
///
/// # When a process dies
///
/// If the process that holds it dies, the next one takes it within 100 ms and [is told](LockError::OwnerDied): what the
/// lock protects may be half-written. It is told once. That news travels no further, because the other
/// party may be Python, where a lock is told once too; there is nothing to recover, and
/// [`recover`](super::OwnerDied::recover) and [`into_inner`](super::OwnerDied::into_inner) are the same.
///
/// # Examples
/// ```
/// use forkless::ipc::Memory;
/// use forkless::sync::Lock;
///
/// # fn main() -> Result<(), forkless::Error> {
/// let (lock, image) = (Lock::create()?, Memory::create(forkless::arena()?, 1 << 20)?);
/// let guard = lock.lock()?;
/// assert!(image.write(4096, &[255; 3]));
/// drop(guard);
/// # Ok(())
/// # }
/// ```
pub struct Lock {
    inner: forkless_sync::Mutex,
    handle: Handle,
}

named!(Lock, forkless_sync::Mutex, holder);

impl Lock {
    /// A new lock, free, in this process's [`arena`](crate::arena()).
    ///
    /// # Errors
    /// [`Error::Arena`] if there is no arena, or no room in it.
    #[track_caller]
    pub fn create() -> Result<Self, Error> {
        // Python tells whoever finds the owner dead where the lock was made.
        let place = std::panic::Location::caller();
        let file = place.file().rsplit('/').next().unwrap_or_default();
        Self::wrap(forkless_sync::Mutex::create_at(arena()?, &format!("{file}:{}", place.line()))?)
    }

    /// Waits for the lock and takes it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] if its owner died with it: it brings the guard. [`LockError::Failed`] if this process
    /// cannot get a place in the tree.
    pub fn lock(&self) -> LockResult<LockGuard<'_>> {
        self.lock_deadline(Deadline::NEVER).map(|guard| guard.expect("a wait without end ends with the lock"))
    }

    /// Takes the lock if that needs no waiting: if it is free, or its owner is dead.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>, LockError<LockGuard<'_>>> {
        self.inner.try_acquire()?.map(|acquired| self.guard(acquired)).transpose()
    }

    /// As [`lock`](Self::lock), but gives up after this long: `None`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<LockGuard<'_>>, LockError<LockGuard<'_>>> {
        self.lock_deadline(Deadline::after(timeout))
    }

    /// As [`lock`](Self::lock), but gives up at this moment: `None`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_deadline(
        &self,
        deadline: impl Into<Deadline>,
    ) -> Result<Option<LockGuard<'_>>, LockError<LockGuard<'_>>> {
        let waited = (self.inner.lease(), Waited::Lock);
        let acquired = acquire(deadline.into(), self.inner.acquire_free(), waited, |wait, bound| {
            self.inner.acquire_within(wait, bound)
        })?;
        acquired.map(|acquired| self.guard(acquired)).transpose()
    }

    fn guard(&self, acquired: Acquired) -> LockResult<LockGuard<'_>> {
        if acquired != Acquired::Clean {
            // From now on it is this process that holds it, for whoever asks since when.
            self.inner.mark()?;
        }
        told(self.lease().arena(), acquired, LockGuard { lock: self })
    }

    /// Which process holds it, dead or alive. By the time this returns that may have changed.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn holder(&self) -> Result<Option<Owner>, Error> {
        Ok(self.inner.holder()?)
    }
}

/// A [`Lock`] that is held until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back at once when its guard is not kept"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        let inner = &self.lock.inner;
        // Python may have given it back for us: then it is somebody else's by now. And in a fork of this process by user
        // code it is the parent's.
        if inner.holder().ok().flatten().is_some_and(|holder| inner.lease().arena().is_me(holder)) {
            let _ = inner.release();
        }
    }
}

impl<'a> sealed::Guard for LockGuard<'a> {
    type Lock = &'a Lock;

    fn unlock(self) -> Self::Lock {
        self.lock
    }

    fn relock(lock: Self::Lock) -> LockResult<Self> {
        lock.lock()
    }

    fn is_left(lock: Self::Lock) -> Result<bool, Error> {
        Ok(lock.holder()?.is_some_and(|holder| lock.lease().arena().is_dead(holder)))
    }

    fn clear_poison(&self) {}
}
