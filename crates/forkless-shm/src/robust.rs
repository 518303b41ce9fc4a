//! The robust lock: one 32-bit word that names its owner.
//!
//! ```text
//! 0 | WAITERS (31) | slot generation (30..16) | slot + 1 (15..0)
//! ```
//!
//! Free: one compare-and-swap takes it, no system call. Held: the waiter spins shortly, sets WAITERS and sleeps on *two*
//! words, the lock's and the owner's liveness word, which the kernel marks when the owner dies. Every sleep is
//! bounded ([`SLICE`]): a waiter that was chosen and then killed, or that slept through a hand-over and watches a
//! previous owner, costs its successors 50 ms at most. Released by whoever calls it, owner or not, as
//! `multiprocessing.Lock` permits.
//!
//! What was tried instead: glibc's robust mutexes for the locks themselves are three times slower, cannot be
//! released by another process and restart across signals; `sem_t` never learns of a death. Figures:
//! `docs/design/robust-lock.md`.

use std::time::Duration;

use forkless_sys::atomic::{AtomicU32, Ordering};
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::SLICE;
use forkless_sys::{crash, liveness};

use crate::arena::Arena;
use crate::slot::Owner;

/// Somebody sleeps on the word, or may.
const WAITERS: u32 = 0x8000_0000;

/// Passes of the spin before the first sleep; about a microsecond.
const SPINS: u32 = forkless_sys::atomic::spins(100);

/// A lock that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// From nobody.
    Clean,
    /// From an owner who died holding it: what the lock protects may be torn.
    FromTheDead(Owner),
}

/// What one bounded attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The caller holds the lock.
    Acquired(Acquired),
    /// Not yet; look at the deadline and try again.
    Again,
    /// A signal handler ran; run what it stands for, then try again.
    Interrupted,
}

impl Arena {
    /// Takes the lock if it is free, or if its owner is dead. Never sleeps.
    pub fn try_acquire(&self, word: &AtomicU32, me: Owner) -> Option<Acquired> {
        // Acquire pairs with the release store of `release`: what the previous owner wrote is seen.
        match word.compare_exchange(0, me.word(), Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Some(Acquired::Clean),
            Err(held) => self.take_from_the_dead(word, held, me),
        }
    }

    fn take_from_the_dead(&self, word: &AtomicU32, held: u32, me: Owner) -> Option<Acquired> {
        let owner = Owner::from_word(held & !WAITERS)?;
        if !self.is_dead(owner) {
            return None;
        }
        // WAITERS is kept: others sleep on the same word, and this owner must wake them.
        let taken = word.compare_exchange(held, me.word() | WAITERS, Ordering::Acquire, Ordering::Relaxed);
        taken.ok().map(|_| Acquired::FromTheDead(owner))
    }

    /// Tries for the lock, sleeping at most `bound`.
    pub fn acquire_within(&self, word: &AtomicU32, me: Owner, bound: Duration) -> Attempt {
        for _ in 0..SPINS {
            if word.load(Ordering::Relaxed) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let held = match self.take_or_mark(word, me, 0) {
            Ok(acquired) => return Attempt::Acquired(acquired),
            Err(held) => held,
        };
        crash::point("lock.waits");
        match self.sleep(word, held, bound) {
            Woken::Interrupted => Attempt::Interrupted,
            // Others may sleep still, and the release that woke this one has cleared the mark: it is set again, by who
            // takes the lock and by who is overtaken.
            Woken::TimedOut | Woken::Look => {
                self.take_or_mark(word, me, WAITERS).map_or(Attempt::Again, Attempt::Acquired)
            }
        }
    }

    /// Takes the lock, with what `others` says of them, or marks it; then it is held as returned.
    fn take_or_mark(&self, word: &AtomicU32, me: Owner, others: u32) -> Result<Acquired, u32> {
        let mut held = word.load(Ordering::Relaxed);
        loop {
            if held & !WAITERS == 0 {
                match word.compare_exchange(held, me.word() | held | others, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Ok(Acquired::Clean),
                    Err(now) => held = now,
                }
                continue;
            }
            if let Some(acquired) = self.take_from_the_dead(word, held, me) {
                return Ok(acquired);
            }
            if held & WAITERS != 0 {
                return Err(held);
            }
            match word.compare_exchange(held, held | WAITERS, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Err(held | WAITERS),
                Err(now) => held = now,
            }
        }
    }

    /// Sleeps while the word is held as seen and its owner lives.
    fn sleep(&self, word: &AtomicU32, held: u32, bound: Duration) -> Woken {
        let bound = bound.min(SLICE);
        let owner = Owner::from_word(held & !WAITERS);
        match owner.and_then(|owner| self.liveness(owner)) {
            Some(live) => {
                let seen = live.load(Ordering::Acquire);
                if seen == 0 {
                    return futex::wait(word, held, bound);
                }
                if liveness::died(seen) {
                    return Woken::Look;
                }
                let woken = futex::wait_either((word, held), (live, seen), bound);
                if liveness::died(live.load(Ordering::Acquire)) {
                    // The kernel woke one sleeper; the others watch the same word.
                    futex::wake(live, futex::ALL);
                }
                woken
            }
            None => futex::wait(word, held, bound),
        }
    }

    /// Takes a lock of ours that is held for microseconds only, whatever signals arrive.
    pub(crate) fn acquire_internal(&self, word: &AtomicU32, me: Owner) -> Acquired {
        if let Some(acquired) = self.try_acquire(word, me) {
            return acquired;
        }
        loop {
            if let Attempt::Acquired(acquired) = self.acquire_within(word, me, SLICE) {
                return acquired;
            }
        }
    }

    /// Gives the lock back and wakes one waiter. `false` if it was not held.
    pub fn release(&self, word: &AtomicU32) -> bool {
        // Release pairs with the acquire of the next taker.
        let held = word.swap(0, Ordering::Release);
        crash::point("lock.released");
        if held & WAITERS != 0 {
            futex::wake(word, 1);
        }
        held & !WAITERS != 0
    }
}

/// Whether the word is held, and by whom.
#[must_use]
pub fn holder(word: &AtomicU32) -> Option<Owner> {
    Owner::from_word(word.load(Ordering::Relaxed) & !WAITERS)
}
