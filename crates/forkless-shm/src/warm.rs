//! Warm memory: the pages that free blocks keep.
//!
//! Fresh pages are eight times slower than those that are there already (100 MB: 80 against 10 ms), and memory that is
//! never given back is a leak. So free blocks keep their pages up to a limit. Each block from 64 KiB on says how far it
//! has pages; free blocks with pages and without are on separate lists, and the first are used first. When a block
//! that is let go would exceed the limit, blocks of other sizes lose their pages before it does: a program that goes on
//! with messages of one size soon has warm ones of that size.
//!
//! Pages are given back without the allocator's lock, by a process that holds the block meanwhile. Should it die, its
//! cleaner does it again.

use forkless_sys::atomic::Ordering;
use forkless_sys::{Errno, crash, proc};

use crate::arena::Arena;
use crate::block::Block;
use crate::layout::header;
use crate::txn::Transaction;
use crate::{Error, Lease};

/// What is kept at most, unless somebody says otherwise: so many bytes, and no more than this part of what the machine
/// or the control group has.
const MOST: u64 = 256 << 20;
const PART: u64 = 10;

/// Who wants at least this many bytes of new pages is told beforehand that there are none. For less, asking takes longer
/// than it is worth.
const WORTH_ASKING: u64 = 16 << 20;

/// The environment variable that sets the limit for a process tree: a number of bytes, or one with K, M, G or T behind it,
/// which stand for powers of 1024.
pub const WARM_MEMORY_VARIABLE: &str = "FORKLESS_WARM_MEMORY";

impl Arena {
    /// How many bytes of pages free blocks keep at most, in the whole tree: what [`Self::set_warm_limit`] says, or the
    /// environment variable [`WARM_MEMORY_VARIABLE`] of the process that first needs to know; by default 256 MiB, and no
    /// more than a tenth of the memory that the machine or the control group has.
    ///
    /// # Errors
    /// [`Error::Setting`] if the variable has another value than a number of bytes.
    pub fn warm_limit(&self) -> Result<u64, Error> {
        let word = self.word(header::WARM_LIMIT)?;
        if let Some(limit) = word.load(Ordering::Relaxed).checked_sub(1) {
            return Ok(limit);
        }
        let limit = match std::env::var(WARM_MEMORY_VARIABLE) {
            Ok(text) => bytes_of(&text).ok_or(Error::Setting { name: WARM_MEMORY_VARIABLE, value: text })?,
            Err(_) => proc::memory_capacity().map_or(MOST, |capacity| MOST.min(capacity.total / PART)),
        };
        word.store(limit.saturating_add(1), Ordering::Relaxed);
        Ok(limit)
    }

    /// Sets how many bytes of pages free blocks keep, from now on and in the whole tree, and gives back what is more.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a free list is damaged.
    pub fn set_warm_limit(&'static self, bytes: u64) -> Result<(), Error> {
        self.word(header::WARM_LIMIT)?.store(bytes.saturating_add(1), Ordering::Relaxed);
        self.trim(bytes).map(|_| ())
    }

    /// Gives back pages of free blocks until they have at most `keep` bytes; how many bytes that were.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a free list is damaged.
    pub fn trim(&'static self, keep: u64) -> Result<u64, Error> {
        let me = self.me()?;
        let mut given = 0;
        loop {
            let mut transaction = Transaction::begin(self)?;
            if transaction.get(header::WARM)? <= keep {
                return Ok(given);
            }
            let Some(block) = transaction.take_warm(None)? else { return Ok(given) };
            let lease = transaction.lease(me, block)?;
            given += transaction.touched(block)?;
            transaction.commit()?;
            self.cool(block)?;
            drop(lease);
        }
    }

    /// Sees to it that a block has pages up to `end`, of which it has `touched` bytes. Better an error here than SIGBUS, or
    /// the memory killer, in the middle of a copy.
    pub(crate) fn warm_up(&'static self, block: Block, touched: u64, end: u64) -> Result<(), Error> {
        if cfg!(loom) {
            return Ok(()); // a model's memory is in no file
        }
        let Some(missing) = end.checked_sub(touched).filter(|missing| *missing > 0) else { return Ok(()) };
        self.ask_for(missing)?;
        let reserved = self.memory().reserve(block.offset() + touched as usize, missing as usize);
        reserved.map_err(|errno| match errno {
            Errno::NOMEM | Errno::NOSPC => Error::NoMemory { bytes: missing, available: available() },
            errno => Error::system("allocate shared memory")(errno),
        })?;
        // Not before: whoever has the block next relies on it.
        self.word(block.touched_at())?.store(end, Ordering::Release);
        Ok(())
    }

    /// Copies pieces of bytes into a block that has `touched` bytes of pages: through the mapping where there are pages, and
    /// past it where there are none. Their places count from `begin`, and the last ends at `end`.
    pub(crate) fn fill(
        &'static self,
        block: Block,
        touched: u64,
        begin: usize,
        pieces: &[(usize, &[u8])],
        end: usize,
    ) -> Result<(), Error> {
        let copy = |at: usize, bytes: &[u8]| {
            if self.map().write(at, bytes) { Ok(()) } else { Err(Error::Corrupt("a new block")) }
        };
        let copy_all = || pieces.iter().try_for_each(|(place, bytes)| copy(begin + place, bytes));
        let (cold, will_be) = (block.offset() + touched as usize, (end - block.offset()) as u64);
        if cfg!(loom) || !block.has_pages() || will_be <= touched {
            return copy_all();
        }
        self.ask_for(will_be - touched)?;
        let known = self.word(block.touched_at())?;
        // Beforehand: should this process be killed in the middle, some of the pages are there. Whoever has the block next
        // and misses some gets them when it writes to them.
        known.store(will_be, Ordering::Release);
        crash::point("warm.filling");
        let write = |(place, bytes): &(usize, &[u8])| {
            let at = begin + place;
            let (_, new) = bytes.split_at(cold.saturating_sub(at).min(bytes.len()));
            self.memory().write_at(at + bytes.len() - new.len(), new)
        };
        let written = pieces.iter().try_for_each(write);
        crash::point("warm.filled");
        match written {
            Ok(()) => {}
            Err(Errno::NOMEM | Errno::NOSPC) => {
                self.cool(block)?;
                return Err(Error::NoMemory { bytes: will_be - touched, available: available() });
            }
            // RLIMIT_FSIZE has been lowered since.
            Err(_) => {
                known.store(touched, Ordering::Release);
                self.warm_up(block, touched, will_be)?;
                return copy_all();
            }
        }
        // For who fills the block next. And as long as one process alone has pages mapped, they count as its own.
        let first = cold.max(begin);
        self.map().populate(first, end.saturating_sub(first));
        pieces.iter().try_for_each(|(place, bytes)| {
            let at = begin + place;
            copy(at, &bytes[..cold.saturating_sub(at).min(bytes.len())])
        })
    }

    /// Refuses to make so many bytes of new pages if there is no memory for them.
    fn ask_for(&'static self, missing: u64) -> Result<(), Error> {
        self.warm_limit()?;
        // What is kept for later is not worth an error now.
        if missing >= WORTH_ASKING && available() < missing && (self.trim(0)? == 0 || available() < missing) {
            return Err(Error::NoMemory { bytes: missing, available: available() });
        }
        Ok(())
    }

    /// Gives a block's pages back, but for that with its header. Somebody holds it, and nobody uses it.
    pub(crate) fn cool(&self, block: Block) -> Result<(), Error> {
        self.memory().punch(block.payload(), block.capacity());
        crash::point("warm.punched");
        self.word(block.touched_at())?.store(0, Ordering::Release);
        Ok(())
    }
}

/// Bytes of memory that are to be had.
fn available() -> u64 {
    proc::memory_capacity().map_or(u64::MAX, |capacity| capacity.available)
}

/// What is to be done before a block can be freed.
pub(crate) enum Room {
    /// Nothing.
    Enough,
    /// Another block is to lose its pages.
    Other(Lease),
    /// The block itself is to.
    None,
}

impl Transaction {
    /// Whether there is room for the pages of a block among the warm ones. Takes hold of another one that should make room.
    pub(crate) fn room_for(&mut self, block: Block, me: crate::Owner) -> Result<Room, Error> {
        let touched = self.touched(block)?;
        let limit = self.get(header::WARM_LIMIT)?.checked_sub(1).unwrap_or(MOST);
        if touched == 0 || self.get(header::WARM)?.saturating_add(touched) <= limit {
            return Ok(Room::Enough);
        }
        if touched > limit {
            return Ok(Room::None);
        }
        match self.take_warm(Some(block))? {
            Some(other) => Ok(Room::Other(self.lease(me, other)?)),
            None => Ok(Room::None),
        }
    }
}

/// A number of bytes, as people write it.
fn bytes_of(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit = match text[digits.len()..].trim().to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_and_without_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            (" 64M ", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1g", 1 << 30),
            ("3KB", 3 << 10),
            ("2T", 2 << 40),
        ] {
            assert_eq!(bytes_of(text), Some(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "99999999999T", "12X", "one"] {
            assert_eq!(bytes_of(text), None, "{text}");
        }
    }
}
