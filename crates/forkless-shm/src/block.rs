//! Blocks: allocated pieces of the arena.
//!
//! Sizes are powers of two from 32 bytes, one free list each (Knuth, *The Art of Computer Programming* 1, 2.5, calls
//! this segregated storage): a free is a push, an allocation a pop, and a page that was never touched costs
//! nothing, so rounding up costs address space only. Blocks from a page upwards begin on a page, blocks of 64 bytes
//! and more in a cache line of their own.
//!
//! ```text
//! +0  generation (63..32) | state (23..16) | kind (15..8) | class (7..0)
//! +8  leases on it while live; the next free block while free
//! +16 the payload; +64 in blocks of a page or more, so that arrays are aligned. Then
//! +16 how far it has pages (blocks of 64 KiB and more), from its beginning
//! ```
//!
//! What happens to the pages of free blocks: see [`warm`](crate::warm).

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use crate::arena::Arena;
use crate::layout::{HEAP, header};
use crate::txn::Transaction;
use crate::{Error, Lease};

/// A kind of block, and how to take apart what it owns.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Names the kind in headers and handles.
    pub id: u8,
    /// Releases what the block owns, step by step, each safe against death; returns one more block, 0 for none, to
    /// be freed together with this one. Called by its last holder; may be called again after a holder's death.
    pub drain: Option<Drain>,
    /// Decides, while the counts that tell have not moved on, what of a dead holder's half-done step has happened. Called
    /// under the allocator's lock, for each block that the dead hold; changes words of the block only, and may be
    /// called again.
    pub settle: Option<Settle>,
    /// Whether it is an account of one process, in which a copy of that process by user code has no share.
    pub private: bool,
}

/// The kind of lease records; belongs to this crate.
pub const LEASE: u8 = 255;
/// Blocks that own nothing and are owned by another block; reached through no handle.
pub const PLAIN: u8 = 254;

/// The smallest and the largest size class: 32 bytes and 64 GiB.
const CLASSES: std::ops::RangeInclusive<u8> = 5..=36;
/// What offsets of blocks are multiples of.
pub(crate) const UNIT: usize = 32;
const CACHE_LINE: usize = 64;
/// From this class on a block is page-aligned and its payload begins at 64.
const PAGED: u8 = 12;

const FREE: u64 = 0;
const LIVE: u64 = 1;
/// Its last holder takes it apart; it cannot be opened any more.
const DYING: u64 = 2;

/// From this class on a block's pages are counted, and given back.
const WARM_CLASS: u8 = 16;
/// The size of those blocks at least, in bytes.
pub(crate) const COUNTED: usize = 1 << WARM_CLASS;
/// Where it says how far it has pages.
pub(crate) const TOUCHED: usize = 16;

/// Where a block is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Live,
    Dying,
}

/// The last of the arena is for lease records only: to receive a message, or to take a block apart, is to hold it first,
/// and so a full arena could not be emptied.
const FOR_LEASES: usize = 1 << 20;

/// See [`Kind::drain`].
pub type Drain = fn(&'static Arena, Block) -> Result<usize, Error>;
/// See [`Kind::settle`].
pub type Settle = fn(&'static Arena, Block) -> Result<(), Error>;

/// A block that somebody keeps alive: its offset into its arena, and beside that, in the bits that are zero in it, its
/// size class, counted from the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(u64);

const CLASS_BITS: u64 = UNIT as u64 - 1;
const _: () = assert!((*CLASSES.end() - *CLASSES.start()) as u64 <= CLASS_BITS);
const _: () = assert!(header::COLD + 8 * *CLASSES.end() as usize + 8 <= header::FREE + 8 * 64);
const _: () = assert!(header::COLD + 8 * WARM_CLASS as usize > header::FREE + 8 * *CLASSES.end() as usize);

/// The name of a block: 20 bytes that travel, and mean nothing once the block is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// The arena's id.
    pub arena: u64,
    /// Where the block is.
    pub offset: u64,
    /// Which block it is, of all that have been there.
    pub generation: u32,
}

/// As text, for a command line or a file; [`FromStr`] reads it.
impl Display for Handle {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:x}-{:x}-{:x}", self.arena, self.offset, self.generation)
    }
}

impl FromStr for Handle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut fields = text.split('-').map(|field| u64::from_str_radix(field, 16).ok());
        let mut next = || fields.next().flatten();
        match (next(), next(), next().map(u32::try_from), fields.next()) {
            (Some(arena), Some(offset), Some(Ok(generation)), None) => Ok(Self { arena, offset, generation }),
            _ => Err(Error::Stale("the text is no handle")),
        }
    }
}

impl Block {
    /// Of a block header's place, checked.
    pub(crate) fn at(arena: &Arena, offset: usize) -> Result<Self, Error> {
        if offset < HEAP || !offset.is_multiple_of(UNIT) {
            return Err(Error::Corrupt("a block outside the heap"));
        }
        let class = Header(arena.word(offset)?.load(forkless_sys::atomic::Ordering::Acquire)).class();
        if !CLASSES.contains(&class) || offset + (1 << class) > arena.heap_end() {
            return Err(Error::Corrupt("the size of a block"));
        }
        Ok(Self::new(offset, class))
    }

    fn new(offset: usize, class: u8) -> Self {
        Self(offset as u64 | u64::from(class - CLASSES.start()))
    }

    /// For private memory; never 0.
    pub(crate) fn to_word(self) -> u64 {
        self.0
    }

    /// From [`Self::to_word`], `None` for 0.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Self(word))
    }

    fn class(self) -> u8 {
        (self.0 & CLASS_BITS) as u8 + CLASSES.start()
    }

    /// Where the header is.
    #[must_use]
    pub fn offset(self) -> usize {
        (self.0 & !CLASS_BITS) as usize
    }

    /// Where the payload begins.
    #[must_use]
    pub fn payload(self) -> usize {
        self.offset() + payload_at(self.class())
    }

    /// Bytes from this header to the next.
    pub(crate) fn size(self) -> usize {
        1 << self.class()
    }

    /// Whether its pages are counted.
    pub(crate) fn has_pages(self) -> bool {
        self.class() >= WARM_CLASS
    }

    /// Where it says how far it has pages.
    pub(crate) fn touched_at(self) -> usize {
        self.offset() + TOUCHED
    }

    /// Bytes of payload there is room for.
    #[must_use]
    pub fn capacity(self) -> usize {
        self.size() - payload_at(self.class())
    }
}

fn payload_at(class: u8) -> usize {
    if class < PAGED { 16 } else { 64 }
}

/// Where the payload begins in a block of this size.
pub(crate) fn payload_offset(size: usize) -> usize {
    payload_at(size.trailing_zeros() as u8)
}

/// The smallest class with room for `payload` bytes.
fn class_for(payload: usize) -> Option<u8> {
    CLASSES.into_iter().find(|&class| (1usize << class) - payload_at(class) >= payload)
}

/// The first word of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Header(u64);

impl Header {
    fn new(generation: u32, state: u64, kind: u8, class: u8) -> Self {
        Self(u64::from(generation) << 32 | state << 16 | u64::from(kind) << 8 | u64::from(class))
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn state(self) -> u64 {
        self.0 >> 16 & 0xff
    }

    fn kind(self) -> u8 {
        (self.0 >> 8 & 0xff) as u8
    }

    fn class(self) -> u8 {
        (self.0 & 0xff) as u8
    }

    fn with_state(self, state: u64) -> Self {
        Self::new(self.generation(), state, self.kind(), self.class())
    }

    fn with_kind(self, kind: u8) -> Self {
        Self::new(self.generation(), self.state(), kind, self.class())
    }
}

/// Size in bytes, kind and state, of the first word of a block; `None` of what cannot be one.
pub(crate) fn parse_header(word: u64) -> Option<(usize, u8, State)> {
    let header = Header(word);
    let class = header.class();
    if CLASSES.contains(&class) { Some((1 << class, header.kind(), State::parse(header.state())?)) } else { None }
}

impl State {
    fn parse(state: u64) -> Option<Self> {
        match state {
            FREE => Some(Self::Free),
            LIVE => Some(Self::Live),
            DYING => Some(Self::Dying),
            _ => None,
        }
    }
}

impl Transaction {
    /// A block of `kind` with room for `payload` bytes, without leases. Its bytes are whatever they were.
    pub(crate) fn allocate(&mut self, payload: usize, kind: u8) -> Result<Block, Error> {
        let (size, heap_end) = (self.arena().size(), self.arena().heap_end());
        let full = Error::Full { bytes: payload, size };
        let class = class_for(payload).ok_or(full.clone())?;
        let head = header::FREE + 8 * usize::from(class);
        let mut free = self.get(head)? as usize;
        let mut head = head;
        if free == 0 && class >= WARM_CLASS {
            head = header::COLD + 8 * usize::from(class);
            free = self.get(head)? as usize;
        }
        let (offset, generation) = if free == 0 {
            let end = if kind == LEASE { heap_end } else { heap_end - FOR_LEASES };
            let offset = self.extend(class, end)?.ok_or(full)?;
            if class >= WARM_CLASS {
                self.set(offset + TOUCHED, 0)?;
            }
            (offset, 1)
        } else {
            let header = Header(self.get(free)?);
            if header.state() != FREE || header.class() != class {
                return Err(Error::Corrupt("a free list"));
            }
            let next = self.get(free + 8)?;
            self.set(head, next)?;
            if class >= WARM_CLASS {
                let warm = self.get(header::WARM)?;
                self.set(header::WARM, warm.saturating_sub(self.get(free + TOUCHED)?))?;
            }
            (free, header.generation().wrapping_add(1).max(1))
        };
        self.set(offset, Header::new(generation, LIVE, kind, class).0)?;
        self.set(offset + 8, 0)?;
        Ok(Block::new(offset, class))
    }

    /// Fresh memory at the end of the heap, which may grow up to `limit`.
    fn extend(&mut self, class: u8, limit: usize) -> Result<Option<usize>, Error> {
        let fresh = self.get(header::FRESH)? as usize;
        if !(HEAP..=self.arena().heap_end()).contains(&fresh) {
            return Err(Error::Corrupt("the end of the heap"));
        }
        let align = if class < PAGED { CACHE_LINE.min(1 << class) } else { forkless_sys::memory::PAGE };
        let offset = fresh.next_multiple_of(align);
        let end = offset + (1 << class);
        if end > limit {
            return Ok(None);
        }
        if align == CACHE_LINE && offset != fresh {
            // What is left of the line is the smallest block: for the next lease record.
            let head = header::FREE + 8 * usize::from(*CLASSES.start());
            let next = self.get(head)?;
            self.set(fresh, Header::new(0, FREE, PLAIN, *CLASSES.start()).0)?;
            self.set(fresh + 8, next)?;
            self.set(head, fresh as u64)?;
        }
        self.set(header::FRESH, end as u64)?;
        Ok(Some(offset))
    }

    /// Puts a block on its free list.
    pub(crate) fn free(&mut self, block: Block) -> Result<(), Error> {
        let header = Header(self.get(block.offset())?);
        if !matches!(header.state(), LIVE | DYING) {
            return Err(Error::Corrupt("a block freed twice"));
        }
        let mut list = header::FREE;
        if block.has_pages() {
            let touched = self.touched(block)?;
            self.set(block.touched_at(), touched)?;
            self.set(header::WARM, self.get(header::WARM)?.saturating_add(touched))?;
            if touched == 0 {
                list = header::COLD;
            }
        }
        let head = list + 8 * usize::from(block.class());
        let next = self.get(head)?;
        self.set(block.offset() + 8, next)?;
        self.set(head, block.offset() as u64)?;
        self.set(block.offset(), header.with_state(FREE).0)
    }

    /// How far a block has pages, of those whose pages are counted.
    pub(crate) fn touched(&self, block: Block) -> Result<u64, Error> {
        if block.has_pages() { Ok(self.get(block.touched_at())?.min(block.size() as u64)) } else { Ok(0) }
    }

    /// A free block that has pages, taken off its list as by [`Self::allocate`]: one of the largest, and not of the class of
    /// `spared`.
    pub(crate) fn take_warm(&mut self, spared: Option<Block>) -> Result<Option<Block>, Error> {
        for class in (WARM_CLASS..=*CLASSES.end()).rev().filter(|class| spared.is_none_or(|it| it.class() != *class)) {
            if self.get(header::FREE + 8 * usize::from(class))? != 0 {
                return self.allocate((1 << class) - payload_at(class), PLAIN).map(Some);
            }
        }
        Ok(None)
    }

    /// Changes the number of leases on a block; returns the new one.
    pub(crate) fn count_leases(&mut self, block: Block, by: i64) -> Result<u64, Error> {
        let count = self.get(block.offset() + 8)?;
        let count = count.checked_add_signed(by).ok_or(Error::Corrupt("the number of leases"))?;
        self.set(block.offset() + 8, count)?;
        Ok(count)
    }

    /// The block that a handle names, if it still does.
    pub(crate) fn find(&self, handle: Handle, kind: u8) -> Result<Block, Error> {
        const GONE: Error = Error::Stale("the object no longer exists: its last holder has let it go");
        let offset = handle.offset as usize;
        if offset < HEAP || offset >= self.get(header::FRESH)? as usize || !offset.is_multiple_of(UNIT) {
            return Err(GONE);
        }
        let header = Header(self.get(offset)?);
        if header.generation() != handle.generation || header.state() != LIVE {
            return Err(GONE);
        }
        if header.kind() != kind {
            return Err(Error::Stale("the handle belongs to an object of another type"));
        }
        Block::at(self.arena(), offset)
    }

    /// From now on the block cannot be opened.
    pub(crate) fn set_dying(&mut self, block: Block) -> Result<(), Error> {
        let header = Header(self.get(block.offset())?);
        self.set(block.offset(), header.with_state(DYING).0)
    }

    /// Gives a plain block its own kind.
    pub(crate) fn set_kind(&mut self, block: Block, kind: u8) -> Result<(), Error> {
        let header = Header(self.get(block.offset())?);
        self.set(block.offset(), header.with_kind(kind).0)
    }

    pub(crate) fn kind_of(&self, block: Block) -> Result<u8, Error> {
        Ok(Header(self.get(block.offset())?).kind())
    }

    pub(crate) fn generation_of(&self, block: Block) -> Result<u32, Error> {
        Ok(Header(self.get(block.offset())?).generation())
    }

    pub(crate) fn state_of(&self, block: Block) -> Result<State, Error> {
        let state = State::parse(Header(self.get(block.offset())?).state());
        state.ok_or(Error::Corrupt("the state of a block"))
    }

    /// The lengths of all free lists. Gives up beyond `most`, since a damaged list may have no end.
    pub(crate) fn count_free(&self, most: usize) -> Result<usize, Error> {
        let mut count = 0;
        let cold = (WARM_CLASS..=*CLASSES.end()).map(|class| (class, header::COLD));
        for (class, list) in CLASSES.map(|class| (class, header::FREE)).chain(cold) {
            let mut at = self.get(list + 8 * usize::from(class))? as usize;
            while at != 0 {
                let block = Block::at(self.arena(), at)?;
                count += 1;
                if count > most || block.class() != class || self.state_of(block)? != State::Free {
                    return Err(Error::Corrupt("a free list"));
                }
                at = self.get(at + 8)? as usize;
            }
        }
        Ok(count)
    }
}

impl Arena {
    /// A new block with room for `payload` bytes, kept alive by the lease returned. Its bytes are whatever they were
    /// (zero, if never used before).
    ///
    /// A kind that is taken apart is given only once the bytes are in order ([`Lease::set_kind`]), as this process may
    /// die before they are: allocate such a block as [`PLAIN`].
    ///
    /// # Errors
    /// [`Error::Full`] when the arena has no room, [`Error::NoMemory`] when the machine or the control group has none;
    /// [`Error::Setting`] if the environment sets a limit that cannot be read, see [`Self::warm_limit`].
    pub fn allocate(&'static self, payload: usize, kind: u8) -> Result<Lease, Error> {
        self.allocate_used(payload, kind).map(|(lease, _)| lease)
    }

    /// As [`Self::allocate`]; also says how many bytes of the payload may not be zero, from its beginning.
    ///
    /// # Errors
    /// See [`Self::allocate`].
    pub fn allocate_used(&'static self, payload: usize, kind: u8) -> Result<(Lease, usize), Error> {
        let (lease, touched) = self.allocate_as_it_is(payload, kind)?;
        let block = lease.block();
        if block.has_pages() {
            self.warm_up(block, touched, (payload + payload_at(block.class())) as u64)?;
        }
        // Pages that it did not have are zero now; the one with the header it always has.
        let used = if block.has_pages() { touched.max(forkless_sys::memory::PAGE as u64) } else { u64::MAX };
        Ok((lease, payload.min(used as usize)))
    }

    /// As [`Self::allocate`], with bytes in it: for those, new pages need not be zeroed first, which is most of what they
    /// cost. The bytes are pieces, each with its place, in the order of their places and with no more than a cache line
    /// between them. They count from where `begin` says, an offset in the arena within the payload; in front of it there
    /// is room on the block's first page.
    ///
    /// # Errors
    /// See [`Self::allocate`]; [`Error::Corrupt`] if the bytes are not within the payload.
    pub fn allocate_filled(
        &'static self,
        payload: usize,
        kind: u8,
        begin: impl FnOnce(Block) -> usize,
        pieces: &[(usize, &[u8])],
    ) -> Result<Lease, Error> {
        let (lease, touched) = self.allocate_as_it_is(payload, kind)?;
        let block = lease.block();
        let begin = begin(block);
        let last = pieces.iter().map(|(place, bytes)| begin.saturating_add(place.saturating_add(bytes.len()))).max();
        let end = last.unwrap_or(begin);
        if begin < block.payload() || end > block.payload() + payload {
            return Err(Error::Corrupt("a place in a new block"));
        }
        self.fill(block, touched, begin, pieces, end)?;
        Ok(lease)
    }

    /// A new block, and how many bytes of it have pages.
    fn allocate_as_it_is(&'static self, payload: usize, kind: u8) -> Result<(Lease, u64), Error> {
        let me = self.me()?;
        let mut transaction = Transaction::begin(self)?;
        let block = transaction.allocate(payload, kind)?;
        let lease = transaction.lease(me, block)?;
        let touched = transaction.touched(block)?;
        transaction.commit()?;
        Ok((lease, touched))
    }

    /// Opens the block that a handle names.
    ///
    /// # Errors
    /// [`Error::Stale`] if it is gone, was never here, or is of another kind.
    pub fn open(&'static self, handle: Handle, kind: u8) -> Result<Lease, Error> {
        if handle.arena != self.id() {
            return Err(Error::Stale("the object belongs to another process tree"));
        }
        let me = self.me()?;
        let mut transaction = Transaction::begin(self)?;
        let block = transaction.find(handle, kind)?;
        let lease = transaction.lease(me, block)?;
        transaction.commit()?;
        Ok(lease)
    }

    /// The handle of a live block.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its header is outside the arena.
    pub fn handle(&self, block: Block) -> Result<Handle, Error> {
        let header = Header(self.word(block.offset())?.load(forkless_sys::atomic::Ordering::Acquire));
        Ok(Handle { arena: self.id(), offset: block.offset() as u64, generation: header.generation() })
    }

    /// Whether somebody keeps alive, at this moment, the block that a handle names. Changes nothing and takes no lock.
    #[must_use]
    pub fn is_live(&self, handle: Handle) -> bool {
        let offset = handle.offset as usize;
        if handle.arena != self.id() || offset < HEAP || !offset.is_multiple_of(UNIT) {
            return false;
        }
        let word = self.word(offset).map_or(0, |word| word.load(forkless_sys::atomic::Ordering::Acquire));
        let header = Header(word);
        header.generation() == handle.generation && header.state() == LIVE
    }

    /// The kind of a block that the caller keeps alive.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its header is outside the arena.
    pub fn kind_of(&self, block: Block) -> Result<u8, Error> {
        Ok(Header(self.word(block.offset())?.load(forkless_sys::atomic::Ordering::Acquire)).kind())
    }

    /// A block known to be kept alive by the caller, from its offset; what a record in shared memory says is checked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for an offset that is no block's.
    pub fn block(&self, offset: usize) -> Result<Block, Error> {
        Block::at(self, offset)
    }
}
