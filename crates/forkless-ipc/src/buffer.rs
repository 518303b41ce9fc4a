//! Buffers: bytes in the arena that every process maps for reading only.
//!
//! ```text
//! +0 bytes of the description   +8 bytes of the data   +16 the description, then at the next multiple of 64 the data
//! ```

use std::ptr::NonNull;

use forkless_shm::block::Block;
use forkless_shm::{Arena, Error, Handle, Lease};
use forkless_sys::atomic::Ordering;
use forkless_sys::crash::point;
use forkless_sys::memory::Mapping;

const DESCRIPTION: usize = 0;
const LENGTH: usize = 8;
const HEAD: usize = 16;
/// Where vector instructions and caches want arrays to begin.
const ALIGNMENT: usize = 64;
/// A description is a format and a shape; more is not one of ours.
const MAX_DESCRIPTION: usize = 4096;

/// Bytes shared by every process that has a handle, written once, with a description of what they are. Each process
/// maps their pages without permission to write: a stray write is a fault where it happens, not a change for all.
#[derive(Debug)]
pub struct Buffer {
    lease: Lease,
    view: Mapping,
    description: (usize, usize),
    data: (usize, usize),
}

impl Buffer {
    /// The kind of its block.
    pub const KIND: u8 = 5;

    /// Copies bytes into the arena.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena, description: &[u8], bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt("a new buffer");
        if description.len() > MAX_DESCRIPTION {
            return Err(corrupt());
        }
        let size = HEAD + description.len() + ALIGNMENT + bytes.len();
        let place = |block: Block| data_of(block, description.len());
        let lease = arena.allocate_filled(size, Self::KIND, place, bytes)?;
        point("buffer.filled");
        let at = lease.block().payload();
        for (field, value) in [(DESCRIPTION, description.len()), (LENGTH, bytes.len())] {
            arena.map().u64(at + field).ok_or_else(corrupt)?.store(value as u64, Ordering::Release);
        }
        if !arena.map().write(at + HEAD, description) {
            return Err(corrupt());
        }
        point("buffer.described");
        Self::view(lease)
    }

    /// The buffer that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`]; [`Error::System`] without address space to map it.
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        Self::view(arena.open(handle, Self::KIND)?)
    }

    fn view(lease: Lease) -> Result<Self, Error> {
        let arena = lease.arena();
        let at = lease.block().payload();
        let field = |field: usize| {
            let word = arena.map().u64(at + field).ok_or(Error::Corrupt("a buffer"))?;
            usize::try_from(word.load(Ordering::Acquire)).map_err(|_| Error::Corrupt("a buffer"))
        };
        let (description, length) = (field(DESCRIPTION)?, field(LENGTH)?);
        if description > MAX_DESCRIPTION || length > lease.block().capacity() {
            return Err(Error::Corrupt("the size of a buffer"));
        }
        let data = data_of(lease.block(), description);
        if data + length > at + lease.block().capacity() {
            return Err(Error::Corrupt("the size of a buffer"));
        }
        let (view, start) = arena.map_read_only(at, data + length - at)?;
        let description = (start + HEAD, description);
        Ok(Self { lease, view, description, data: (start + data - at, length) })
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What the bytes are, as given at creation.
    #[must_use]
    pub fn description(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // In bounds since `view`; a failure would read as an empty description.
        let _ = self.view.read(self.description.0, self.description.1, &mut bytes);
        bytes
    }

    /// Where the bytes are in this process, for as long as `self` lives. Not writable.
    #[must_use]
    pub fn address(&self) -> NonNull<u8> {
        self.view.address(self.data.0).unwrap_or(NonNull::dangling())
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.data.1
    }
}

/// Where the data is: at a multiple of 64 in the arena, which the payload may not be.
fn data_of(block: Block, description: usize) -> usize {
    (block.payload() + HEAD + description).next_multiple_of(ALIGNMENT)
}
