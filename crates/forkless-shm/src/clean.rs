//! The cleaner: gives back what a dead process held, exactly.
//!
//! Run by whoever reaps the process, or first finds it dead. Each step is one transaction, so a cleaner that dies
//! leaves the rest to the next one; running it twice does no harm.

use forkless_sys::atomic::Ordering;
use forkless_sys::crash;

use crate::arena::Arena;
use crate::layout::slot;
use crate::slot::{End, Owner, Role};
use crate::txn::Transaction;
use crate::{Error, Lease};

/// Whether the count at `count_at` has moved past `sequence`. Counts wrap.
fn passed(transaction: &Transaction, count_at: usize, sequence: u32) -> Result<bool, Error> {
    let count = transaction.arena().word32(count_at)?.load(Ordering::Acquire);
    Ok(count.wrapping_sub(sequence).cast_signed() > 0)
}

impl Arena {
    /// Decides what of dead processes' half-done transfers happened, before anybody else moves the counts that tell.
    ///
    /// Whoever takes a channel's lock from a dead owner calls this before its own first transfer. All the dead are
    /// settled, not the owner alone: it may have taken the lock from the dead itself, and have come to nothing more.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn settle(&'static self) -> Result<(), Error> {
        self.processes().into_iter().try_for_each(|process| self.settle_process(process.owner))
    }

    /// A process that is alive, or whose slot went to another, is left alone.
    fn settle_process(&'static self, dead: Owner) -> Result<(), Error> {
        // One lock for the whole list: another cleaner may be taking it over.
        let mut transaction = Transaction::begin(self)?;
        if self.process(dead).is_none() || !self.is_dead(dead) {
            return Ok(());
        }
        self.settle_claim(&mut transaction, dead)?;
        let mut next = transaction.first_record(dead)?;
        while let Some(record) = next {
            // Before the record may go.
            next = transaction.record_after(&record)?;
            if record.count_at == 0 {
                let kind = self.kind(transaction.kind_of(record.target)?);
                kind.and_then(|kind| kind.settle).map_or(Ok(()), |settle| settle(self, record.target))?;
                continue;
            }
            let moved = passed(&transaction, record.count_at, record.sequence)?;
            if record.takes == moved {
                transaction.clear_guard(&record)?;
            } else {
                transaction.unlink(dead, record.node)?;
                // It has another one before it now.
                next = next.map_or(Ok(None), |next| transaction.record_at(next.node.offset()))?;
            }
            transaction.flush()?;
        }
        transaction.commit()
    }

    fn settle_claim(&'static self, transaction: &mut Transaction, dead: Owner) -> Result<(), Error> {
        let count_at = transaction.get(dead.field(slot::CLAIM_COUNT_AT))? as usize;
        if count_at > 1 {
            let sequence = transaction.get(dead.field(slot::CLAIM_SEQUENCE))?;
            let held = passed(transaction, count_at, sequence as u32)?;
            // 1: decided, the claim holds.
            transaction.set(dead.field(slot::CLAIM_COUNT_AT), u64::from(held))?;
        }
        Ok(())
    }

    /// Gives back everything that a process left behind and writes down how it ended. Its slot stays for whoever asked
    /// for it; without such a process, or with that one dead too, the slot is freed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn clean(&'static self, dead: Owner, end: End) -> Result<(), Error> {
        if self.process(dead).is_none() || !self.mark_ended(dead)? {
            return Ok(());
        }
        crash::point("clean.marked");
        self.settle_process(dead)?;
        while let Some(lease) = self.steal(dead)? {
            drop(lease);
        }
        for child in self.processes() {
            if child.parent == Some(dead) && !child.live {
                self.free_slot(child.owner)?;
            }
        }
        crash::point("clean.done");
        let nobodys = self.is_nobodys(dead)?;
        self.record_end(dead, end);
        if nobodys {
            self.free_slot(dead)?;
        }
        Ok(())
    }

    /// Whether nobody asked for a process that was marked as ended, or nobody who lives.
    fn is_nobodys(&'static self, dead: Owner) -> Result<bool, Error> {
        let _lock = Transaction::begin(self)?;
        if !self.is_marked_ended(dead)? {
            // Another cleaner was faster.
            return Ok(false);
        }
        // A standby may be claimed while it dies, by who has seen it alive. This comes before the claim, which fails then,
        // or after it, and whoever claimed it is told how it ended.
        if self.withdraw_standby(dead)? {
            return Ok(true);
        }
        let parent = self.process(dead).and_then(|process| process.parent);
        Ok(parent.is_none_or(|parent| self.is_dead(parent)))
    }

    /// Guests come and go without anybody who reaps them: each cleans up after those before it, and so may others.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn clean_up_after_guests(&'static self) -> Result<(), Error> {
        for guest in self.processes() {
            // Also those that died before they lived, or whose cleaner died.
            let gone = self.is_dead(guest.owner) || self.is_ended(guest.owner);
            if guest.role == Role::Guest && gone {
                self.clean(guest.owner, End::Unknown)?;
            }
        }
        Ok(())
    }

    /// Moves one lease of a dead process to this one.
    fn steal(&'static self, dead: Owner) -> Result<Option<Lease>, Error> {
        let me = self.me()?;
        let mut transaction = Transaction::begin(self)?;
        if !self.is_marked_ended(dead)? {
            // Another cleaner was faster, and the slot and its list may belong to a new process.
            return Ok(None);
        }
        let Some(record) = transaction.first_record(dead)? else { return Ok(None) };
        transaction.unlink(dead, record.node)?;
        let lease = transaction.lease_uncounted(me, record.target)?;
        transaction.commit()?;
        Ok(Some(lease))
    }

    /// Gives a slot back once its end is known, or when its process was never started.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn return_slot(&'static self, owner: Owner) -> Result<(), Error> {
        self.free_slot(owner)
    }

    /// Says that nobody will ask how the process ended.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn disown(&'static self, owner: Owner) -> Result<(), Error> {
        let mut transaction = Transaction::begin(self)?;
        if self.process(owner).is_some() {
            transaction.set(owner.field(slot::PARENT), 0)?;
        }
        transaction.commit()
    }

    /// Notes, in this process's own slot, what it is about to take: `tag` is claimed once the count at `count_at` exceeds
    /// `sequence`.
    ///
    /// # Errors
    /// [`Error::NoSlot`] if this process cannot get a place.
    pub fn claim(&'static self, count_at: usize, sequence: u32, tag: u64) -> Result<(), Error> {
        let me = self.me()?;
        let guard = self.word(me.field(slot::CLAIM_COUNT_AT))?;
        guard.store(0, Ordering::Relaxed);
        self.word(me.field(slot::CLAIM_SEQUENCE))?.store(u64::from(sequence), Ordering::Release);
        self.word(me.field(slot::CLAIM_TAG))?.store(tag, Ordering::Release);
        guard.store(count_at as u64, Ordering::Release);
        Ok(())
    }

    /// Notes that this process has claimed nothing, or is done with it.
    ///
    /// # Errors
    /// [`Error::NoSlot`] if this process cannot get a place.
    pub fn unclaim(&'static self) -> Result<(), Error> {
        let me = self.me()?;
        self.word(me.field(slot::CLAIM_COUNT_AT))?.store(0, Ordering::Release);
        Ok(())
    }

    /// What a process that lives has claimed, whether or not it has taken it yet.
    #[must_use]
    pub fn claiming(&'static self, owner: Owner) -> Option<u64> {
        let guard = self.word(owner.field(slot::CLAIM_COUNT_AT)).ok()?.load(Ordering::Acquire);
        let tag = self.word(owner.field(slot::CLAIM_TAG)).ok()?.load(Ordering::Acquire);
        // After the tag: it is that of this process.
        self.process(owner).filter(|_| guard != 0).map(|_| tag)
    }

    /// What a process that was cleaned up had claimed and taken when it died.
    #[must_use]
    pub fn claimed(&'static self, dead: Owner) -> Option<u64> {
        self.process(dead)?;
        let guard = self.word(dead.field(slot::CLAIM_COUNT_AT)).ok()?.load(Ordering::Acquire);
        (guard == 1).then(|| self.word(dead.field(slot::CLAIM_TAG)).ok().map(|tag| tag.load(Ordering::Acquire)))?
    }
}
