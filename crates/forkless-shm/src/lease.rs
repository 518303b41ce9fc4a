//! Leases: what keeps a block alive, each on its holder's list.
//!
//! A lease is a small block of its own on a doubly linked list that begins in the holder's slot. It is made in the same
//! transaction that makes or opens the block, so there is no moment at which a process holds what its slot does
//! not say.
//!
//! A block travels between a process and a channel without the allocator's lock. So a lease may be *guarded* by the
//! channel's message count: "this block is mine unless message n has been sent" ([`Lease::give`]), "mine
//! once message n has been taken" ([`Lease::take`]). The channel commits with one store to the count, and in
//! that instant the block changes hands; the guard can be cleared later, by its owner or by its cleaner.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::atomic::AtomicU64;

use forkless_sys::atomic::Ordering;
use forkless_sys::crash;

use crate::arena::Arena;
use crate::block::{Block, LEASE, State, UNIT};
use crate::layout::slot;
use crate::slot::Owner;
use crate::txn::Transaction;
use crate::warm::Room;
use crate::{Error, Handle};

/// Fields of a lease record, from its block's header on; the offsets in four bytes are in units of blocks.
///
/// ```text
/// +8  the next record (31..0) | the one before (63..32)
/// +16 the target (31..0) | the sequence number (63..32)
/// +24 the offset of the count that guards it, 0 for none; TAKES
/// ```
pub(crate) mod field {
    pub(crate) const LINKS: usize = 8;
    pub(crate) const TARGET: usize = 16;
    pub(super) const SEQUENCE: usize = 20;
    pub(crate) const COUNT_AT: usize = 24;
    /// Bytes behind the first two words, which are the block's header.
    pub(super) const SIZE: usize = 16;
}

/// The lease holds once the count has moved on, not until then.
pub(crate) const TAKES: u64 = 1 << 63;

/// Units of blocks that fit into four bytes, as bytes: what an arena may have.
pub(crate) const MAX_SIZE: usize = UNIT << 32;

/// A lease as it is in its holder's list.
pub(crate) struct Record {
    pub(crate) node: Block,
    pub(crate) target: Block,
    pub(crate) previous: usize,
    pub(crate) next: usize,
    /// Of the count that guards it, 0 for none.
    pub(crate) count_at: usize,
    pub(crate) sequence: u32,
    /// Whether it holds once the count has moved past the sequence number, rather than until then.
    pub(crate) takes: bool,
}

/// Keeps a block alive until dropped, or until its process dies.
///
/// A copy of the process, made by user code with a fork, has a copy of this too. It takes leases of its own on all that the
/// original held, first thing ([`Arena::me`]), and each copy then stands for one of those. What the original lets go
/// between the fork and that moment is gone for the copy, and using it is an error.
#[derive(Debug)]
pub struct Lease {
    arena: &'static Arena,
    owner: Owner,
    /// Of the record's block: tells the record from later ones in its place.
    generation: u32,
    node: Block,
    target: Block,
}

const LET_GO: Error =
    Error::Stale("the process that this one was forked from let the object go before this one could take hold of it");

impl Lease {
    /// The arena the block is in.
    #[must_use]
    pub fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// The block.
    #[must_use]
    pub fn block(&self) -> Block {
        self.target
    }

    /// Where the block's payload begins, if this process holds the block.
    ///
    /// # Errors
    /// [`Error::Stale`] in a copy of the process that made this, if the original had let it go.
    #[inline]
    pub fn payload(&self) -> Result<usize, Error> {
        Ok(self.place()?.1)
    }

    /// As [`Self::payload`], behind this process's place in the arena.
    ///
    /// # Errors
    /// As [`Self::payload`]; [`Error::NoSlot`] if this process cannot join the tree.
    #[inline]
    pub fn place(&self) -> Result<(Owner, usize), Error> {
        let me = if self.arena.is_me(self.owner) { self.owner } else { self.own_node()?.0 };
        Ok((me, self.target.payload()))
    }

    /// The record of this process's lease: what was made with this value, or what stands for it in a copy.
    fn own_node(&self) -> Result<(Owner, Block), Error> {
        let me = self.arena.me()?;
        if me == self.owner {
            return Ok((me, self.node));
        }
        let inherited = self.arena.inheritance().and_then(|inheritance| inheritance.find(self.node, self.generation));
        Ok((me, inherited.ok_or(LET_GO)?.node()?))
    }

    /// The block's handle.
    ///
    /// # Errors
    /// See [`Arena::handle`].
    pub fn handle(&self) -> Result<Handle, Error> {
        self.arena.handle(self.target)
    }

    /// Another lease on the same block.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn duplicate(&self) -> Result<Self, Error> {
        let (me, _) = self.own_node()?;
        let mut transaction = Transaction::begin(self.arena)?;
        let lease = transaction.lease(me, self.target)?;
        transaction.commit()?;
        Ok(lease)
    }

    /// Gives a new block, allocated as [`PLAIN`](crate::block::PLAIN), its kind. From now on it is taken apart with its
    /// last lease, also by a cleaner, so its bytes must be in order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the block's header is outside the arena.
    pub fn set_kind(&self, kind: u8) -> Result<(), Error> {
        let mut transaction = Transaction::begin(self.arena)?;
        transaction.set_kind(self.target, kind)?;
        transaction.commit()
    }

    /// Gives the block to the new block of `owner`, which gets its kind in the same instant (see [`Self::set_kind`]).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a record is outside the arena.
    pub fn give_to(self, owner: &Self, kind: u8) -> Result<(), Error> {
        let (me, node) = self.own_node()?;
        let mut transaction = Transaction::begin(self.arena)?;
        transaction.unlink(me, node)?;
        transaction.set_kind(owner.target, kind)?;
        transaction.commit()?;
        std::mem::forget(self);
        Ok(())
    }

    /// Guards the lease: the block is this process's until the count at `count_at` exceeds `sequence`, then it belongs
    /// to whatever that count stands for.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the record is outside the arena.
    pub fn give(&self, count_at: usize, sequence: u32) -> Result<(), Error> {
        self.guard(count_at as u64, sequence)
    }

    /// After the count has moved on: forgets the lease without letting the block go.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the record is outside the arena.
    pub fn given(self) -> Result<(), Error> {
        let (me, node) = self.own_node()?;
        let mut transaction = Transaction::begin(self.arena)?;
        transaction.unlink(me, node)?;
        transaction.commit()?;
        std::mem::forget(self);
        Ok(())
    }

    /// A lease on a block that belongs to a channel until the count at `count_at` exceeds `sequence`, then to this
    /// process. Adds nothing to the block's leases: it takes over the channel's.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn take(arena: &'static Arena, block: Block, count_at: usize, sequence: u32) -> Result<Self, Error> {
        let me = arena.me()?;
        let mut transaction = Transaction::begin(arena)?;
        let lease = transaction.lease_uncounted(me, block)?;
        transaction.set_guard(lease.node, lease.target, count_at as u64 | TAKES, sequence)?;
        transaction.commit()?;
        Ok(lease)
    }

    /// After the count has moved on: the block is this process's without condition.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the record is outside the arena.
    pub fn taken(&self) -> Result<(), Error> {
        self.guard(0, 0)
    }

    /// If the count did not move on: forgets the lease, the block still belongs to the channel.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the record is outside the arena.
    pub fn not_taken(self) -> Result<(), Error> {
        self.given()
    }

    fn guard(&self, count_at: u64, sequence: u32) -> Result<(), Error> {
        let (_, node) = self.own_node()?;
        let count = self.arena.word(node.offset() + field::COUNT_AT)?;
        // Unguarded while the guard changes: at worst this process dies as the owner of what it owned before.
        count.store(0, Ordering::Relaxed);
        self.arena.word32(node.offset() + field::SEQUENCE)?.store(sequence, Ordering::Release);
        count.store(count_at, Ordering::Release);
        Ok(())
    }

    /// Moves one lease that another block holds (a parcel's on its contents) into this process's list. `forget` notes,
    /// in the same transaction, that the other block holds it no longer.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn adopt(arena: &'static Arena, block: Block, forget: (usize, u64)) -> Result<Self, Error> {
        Self::adopt_noting(arena, block, &[forget])
    }

    /// As [`Self::adopt`], where forgetting takes more than one note.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn adopt_noting(arena: &'static Arena, block: Block, notes: &[(usize, u64)]) -> Result<Self, Error> {
        let me = arena.me()?;
        let mut transaction = Transaction::begin(arena)?;
        let lease = transaction.lease_uncounted(me, block)?;
        for (offset, value) in notes {
            transaction.set(*offset, *value)?;
        }
        transaction.commit()?;
        Ok(lease)
    }

    /// Has another block hold the target too: counts one lease more and makes the `notes` in one transaction.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for offsets outside the arena.
    pub fn entrust(&self, notes: &[(usize, u64)]) -> Result<(), Error> {
        self.own_node()?;
        let mut transaction = Transaction::begin(self.arena)?;
        transaction.count_leases(self.target, 1)?;
        for (offset, value) in notes {
            transaction.set(*offset, *value)?;
        }
        transaction.commit()
    }

    /// As [`Self::own_node`], for the last time; gets a copy of the process no place of its own just to let go.
    fn take_own_node(&self) -> Option<(Owner, Block)> {
        if self.arena.is_me(self.owner) {
            return Some((self.owner, self.node));
        }
        let me = self.arena.me_if_any()?;
        Some((me, self.arena.inheritance()?.find(self.node, self.generation)?.take()?))
    }

    /// Lets the block go; takes it apart if this was the last lease. What [`Drop`] does, with the errors.
    fn release(&self) -> Result<(), Error> {
        let arena = self.arena;
        let Some((owner, node)) = self.take_own_node() else { return Ok(()) };
        let mut extra = None;
        loop {
            let mut transaction = Transaction::begin(arena)?;
            let last = transaction.count_leases(self.target, -1)? == 0;
            let kind = arena.kind(transaction.kind_of(self.target)?);
            if let (true, None, Some(drain)) = (last, extra, kind.and_then(|kind| kind.drain)) {
                transaction.count_leases(self.target, 1)?;
                transaction.set_dying(self.target)?;
                transaction.commit()?;
                extra = Some(drain(arena, self.target)?);
                continue;
            }
            if last {
                let room = transaction.room_for(self.target, owner)?;
                if !matches!(room, Room::Enough) {
                    transaction.count_leases(self.target, 1)?;
                    transaction.set_dying(self.target)?;
                    transaction.commit()?;
                    let cooled = match &room {
                        Room::Other(other) => other.target,
                        Room::None | Room::Enough => self.target,
                    };
                    crash::point("warm.chosen");
                    arena.cool(cooled)?;
                    continue;
                }
            }
            transaction.unlink(owner, node)?;
            if last {
                let extra = extra.filter(|&offset| offset != 0).map(|offset| arena.block(offset)).transpose()?;
                [self.target].into_iter().chain(extra).try_for_each(|block| transaction.free(block))?;
            }
            return transaction.commit();
        }
    }
}

impl Arena {
    /// A further lease on a block of that kind which this process holds, the first that is `wanted`.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn find_held(&'static self, kind: u8, wanted: impl Fn(Block) -> bool) -> Result<Option<Lease>, Error> {
        let me = self.me()?;
        let mut transaction = Transaction::begin(self)?;
        let mut next = transaction.first_record(me)?;
        while let Some(record) = next {
            if transaction.kind_of(record.target)? == kind && wanted(record.target) {
                let lease = transaction.lease(me, record.target)?;
                transaction.commit()?;
                return Ok(Some(lease));
            }
            next = transaction.record_after(&record)?;
        }
        Ok(None)
    }

    /// How many leases this process has on a block, and how many there are.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a record is outside the arena.
    pub fn leases_on(&'static self, lease: &Lease) -> Result<(u64, u64), Error> {
        let me = self.me()?;
        let transaction = Transaction::begin(self)?;
        let mut mine = 0;
        let mut next = transaction.first_record(me)?;
        while let Some(record) = next {
            mine += u64::from(record.target == lease.target);
            next = transaction.record_after(&record)?;
        }
        Ok((mine, transaction.get(lease.target.offset() + 8)?))
    }
}

forkless_sys::thread_local! {
    /// Leases to release once the release under way in this thread is done; `None` while there is none.
    static LATER: Cell<Option<Vec<ManuallyDrop<Lease>>>> = const { Cell::new(None) };
}

impl Drop for Lease {
    /// What a block owned is released after it, not inside, so that a chain of any length needs no stack.
    fn drop(&mut self) {
        let Self { arena, owner, generation, node, target } = *self;
        let mut next = ManuallyDrop::new(Self { arena, owner, generation, node, target });
        let inside = LATER.try_with(|later| match later.take() {
            Some(mut list) => {
                list.push(ManuallyDrop::new(Self { arena, owner, generation, node, target }));
                later.set(Some(list));
                true
            }
            None => {
                later.set(Some(Vec::new()));
                false
            }
        });
        if inside == Ok(true) {
            return;
        }
        loop {
            // What cannot be released because shared memory is damaged stays until the tree ends.
            let _ = next.release();
            let another = LATER.try_with(|later| {
                let mut list = later.take()?;
                let another = list.pop()?;
                later.set(Some(list));
                Some(another)
            });
            // Nothing is kept for later in a thread that is about to end.
            let Ok(Some(another)) = another else { return };
            next = another;
        }
    }
}

impl Transaction {
    /// A lease for `owner`, counted on the block.
    pub(crate) fn lease(&mut self, owner: Owner, target: Block) -> Result<Lease, Error> {
        self.count_leases(target, 1)?;
        self.lease_uncounted(owner, target)
    }

    pub(crate) fn lease_uncounted(&mut self, owner: Owner, target: Block) -> Result<Lease, Error> {
        let node = self.add_record(owner, target)?;
        Ok(Lease { arena: self.arena(), owner, generation: self.generation_of(node)?, node, target })
    }

    fn add_record(&mut self, owner: Owner, target: Block) -> Result<Block, Error> {
        let node = self.allocate(field::SIZE, LEASE)?;
        self.set_guard(node, target, 0, 0)?;
        self.link(owner, node)?;
        Ok(node)
    }

    fn set_guard(&mut self, node: Block, target: Block, count_at: u64, sequence: u32) -> Result<(), Error> {
        let target = (target.offset() / UNIT) as u64;
        self.set(node.offset() + field::TARGET, target | u64::from(sequence) << 32)?;
        self.set(node.offset() + field::COUNT_AT, count_at)
    }

    /// Has a lease hold without condition.
    pub(crate) fn clear_guard(&mut self, record: &Record) -> Result<(), Error> {
        self.set(record.node.offset() + field::COUNT_AT, 0)
    }

    fn set_links(&mut self, node: usize, previous: usize, next: usize) -> Result<(), Error> {
        self.set(node + field::LINKS, (next / UNIT) as u64 | ((previous / UNIT) as u64) << 32)
    }

    fn link(&mut self, owner: Owner, node: Block) -> Result<(), Error> {
        let head = owner.field(slot::LEASES);
        let first = self.record_at(self.get(head)? as usize)?;
        self.set_links(node.offset(), 0, first.as_ref().map_or(0, |first| first.node.offset()))?;
        if let Some(first) = first {
            self.set_links(first.node.offset(), node.offset(), first.next)?;
        }
        self.set(head, node.offset() as u64)
    }

    /// Takes a lease off its list and frees the record.
    pub(crate) fn unlink(&mut self, owner: Owner, node: Block) -> Result<(), Error> {
        const GONE: Error = Error::Corrupt("a lease that is on no list");
        let record = self.record_at(node.offset())?.ok_or(GONE)?;
        match self.record_at(record.previous)? {
            None => self.set(owner.field(slot::LEASES), record.next as u64)?,
            Some(before) => self.set_links(record.previous, before.previous, record.next)?,
        }
        if let Some(after) = self.record_at(record.next)? {
            self.set_links(record.next, record.previous, after.next)?;
        }
        self.free(node)
    }

    /// The first lease on a process's list.
    pub(crate) fn first_record(&self, owner: Owner) -> Result<Option<Record>, Error> {
        self.record_at(self.get(owner.field(slot::LEASES))? as usize)
    }

    /// The record of the lease at this offset; `None` for 0, the end of a list.
    pub(crate) fn record_at(&self, offset: usize) -> Result<Option<Record>, Error> {
        if offset == 0 {
            return Ok(None);
        }
        let node = Block::at(self.arena(), offset)?;
        if self.kind_of(node)? != LEASE || self.state_of(node)? != State::Live {
            return Err(Error::Corrupt("a list of leases"));
        }
        let half = |word: u64| (word & u64::from(u32::MAX)) as usize;
        let links = self.get(offset + field::LINKS)?;
        let target = self.get(offset + field::TARGET)?;
        let count_at = self.get(offset + field::COUNT_AT)?;
        Ok(Some(Record {
            node,
            target: Block::at(self.arena(), half(target) * UNIT)?,
            previous: half(links >> 32) * UNIT,
            next: half(links) * UNIT,
            count_at: (count_at & !TAKES) as usize,
            sequence: (target >> 32) as u32,
            takes: count_at & TAKES != 0,
        }))
    }

    /// The record behind this one. A damaged list that comes back to itself would have no end.
    pub(crate) fn record_after(&self, record: &Record) -> Result<Option<Record>, Error> {
        let after = self.record_at(record.next)?;
        if after.as_ref().is_some_and(|after| after.previous != record.node.offset()) {
            return Err(Error::Corrupt("a list of leases"));
        }
        Ok(after)
    }
}

/// Leases that a copy of a process has taken on what the original held.
#[derive(Debug)]
pub(crate) struct Inheritance {
    /// By the offset of the original's record.
    leases: Vec<Inherited>,
}

#[derive(Debug)]
pub(crate) struct Inherited {
    /// The original's record: its offset and its block's generation.
    original: (usize, u32),
    /// The copy's own record, 0 once it has been let go; a [`Block`].
    own: AtomicU64,
}

impl Inheritance {
    fn find(&self, node: Block, generation: u32) -> Option<&Inherited> {
        let original = (node.offset(), generation);
        let index = self.leases.binary_search_by_key(&original, |inherited| inherited.original).ok()?;
        self.leases.get(index).filter(|inherited| inherited.own.load(Ordering::Relaxed) != 0)
    }

    /// Takes leases for `me` on all that `original` holds without condition, but for its private accounts. `before` is what
    /// the original has inherited itself.
    pub(crate) fn take(
        arena: &'static Arena,
        original: Owner,
        me: Owner,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
        let mut transaction = Transaction::begin_as(arena, me)?;
        let mut leases = Vec::new();
        // A slot that was given back, or is somebody else's, says nothing of the original.
        let mut next = if arena.process(original).is_some() { transaction.first_record(original)? } else { None };
        while let Some(record) = next {
            let private = arena.kind(transaction.kind_of(record.target)?).is_some_and(|kind| kind.private);
            if record.count_at == 0 && !private {
                let generation = transaction.generation_of(record.node)?;
                transaction.count_leases(record.target, 1)?;
                let own = AtomicU64::new(transaction.add_record(me, record.target)?.to_word());
                transaction.flush()?;
                leases.push(Inherited { original: (record.node.offset(), generation), own });
            }
            next = transaction.record_after(&record)?;
        }
        transaction.commit()?;
        leases.sort_unstable_by_key(|inherited| inherited.original);
        let mut inheritance = Self { leases };
        if let Some(before) = before {
            inheritance.add_older(before);
        }
        Ok(inheritance)
    }

    /// What the original had inherited goes by the records of the process before it.
    fn add_older(&mut self, before: &Self) {
        let older = before.leases.iter().filter_map(|older| {
            let node = Block::from_word(older.own.load(Ordering::Relaxed))?.offset();
            // The original held that record when it was forked, so it is the one of this offset.
            let index = self.leases.binary_search_by_key(&node, |inherited| inherited.original.0).ok()?;
            let own = AtomicU64::new(self.leases[index].own.load(Ordering::Relaxed));
            Some(Inherited { original: older.original, own })
        });
        let older: Vec<_> = older.collect();
        self.leases.extend(older);
        self.leases.sort_unstable_by_key(|inherited| inherited.original);
    }
}

impl Inherited {
    fn node(&self) -> Result<Block, Error> {
        Block::from_word(self.own.load(Ordering::Relaxed)).ok_or(LET_GO)
    }

    fn take(&self) -> Option<Block> {
        Block::from_word(self.own.swap(0, Ordering::Relaxed))
    }
}
