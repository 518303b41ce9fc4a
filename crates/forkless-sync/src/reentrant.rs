//! A mutex that its owner may take again.
//!
//! The robust word of [`Mutex`](crate::Mutex) says which process owns it; beside it stand the thread, as the process's
//! owner word and a number of the thread in it, and how often that has taken it. Both are written by the owner
//! only, after it took the word and before it gives it back, so a thread that reads its own name there is the owner,
//! and a death at any point leaves a word that says so.

use std::cell::Cell;
use std::sync::atomic::AtomicU32 as PrivateU32;
use std::time::Duration;

use forkless_shm::{Acquired, Arena, Attempt, Error, Handle, Lease, Owner, Wait, robust};
use forkless_sys::atomic::{AtomicU32, AtomicU64, Ordering};
use forkless_sys::crash::point;
use forkless_sys::time::Deadline;

use crate::note::Note;
use crate::until;

/// u32, see [`robust`].
pub(crate) const WORD: usize = 0;
/// The note.
pub(crate) const SINCE: usize = 4;
/// u64: owner word of the process << 32 | number of the thread.
pub(crate) const THREAD: usize = 8;
/// u32: how often the owner has taken it.
const COUNT: usize = 16;
pub(crate) const ORIGIN: usize = 20;
pub(crate) const ORIGIN_SIZE: usize = 28;
const SIZE: usize = ORIGIN + ORIGIN_SIZE;

/// A robust mutex that the thread which owns it may take again; it is free when given back as often.
///
/// Only the owner gives it back. If its process dies, the next taker holds it, once, and is told.
#[derive(Debug)]
pub struct ReentrantMutex {
    lease: Lease,
}

/// A number of the calling thread, never zero and never of another thread of this process.
fn thread_number() -> u32 {
    static NEXT: PrivateU32 = PrivateU32::new(1);
    forkless_sys::thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl ReentrantMutex {
    /// The kind of its block.
    pub const KIND: u8 = 6;

    /// A new mutex, free, that remembers where it was made (the last 28 bytes of it).
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create_at(arena: &'static Arena, origin: &str) -> Result<Self, Error> {
        let lease = arena.allocate(SIZE, Self::KIND)?;
        if !arena.map().write(lease.block().payload(), &[0; SIZE]) {
            return Err(Error::Corrupt("a new mutex"));
        }
        let mutex = Self { lease };
        mutex.words()?.note().set_origin(origin)?;
        Ok(mutex)
    }

    /// A new mutex, free.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena) -> Result<Self, Error> {
        Self::create_at(arena, "")
    }

    /// The mutex that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        Ok(Self { lease: arena.open(handle, Self::KIND)? })
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    fn words(&self) -> Result<Words, Error> {
        let (me, at) = self.lease.place()?;
        Ok(Words { arena: self.lease.arena(), me, at })
    }

    /// Whether the calling thread owns it.
    ///
    /// # Errors
    /// [`Error::NoSlot`] if this process cannot join the tree.
    pub fn is_mine(&self) -> Result<bool, Error> {
        self.words()?.is_mine()
    }

    /// How often its owner has taken it; 0 while it is free.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn count(&self) -> Result<u32, Error> {
        Ok(self.words()?.u32(COUNT)?.load(Ordering::Relaxed))
    }

    /// Takes it if that needs no waiting.
    ///
    /// # Errors
    /// [`Error::NoSlot`] if this process cannot join the tree.
    pub fn try_acquire(&self) -> Result<Option<Acquired>, Error> {
        self.acquire_by(Arena::try_acquire)
    }

    /// As [`Self::try_acquire`], for a caller that waits if it comes to nothing: overtakes nobody who has waited for long.
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn acquire_free(&self) -> Result<Option<Acquired>, Error> {
        self.acquire_by(Arena::acquire_free)
    }

    fn acquire_by(
        &self,
        acquire: impl FnOnce(&Arena, &AtomicU32, Owner) -> Option<Acquired>,
    ) -> Result<Option<Acquired>, Error> {
        let words = self.words()?;
        if words.is_mine()? {
            let count = words.u32(COUNT)?;
            let more = count.load(Ordering::Relaxed).checked_add(1).ok_or(Error::Corrupt("the depth of a mutex"))?;
            count.store(more, Ordering::Relaxed);
            return Ok(Some(Acquired::Clean));
        }
        match acquire(words.arena, words.u32(WORD)?, words.me) {
            Some(acquired) => words.taken(acquired).map(Some),
            None => Ok(None),
        }
    }

    /// Tries for it, sleeping at most `bound` (and at most 50 ms); a step of a longer wait. To be called after
    /// [`Self::acquire_free`].
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn acquire_within(&self, wait: &mut Wait, bound: Duration) -> Result<Attempt, Error> {
        let words = self.words()?;
        match words.arena.acquire_within(words.u32(WORD)?, words.me, wait, bound) {
            Attempt::Acquired(acquired) => words.taken(acquired).map(Attempt::Acquired),
            other => Ok(other),
        }
    }

    /// Waits for it until the deadline; `None` if that passed. The wait ends within 100 ms of the owner's death.
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn acquire(&self, deadline: Deadline) -> Result<Option<Acquired>, Error> {
        if let Some(acquired) = self.acquire_free()? {
            return Ok(Some(acquired));
        }
        let mut wait = Wait::new();
        until(deadline, |bound| match self.acquire_within(&mut wait, bound)? {
            Attempt::Acquired(acquired) => Ok(Some(acquired)),
            Attempt::Again | Attempt::Interrupted => Ok(None),
        })
    }

    /// Gives it back once; `false` if the calling thread does not own it.
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn release(&self) -> Result<bool, Error> {
        let words = self.words()?;
        if !words.is_mine()? {
            return Ok(false);
        }
        let count = words.u32(COUNT)?;
        match count.load(Ordering::Relaxed) {
            0 | 1 => words.free()?,
            more => count.store(more - 1, Ordering::Relaxed),
        }
        Ok(true)
    }

    /// Gives it back as often as it was taken; how often that was, 0 if the calling thread does not own it.
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn release_all(&self) -> Result<u32, Error> {
        let words = self.words()?;
        if !words.is_mine()? {
            return Ok(0);
        }
        let count = words.u32(COUNT)?.load(Ordering::Relaxed);
        words.free()?;
        Ok(count.max(1))
    }

    /// Counts as taken this often; the calling thread owns it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn set_count(&self, count: u32) -> Result<(), Error> {
        self.words()?.u32(COUNT)?.store(count.max(1), Ordering::Relaxed);
        Ok(())
    }

    /// The process whose thread owns it, dead or alive.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn holder(&self) -> Result<Option<Owner>, Error> {
        Ok(robust::holder(self.words()?.u32(WORD)?))
    }

    /// See [`Mutex::held_for`](crate::Mutex::held_for).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn held_for(&self) -> Result<Duration, Error> {
        self.words()?.note().held_for()
    }

    /// Notes that it is held from now on: done by who took it from the dead, once the time of those is known.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn mark(&self) -> Result<(), Error> {
        self.words()?.note().mark()
    }

    /// Where it was made; empty if its maker did not say.
    #[must_use]
    pub fn origin(&self) -> String {
        self.words().map_or_else(|_| String::new(), |words| words.note().origin())
    }
}

/// A mutex's block, as this process has it.
#[derive(Clone, Copy)]
struct Words {
    arena: &'static Arena,
    me: Owner,
    at: usize,
}

impl Words {
    fn u32(self, field: usize) -> Result<&'static AtomicU32, Error> {
        self.arena.map().u32(self.at + field).ok_or(Error::Corrupt("a mutex"))
    }

    fn thread(self) -> Result<&'static AtomicU64, Error> {
        self.arena.map().u64(self.at + THREAD).ok_or(Error::Corrupt("a mutex"))
    }

    fn note(self) -> Note {
        Note { arena: self.arena, since: self.at + SINCE, origin: (self.at + ORIGIN, ORIGIN_SIZE) }
    }

    fn here(self) -> u64 {
        u64::from(self.me.word()) << 32 | u64::from(thread_number())
    }

    fn is_mine(self) -> Result<bool, Error> {
        // Only this thread ever writes its own name.
        Ok(self.thread()?.load(Ordering::Relaxed) == self.here())
    }

    /// Names the owner of the word that was just taken.
    fn taken(self, acquired: Acquired) -> Result<Acquired, Error> {
        point("reentrant.taken");
        self.u32(COUNT)?.store(1, Ordering::Relaxed);
        self.thread()?.store(self.here(), Ordering::Relaxed);
        if acquired == Acquired::Clean {
            self.note().mark()?;
        }
        point("reentrant.named");
        Ok(acquired)
    }

    /// Gives the word back, however often it was taken. Only the owner writes count and name.
    fn free(self) -> Result<(), Error> {
        self.u32(COUNT)?.store(0, Ordering::Relaxed);
        self.thread()?.store(0, Ordering::Relaxed);
        point("reentrant.unnamed");
        self.arena.release(self.u32(WORD)?);
        Ok(())
    }
}
