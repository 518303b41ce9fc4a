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

use forkless_sys::atomic::Ordering;

use crate::arena::Arena;
use crate::block::{Block, LEASE, State};
use crate::layout::slot;
use crate::slot::Owner;
use crate::txn::Transaction;
use crate::{Error, Handle};

/// Fields of a lease record, from its payload.
pub(crate) mod record {
    pub(crate) const PREVIOUS: usize = 0;
    pub(crate) const NEXT: usize = 8;
    pub(crate) const TARGET: usize = 16;
    /// Offset of the count that guards it, 0 for none.
    pub(crate) const COUNT_AT: usize = 24;
    /// `TAKES` or nothing, and the sequence number.
    pub(crate) const GUARD: usize = 32;
    pub(crate) const SIZE: usize = 40;
    pub(crate) const TAKES: u64 = 1 << 32;
}

/// Keeps a block alive until dropped, or until its process dies.
#[derive(Debug)]
pub struct Lease {
    arena: &'static Arena,
    owner: Owner,
    node: Block,
    target: Block,
}

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
        let me = self.arena.me()?;
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
        let mut transaction = Transaction::begin(self.arena)?;
        transaction.unlink(self.owner, self.node)?;
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
        self.guard(count_at, u64::from(sequence))
    }

    /// After the count has moved on: forgets the lease without letting the block go.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the record is outside the arena.
    pub fn given(self) -> Result<(), Error> {
        let mut transaction = Transaction::begin(self.arena)?;
        transaction.unlink(self.owner, self.node)?;
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
        transaction.set(lease.node.payload() + record::COUNT_AT, count_at as u64)?;
        transaction.set(lease.node.payload() + record::GUARD, record::TAKES | u64::from(sequence))?;
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

    fn guard(&self, count_at: usize, guard: u64) -> Result<(), Error> {
        let at = self.node.payload();
        let count = self.arena.word(at + record::COUNT_AT)?;
        // Unguarded while the guard changes: at worst this process dies as the owner of what it owned before.
        count.store(0, Ordering::Relaxed);
        self.arena.word(at + record::GUARD)?.store(guard, Ordering::Release);
        count.store(count_at as u64, Ordering::Release);
        Ok(())
    }

    /// Moves one lease that another block holds (a parcel's on its contents) into this process's list. `forget` notes,
    /// in the same transaction, that the other block holds it no longer.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn adopt(arena: &'static Arena, block: Block, forget: (usize, u64)) -> Result<Self, Error> {
        let me = arena.me()?;
        let mut transaction = Transaction::begin(arena)?;
        let lease = transaction.lease_uncounted(me, block)?;
        transaction.set(forget.0, forget.1)?;
        transaction.commit()?;
        Ok(lease)
    }

    /// Has another block hold the target too: counts one lease more and makes the `notes` in one transaction.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for offsets outside the arena.
    pub fn entrust(&self, notes: &[(usize, u64)]) -> Result<(), Error> {
        let mut transaction = Transaction::begin(self.arena)?;
        transaction.count_leases(self.target, 1)?;
        for (offset, value) in notes {
            transaction.set(*offset, *value)?;
        }
        transaction.commit()
    }

    /// Lets the block go; takes it apart if this was the last lease. What [`Drop`] does, with the errors.
    fn release(&self) -> Result<(), Error> {
        if !self.arena.is_me(self.owner) {
            // A fork by user code copied this object: the lease is the parent's.
            return Ok(());
        }
        let arena = self.arena;
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
            transaction.unlink(self.owner, self.node)?;
            let mut cold = Vec::new();
            if last {
                let extra = extra.filter(|&offset| offset != 0).map(|offset| arena.block(offset)).transpose()?;
                for block in [self.target].into_iter().chain(extra) {
                    if transaction.free(block)? {
                        cold.push(block);
                    }
                }
            }
            // Under the lock, so that nobody has the block again before its pages are gone; the header's page stays.
            transaction.flush()?;
            for block in cold {
                arena.memory().punch(block.payload(), block.capacity());
            }
            return Ok(());
        }
    }
}

thread_local! {
    /// Leases to release once the release under way in this thread is done; `None` while there is none.
    static LATER: Cell<Option<Vec<ManuallyDrop<Lease>>>> = const { Cell::new(None) };
}

impl Drop for Lease {
    /// What a block owned is released after it, not inside, so that a chain of any length needs no stack.
    fn drop(&mut self) {
        let Self { arena, owner, node, target } = *self;
        let mut next = ManuallyDrop::new(Self { arena, owner, node, target });
        let inside = LATER.try_with(|later| match later.take() {
            Some(mut list) => {
                list.push(ManuallyDrop::new(Self { arena, owner, node, target }));
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
        let node = self.allocate(record::SIZE, LEASE)?;
        let at = node.payload();
        self.set(at + record::TARGET, target.offset() as u64)?;
        self.set(at + record::COUNT_AT, 0)?;
        self.set(at + record::GUARD, 0)?;
        self.link(owner, node)?;
        Ok(Lease { arena: self.arena(), owner, node, target })
    }

    fn link(&mut self, owner: Owner, node: Block) -> Result<(), Error> {
        let head = owner.field(slot::LEASES);
        let first = self.get(head)? as usize;
        self.set(node.payload() + record::PREVIOUS, 0)?;
        self.set(node.payload() + record::NEXT, first as u64)?;
        if first != 0 {
            let first = Block::at(self.arena(), first)?;
            self.set(first.payload() + record::PREVIOUS, node.offset() as u64)?;
        }
        self.set(head, node.offset() as u64)
    }

    /// Takes a lease off its list and frees the record.
    pub(crate) fn unlink(&mut self, owner: Owner, node: Block) -> Result<(), Error> {
        let at = node.payload();
        let previous = self.get(at + record::PREVIOUS)? as usize;
        let next = self.get(at + record::NEXT)?;
        if previous == 0 {
            self.set(owner.field(slot::LEASES), next)?;
        } else {
            let previous = Block::at(self.arena(), previous)?;
            self.set(previous.payload() + record::NEXT, next)?;
        }
        if next != 0 {
            let next = Block::at(self.arena(), next as usize)?;
            self.set(next.payload() + record::PREVIOUS, previous as u64)?;
        }
        self.free(node)?;
        Ok(())
    }

    /// The first lease on a process's list, as (record, target).
    pub(crate) fn first_lease(&self, owner: Owner) -> Result<Option<(Block, Block)>, Error> {
        self.lease_at(self.get(owner.field(slot::LEASES))? as usize)
    }

    pub(crate) fn lease_at(&self, offset: usize) -> Result<Option<(Block, Block)>, Error> {
        if offset == 0 {
            return Ok(None);
        }
        let node = Block::at(self.arena(), offset)?;
        if self.kind_of(node)? != LEASE || self.state_of(node)? != State::Live {
            return Err(Error::Corrupt("a list of leases"));
        }
        let target = self.get(node.payload() + record::TARGET)? as usize;
        Ok(Some((node, Block::at(self.arena(), target)?)))
    }
}
