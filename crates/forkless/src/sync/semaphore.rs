//! A number of permits.

use std::time::Duration;

use forkless_shm::{Arena, Attempt, Handle, Lease, Waited};
use forkless_sync::{Released, Wait};
use forkless_sys::time::Deadline;

use crate::shared::named;
use crate::wait::until;
use crate::{Error, arena};

/// A number of permits, which processes take, wait for and give back. In Python it is `forkless.Semaphore`.
///
/// # When a process dies
///
/// The [permits](SemaphorePermit) that it has come back: at once if it is a process of a Python tree, else when its
/// parent sees to it, as it does whenever it waits for anything of [`sync`](super) or for a child.
///
/// # Examples
/// ```
/// use forkless::sync::Semaphore;
///
/// # fn main() -> Result<(), forkless::Error> {
/// let downloads = Semaphore::create(2)?;
/// let first = downloads.acquire()?;
/// let second = downloads.acquire()?;
/// assert!(downloads.try_acquire()?.is_none());
/// drop(first);
/// assert!(downloads.try_acquire()?.is_some());
/// # drop(second);
/// # Ok(())
/// # }
/// ```
pub struct Semaphore {
    inner: forkless_sync::Semaphore,
    handle: Handle,
}

named!(Semaphore, forkless_sync::Semaphore, available_permits);

impl Semaphore {
    /// The most permits there can be.
    pub const MAX_PERMITS: u32 = forkless_sync::Semaphore::MAX_VALUE;

    /// A new semaphore with this many permits, at most [`MAX_PERMITS`](Self::MAX_PERMITS), in this process's
    /// [`arena`](crate::arena()).
    ///
    /// # Errors
    /// [`Error::Arena`] if there is no arena, or no room in it.
    pub fn create(permits: u32) -> Result<Self, Error> {
        Self::wrap(forkless_sync::Semaphore::create(arena()?, permits, Self::MAX_PERMITS)?)
    }

    /// Waits for a permit and takes it.
    ///
    /// # Errors
    /// [`Error::Arena`] if there is no room to write down what this process has.
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, Error> {
        Ok(self.acquire_deadline(Deadline::NEVER)?.expect("a wait without end ends with a permit"))
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Option<SemaphorePermit<'_>>, Error> {
        Ok(self.inner.try_hold()?.then(|| SemaphorePermit { semaphore: self }))
    }

    /// As [`acquire`](Self::acquire), but gives up after this long: `None`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<SemaphorePermit<'_>>, Error> {
        self.acquire_deadline(Deadline::after(timeout))
    }

    /// As [`acquire`](Self::acquire), but gives up at this moment: `None`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_deadline(&self, deadline: impl Into<Deadline>) -> Result<Option<SemaphorePermit<'_>>, Error> {
        if self.inner.hold_free()? {
            return Ok(Some(SemaphorePermit { semaphore: self }));
        }
        let mut wait = Wait::new();
        let waited = (self.inner.lease(), Waited::Semaphore);
        until(deadline.into(), waited, |bound| match self.inner.hold_within(&mut wait, bound)? {
            Attempt::Acquired(_) => Ok(Some(SemaphorePermit { semaphore: self })),
            Attempt::Again | Attempt::Interrupted => Ok(None),
        })
    }

    /// Adds a permit that nobody had, and wakes one that waits.
    ///
    /// Between a producer and a consumer, permits stand for goods: the one releases, the other acquires and
    /// [forgets](SemaphorePermit::forget).
    ///
    /// # Errors
    /// [`Error::TooManyPermits`] if there are as many as there may be: [`MAX_PERMITS`](Self::MAX_PERMITS), or fewer if
    /// it is a `BoundedSemaphore` of Python.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), forkless::Error> {
    /// let goods = forkless::sync::Semaphore::create(0)?;
    /// goods.release()?; // another process
    /// goods.acquire()?.forget();
    /// assert_eq!(goods.available_permits()?, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn release(&self) -> Result<(), Error> {
        match self.inner.release()? {
            Released::Released => Ok(()),
            Released::TooMany => Err(Error::TooManyPermits),
        }
    }

    /// Permits that nobody has. By the time this returns that may have changed.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn available_permits(&self) -> Result<u32, Error> {
        Ok(self.inner.value()?)
    }
}

/// A permit of a [`Semaphore`], given back when this is dropped or its process dies.
#[derive(Debug)]
#[must_use = "the permit is given back at once when it is not kept"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
}

impl SemaphorePermit<'_> {
    /// Does not give it back, neither now nor when this process dies.
    pub fn forget(self) {
        // Fails only if the semaphore's memory is damaged.
        let _ = self.semaphore.inner.forget_held();
        std::mem::forget(self);
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        // Fails only if the semaphore's memory is damaged; or there are too many, since somebody released what he never had.
        let _ = self.semaphore.inner.release_held();
    }
}
