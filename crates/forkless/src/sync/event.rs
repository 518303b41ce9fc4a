//! Set once, seen by all.

use std::time::Duration;

use forkless_shm::{Arena, Handle, Lease, Waited};
use forkless_sys::futex::Woken;
use forkless_sys::time::Deadline;

use crate::shared::named;
use crate::wait::until;
use crate::{Error, arena};

/// A flag that processes wait for. In Python it is `forkless.Event`.
///
/// What was written before it was set is seen by whoever sees it set. It has no owner: nobody is told if the process dies
/// that was to set it. If only one can, wait with a timeout, and look after that process.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use forkless::sync::Event;
///
/// # fn main() -> Result<(), forkless::Error> {
/// let ready = Event::create()?;
/// assert!(!ready.wait_timeout(Duration::from_millis(1))?);
/// ready.set()?;
/// ready.wait()?;
/// # Ok(())
/// # }
/// ```
pub struct Event {
    inner: forkless_sync::Event,
    handle: Handle,
}

named!(Event, forkless_sync::Event, is_set);

impl Event {
    /// A new event, not set, in this process's [`arena`](crate::arena()).
    ///
    /// # Errors
    /// [`Error::Arena`] if there is no arena, or no room in it.
    pub fn create() -> Result<Self, Error> {
        Self::wrap(forkless_sync::Event::create(arena()?)?)
    }

    /// Sets it and wakes everyone who waits. Once it is set, nothing more happens.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn set(&self) -> Result<(), Error> {
        Ok(self.inner.set()?)
    }

    /// Clears it. Whoever waited when it was set has seen that all the same.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn clear(&self) -> Result<(), Error> {
        Ok(self.inner.clear()?)
    }

    /// Whether it is set.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn is_set(&self) -> Result<bool, Error> {
        Ok(self.inner.is_set()?)
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn wait(&self) -> Result<(), Error> {
        self.wait_deadline(Deadline::NEVER).map(|_| ())
    }

    /// As [`wait`](Self::wait), but gives up after this long; whether it was set.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        self.wait_deadline(Deadline::after(timeout))
    }

    /// As [`wait`](Self::wait), but gives up at this moment; whether it was set.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn wait_deadline(&self, deadline: impl Into<Deadline>) -> Result<bool, Error> {
        let ticket = self.inner.ticket()?;
        let set = until(deadline.into(), (self.inner.lease(), Waited::Event), |bound| {
            let woken = self.inner.wait_within(ticket, bound)?;
            Ok((woken == Some(Woken::Look)).then_some(()))
        })?;
        Ok(set.is_some())
    }
}
