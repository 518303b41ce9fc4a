//! Locks and semaphores as a stranger sees them, who has no place in their tree: by reading.

use std::time::Duration;

use forkless_shm::robust;
use forkless_shm::waits::Outside;

use crate::{Mutex, Owner, ReentrantMutex, Semaphore, ValueMutex, mutex, note, reentrant, semaphore, value};

/// What can be seen of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it, dead or alive.
    pub owner: Option<Owner>,
    /// For how long.
    pub held_for: Option<Duration>,
    /// Where it was made; empty if nobody said.
    pub origin: String,
    /// The tokens that a semaphore has left.
    pub tokens: Option<u32>,
}

/// Looks at the object in a block; `None` if it is gone. Of one that is neither lock nor semaphore nothing is seen.
#[must_use]
pub fn look(arena: &Outside<'_>, offset: usize, generation: u32) -> Option<Seen> {
    let (kind, at) = arena.block(offset, generation)?;
    Some(match kind {
        Mutex::KIND => lock(arena, at, mutex::WORD, mutex::SINCE, (mutex::ORIGIN, mutex::ORIGIN_SIZE)),
        ReentrantMutex::KIND => {
            lock(arena, at, reentrant::WORD, reentrant::SINCE, (reentrant::ORIGIN, reentrant::ORIGIN_SIZE))
        }
        ValueMutex::KIND => {
            let owner = arena.u32(at + value::WORD).and_then(robust::holder_of);
            Seen { owner, ..Seen::default() }
        }
        Semaphore::KIND => {
            let tokens = arena.u32(at + semaphore::WORD).map(|word| word & !semaphore::WAITERS);
            Seen { tokens, ..Seen::default() }
        }
        _ => Seen::default(),
    })
}

fn lock(arena: &Outside<'_>, at: usize, word: usize, since: usize, origin: (usize, usize)) -> Seen {
    let owner = arena.u32(at + word).and_then(robust::holder_of);
    Seen {
        owner,
        held_for: owner.and_then(|_| arena.u32(at + since)).map(note::ago),
        origin: arena.text(at + origin.0, origin.1),
        tokens: None,
    }
}
