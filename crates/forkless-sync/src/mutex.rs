//! A mutex that survives its owner.

use std::time::Duration;

use forkless_shm::{Acquired, Arena, Attempt, Error, Handle, Lease, Owner, Wait, robust};
use forkless_sys::atomic::AtomicU32;
use forkless_sys::time::Deadline;

use crate::note::Note;
use crate::until;

/// u32, see [`robust`].
pub(crate) const WORD: usize = 0;
/// The note.
pub(crate) const SINCE: usize = 4;
pub(crate) const ORIGIN: usize = 8;
pub(crate) const ORIGIN_SIZE: usize = 40;
const SIZE: usize = ORIGIN + ORIGIN_SIZE;

/// A robust mutex in shared memory, one word (see [`forkless_shm::robust`]).
///
/// Taken once per process at a time, by any thread, and given back by any process, as `multiprocessing.Lock` allows.
/// If its owner dies, the next taker holds it and is told so.
#[derive(Debug)]
pub struct Mutex {
    lease: Lease,
}

impl Mutex {
    /// The kind of its block.
    pub const KIND: u8 = 1;

    /// A new mutex, free.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena) -> Result<Self, Error> {
        Self::create_at(arena, "")
    }

    /// A new mutex, free, that remembers where it was made (the last 40 bytes of it).
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

    /// Takes it if that needs no waiting.
    ///
    /// # Errors
    /// [`Error::NoSlot`] if this process cannot join the tree.
    pub fn try_acquire(&self) -> Result<Option<Acquired>, Error> {
        let words = self.words()?;
        let acquired = words.arena.try_acquire(words.word()?, words.me);
        words.mark_if(acquired == Some(Acquired::Clean))?;
        Ok(acquired)
    }

    /// As [`Self::try_acquire`], for a caller that waits if it comes to nothing: overtakes nobody who has waited for long.
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn acquire_free(&self) -> Result<Option<Acquired>, Error> {
        let words = self.words()?;
        let acquired = words.arena.acquire_free(words.word()?, words.me);
        words.mark_if(acquired == Some(Acquired::Clean))?;
        Ok(acquired)
    }

    /// Tries for it, sleeping at most `bound` (and at most 50 ms); a step of a longer wait.
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn acquire_within(&self, wait: &mut Wait, bound: Duration) -> Result<Attempt, Error> {
        let words = self.words()?;
        let attempt = words.arena.acquire_within(words.word()?, words.me, wait, bound);
        words.mark_if(attempt == Attempt::Acquired(Acquired::Clean))?;
        Ok(attempt)
    }

    /// How long ago it was last taken from nobody, to a few hundredths of a second: asked by who took it from the dead,
    /// since when those held it.
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

    /// Gives it back; `false` if it was not held.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn release(&self) -> Result<bool, Error> {
        let words = self.words()?;
        Ok(words.arena.release(words.word()?))
    }

    /// Who holds it, dead or alive.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn holder(&self) -> Result<Option<Owner>, Error> {
        Ok(robust::holder(self.words()?.word()?))
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
    fn word(self) -> Result<&'static AtomicU32, Error> {
        self.arena.map().u32(self.at + WORD).ok_or(Error::Corrupt("a mutex"))
    }

    fn note(self) -> Note {
        Note { arena: self.arena, since: self.at + SINCE, origin: (self.at + ORIGIN, ORIGIN_SIZE) }
    }

    /// From the dead it is taken with their note, for whoever tells of the death.
    fn mark_if(self, clean: bool) -> Result<(), Error> {
        if clean { self.note().mark() } else { Ok(()) }
    }
}
