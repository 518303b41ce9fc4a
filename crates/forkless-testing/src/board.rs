//! Words in the arena at which the processes of a test meet.

use std::fmt::{Display, Formatter, Result};

use forkless_shm::{Arena, Handle, Lease};
use forkless_sys::atomic::{AtomicU32, AtomicU64, Ordering};
use forkless_sys::futex;
use forkless_sys::time::{Deadline, SLICE};

use crate::PATIENCE;

/// A row of 64-bit words, zero at first, that every process with its handle reads and writes.
#[derive(Debug)]
pub struct Board {
    lease: Lease,
}

impl Board {
    /// The kind of its block: no other in the project.
    pub const KIND: u8 = 200;

    /// A new board of this many words.
    ///
    /// # Panics
    /// If the arena refuses.
    #[must_use]
    pub fn create(arena: &'static Arena, words: usize) -> Self {
        let lease = arena.allocate(8 * words, Self::KIND).expect("the arena has room for a board");
        assert!(arena.map().write(lease.block().payload(), &vec![0; 8 * words]), "a new board is in the arena");
        Self { lease }
    }

    /// The board that a handle names.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn open(arena: &'static Arena, handle: Handle) -> Self {
        Self { lease: arena.open(handle, Self::KIND).expect("the parent keeps the board") }
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// A word.
    ///
    /// # Panics
    /// If the board has fewer words.
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(8 * (index + 1) <= self.lease.block().capacity(), "the board has no word {index}");
        self.lease.arena().map().u64(self.lease.block().payload() + 8 * index).expect("a block is in its arena")
    }

    /// What a word holds.
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }

    /// Sets a word and wakes whoever [waits](Self::wait) for it.
    pub fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::SeqCst);
        self.wake(index);
    }

    /// Adds to a word and wakes whoever [waits](Self::wait) for it.
    pub fn add(&self, index: usize, by: u64) {
        self.word(index).fetch_add(by, Ordering::SeqCst);
        self.wake(index);
    }

    fn wake(&self, index: usize) {
        if let Some(low) = self.low_half(index) {
            futex::wake(low, futex::ALL);
        }
    }

    /// Futexes have 32 bits; little-endian, as everything in the arena.
    fn low_half(&self, index: usize) -> Option<&AtomicU32> {
        self.lease.arena().map().u32(self.lease.block().payload() + 8 * index)
    }

    /// Waits until a word holds what is `wanted`; returns it.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn wait(&self, index: usize, wanted: impl Fn(u64) -> bool) -> u64 {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let value = self.get(index);
            if wanted(value) {
                return value;
            }
            assert!(!deadline.passed(), "word {index} of a board still holds {value} after {PATIENCE:?}");
            if let Some(low) = self.low_half(index) {
                futex::wait(low, value as u32, SLICE);
            }
        }
    }
}

/// As an argument of [`Child::start`](crate::Child::start), for [`Scene::board`](crate::Scene::board).
impl Display for Board {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        crate::role::handle(&self.lease).fmt(formatter)
    }
}
