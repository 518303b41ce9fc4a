//! Buffers: bytes in the arena that every process maps for reading only.
//!
//! ```text
//! +0 bytes of the description   +8 bytes of the data   +16 the description, then at the next multiple of 64 the data
//! ```
#![allow(unsafe_code)]

use std::ops::Range;
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
        Self::filled(arena, description, bytes.len(), &[(0, bytes)])
    }

    fn filled(
        arena: &'static Arena,
        description: &[u8],
        length: usize,
        pieces: &[(usize, &[u8])],
    ) -> Result<Self, Error> {
        let size = size_of(arena, description, length)?;
        let lease = arena.allocate_filled(size, Self::KIND, |block| data_of(block, description.len()), pieces)?;
        point("buffer.filled");
        Self::describe(lease, description, length)
    }

    /// Writes bytes into the arena: `fill` is given a function that takes a place, from 0 to `length`, and the bytes that
    /// belong there. There is room for all of them before it is called. Bytes that it leaves out may be anything.
    ///
    /// # Errors
    /// See [`Arena::allocate`]; [`Error::Corrupt`] if something was written outside.
    pub fn create_with(
        arena: &'static Arena,
        description: &[u8],
        length: usize,
        fill: impl FnOnce(&mut dyn FnMut(usize, &[u8])),
    ) -> Result<Self, Error> {
        let lease = arena.allocate(size_of(arena, description, length)?, Self::KIND)?;
        let data = data_of(lease.block(), description.len());
        let mut fits = true;
        fill(&mut |place, bytes: &[u8]| {
            let inside = place.checked_add(bytes.len()).is_some_and(|end| end <= length);
            fits = fits && inside && arena.map().write(data + place, bytes);
        });
        point("buffer.filled");
        if fits { Self::describe(lease, description, length) } else { Err(Error::Corrupt("a new buffer")) }
    }

    /// Says what a new buffer is, in front of its data.
    fn describe(lease: Lease, description: &[u8], length: usize) -> Result<Self, Error> {
        let (arena, at) = (lease.arena(), lease.block().payload());
        let corrupt = || Error::Corrupt("a new buffer");
        for (field, value) in [(DESCRIPTION, description.len()), (LENGTH, length)] {
            arena.map().u64(at + field).ok_or_else(corrupt)?.store(value as u64, Ordering::Release);
        }
        if !arena.map().write(at + HEAD, description) {
            return Err(corrupt());
        }
        point("buffer.described");
        Self::view(lease)
    }

    /// Copies several pieces of bytes into the arena, one behind the other, each at [a place](Self::places) that is a
    /// multiple of 64.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    ///
    /// # Examples
    /// ```
    /// use forkless_ipc::{Buffer, KINDS};
    /// use forkless_shm::Arena;
    ///
    /// let arena = Arena::create(KINDS)?;
    /// let buffer = Buffer::gather(arena, b"", &[b"one", b"another"])?;
    /// assert_eq!(buffer.length(), 64 + 7);
    /// # Ok::<(), forkless_shm::Error>(())
    /// ```
    pub fn gather(arena: &'static Arena, description: &[u8], pieces: &[&[u8]]) -> Result<Self, Error> {
        let full = || Error::Full { bytes: usize::MAX, size: arena.size() };
        let places = Self::places(pieces.iter().map(|piece| piece.len())).ok_or_else(full)?;
        let length = places.last().map_or(0, |place| place.end);
        let placed: Vec<_> = places.iter().zip(pieces).map(|(place, piece)| (place.start, *piece)).collect();
        Self::filled(arena, description, length, &placed)
    }

    /// Where pieces of these lengths are in a buffer that is made of them; `None` if no memory could hold so many bytes.
    pub fn places(lengths: impl IntoIterator<Item = usize>) -> Option<Vec<Range<usize>>> {
        let mut end = 0usize;
        let place = |length: usize| {
            let start = end.checked_next_multiple_of(ALIGNMENT)?;
            end = start.checked_add(length)?;
            Some(start..end)
        };
        lengths.into_iter().map(place).collect()
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

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the data is within the mapping (checked by `view`), which `self` keeps. Nobody writes to it: that was done
        // before the block had a handle, and from then on no function of ours gives out a way to.
        unsafe { std::slice::from_raw_parts(self.address().as_ptr(), self.data.1) }
    }

    /// The bytes once more, as a copy of this process's own that costs memory for the pages that are written to. Returns the
    /// mapping, which must not outlive `self`, and where in it they begin.
    ///
    /// # Errors
    /// [`Error::System`] without address space to map them.
    pub fn map_copy(&self) -> Result<(Mapping, usize), Error> {
        let at = self.lease.block().payload();
        let data = data_of(self.lease.block(), self.description.1);
        let (mapping, start) = self.lease.arena().map_copy_on_write(at, data + self.data.1 - at)?;
        Ok((mapping, start + data - at))
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

/// Bytes of payload for a buffer, wherever it begins in its cache line.
fn size_of(arena: &Arena, description: &[u8], length: usize) -> Result<usize, Error> {
    if description.len() > MAX_DESCRIPTION {
        return Err(Error::Corrupt("the description of a new buffer"));
    }
    let size = length.checked_add(HEAD + description.len() + ALIGNMENT);
    size.ok_or(Error::Full { bytes: length, size: arena.size() })
}

/// Where the data is: at a multiple of 64 in the arena, which the payload may not be.
fn data_of(block: Block, description: usize) -> usize {
    (block.payload() + HEAD + description).next_multiple_of(ALIGNMENT)
}
