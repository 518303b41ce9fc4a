//! Parcels: blocks with bytes, large buffers beside them, and the handles they refer to.
//!
//! ```text
//! +0  handles held now   +8  room for handles
//! +16 bytes              +24 extents
//! +32 offsets of the blocks held, lengths of the extents, the bytes; then each extent, at the next multiple of 64 in
//!     the arena
//! ```
//!
//! All of it is in one block, so it is received, and given back, in one step; and each byte is copied once, from where its
//! sender had it to where its receivers read it in place.

use std::ops::Range;
use std::ptr::NonNull;

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Arena, Error, Handle, Kind, Lease};
use forkless_sys::crash;

/// How parcels are taken apart: they let go what they hold, one by one.
pub(crate) const KIND: Kind = Kind { id: Parcel::KIND, drain: Some(drain), settle: None, private: false };

const HELD: usize = 0;
const ROOM: usize = 8;
const LENGTH: usize = 16;
const EXTENTS: usize = 24;
const TABLES: usize = 32;

/// Where vector instructions and caches want arrays to begin.
const ALIGNMENT: usize = 64;

/// What a message consists of.
///
/// # Examples
/// ```
/// use forkless_ipc::Content;
///
/// let content = Content { parts: &[b"sum of ", b"these"], extents: &[&[1; 1000]], handles: &[] };
/// assert_eq!(content.length(), Some(12));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Content<'a> {
    /// Its bytes, in pieces that arrive as one.
    pub parts: &'a [&'a [u8]],
    /// Buffers that its receiver uses in place: each arrives by itself, aligned to 64 bytes.
    pub extents: &'a [&'a [u8]],
    /// What it refers to, which is kept alive while it is on its way.
    pub handles: &'a [&'a Lease],
}

impl Content<'_> {
    /// How many bytes its parts have together; `None` if no memory could hold so many.
    #[must_use]
    pub fn length(&self) -> Option<usize> {
        self.parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.len()))
    }

    /// As [`Self::length`], with its buffers.
    #[must_use]
    pub fn size(&self) -> Option<usize> {
        self.extents.iter().try_fold(self.length()?, |sum, extent| sum.checked_add(extent.len()))
    }
}

/// Bytes on their way, and leases on what they refer to.
#[derive(Debug)]
pub struct Parcel {
    lease: Lease,
}

impl Parcel {
    /// The kind of its block.
    pub const KIND: u8 = 4;

    /// Packs a message, with further leases on the blocks that it refers to.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn pack(arena: &'static Arena, content: &Content<'_>) -> Result<Self, Error> {
        let Content { parts, extents, handles } = *content;
        if handles.iter().any(|handle| handle.arena().id() != arena.id()) {
            return Err(Error::Stale("an object cannot travel to another process tree"));
        }
        let size = Self::size_of(content).ok_or(Error::Full { bytes: usize::MAX, size: arena.size() })?;
        let lease = arena.allocate(size, PLAIN)?;
        let at = lease.block().payload();
        set(arena, at + HELD, 0)?;
        set(arena, at + ROOM, handles.len() as u64)?;
        set(arena, at + LENGTH, content.length().unwrap_or(usize::MAX) as u64)?;
        set(arena, at + EXTENTS, extents.len() as u64)?;
        let mut table = at + TABLES + 8 * handles.len();
        for extent in extents {
            set(arena, table, extent.len() as u64)?;
            table += 8;
        }
        let mut place = table;
        for part in parts {
            place = copy(arena, place, part)?;
        }
        for extent in extents {
            place = copy(arena, place.next_multiple_of(ALIGNMENT), extent)?;
            crash::point("parcel.extent.copied");
        }
        crash::point("parcel.copied");
        lease.set_kind(Self::KIND)?;
        for (index, handle) in handles.iter().enumerate() {
            let slot = (at + TABLES + 8 * index, handle.block().offset() as u64);
            handle.entrust(&[slot, (at + HELD, index as u64 + 1)])?;
        }
        Ok(Self { lease })
    }

    /// Bytes of payload for this, wherever it begins in its cache line.
    fn size_of(content: &Content<'_>) -> Option<usize> {
        let tables = content.handles.len().checked_add(content.extents.len())?.checked_mul(8)?;
        let start = TABLES.checked_add(tables)?.checked_add(content.length()?)?;
        content.extents.iter().try_fold(start, |end, extent| end.checked_add(ALIGNMENT)?.checked_add(extent.len()))
    }

    /// The parcel that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        Ok(Self { lease: arena.open(handle, Self::KIND)? })
    }

    pub(crate) fn from_lease(lease: Lease) -> Self {
        Self { lease }
    }

    pub(crate) fn into_lease(self) -> Lease {
        self.lease
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Copies its bytes out.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if what it says of itself does not fit its block.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        let place = self.place()?;
        let mut bytes = Vec::new();
        if self.lease.arena().map().read(place.start, place.len(), &mut bytes) {
            return Ok(bytes);
        }
        Err(Error::Corrupt("the bytes of a parcel"))
    }

    /// How many bytes it carries.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn length(&self) -> Result<usize, Error> {
        Ok(self.place()?.len())
    }

    /// How many bytes it carries, those of its extents included.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.length()? as u64 + self.extents()?.iter().map(|extent| extent.len() as u64).sum::<u64>())
    }

    /// Copies its bytes to where they are wanted; `into` has their length.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn copy_to(&self, into: &mut [u8]) -> Result<(), Error> {
        let place = self.place()?;
        if place.len() == into.len() && self.lease.arena().map().read_into(place.start, into) {
            return Ok(());
        }
        Err(Error::Corrupt("the bytes of a parcel"))
    }

    /// Where its bytes are in the arena; see [`Self::address`].
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn place(&self) -> Result<Range<usize>, Error> {
        Ok(self.tables()?.bytes)
    }

    /// Where its extents are in the arena; see [`Self::address`].
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn extents(&self) -> Result<Vec<Range<usize>>, Error> {
        let arena = self.lease.arena();
        let Tables { lengths, bytes, end } = self.tables()?;
        let mut at = bytes.end;
        // No more than fit the block, so the vector has a sensible size.
        let mut extents = Vec::with_capacity(lengths.len() / 8);
        for field in lengths.step_by(8) {
            let length = get(arena, field)?;
            // The block lies within the arena, so rounding up is far from overflowing.
            let start = at.next_multiple_of(ALIGNMENT);
            at = start.checked_add(length).filter(|at| *at <= end).ok_or(SIZE)?;
            extents.push(start..at);
        }
        Ok(extents)
    }

    /// The address of a place in the arena, in this process, valid for as long as the arena is mapped and meaningful while
    /// `self` lives. Who has received a parcel is alone with it, and may write there.
    ///
    /// # Errors
    /// [`Error::Stale`] in a copy of the process that held it, if that one had let it go.
    pub fn address(&self, place: &Range<usize>) -> Result<NonNull<u8>, Error> {
        self.lease.payload()?;
        self.lease.arena().map().address(place.start).ok_or(SIZE)
    }

    /// Where what is, checked but for the lengths of the extents.
    fn tables(&self) -> Result<Tables, Error> {
        let arena = self.lease.arena();
        let at = self.lease.payload()?;
        let end = at + self.lease.block().capacity();
        let (room, length, extents) = (get(arena, at + ROOM)?, get(arena, at + LENGTH)?, get(arena, at + EXTENTS)?);
        let tables = || {
            let lengths = (at + TABLES).checked_add(room.checked_mul(8)?)?;
            let bytes = lengths.checked_add(extents.checked_mul(8)?)?;
            let bytes_end = bytes.checked_add(length).filter(|bytes_end| *bytes_end <= end)?;
            Some(Tables { lengths: lengths..bytes, bytes: bytes..bytes_end, end })
        };
        tables().ok_or(SIZE)
    }
}

const SIZE: Error = Error::Corrupt("the size of a parcel");

/// Places in the arena.
struct Tables {
    /// The lengths of the extents.
    lengths: Range<usize>,
    bytes: Range<usize>,
    /// Of the block.
    end: usize,
}

/// Copies bytes of a new parcel in; returns where they end.
fn copy(arena: &Arena, at: usize, bytes: &[u8]) -> Result<usize, Error> {
    if arena.map().write(at, bytes) { Ok(at + bytes.len()) } else { Err(Error::Corrupt("a new parcel")) }
}

fn get(arena: &Arena, at: usize) -> Result<usize, Error> {
    let word = arena.map().u64(at).ok_or(Error::Corrupt("a parcel"))?;
    Ok(word.load(forkless_sys::atomic::Ordering::Acquire) as usize)
}

fn set(arena: &Arena, at: usize, value: u64) -> Result<(), Error> {
    let word = arena.map().u64(at).ok_or(Error::Corrupt("a parcel"))?;
    word.store(value, forkless_sys::atomic::Ordering::Release);
    Ok(())
}

fn drain(arena: &'static Arena, parcel: Block) -> Result<usize, Error> {
    let at = parcel.payload();
    loop {
        let held = get(arena, at + HELD)?;
        let Some(last) = held.checked_sub(1) else { return Ok(0) };
        if held > parcel.capacity().saturating_sub(TABLES) / 8 {
            return Err(Error::Corrupt("the contents of a parcel"));
        }
        let content = arena.block(get(arena, at + TABLES + 8 * last)?)?;
        drop(Lease::adopt(arena, content, (at + HELD, last as u64))?);
    }
}
