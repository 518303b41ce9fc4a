//! Locks and what one waits for: see [`forkless_sync`].

pub use forkless_sync::{
    Acquired, Arrival, Attempt, Barrier, Condvar, Event, Mutex, Passage, ReentrantMutex, Released, Semaphore, Ticket,
    Waiter,
};

use forkless_sys::time::Deadline;

use crate::{Error, Owner};

/// A [`Mutex`] that is held until this is dropped.
#[derive(Debug)]
#[must_use = "the mutex is given back at once when its guard is not kept"]
pub struct Guard<'a> {
    mutex: &'a Mutex,
    acquired: Acquired,
}

impl Guard<'_> {
    /// Who held the mutex before, if that process died with it: what the mutex protects may be half-written.
    #[must_use]
    pub fn died(&self) -> Option<Owner> {
        match self.acquired {
            Acquired::Clean => None,
            Acquired::FromTheDead(owner) => Some(owner),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // Fails only if the mutex's memory is damaged; its next taker learns that too.
        let _ = self.mutex.release();
    }
}

/// Waits for a mutex until the deadline; `None` if that passed. The wait ends within 100 ms of the owner's death.
///
/// # Errors
/// See [`Mutex::acquire`].
pub fn lock(mutex: &Mutex, deadline: Deadline) -> Result<Option<Guard<'_>>, Error> {
    Ok(mutex.acquire(deadline)?.map(|acquired| Guard { mutex, acquired }))
}
