//! The lock inside our own objects.

use forkless_shm::{Acquired, Arena, Attempt, Error, Wait};
use forkless_sys::atomic::AtomicU32;
use forkless_sys::time::SLICE;

/// Holds a robust lock of ours, for less than a microsecond and whatever signals arrive; gives it back when dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn {
    arena: &'static Arena,
    word: &'static AtomicU32,
}

impl Turn {
    /// Takes the lock. Whoever takes it from the dead first repairs what it protects.
    pub(crate) fn take(arena: &'static Arena, word: &'static AtomicU32) -> Result<(Self, Acquired), Error> {
        let me = arena.me()?;
        let mut attempt = arena.acquire_free(word, me).map_or(Attempt::Again, Attempt::Acquired);
        let mut wait = Wait::new();
        loop {
            if let Attempt::Acquired(acquired) = attempt {
                return Ok((Self { arena, word }, acquired));
            }
            attempt = arena.acquire_within(word, me, &mut wait, SLICE);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.arena.release(self.word);
    }
}
