//! Parcels: blocks with bytes and the handles they refer to.
//!
//! ```text
//! +0  handles held now   +8 room for handles   +16 bytes
//! +24 offsets of the blocks held, then the bytes
//! ```

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Arena, Error, Handle, Kind, Lease};

/// How parcels are taken apart: they let go what they hold, one by one.
pub(crate) const KIND: Kind = Kind { id: Parcel::KIND, drain: Some(drain), private: false };

const HELD: usize = 0;
const ROOM: usize = 8;
const LENGTH: usize = 16;
const HANDLES: usize = 24;

/// Bytes on their way, and leases on what they refer to.
#[derive(Debug)]
pub struct Parcel {
    lease: Lease,
}

impl Parcel {
    /// The kind of its block.
    pub const KIND: u8 = 4;

    /// Packs bytes and further leases on the blocks of `contents`.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn pack(arena: &'static Arena, bytes: &[u8], contents: &[&Lease]) -> Result<Self, Error> {
        if contents.iter().any(|content| content.arena().id() != arena.id()) {
            return Err(Error::Stale("an object cannot travel to another process tree"));
        }
        let handles = HANDLES + 8 * contents.len();
        let lease = arena.allocate(handles + bytes.len(), PLAIN)?;
        let at = lease.block().payload();
        set(arena, at + HELD, 0)?;
        set(arena, at + ROOM, contents.len() as u64)?;
        set(arena, at + LENGTH, bytes.len() as u64)?;
        if !arena.map().write(at + handles, bytes) {
            return Err(Error::Corrupt("a new parcel"));
        }
        lease.set_kind(Self::KIND)?;
        for (index, content) in contents.iter().enumerate() {
            let slot = (at + HANDLES + 8 * index, content.block().offset() as u64);
            content.entrust(&[slot, (at + HELD, index as u64 + 1)])?;
        }
        Ok(Self { lease })
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
        let (at, length) = self.place()?;
        let mut bytes = Vec::new();
        if self.lease.arena().map().read(at, length, &mut bytes) {
            return Ok(bytes);
        }
        Err(Error::Corrupt("the bytes of a parcel"))
    }

    /// How many bytes it carries.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn length(&self) -> Result<usize, Error> {
        Ok(self.place()?.1)
    }

    /// Copies its bytes to where they are wanted; `into` has their length.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn copy_to(&self, into: &mut [u8]) -> Result<(), Error> {
        let (at, length) = self.place()?;
        if length == into.len() && self.lease.arena().map().read_into(at, into) {
            return Ok(());
        }
        Err(Error::Corrupt("the bytes of a parcel"))
    }

    /// Lets go what it holds of one kind, before its own end: whoever was to have it has it.
    ///
    /// To be called by one process at a time: by the receiver, or after its death by whoever cleans up.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if what it says of itself does not fit its block.
    pub fn let_go(&self, kind: u8) -> Result<(), Error> {
        let arena = self.lease.arena();
        let at = self.lease.payload()?;
        let slot = |index: usize| at + HANDLES + 8 * index;
        let room = (self.lease.block().capacity() - HANDLES) / 8;
        for index in (0..get(arena, at + HELD)?.min(room)).rev() {
            let content = arena.block(get(arena, slot(index))?)?;
            if arena.kind_of(content)? != kind {
                continue;
            }
            // The last one takes its place.
            let last = get(arena, at + HELD)?.saturating_sub(1).min(room - 1);
            let notes = [(slot(index), get(arena, slot(last))? as u64), (at + HELD, last as u64)];
            drop(Lease::adopt_noting(arena, content, &notes)?);
        }
        Ok(())
    }

    /// Where its bytes are and how many, checked.
    fn place(&self) -> Result<(usize, usize), Error> {
        let arena = self.lease.arena();
        let at = self.lease.payload()?;
        let room = get(arena, at + ROOM)?;
        let length = get(arena, at + LENGTH)?;
        let handles = room.checked_mul(8).and_then(|bytes| bytes.checked_add(HANDLES));
        let fits = handles.and_then(|handles| handles.checked_add(length));
        match (handles, fits) {
            (Some(handles), Some(size)) if size <= self.lease.block().capacity() => Ok((at + handles, length)),
            _ => Err(Error::Corrupt("the size of a parcel")),
        }
    }
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
        if held > (parcel.capacity() - HANDLES) / 8 {
            return Err(Error::Corrupt("the contents of a parcel"));
        }
        let content = arena.block(get(arena, at + HANDLES + 8 * last)?)?;
        drop(Lease::adopt(arena, content, (at + HELD, last as u64))?);
    }
}
