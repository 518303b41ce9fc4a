//! Changes to the arena that happen whole or not at all.
//!
//! Under the header's robust lock, a transaction collects the words it wants to change, writes them to a log in shared
//! memory, commits by storing their count, applies them and clears the count. Whoever takes the lock from a dead
//! owner applies what the log holds: values are absolute, so doing it twice does no harm. It is a redo log of
//! one entry (Gray and Reuter, *Transaction Processing*, 1992, chapter 9), and it makes every allocator step
//! crash-safe without a proof per step.

use forkless_sys::atomic::Ordering;
use forkless_sys::crash::point;

use crate::arena::Arena;
use crate::layout::{LOG_PAIRS, header};
use crate::{Error, Owner};

/// Words read and to be written, while the allocator's lock is held.
pub(crate) struct Transaction {
    arena: &'static Arena,

    writes: [(usize, u64); LOG_PAIRS],
    count: usize,
}

impl Transaction {
    /// Takes the lock, finishing a dead owner's transaction if there is one.
    pub(crate) fn begin(arena: &'static Arena) -> Result<Self, Error> {
        let owner = arena.me()?;
        Self::begin_as(arena, owner)
    }

    /// As [`Self::begin`], for a process that has no slot yet or is about to get one.
    pub(crate) fn begin_as(arena: &'static Arena, owner: Owner) -> Result<Self, Error> {
        arena.acquire_internal(arena.word32(header::LOCK)?, owner);
        // From here on the lock is given back, whatever happens.
        let transaction = Self { arena, writes: [(0, 0); LOG_PAIRS], count: 0 };
        Self::redo(arena)?;
        Ok(transaction)
    }

    /// Finishes what a dead owner left in the log. Looks at the log and not at how the lock was taken, so that a damaged
    /// log is an error for everybody, and not only for the first.
    fn redo(arena: &'static Arena) -> Result<(), Error> {
        let log = arena.word(header::LOG)?;
        // Pairs with the release store in `flush`: a count seen here has its pairs before it.
        let count = log.load(Ordering::Acquire) as usize;
        if count == 0 {
            return Ok(());
        }
        if count > LOG_PAIRS {
            return Err(Error::Corrupt("length of the transaction log"));
        }
        for index in 0..count {
            let at = header::LOG + 8 + 16 * index;
            let offset = arena.word(at)?.load(Ordering::Relaxed) as usize;
            arena.word(offset)?.store(arena.word(at + 8)?.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        log.store(0, Ordering::Release);
        Ok(())
    }

    pub(crate) fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// The word as this transaction will leave it.
    pub(crate) fn get(&self, offset: usize) -> Result<u64, Error> {
        let pending = self.writes[..self.count].iter().rev().find(|write| write.0 == offset);
        match pending {
            Some(write) => Ok(write.1),
            None => Ok(self.arena.word(offset)?.load(Ordering::Acquire)),
        }
    }

    /// Notes a word to be written.
    pub(crate) fn set(&mut self, offset: usize, value: u64) -> Result<(), Error> {
        self.arena.word(offset)?;
        if let Some(write) = self.writes[..self.count].iter_mut().find(|write| write.0 == offset) {
            write.1 = value;
            return Ok(());
        }
        assert!(self.count < LOG_PAIRS, "a transaction writes fewer words than the log holds");
        self.writes[self.count] = (offset, value);
        self.count += 1;
        Ok(())
    }

    /// Makes all noted writes, then gives the lock back.
    pub(crate) fn commit(mut self) -> Result<(), Error> {
        self.flush()
    }

    /// Makes all noted writes and keeps the lock, for another round.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        for (index, (offset, value)) in self.writes[..self.count].iter().enumerate() {
            let at = header::LOG + 8 + 16 * index;
            self.arena.word(at)?.store(*offset as u64, Ordering::Relaxed);
            self.arena.word(at + 8)?.store(*value, Ordering::Relaxed);
        }
        point("arena.written");
        let log = self.arena.word(header::LOG)?;
        // The commit. Release: the pairs are there before their count.
        log.store(self.count as u64, Ordering::Release);
        point("arena.logged");
        for (offset, value) in &self.writes[..self.count] {
            self.arena.word(*offset)?.store(*value, Ordering::Release);
        }
        point("arena.applied");
        log.store(0, Ordering::Release);
        self.count = 0;
        Ok(())
    }
}

impl Arena {
    /// Changes words of blocks that the caller keeps alive, all or none, whenever it dies. `change` is given a way to read
    /// words and says which are to have what value; no other change of this kind comes in between.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for offsets outside the arena, [`Error::NoSlot`] if this process cannot get a place.
    pub fn amend(
        &'static self,
        change: impl FnOnce(Read<'_>) -> Result<Vec<(usize, u64)>, Error>,
    ) -> Result<(), Error> {
        let mut transaction = Transaction::begin(self)?;
        let changes = change(&|offset| transaction.get(offset))?;
        changes.into_iter().try_for_each(|(offset, value)| transaction.set(offset, value))?;
        transaction.commit()
    }
}

/// How [`Arena::amend`] reads a word.
pub type Read<'a> = &'a dyn Fn(usize) -> Result<u64, Error>;

impl Drop for Transaction {
    /// What was not flushed never happens.
    fn drop(&mut self) {
        if let Ok(lock) = self.arena.word32(header::LOCK) {
            self.arena.release(lock);
        }
    }
}
