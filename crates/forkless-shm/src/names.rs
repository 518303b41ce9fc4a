//! The directory of names: blocks that are found by what their makers have called them.
//!
//! A hash table of lists, as old as compilers (Knuth, *The Art of Computer Programming* 3, 6.4). A name keeps nothing
//! alive: its block is taken out when it is taken apart, with its last lease, and cannot be found from when that begins.
//! Each change is one transaction.
//!
//! ```text
//! payload of a block that has a name: +0 the next block of its list   +8 bytes of the name | ENTERED   +16 the name
//! ```

use forkless_sys::atomic::Ordering;

use crate::arena::Arena;
use crate::block::{Block, State};
use crate::layout::{NAME_BUCKETS, header};
use crate::txn::Transaction;
use crate::{Error, Lease};

/// Bytes of a name at most, as in file systems.
pub const MAX_NAME: usize = 255;
/// Bytes that a block with a name begins with.
pub const SIZE: usize = NAME + MAX_NAME + 1;

const NEXT: usize = 0;
const STATE: usize = 8;
const NAME: usize = 16;
const ENTERED: u64 = 1 << 32;

/// More names than this in one list are a list that has no end.
const MOST: usize = 1 << 20;

/// The head of the list that a name is in; FNV-1a (Fowler, Noll and Vo).
fn bucket(name: &[u8]) -> usize {
    let hash = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    header::NAMES + 8 * (hash as usize % NAME_BUCKETS)
}

/// The name of a block, as it is now; checked: it comes from shared memory.
///
/// # Errors
/// [`Error::Corrupt`] if it is none.
pub fn name_of(arena: &Arena, block: Block) -> Result<String, Error> {
    String::from_utf8(bytes_of(arena, block)?).map_err(|_| Error::Corrupt("a name"))
}

fn bytes_of(arena: &Arena, block: Block) -> Result<Vec<u8>, Error> {
    let length = (arena.word(block.payload() + STATE)?.load(Ordering::Acquire) & (ENTERED - 1)) as usize;
    let mut bytes = Vec::new();
    if length > MAX_NAME || block.capacity() < SIZE || !arena.map().read(block.payload() + NAME, length, &mut bytes) {
        return Err(Error::Corrupt("a name"));
    }
    Ok(bytes)
}

impl Arena {
    /// Writes a name into a new block that nobody else has; it is not [entered](Self::enter_name) yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the block is too small, or the name is too long.
    pub fn set_name(&self, block: Block, name: &str) -> Result<(), Error> {
        if name.len() > MAX_NAME || block.capacity() < SIZE {
            return Err(Error::Corrupt("a new name"));
        }
        self.word(block.payload() + NEXT)?.store(0, Ordering::Release);
        self.word(block.payload() + STATE)?.store(name.len() as u64, Ordering::Release);
        if self.map().write(block.payload() + NAME, name.as_bytes()) {
            Ok(())
        } else {
            Err(Error::Corrupt("a new name"))
        }
    }

    /// Has a block be found by the name that it has. `false`, and nothing done, if another one is.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the directory is damaged.
    pub fn enter_name(&'static self, lease: &Lease) -> Result<bool, Error> {
        let (name, at) = (bytes_of(self, lease.block())?, lease.payload()?);
        let mut transaction = Transaction::begin(self)?;
        if transaction.named(&name, None)?.is_some() {
            return Ok(false);
        }
        let head = bucket(&name);
        transaction.set(at + NEXT, transaction.get(head)?)?;
        transaction.set(head, lease.block().offset() as u64)?;
        transaction.set(at + STATE, name.len() as u64 | ENTERED)?;
        transaction.commit()?;
        Ok(true)
    }

    /// Takes hold of the block of that kind with this name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the directory is damaged.
    pub fn find_name(&'static self, name: &str, kind: u8) -> Result<Option<Lease>, Error> {
        let me = self.me()?;
        let mut transaction = Transaction::begin(self)?;
        let Some(block) = transaction.named(name.as_bytes(), Some(kind))? else { return Ok(None) };
        let lease = transaction.lease(me, block)?;
        transaction.commit()?;
        Ok(Some(lease))
    }

    /// Whether a block, which the caller keeps alive, is found by its name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is outside the arena.
    pub fn has_name(&self, block: Block) -> Result<bool, Error> {
        Ok(self.word(block.payload() + STATE)?.load(Ordering::Acquire) & ENTERED != 0)
    }

    /// From now on a block, which the caller keeps alive, is not found by its name. Whether it was.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the directory is damaged.
    pub fn strike_name(&'static self, block: Block) -> Result<bool, Error> {
        let name = bytes_of(self, block)?;
        let mut transaction = Transaction::begin(self)?;
        let state = transaction.get(block.payload() + STATE)?;
        if state & ENTERED == 0 {
            return Ok(false);
        }
        let next = transaction.get(block.payload() + NEXT)?;
        let mut link = bucket(&name);
        for _ in 0..MOST {
            let at = transaction.get(link)? as usize;
            if at == block.offset() {
                transaction.set(link, next)?;
                transaction.set(block.payload() + NEXT, 0)?;
                transaction.set(block.payload() + STATE, state & !ENTERED)?;
                transaction.commit()?;
                return Ok(true);
            }
            if at == 0 {
                break;
            }
            link = Block::at(self, at)?.payload() + NEXT;
        }
        Err(Error::Corrupt("the directory of names"))
    }
}

impl Transaction {
    /// The block with this name, of that kind or of any, unless it is being taken apart.
    fn named(&self, name: &[u8], kind: Option<u8>) -> Result<Option<Block>, Error> {
        let mut at = self.get(bucket(name))? as usize;
        for _ in 0..MOST {
            if at == 0 {
                return Ok(None);
            }
            let block = Block::at(self.arena(), at)?;
            match self.state_of(block)? {
                State::Live if bytes_of(self.arena(), block)? == name => {
                    let suits = kind.is_none() || kind == Some(self.kind_of(block)?);
                    return Ok(suits.then_some(block));
                }
                State::Live | State::Dying => at = self.get(block.payload() + NEXT)? as usize,
                State::Free => break,
            }
        }
        Err(Error::Corrupt("the directory of names"))
    }
}
