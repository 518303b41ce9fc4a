//! An event: set once, seen by all.

use std::time::Duration;

use forkless_shm::{Arena, Error, Handle, Lease};
use forkless_sys::atomic::{AtomicU32, Ordering};
use forkless_sys::crash;
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::{Deadline, SLICE};

use crate::until;

const SET: u32 = 1;
const WAITERS: u32 = 2;
/// The bits above count how often it was set, so that a waiter sees a set that was cleared before it woke.
const EPOCH: u32 = 4;

/// A flag in shared memory that processes wait for. One word:
///
/// ```text
/// epoch (31..2) | WAITERS (1) | SET (0)
/// ```
#[derive(Debug)]
pub struct Event {
    lease: Lease,
}

/// When a wait began: the event's epoch then.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(u32);

impl Event {
    /// The kind of its block.
    pub const KIND: u8 = 2;
    /// More than its word, so that it has a cache line of its own.
    const SIZE: usize = 40;

    /// A new event, not set.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena) -> Result<Self, Error> {
        let lease = arena.allocate(Self::SIZE, Self::KIND)?;
        if !arena.map().write(lease.block().payload(), &[0; Self::SIZE]) {
            return Err(Error::Corrupt("a new event"));
        }
        Ok(Self { lease })
    }

    /// The event that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        Ok(Self { lease: arena.open(handle, Self::KIND)? })
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    fn word(&self) -> Result<&AtomicU32, Error> {
        self.lease.arena().map().u32(self.lease.payload()?).ok_or(Error::Corrupt("an event"))
    }

    /// Whether it is set.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn is_set(&self) -> Result<bool, Error> {
        Ok(self.word()?.load(Ordering::Acquire) & SET != 0)
    }

    /// Sets it and wakes everyone who waits. What was written before is seen by whoever sees it set.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn set(&self) -> Result<(), Error> {
        let word = self.word()?;
        // Stored also where it is set already. A mere look could overtake what was written before: the event would be
        // cleared between the two, and neither seen.
        let before = word.fetch_update(Ordering::Release, Ordering::Relaxed, |now| {
            Some(if now & SET == 0 { (now & !WAITERS).wrapping_add(EPOCH) | SET } else { now })
        });
        crash::point("event.set");
        if before.is_ok_and(|before| before & WAITERS != 0) {
            futex::wake(word, futex::ALL);
        }
        Ok(())
    }

    /// Clears it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn clear(&self) -> Result<(), Error> {
        self.word()?.fetch_and(!SET, Ordering::AcqRel);
        Ok(())
    }

    /// Begins a wait: it ends if the event is set now or at any time from now on, even if cleared at once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn ticket(&self) -> Result<Ticket, Error> {
        let now = self.word()?.load(Ordering::Acquire);
        // Set now: as if it had been set after a ticket of the epoch before.
        Ok(Ticket((now / EPOCH).wrapping_sub(now & SET) & (u32::MAX / EPOCH)))
    }

    /// Whether it is set or has been since the ticket.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn passed(&self, ticket: Ticket) -> Result<bool, Error> {
        let now = self.word()?.load(Ordering::Acquire);
        Ok(now & SET != 0 || now / EPOCH != ticket.0)
    }

    /// Waits, at most `bound` (and at most 50 ms). `Some`: it was set, or a signal handler ran (then `Interrupted`).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn wait_within(&self, ticket: Ticket, bound: Duration) -> Result<Option<Woken>, Error> {
        let word = self.word()?;
        let now = word.load(Ordering::Acquire);
        if now & SET != 0 || now / EPOCH != ticket.0 {
            return Ok(Some(Woken::Look));
        }
        if now & WAITERS == 0
            && word.compare_exchange(now, now | WAITERS, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return Ok(None);
        }
        match futex::wait(word, now | WAITERS, bound.min(SLICE)) {
            Woken::Interrupted => Ok(Some(Woken::Interrupted)),
            Woken::Look | Woken::TimedOut => Ok(self.passed(ticket)?.then_some(Woken::Look)),
        }
    }

    /// Waits until it is set or the deadline passes; whether it was set.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn wait(&self, deadline: Deadline) -> Result<bool, Error> {
        let ticket = self.ticket()?;
        let set = until(deadline, |bound| Ok(self.wait_within(ticket, bound)?.filter(|woken| *woken == Woken::Look)))?;
        Ok(set.is_some())
    }
}
