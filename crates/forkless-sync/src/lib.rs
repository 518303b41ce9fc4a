//! Synchronisation between processes that may die at any instruction.
//!
//! Each object is one block of the [arena](forkless_shm): it belongs to no parent, its [`Handle`] can travel
//! anywhere in the tree, it needs no descriptor, and it lives as long as somebody holds it. [`Mutex`] knows its
//! owner, and whoever waits for a dead one is told; an [`Event`] has no owner.
//!
//! Waiting comes in bounded steps (`…_within`), so that a caller can run signal handlers between them; the plain
//! methods wait to a [`Deadline`].
#![cfg_attr(loom, allow(clippy::reversed_empty_ranges))] // a spin of no passes

mod barrier;
mod condvar;
mod event;
mod mutex;
mod note;
pub mod outside;
mod reentrant;
mod semaphore;
mod turn;
mod value;

pub use barrier::{Arrival, Barrier, Passage};
pub use condvar::{Condvar, Waiter};
pub use event::{Event, Ticket};
pub use forkless_shm::{Acquired, Attempt, Handle, Owner, Wait};
pub use forkless_sys::time::Deadline;
pub use mutex::Mutex;
pub use reentrant::ReentrantMutex;
pub use semaphore::{Released, Semaphore};
pub use value::ValueMutex;

use forkless_shm::{Error, Kind};
use forkless_sys::time::SLICE;

/// The kinds of blocks here that need taking apart, for arenas.
pub const KINDS: [Kind; 2] = [semaphore::HOLD, condvar::KIND];

/// Repeats a bounded attempt until it comes to something or the deadline passes. Signals do not end the wait: for
/// programs whose handlers only set flags, or that have none.
///
/// # Errors
/// Whatever the attempt reports.
pub fn until<T>(
    deadline: Deadline,
    mut attempt: impl FnMut(std::time::Duration) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    loop {
        let bound = deadline.remaining(SLICE);
        if let Some(value) = attempt(bound)? {
            return Ok(Some(value));
        }
        // The last attempt is one after the deadline: this process may have been stopped until then.
        if bound.is_zero() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_attempt_is_after_the_deadline() {
        // This process is stopped as it has looked, and what it waits for comes meanwhile.
        let attempt = |bound: Duration| {
            let has_come = bound.is_zero();
            std::thread::sleep(2 * bound);
            Ok::<_, Error>(has_come.then_some(()))
        };
        assert_eq!(until(Deadline::after(Duration::from_millis(10)), attempt), Ok(Some(())));
        let never = |_| Ok::<Option<()>, Error>(None);
        assert_eq!(until(Deadline::after(Duration::from_millis(1)), never), Ok(None));
    }
}
