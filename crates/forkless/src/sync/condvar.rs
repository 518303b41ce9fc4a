//! Waiting, with a lock given back meanwhile, until somebody says that something has changed.

use std::time::Duration;

use forkless_shm::{Arena, Handle, Lease, Waited};
use forkless_sys::futex::Woken;
use forkless_sys::time::Deadline;

use super::guard::{Guard, LockError, LockResult};
use super::mutex::MutexGuard;
use super::plain::Plain;
use crate::shared::named;
use crate::wait::until;
use crate::{Error, arena};

/// Waits, with a lock given back meanwhile, until another process says that something has changed.
///
/// Used as [`std::sync::Condvar`] is: check what you wait for under the lock, [wait](Self::wait), check again. It works with
/// the guard of any lock, a [`Mutex`](super::Mutex) above all; all its users use the same one.
///
/// A notification goes to exactly one waiter, the one that has waited longest, and is not lost if that one dies: the next
/// gets it. A wait may end without a notification.
///
/// # When a process dies
///
/// If a process dies while it holds the lock, a wait ends within 100 ms, as if the waiter had tried to take the lock:
/// it holds it and [is told](LockError::OwnerDied). So nobody waits for a notification of the dead; and a wait with a
/// [`Mutex`](super::Mutex) that is poisoned, because nobody has recovered it, ends as soon. A process that dies without
/// the lock goes unnoticed: if you wait for something that only one process can do, wait with a timeout, and look
/// after that process.
///
/// # Examples
/// ```
/// use forkless::sync::{Condvar, Mutex};
///
/// # fn main() -> Result<(), forkless::Error> {
/// let (jobs, more) = (Mutex::create(0_u32)?, Condvar::create()?);
/// std::thread::scope(|scope| {
///     // Just as well another process, which has opened both by their handles.
///     scope.spawn(|| -> Result<(), forkless::Error> {
///         *jobs.lock()? += 1;
///         more.notify_one()?;
///         Ok(())
///     });
///     let mut jobs = more.wait_while(jobs.lock()?, |jobs| *jobs == 0)?;
///     *jobs -= 1;
///     Ok(())
/// })
/// # }
/// ```
pub struct Condvar {
    inner: forkless_sync::Condvar,
    handle: Handle,
}

named!(Condvar, forkless_sync::Condvar, waiting);

/// Whether a wait ended because the time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it did: then there was no notification.
    #[must_use]
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A new condition variable that nobody waits for, in this process's [`arena`](crate::arena()).
    ///
    /// # Errors
    /// [`Error::Arena`] if there is no arena, or no room in it.
    pub fn create() -> Result<Self, Error> {
        Self::wrap(forkless_sync::Condvar::create(arena()?)?)
    }

    /// Gives the lock back, waits for a notification, and takes the lock again.
    ///
    /// What was changed through the guard is seen by whoever takes the lock meanwhile. A notification sent after the lock
    /// was given back is not missed.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] if a process died that held the lock: it brings the guard, and whoever was notified has
    /// passed that on. [`LockError::Failed`] if 69,889 wait already, or shared memory is full or damaged; then the
    /// lock has been given back.
    pub fn wait<G: Guard>(&self, guard: G) -> LockResult<G> {
        self.wait_deadline(guard, Deadline::NEVER).map(|(guard, _)| guard)
    }

    /// Waits as long as `condition` says so of the value.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T: Plain>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), but gives up after this long. The lock is taken again in any case, however long that takes.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout<G: Guard>(&self, guard: G, timeout: Duration) -> Result<(G, WaitTimeoutResult), LockError<G>> {
        self.wait_deadline(guard, Deadline::after(timeout))
    }

    /// As [`wait_while`](Self::wait_while), but gives up after this long.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// use forkless::sync::{Condvar, Mutex};
    ///
    /// # fn main() -> Result<(), forkless::Error> {
    /// let (jobs, more) = (Mutex::create(0_u32)?, Condvar::create()?);
    /// let (jobs, result) = more.wait_timeout_while(jobs.lock()?, Duration::from_millis(20), |jobs| *jobs == 0)?;
    /// assert!(result.timed_out() && *jobs == 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout_while<'a, T: Plain>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), LockError<MutexGuard<'a, T>>> {
        let deadline = Deadline::after(timeout);
        while condition(&guard) {
            if deadline.passed() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            guard = self.wait_deadline(guard, deadline)?.0;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// As [`wait`](Self::wait), but gives up at this moment. The lock is taken again in any case, however long that takes.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_deadline<G: Guard>(
        &self,
        mut guard: G,
        deadline: impl Into<Deadline>,
    ) -> Result<(G, WaitTimeoutResult), LockError<G>> {
        let deadline = deadline.into();
        let waiter = self.inner.enter()?;
        loop {
            let lock = guard.unlock();
            let reason = until(deadline, (self.inner.lease(), Waited::Condition), |bound| {
                let woken = self.inner.wait_within(&waiter, bound)?;
                Ok((woken == Some(Woken::Look) || G::is_left(lock)?).then_some(()))
            })?;
            match G::relock(lock) {
                Ok(taken) => guard = taken,
                Err(LockError::OwnerDied(died)) => {
                    if self.inner.leave(waiter)? {
                        // Who gets bad news may not do what the notification asks for.
                        self.inner.notify(1)?;
                    }
                    return Err(LockError::OwnerDied(died));
                }
                Err(failed) => return Err(failed),
            }
            // Others may have been faster to take over a dead one's notification.
            if reason.is_none() || self.inner.should_leave(&waiter)? {
                let notified = self.inner.leave(waiter)?;
                return Ok((guard, WaitTimeoutResult(!notified)));
            }
        }
    }

    /// Notifies the one that has waited longest; whether anybody waited.
    ///
    /// The lock need not be held, if whatever was waited for was changed with the lock held.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn notify_one(&self) -> Result<bool, Error> {
        Ok(self.inner.notify(1)? == 1)
    }

    /// Notifies all that wait; how many those were.
    ///
    /// The lock need not be held, if whatever was waited for was changed with the lock held.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn notify_all(&self) -> Result<usize, Error> {
        Ok(self.inner.notify(usize::MAX)?)
    }

    /// How many wait and have not been notified. By the time this returns that may have changed.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn waiting(&self) -> Result<usize, Error> {
        Ok(self.inner.waiting()?)
    }
}
