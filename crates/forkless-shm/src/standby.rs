//! Standbys: processes that were started ahead of time and wait for a job.
//!
//! A standby is live, nobody's child yet, and listed in the header. Whoever needs a process claims one by becoming its parent
//! with one compare-and-swap, writes what it is to do into its slot, and wakes it: no system call but that one.
//! A claimer that dies in between is the parent of a process without a job, which ends with it as all children do.
//!
//! A standby has the standard streams of its template's root. So the template's slot says which files those are, and a
//! claimer whose streams are others starts its child the long way. Whoever has another template leaves it alone.

use std::time::Duration;

use forkless_sys::atomic::Ordering;
use forkless_sys::crash::point;
use forkless_sys::futex;
use forkless_sys::process::StreamsIdentity;

use crate::arena::Arena;
use crate::layout::{STANDBYS, header, slot};
use crate::slot::{Owner, Role};
use crate::txn::Transaction;
use crate::{Error, Handle};

impl Arena {
    /// Lists the calling process as a standby of this template.
    ///
    /// # Errors
    /// [`Error::NoSlot`] when the list is full or this process has no slot.
    pub fn offer_standby(&'static self, template: Owner) -> Result<Owner, Error> {
        let me = self.me()?;
        self.word32(me.field(slot::TEMPLATE))?.store(template.word(), Ordering::Release);
        for index in 0..STANDBYS {
            let entry = self.word(header::STANDBYS + 8 * index)?;
            let free = match Owner::from_word(entry.load(Ordering::Acquire) as u32) {
                None => 0,
                Some(other) if self.is_dead(other) => u64::from(other.word()),
                Some(_) => continue,
            };
            let taken = entry.compare_exchange(free, u64::from(me.word()), Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                return Ok(me);
            }
        }
        Err(Error::NoSlot)
    }

    /// Sees to it that nobody claims a standby any more, for it to end; `false` if somebody has, and will assign. By the
    /// standby itself, or by its template, also before it is listed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn withdraw_standby(&self, standby: Owner) -> Result<bool, Error> {
        // As a claimer does it, with itself as the parent: one of them comes first.
        let parent = self.word(standby.field(slot::PARENT))?;
        Ok(parent.compare_exchange(0, u64::from(standby.word()), Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Makes a standby of this template a child of this process, if there is one. It runs once [`Self::assign`] says what.
    ///
    /// # Errors
    /// [`Error::NoSlot`] when this process cannot get a place.
    pub fn claim_standby(&'static self, template: Owner, name: &str) -> Result<Option<Owner>, Error> {
        let me = u64::from(self.me()?.word());
        for index in 0..STANDBYS {
            let entry = self.word(header::STANDBYS + 8 * index)?;
            let word = entry.load(Ordering::Acquire);
            let Some(standby) = Owner::from_word(word as u32) else { continue };
            if self.word32(standby.field(slot::TEMPLATE))?.load(Ordering::Acquire) != template.word() {
                continue;
            }
            let waits = self.process(standby).is_some_and(|process| process.role == Role::Standby && process.live);
            if !waits || self.is_dead(standby) {
                continue;
            }
            let parent = self.word(standby.field(slot::PARENT))?;
            if parent.compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            point("standby.claimed");
            let _ = entry.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
            if !self.process(standby).is_some_and(|process| process.role == Role::Standby) {
                // It died, and its slot went to another, between the look and the claim.
                let _ = parent.compare_exchange(me, 0, Ordering::AcqRel, Ordering::Relaxed);
                continue;
            }
            self.become_child(standby, name)?;
            point("standby.adopted");
            return Ok(Some(standby));
        }
        Ok(None)
    }

    fn become_child(&'static self, standby: Owner, name: &str) -> Result<(), Error> {
        self.write_name(standby, name)?;
        let mut transaction = Transaction::begin(self)?;
        transaction.set(standby.field(slot::ROLE), Role::Child.code())?;
        transaction.commit()
    }

    /// Tells a claimed standby what to do; of another child, notes it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn assign(&self, standby: Owner, job: Handle) -> Result<(), Error> {
        self.word(standby.field(slot::JOB_ARENA))?.store(job.arena, Ordering::Relaxed);
        self.word(standby.field(slot::JOB_OFFSET))?.store(job.offset, Ordering::Relaxed);
        // Release: whoever sees the generation, which is never zero, sees the rest.
        let assigned = self.word32(standby.field(slot::JOB_GENERATION))?;
        assigned.store(job.generation, Ordering::Release);
        futex::wake(assigned, 1);
        Ok(())
    }

    /// In a standby: sleeps at most `bound` for a job.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn assignment_within(&self, me: Owner, bound: Duration) -> Result<Option<Handle>, Error> {
        let assigned = self.word32(me.field(slot::JOB_GENERATION))?;
        if assigned.load(Ordering::Acquire) == 0 {
            futex::wait(assigned, 0, bound);
        }
        self.assignment(me)
    }

    /// What this process was [assigned](Self::assign), if anything.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn assignment(&self, owner: Owner) -> Result<Option<Handle>, Error> {
        let generation = self.word32(owner.field(slot::JOB_GENERATION))?.load(Ordering::Acquire);
        if generation == 0 {
            return Ok(None);
        }
        let arena = self.word(owner.field(slot::JOB_ARENA))?.load(Ordering::Relaxed);
        let offset = self.word(owner.field(slot::JOB_OFFSET))?.load(Ordering::Relaxed);
        Ok(Some(Handle { arena, offset, generation }))
    }

    /// Which files the standbys of a template have as their standard streams; the template says so itself.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn set_streams(&self, template: Owner, streams: StreamsIdentity) -> Result<(), Error> {
        self.word(template.field(slot::STREAMS))?.store(streams, Ordering::Release);
        Ok(())
    }

    /// See [`Self::set_streams`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn streams(&self, template: Owner) -> Result<StreamsIdentity, Error> {
        Ok(self.word(template.field(slot::STREAMS))?.load(Ordering::Acquire))
    }
}
