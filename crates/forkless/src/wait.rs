//! Waiting to a deadline, in steps of at most 50 ms.

use std::time::Duration;

use forkless_shm::{Acquired, Attempt, Lease, Wait, Waited};
use forkless_sys::time::{Deadline, SLICE};

use crate::{Error, process};

/// Repeats a bounded attempt until it comes to something or the deadline passes.
///
/// In between, this process sees to its children that have ended: what they held may be what is waited for. The wait is
/// noted (see [`forkless_shm::waits`]) if it outlasts its first step: most are shorter than noting them.
pub(crate) fn until<T>(
    deadline: Deadline,
    (lease, waited): (&Lease, Waited),
    mut attempt: impl FnMut(Duration) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let mut note = None;
    loop {
        let bound = deadline.remaining(SLICE);
        if let Some(value) = attempt(bound)? {
            return Ok(Some(value));
        }
        note = note.or_else(|| lease.note_wait(waited));
        // The last attempt is one after the deadline: this process may have been stopped until then.
        if bound.is_zero() {
            return Ok(None);
        }
        process::tend();
    }
}

/// Takes what may have an owner: at once if that is possible, else until the deadline.
pub(crate) fn acquire(
    deadline: Deadline,
    at_once: Result<Option<Acquired>, forkless_shm::Error>,
    waited: (&Lease, Waited),
    within: impl Fn(&mut Wait, Duration) -> Result<Attempt, forkless_shm::Error>,
) -> Result<Option<Acquired>, Error> {
    let mut wait = Wait::new();
    match at_once? {
        Some(acquired) => Ok(Some(acquired)),
        None => until(deadline, waited, |bound| match within(&mut wait, bound)? {
            Attempt::Acquired(acquired) => Ok(Some(acquired)),
            Attempt::Again | Attempt::Interrupted => Ok(None),
        }),
    }
}
