//! The lock inside our own objects.

use forkless_shm::{Acquired, Arena, Error};
use forkless_sys::atomic::AtomicU32;

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
        let acquired = match arena.acquire_free(word, me) {
            Some(acquired) => acquired,
            None => arena.acquire_internal(word, me),
        };
        Ok((Self { arena, word }, acquired))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.arena.release(self.word);
    }
}
