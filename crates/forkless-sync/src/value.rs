//! A robust mutex with the value that it protects, which no death leaves half-written.
//!
//! The value is there twice. A count of commits says which copy is the value: that of its lowest bit. Whoever holds the
//! mutex reads the value out, and writes a new one into the *other* copy; the commit is the one store that adds to the
//! count. Death before it: the value is as it was. After it: the new value is whole.
//!
//! ```text
//! +0  the lock, see forkless_shm::robust   +4 commits so far   +8 owner word of a dead holder, 0 for none
//! +16 bytes of the value                   +24 its type, as text
//! +64 a copy, padded to eight bytes, then the other
//! ```
//!
//! A mutex that was taken from the dead stays *poisoned*, beyond who was told of it, until somebody says that what they
//! left is in order: the value is whole, but it may stand for something outside that is not.
//!
//! The copies are made of atomic loads and stores of words. So whatever another process does to the memory while they
//! are made, against the protocol, is no data race in this one: at worst it reads what somebody else wrote there.
//!
//! What was tried instead: a reference into shared memory is faster for large values. It is torn when its owner dies, and
//! to be sound it would take the good behaviour of every other process.

use std::time::Duration;

use forkless_shm::{Acquired, Arena, Attempt, Error, Handle, Lease, Owner, Wait, robust};
use forkless_sys::atomic::{AtomicU32, AtomicU64, Ordering};
use forkless_sys::crash::point;

/// u32, see [`robust`].
pub(crate) const WORD: usize = 0;
/// u32.
const COMMITS: usize = 4;
/// u32.
const POISON: usize = 8;
/// u64.
const SIZE: usize = 16;
const TYPE: usize = 24;
const TYPE_SIZE: usize = 40;
const COPIES: usize = TYPE + TYPE_SIZE;

/// A robust mutex in shared memory and a value of fixed size, as bytes.
#[derive(Debug)]
pub struct ValueMutex {
    lease: Lease,
    size: usize,
}

impl ValueMutex {
    /// The kind of its block.
    pub const KIND: u8 = 16;

    /// A new mutex, free, with a value, and the name of the value's type (the first 40 bytes of it).
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena, value_type: &str, value: &[u8]) -> Result<Self, Error> {
        let size = value.len();
        let full = Error::Full { bytes: size, size: arena.size() };
        let room = size.checked_mul(2).and_then(|twice| twice.checked_add(COPIES + 16)).ok_or(full)?;
        let mutex = Self { lease: arena.allocate(room, Self::KIND)?, size };
        let mut head = [0; COPIES];
        head[SIZE..SIZE + 8].copy_from_slice(&(size as u64).to_ne_bytes());
        let name = &value_type[..value_type.floor_char_boundary(TYPE_SIZE)];
        head[TYPE..TYPE + name.len()].copy_from_slice(name.as_bytes());
        if !arena.map().write(mutex.at()?, &head) {
            return Err(Error::Corrupt("a new mutex"));
        }
        mutex.commit(value)?;
        Ok(mutex)
    }

    /// The mutex that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`]; [`Error::Corrupt`] if the value is larger than its block.
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        let lease = arena.open(handle, Self::KIND)?;
        let size = arena.map().u64(lease.block().payload() + SIZE).ok_or(DAMAGED)?.load(Ordering::Acquire);
        // Blocks and fields have sizes that are multiples of eight, so what fits also fits padded.
        let room = lease.block().capacity().checked_sub(COPIES).map(|both| both / 2);
        match (usize::try_from(size), room) {
            (Ok(size), Some(room)) if size <= room => Ok(Self { lease, size }),
            _ => Err(Error::Corrupt("the size of a mutex's value")),
        }
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Bytes of the value.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The name of the value's type, or its beginning.
    #[must_use]
    pub fn value_type(&self) -> String {
        let mut bytes = Vec::new();
        // In bounds by the size of the block; a failure would read as an empty text.
        let _ = self.at().is_ok_and(|at| self.lease.arena().map().read(at + TYPE, TYPE_SIZE, &mut bytes));
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    /// Whether that name is `value_type`, as far as it was written down.
    #[must_use]
    pub fn is_type(&self, value_type: &str) -> bool {
        self.value_type() == value_type[..value_type.floor_char_boundary(TYPE_SIZE)]
    }

    /// Takes it if that needs no waiting. `FromTheDead` if its owner died with it, or if it is poisoned.
    ///
    /// # Errors
    /// [`Error::NoSlot`] if this process cannot join the tree; [`Error::Corrupt`] if its block is damaged.
    pub fn try_acquire(&self) -> Result<Option<Acquired>, Error> {
        let arena = self.lease.arena();
        arena.try_acquire(self.u32(WORD)?, arena.me()?).map(|acquired| self.taken(acquired)).transpose()
    }

    /// As [`Self::try_acquire`], for a caller that waits if it comes to nothing: overtakes nobody who has waited for long.
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn acquire_free(&self) -> Result<Option<Acquired>, Error> {
        let arena = self.lease.arena();
        arena.acquire_free(self.u32(WORD)?, arena.me()?).map(|acquired| self.taken(acquired)).transpose()
    }

    /// Tries for it, sleeping at most `bound` (and at most 50 ms); a step of a longer wait.
    ///
    /// # Errors
    /// See [`Self::try_acquire`].
    pub fn acquire_within(&self, wait: &mut Wait, bound: Duration) -> Result<Attempt, Error> {
        let arena = self.lease.arena();
        match arena.acquire_within(self.u32(WORD)?, arena.me()?, wait, bound) {
            Attempt::Acquired(acquired) => self.taken(acquired).map(Attempt::Acquired),
            other => Ok(other),
        }
    }

    fn taken(&self, acquired: Acquired) -> Result<Acquired, Error> {
        point("value.taken");
        let poison = self.u32(POISON)?;
        if let Acquired::FromTheDead(owner) = acquired {
            // Death before this store: the next taker finds a dead owner too.
            poison.store(owner.word(), Ordering::Relaxed);
            point("value.poisoned");
            return Ok(acquired);
        }
        self.poisoned_by().map(|dead| dead.map_or(Acquired::Clean, Acquired::FromTheDead)).inspect_err(|_| {
            let _ = self.release();
        })
    }

    /// Gives it back; `false` if it was not held.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn release(&self) -> Result<bool, Error> {
        Ok(self.lease.arena().release(self.u32(WORD)?))
    }

    /// Who holds it, dead or alive.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn holder(&self) -> Result<Option<Owner>, Error> {
        Ok(robust::holder(self.u32(WORD)?))
    }

    /// Who died with it, if nobody has [recovered](Self::recover) it since.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn poisoned_by(&self) -> Result<Option<Owner>, Error> {
        match self.u32(POISON)?.load(Ordering::Relaxed) {
            0 => Ok(None),
            word => Owner::from_word(word).map(Some).ok_or(DAMAGED),
        }
    }

    /// Says that what the dead have left is in order: it is poisoned no longer.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn recover(&self) -> Result<(), Error> {
        self.u32(POISON)?.store(0, Ordering::Relaxed);
        point("value.recovered");
        Ok(())
    }

    /// Reads the value out; `into` has its size. The caller holds the mutex.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged, or `into` has another size.
    pub fn read(&self, into: &mut [u8]) -> Result<(), Error> {
        // Acquire pairs with the release in `commit`: the lock orders nothing if its owner died after that.
        let copy = self.copy(self.u32(COMMITS)?.load(Ordering::Acquire))?;
        if into.len() != self.size {
            return Err(DAMAGED);
        }
        let (words, tail) = into.as_chunks_mut::<8>();
        let end = copy + 8 * words.len();
        for (at, word) in (copy..).step_by(8).zip(words) {
            *word = self.u64(at)?.load(Ordering::Relaxed).to_ne_bytes();
        }
        if !tail.is_empty() {
            tail.copy_from_slice(&self.u64(end)?.load(Ordering::Relaxed).to_ne_bytes()[..tail.len()]);
        }
        Ok(())
    }

    /// Makes `value` the value. The caller holds the mutex.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged, or `value` has another size.
    pub fn commit(&self, value: &[u8]) -> Result<(), Error> {
        let commits = self.u32(COMMITS)?;
        let next = commits.load(Ordering::Relaxed).wrapping_add(1);
        if value.len() != self.size {
            return Err(DAMAGED);
        }
        let (words, tail) = value.as_chunks::<8>();
        let copy = self.copy(next)?;
        for (at, word) in (copy..).step_by(8).zip(words) {
            self.u64(at)?.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        if !tail.is_empty() {
            let mut word = [0; 8];
            word[..tail.len()].copy_from_slice(tail);
            self.u64(copy + 8 * words.len())?.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        point("value.written");
        // Release: the copy is there before it counts.
        commits.store(next, Ordering::Release);
        point("value.committed");
        Ok(())
    }

    /// Where the copy is that counts after this many commits.
    fn copy(&self, commits: u32) -> Result<usize, Error> {
        let skipped = if commits.is_multiple_of(2) { 0 } else { self.size.next_multiple_of(8) };
        Ok(self.at()? + COPIES + skipped)
    }

    fn at(&self) -> Result<usize, Error> {
        self.lease.payload()
    }

    fn u32(&self, field: usize) -> Result<&AtomicU32, Error> {
        self.lease.arena().map().u32(self.at()? + field).ok_or(DAMAGED)
    }

    fn u64(&self, at: usize) -> Result<&AtomicU64, Error> {
        self.lease.arena().map().u64(at).ok_or(DAMAGED)
    }
}

const DAMAGED: Error = Error::Corrupt("a mutex with a value");
