//! Segments: memory that processes find by a name.
//!
//! The name is in the arena's [directory](forkless_shm::names) and in no file system, and the bytes are in the block. A
//! *public* segment is for strangers: its bytes are in a file of `/dev/shm`, and the block stands for the name there,
//! which goes with the block's last lease, whoever had that and however it ended.
//!
//! ```text
//! +0 the name   +272 bytes of the data   +280 device and +288 number of the file, both 0 if the data is here
//! +296 then at the next multiple of 64 in the arena the data
//! ```

use std::ptr::NonNull;

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::names::{self, name_of};
use forkless_shm::{Arena, Error, Handle, Kind, Lease};
use forkless_sys::atomic::Ordering;
use forkless_sys::crash::point;
use forkless_sys::named::{self, Identity, Unnamed};
use forkless_sys::{Errno, OwnedFd};

use crate::memory::zero;

/// How segments are taken apart: their names go.
pub(crate) const KIND: Kind = Kind { id: Segment::KIND, drain: Some(drain), settle: None, private: false };

const LENGTH: usize = names::SIZE;
const DEVICE: usize = LENGTH + 8;
const FILE: usize = LENGTH + 16;
const HEAD: usize = LENGTH + 24;
const ALIGNMENT: usize = 64;

/// Bytes that every process which knows the name reads and writes in place.
#[derive(Debug)]
pub struct Segment {
    lease: Lease,
    length: usize,
    file: Option<Identity>,
}

impl Segment {
    /// The kind of its block.
    pub const KIND: u8 = 18;

    /// A segment in the arena, all zero; `None` if something has that name, also outside the arena.
    ///
    /// # Errors
    /// See [`Arena::allocate`]; [`Error::Corrupt`] for a name of more than [`names::MAX_NAME`] bytes.
    pub fn create(arena: &'static Arena, name: &str, length: usize) -> Result<Option<Self>, Error> {
        if named::exists(name) {
            return Ok(None);
        }
        let size = length.checked_add(HEAD + ALIGNMENT).ok_or(Error::Full { bytes: length, size: arena.size() })?;
        let (lease, used) = arena.allocate_used(size, PLAIN)?;
        let (payload, data) = (lease.block().payload(), data_of(lease.block()));
        // Before it has its kind, for whoever takes it apart.
        describe(&lease, name, length, (0, 0))?;
        if !zero(arena, data, (payload + used).saturating_sub(data).min(length)) {
            return Err(Error::Corrupt("a new segment"));
        }
        point("segment.written");
        lease.set_kind(Self::KIND)?;
        point("segment.created");
        Ok(if arena.enter_name(&lease)? { Some(Self { lease, length, file: None }) } else { None })
    }

    /// A public segment, all zero, and its file; `None` if something has that name. Somebody who outlives this process
    /// should clean up after it.
    ///
    /// # Errors
    /// As [`Self::create`]; [`Error::NoMemory`], [`Error::System`] when the system refuses a file.
    pub fn create_public(arena: &'static Arena, name: &str, length: usize) -> Result<Option<(Self, OwnedFd)>, Error> {
        let refused = |errno| match errno {
            Errno::NOSPC | Errno::NOMEM => Error::NoMemory { bytes: length as u64, available: 0 },
            errno => Error::System { action: "make a public segment in /dev/shm", errno },
        };
        let file = Unnamed::create(length).map_err(refused)?;
        let identity = file.identity().map_err(refused)?;
        let lease = arena.allocate(HEAD, PLAIN)?;
        describe(&lease, name, length, identity)?;
        lease.set_kind(Self::KIND)?;
        point("segment.created");
        if !arena.enter_name(&lease)? {
            return Ok(None);
        }
        point("segment.entered");
        match file.name(name) {
            Ok(fd) => {
                point("segment.named");
                Ok(Some((Self { lease, length, file: Some(identity) }, fd)))
            }
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// The segment that has this name, if there is one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn find(arena: &'static Arena, name: &str) -> Result<Option<Self>, Error> {
        arena.find_name(name, Self::KIND)?.map(Self::view).transpose()
    }

    /// The segment that a handle names, whether or not it still has its name.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        Self::view(arena.open(handle, Self::KIND)?)
    }

    fn view(lease: Lease) -> Result<Self, Error> {
        let word = |field: usize| {
            let word = lease.arena().map().u64(lease.block().payload() + field);
            word.map(|word| word.load(Ordering::Acquire)).ok_or(Error::Corrupt("a segment"))
        };
        let (length, identity) = (word(LENGTH)? as usize, (word(DEVICE)?, word(FILE)?));
        let file = (identity != (0, 0)).then_some(identity);
        let end = lease.block().payload() + lease.block().capacity();
        if file.is_none() && data_of(lease.block()).checked_add(length).is_none_or(|last| last > end) {
            return Err(Error::Corrupt("the size of a segment"));
        }
        Ok(Self { lease, length, file })
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Its name, whether or not it still has it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn name(&self) -> Result<String, Error> {
        name_of(self.lease.arena(), self.lease.block())
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether it is found by its name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn is_linked(&self) -> Result<bool, Error> {
        self.lease.arena().has_name(self.lease.block())
    }

    /// Whether its bytes are in a file that strangers find.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.file.is_some()
    }

    /// Where the bytes are in this process, for as long as `self` lives; `None` if they are in a file.
    #[must_use]
    pub fn address(&self) -> Option<NonNull<u8>> {
        let at = data_of(self.lease.block());
        if self.is_public() { None } else { self.lease.arena().map().address(at) }
    }

    /// The file that the bytes are in.
    ///
    /// # Errors
    /// [`Error::Stale`] if it has lost its name, or has none.
    pub fn file(&self) -> Result<OwnedFd, Error> {
        let identity = self.file.ok_or(Error::Stale("the segment is in no file"))?;
        named::open(&self.name()?, identity).map_err(|errno| match errno {
            Errno::NOENT => Error::Stale("the public segment has lost its name: somebody has unlinked it"),
            errno => Error::System { action: "open a public segment", errno },
        })
    }

    /// Takes its name away: nobody finds it any more, and it lives until the last who has it lets go. Whether it had it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn unlink(&self) -> Result<bool, Error> {
        let had = self.lease.arena().strike_name(self.lease.block())?;
        point("segment.struck");
        Ok(match self.file {
            Some(identity) => named::remove(&self.name()?, identity) && had,
            None => had,
        })
    }
}

/// Where the data is, if it is in the block.
fn data_of(block: Block) -> usize {
    (block.payload() + HEAD).next_multiple_of(ALIGNMENT)
}

fn describe(lease: &Lease, name: &str, length: usize, (device, file): Identity) -> Result<(), Error> {
    let arena = lease.arena();
    arena.set_name(lease.block(), name)?;
    for (field, value) in [(LENGTH, length as u64), (DEVICE, device), (FILE, file)] {
        let word = arena.map().u64(lease.payload()? + field).ok_or(Error::Corrupt("a new segment"))?;
        word.store(value, Ordering::Release);
    }
    Ok(())
}

/// The name goes, in the directory and in the file system.
fn drain(arena: &'static Arena, block: Block) -> Result<usize, Error> {
    arena.strike_name(block)?;
    point("segment.dying");
    let word = |field: usize| arena.map().u64(block.payload() + field).map_or(0, |word| word.load(Ordering::Acquire));
    let identity = (word(DEVICE), word(FILE));
    if identity != (0, 0) {
        // It may have lost it before.
        let _ = named::remove(&name_of(arena, block)?, identity);
    }
    Ok(0)
}
