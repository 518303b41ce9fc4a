//! A condition variable: who waits, in which order, and who of them has been notified.
//!
//! Each waiter has an entry in a table in shared memory and sleeps on its own word there, so that a notification goes to
//! exactly one waiter, the one that has waited longest:
//!
//! ```text
//! entry: +0 state (futex): free, WAITING or NOTIFIED   +4 owner word of the process   +8 ticket, the order
//! ```
//!
//! The condition variable knows no lock. Like that of POSIX it lives beside one, which its users hold when they
//! [enter](Condvar::enter) and [leave](Condvar::leave), and give back while they wait in between. What happens without
//! the lock are single steps on one entry: so whoever [notifies](Condvar::notify) need not hold it.
//!
//! A dead waiter's entry is passed over. If it had been notified already and died before it left, the notification is
//! still in its entry; whoever waits looks for such an entry after each 50 ms and takes it over, so none is lost.
//!
//! What was tried instead: a sequence number to sleep on (as in musl and Rust's standard library) is one word and never
//! loses a wake-up, but `notify(1)` then wakes everyone who is not asleep yet, and a dead waiter's notification
//! is gone.

use std::time::Duration;

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Arena, Error, Handle, Kind, Lease, Owner};
use forkless_sys::atomic::{AtomicU32, AtomicU64, Ordering};
use forkless_sys::crash::point;
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::SLICE;

/// u64: the next ticket.
const TICKETS: usize = 0;
/// u64 each: further tables, 0 for none yet.
const MORE: usize = 8;
/// How many entries each of them has: blocks of 4, 64 and 1024 KiB.
const MORE_ENTRIES: [usize; 3] = [252, 4092, 65_532];
/// The first table.
const ENTRIES: usize = 32;
const FIRST_ENTRIES: usize = 13;
const SIZE: usize = ENTRIES + FIRST_ENTRIES * entry::SIZE;

/// Fields of an entry.
mod entry {
    pub(super) const STATE: usize = 0;
    pub(super) const OWNER: usize = 4;
    pub(super) const TICKET: usize = 8;
    pub(super) const SIZE: usize = 16;
}

const FREE: u32 = 0;
const WAITING: u32 = 1;
const NOTIFIED: u32 = 2;

/// How condition variables are taken apart: they let go their further tables.
pub(crate) const KIND: Kind = Kind { id: Condvar::KIND, drain: Some(drain), settle: None, private: false };

/// Lets processes that hold a lock wait until another one tells them that something has changed.
#[derive(Debug)]
pub struct Condvar {
    lease: Lease,
}

/// One wait, from [`Condvar::enter`] to [`Condvar::leave`].
#[derive(Debug)]
#[must_use]
pub struct Waiter {
    /// Where its entry is.
    at: usize,
}

impl Condvar {
    /// The kind of its block.
    pub const KIND: u8 = 9;

    /// A new condition variable that nobody waits for.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena) -> Result<Self, Error> {
        let lease = arena.allocate(SIZE, PLAIN)?;
        if !arena.map().write(lease.block().payload(), &[0; SIZE]) {
            return Err(Error::Corrupt("a new condition"));
        }
        lease.set_kind(Self::KIND)?;
        Ok(Self { lease })
    }

    /// The condition variable that a handle names.
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

    /// Becomes a waiter. The caller holds the lock, and gives it back next.
    ///
    /// # Errors
    /// [`Error::Full`] beyond 69,889 waiters; see [`Arena::allocate`].
    pub fn enter(&self) -> Result<Waiter, Error> {
        let arena = self.lease.arena();
        let me = arena.me()?;
        let at = match self.claim(me)? {
            Some(at) => at,
            None => {
                self.sweep()?;
                match self.claim(me)? {
                    Some(at) => at,
                    None => {
                        self.extend()?;
                        self.claim(me)?.ok_or(Error::Full { bytes: entry::SIZE, size: arena.size() })?
                    }
                }
            }
        };
        point("condition.claimed");
        let tickets = self.u64(self.lease.payload()? + TICKETS)?;
        self.u64(at + entry::TICKET)?.store(tickets.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        // Release: the ticket is there before the state says so.
        self.u32(at + entry::STATE)?.store(WAITING, Ordering::Release);
        point("condition.entered");
        Ok(Waiter { at })
    }

    /// Sleeps, at most `bound` (and at most 50 ms). `Some(Look)`: there is a reason to take the lock and
    /// [leave](Self::leave); `Some(Interrupted)`: a signal handler ran.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn wait_within(&self, waiter: &Waiter, bound: Duration) -> Result<Option<Woken>, Error> {
        let state = self.u32(waiter.at + entry::STATE)?;
        let woken = futex::wait(state, WAITING, bound.min(SLICE));
        if state.load(Ordering::Acquire) == NOTIFIED {
            return Ok(Some(Woken::Look));
        }
        Ok(match woken {
            Woken::Interrupted => Some(Woken::Interrupted),
            Woken::Look => None,
            Woken::TimedOut => self.orphan()?.map(|_| Woken::Look),
        })
    }

    /// Ends a wait; whether it was notified. The caller holds the lock again.
    ///
    /// A waiter that does not want the notification after all, because an exception is on its way, passes it on:
    /// `notify(1)`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn leave(&self, waiter: Waiter) -> Result<bool, Error> {
        let notified = self.free(waiter.at)? == NOTIFIED || self.take_orphan()?;
        point("condition.left");
        Ok(notified)
    }

    /// Whether to leave: the waiter is notified, or could take over a dead one's notification. The caller holds the
    /// lock.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn should_leave(&self, waiter: &Waiter) -> Result<bool, Error> {
        let state = self.u32(waiter.at + entry::STATE)?.load(Ordering::Acquire);
        Ok(state == NOTIFIED || self.orphan()?.is_some())
    }

    /// Notifies up to `count` waiters, those first that have waited longest; how many there were. With the lock held,
    /// these are all that wait; without it, one that leaves meanwhile may make room for another.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn notify(&self, count: usize) -> Result<usize, Error> {
        let mut waiting = Vec::new();
        for at in self.entries()? {
            let at = at?;
            if self.u32(at + entry::STATE)?.load(Ordering::Acquire) == WAITING && !self.is_dead(at)? {
                waiting.push((self.u64(at + entry::TICKET)?.load(Ordering::Relaxed), at));
            }
        }
        waiting.sort_unstable();
        let mut notified = 0;
        for (_, at) in waiting {
            if notified == count {
                break;
            }
            let state = self.u32(at + entry::STATE)?;
            if state.compare_exchange(WAITING, NOTIFIED, Ordering::Release, Ordering::Relaxed).is_ok() {
                point("condition.notified");
                futex::wake(state, 1);
                notified += 1;
            }
        }
        Ok(notified)
    }

    /// How many wait and have not been notified.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn waiting(&self) -> Result<usize, Error> {
        let mut count = 0;
        for at in self.entries()? {
            let at = at?;
            let waits = self.u32(at + entry::STATE)?.load(Ordering::Acquire) == WAITING;
            count += usize::from(waits && !self.is_dead(at)?);
        }
        Ok(count)
    }

    /// A free entry, now of this process.
    fn claim(&self, me: Owner) -> Result<Option<usize>, Error> {
        for at in self.entries()? {
            let at = at?;
            let owner = self.u32(at + entry::OWNER)?;
            if owner.compare_exchange(0, me.word(), Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Frees the entries of dead waiters that were not notified.
    fn sweep(&self) -> Result<(), Error> {
        for at in self.entries()? {
            let at = at?;
            let state = self.u32(at + entry::STATE)?;
            let before = state.load(Ordering::Acquire);
            // A notifier that saw it alive may be faster: then its notification is there for another waiter.
            if before != NOTIFIED
                && self.is_dead(at)?
                && state.compare_exchange(before, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                self.disclaim(at)?;
            }
        }
        Ok(())
    }

    /// The entry of a waiter that died notified.
    fn orphan(&self) -> Result<Option<usize>, Error> {
        for at in self.entries()? {
            let at = at?;
            if self.u32(at + entry::STATE)?.load(Ordering::Acquire) == NOTIFIED && self.is_dead(at)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn take_orphan(&self) -> Result<bool, Error> {
        match self.orphan()? {
            Some(at) => Ok(self.free(at)? == NOTIFIED),
            None => Ok(false),
        }
    }

    /// Makes an entry anybody's; its state before.
    fn free(&self, at: usize) -> Result<u32, Error> {
        let before = self.u32(at + entry::STATE)?.swap(FREE, Ordering::AcqRel);
        self.disclaim(at)?;
        Ok(before)
    }

    fn disclaim(&self, at: usize) -> Result<(), Error> {
        // Release: whoever claims it finds the state free.
        self.u32(at + entry::OWNER)?.store(0, Ordering::Release);
        Ok(())
    }

    fn is_dead(&self, at: usize) -> Result<bool, Error> {
        let owner = Owner::from_word(self.u32(at + entry::OWNER)?.load(Ordering::Acquire));
        Ok(owner.is_some_and(|owner| self.lease.arena().is_dead(owner)))
    }

    /// Adds a table. The caller holds the lock.
    fn extend(&self) -> Result<(), Error> {
        let arena = self.lease.arena();
        for (index, entries) in MORE_ENTRIES.into_iter().enumerate() {
            let link = self.lease.payload()? + MORE + 8 * index;
            if self.u64(link)?.load(Ordering::Acquire) != 0 {
                continue;
            }
            let table = arena.allocate(entries * entry::SIZE, PLAIN)?;
            if !arena.map().write(table.block().payload(), &vec![0; entries * entry::SIZE]) {
                return Err(Error::Corrupt("a new table of waiters"));
            }
            return table.entrust(&[(link, table.block().offset() as u64)]);
        }
        Ok(())
    }

    /// Where the entries are.
    fn entries(&self) -> Result<impl Iterator<Item = Result<usize, Error>>, Error> {
        let at = self.lease.payload()?;
        let first = (0..FIRST_ENTRIES).map(move |index| Ok(at + ENTRIES + index * entry::SIZE));
        let more = MORE_ENTRIES.into_iter().enumerate().flat_map(move |(index, entries)| {
            let table = self.table(at + MORE + 8 * index);
            let (table, failed) = match table {
                Ok(table) => (table, None),
                Err(error) => (None, Some(Err(error))),
            };
            let entries =
                table.into_iter().flat_map(move |table| (0..entries).map(move |n| Ok(table + n * entry::SIZE)));
            failed.into_iter().chain(entries)
        });
        Ok(first.chain(more))
    }

    /// Where the entries of a further table begin.
    fn table(&self, link: usize) -> Result<Option<usize>, Error> {
        match self.u64(link)?.load(Ordering::Acquire) as usize {
            0 => Ok(None),
            table => Ok(Some(self.lease.arena().block(table)?.payload())),
        }
    }

    fn u32(&self, at: usize) -> Result<&AtomicU32, Error> {
        self.lease.arena().map().u32(at).ok_or(Error::Corrupt("a condition"))
    }

    fn u64(&self, at: usize) -> Result<&AtomicU64, Error> {
        self.lease.arena().map().u64(at).ok_or(Error::Corrupt("a condition"))
    }
}

fn drain(arena: &'static Arena, condvar: Block) -> Result<usize, Error> {
    for index in 0..MORE_ENTRIES.len() {
        let link = condvar.payload() + MORE + 8 * index;
        let table = arena.map().u64(link).ok_or(Error::Corrupt("a condition"))?.load(Ordering::Acquire) as usize;
        if table != 0 {
            drop(Lease::adopt(arena, arena.block(table)?, (link, 0))?);
        }
    }
    Ok(0)
}
