//! Memory: bytes in the arena that every process reads and writes in place.
//!
//! ```text
//! +0 bytes of the data | SEALED, then at the next multiple of 64 in the arena the data
//! ```

use std::ptr::NonNull;

use forkless_shm::{Arena, Error, Handle, Lease};
use forkless_sys::atomic::{AtomicU64, Ordering};
use forkless_sys::crash::point;
use forkless_sys::memory::Mapping;

const LENGTH: usize = 0;
/// Nobody is to write any more.
const SEALED: u64 = 1 << 63;
const HEAD: usize = 8;
/// Where vector instructions and caches want arrays to begin; a small one needs no more than its items do.
const ALIGNMENT: usize = 64;
const SMALL: usize = 64;
const SMALL_ALIGNMENT: usize = 16;

/// Bytes that every process with a handle writes through its mapping of the arena, with no other order among them than
/// what a lock beside them gives.
#[derive(Debug)]
pub struct Memory {
    lease: Lease,
    data: (usize, usize),
}

impl Memory {
    /// The kind of its block.
    pub const KIND: u8 = 11;

    /// New memory, all zero.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena, length: usize) -> Result<Self, Error> {
        let (memory, used) = Self::allocate(arena, length)?;
        if zero(arena, memory.data.0, used) { Ok(memory) } else { Err(Error::Corrupt("new memory")) }
    }

    /// New memory that has whatever bytes it has.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create_unset(arena: &'static Arena, length: usize) -> Result<Self, Error> {
        Self::allocate(arena, length).map(|(memory, _)| memory)
    }

    /// New memory, and how many bytes of it may not be zero, from its beginning.
    fn allocate(arena: &'static Arena, length: usize) -> Result<(Self, usize), Error> {
        let corrupt = || Error::Corrupt("new memory");
        let alignment = alignment(length);
        let size = length.checked_add(HEAD + alignment).ok_or(Error::Full { bytes: length, size: arena.size() })?;
        let (lease, used) = arena.allocate_used(size, Self::KIND)?;
        point("memory.allocated");
        let word = arena.map().u64(lease.block().payload() + LENGTH).ok_or_else(corrupt)?;
        word.store(length as u64, Ordering::Release);
        point("memory.measured");
        let memory = Self::view(lease)?;
        let used = (memory.lease.block().payload() + used).saturating_sub(memory.data.0);
        Ok((memory, used.min(length)))
    }

    /// The memory that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        Self::view(arena.open(handle, Self::KIND)?)
    }

    fn view(lease: Lease) -> Result<Self, Error> {
        let at = lease.block().payload();
        let word = lease.arena().map().u64(at + LENGTH).ok_or(Error::Corrupt("shared memory"))?;
        let length = (word.load(Ordering::Acquire) & !SEALED) as usize;
        let data = (at + HEAD).next_multiple_of(alignment(length));
        if data.checked_add(length).is_none_or(|end| end > at + lease.block().capacity()) {
            return Err(Error::Corrupt("the size of shared memory"));
        }
        Ok(Self { lease, data: (data, length) })
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Where the bytes are in this process, for as long as `self` lives.
    #[must_use]
    pub fn address(&self) -> NonNull<u8> {
        self.lease.arena().map().address(self.data.0).unwrap_or(NonNull::dangling())
    }

    /// Says that nobody is to write any more. What already has the address of the bytes could still.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is outside the arena.
    pub fn seal(&self) -> Result<(), Error> {
        self.state()?.fetch_or(SEALED, Ordering::AcqRel);
        point("memory.sealed");
        Ok(())
    }

    /// Whether somebody has [sealed](Self::seal) it.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.state().is_ok_and(|state| state.load(Ordering::Acquire) & SEALED != 0)
    }

    fn state(&self) -> Result<&AtomicU64, Error> {
        let at = self.lease.block().payload() + LENGTH;
        self.lease.arena().map().u64(at).ok_or(Error::Corrupt("shared memory"))
    }

    /// A mapping of the bytes without permission to write, and where they begin in it.
    ///
    /// # Errors
    /// [`Error::System`] without address space.
    pub fn map_read_only(&self) -> Result<(Mapping, usize), Error> {
        self.lease.arena().map_read_only(self.data.0, self.data.1)
    }

    /// Copies bytes in, from `offset`. `false`, and nothing done, when they do not fit, or it is sealed.
    #[must_use]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        !self.is_sealed()
            && self.fits(offset, bytes.len())
            && self.lease.arena().map().write(self.data.0 + offset, bytes)
    }

    /// Fills `into` with the bytes from `offset`. `false`, and nothing done, when there are fewer.
    #[must_use]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        self.fits(offset, into.len()) && self.lease.arena().map().read_into(self.data.0 + offset, into)
    }

    /// A word of it; `None` if it is not within, or not aligned to eight bytes.
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<&AtomicU64> {
        if self.fits(offset, 8) { self.lease.arena().map().u64(self.data.0 + offset) } else { None }
    }

    fn fits(&self, offset: usize, count: usize) -> bool {
        offset.checked_add(count).is_some_and(|end| end <= self.data.1)
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.data.1
    }
}

/// Makes bytes zero; `false` if they are outside the arena.
pub(crate) fn zero(arena: &Arena, offset: usize, count: usize) -> bool {
    let zeros = [0; 1 << 14];
    (0..count).step_by(zeros.len()).all(|start| {
        let piece = &zeros[..zeros.len().min(count - start)];
        arena.map().write(offset + start, piece)
    })
}

fn alignment(length: usize) -> usize {
    if length < SMALL { SMALL_ALIGNMENT } else { ALIGNMENT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_zero_and_shared_and_in_line() {
        let arena = Arena::create(crate::KINDS).unwrap();
        for length in [0, 1, 8, 40, 64, 100, 4096, 100_000] {
            let memory = Memory::create(arena, length).unwrap();
            let again = Memory::open(arena, memory.lease().handle().unwrap()).unwrap();
            assert_eq!((again.length(), again.address()), (length, memory.address()));
            assert_eq!(memory.address().as_ptr().addr() % alignment(length), 0);
            let mut bytes = vec![1; length];
            assert!(memory.read(0, &mut bytes));
            assert_eq!(bytes, vec![0; length]);
            // For whoever gets the block next.
            assert!(again.write(0, &vec![1; length]));
            assert!(memory.read(length / 2, &mut bytes[length / 2..]));
            assert!(bytes[length / 2..].iter().all(|byte| *byte == 1));
            assert!(!memory.write(length, &[1]) && !memory.read(1, &mut bytes) && !memory.write(usize::MAX, &[]));
        }
        let large = Memory::create(arena, 1 << 20).unwrap();
        assert!(large.write(0, &vec![1; 1 << 20]));
        drop(large);
        let (again, mut bytes) = (Memory::create(arena, 900_000).unwrap(), vec![1; 900_000]);
        assert!(again.read(0, &mut bytes) && bytes.iter().all(|byte| *byte == 0), "of warm pages, too");
        assert!(matches!(Memory::create(arena, usize::MAX - 8), Err(Error::Full { .. })));
        assert!(matches!(Memory::create(arena, arena.size()), Err(Error::Full { .. })));
    }

    #[test]
    fn what_is_sealed_is_sealed_for_all() {
        let arena = Arena::create(crate::KINDS).unwrap();
        let memory = Memory::create_unset(arena, 100).unwrap();
        let again = Memory::open(arena, memory.lease().handle().unwrap()).unwrap();
        assert!(memory.write(0, b"abc") && !again.is_sealed());
        memory.seal().unwrap();
        memory.seal().unwrap();
        assert!(again.is_sealed() && !again.write(0, b"x"));
        let third = Memory::open(arena, memory.lease().handle().unwrap()).unwrap();
        assert_eq!((third.length(), third.is_sealed()), (100, true));
        let (mapping, start) = third.map_read_only().unwrap();
        let mut bytes = Vec::new();
        assert!(mapping.read(start, 3, &mut bytes) && !mapping.write(start, b"x"));
        assert_eq!(bytes, b"abc");
    }
}
