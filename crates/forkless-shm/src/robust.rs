//! The robust lock: one 32-bit word that names its owner.
//!
//! ```text
//! 0 | WAITERS (31) | slot generation (30..16) | HANDOVER (15) | slot + 1 (14..0)
//! ```
//!
//! Free: one compare-and-swap takes it, no system call. Held: the waiter spins shortly, sets WAITERS and sleeps on *two*
//! words, the lock's and the owner's liveness word, which the kernel marks when the owner dies. Every sleep is
//! bounded ([`SLICE`]): a waiter that was chosen and then killed, or that slept through a hand-over and watches a
//! previous owner, costs its successors 50 ms at most. Released by whoever calls it, owner or not, as
//! `multiprocessing.Lock` permits.
//!
//! Whoever comes while the lock is free takes it, even if somebody is just waking up for it: a queue would cost a switch of
//! processes for each turn. A waiter that has waited for [`PATIENCE`] sets HANDOVER. Then the next release does not free the
//! lock: it leaves the word WAITERS alone, set aside for those that have slept for it, one of which it wakes. So nobody
//! waits for much longer than that times the number of waiters. (The idea is that of "eventual fairness" in WebKit's and
//! Rust's `parking_lot`, and of the handoff bit of Linux's mutex.) Should the woken one die, any other that has slept its
//! 50 ms takes its place.
//!
//! What was tried instead: glibc's robust mutexes for the locks themselves are three times slower, cannot be
//! released by another process and restart across signals; `sem_t` never learns of a death. Figures:
//! `docs/design/robust-lock.md`.

use std::time::{Duration, Instant};

use forkless_sys::atomic::{AtomicU32, Ordering};
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::SLICE;
use forkless_sys::{AsFd, crash, liveness, proc, process};

use crate::arena::Arena;
use crate::layout::SLOTS;
use crate::slot::Owner;

/// Somebody sleeps on the word, or may. By itself: the lock is free, and set aside for those that have slept.
const WAITERS: u32 = 0x8000_0000;
/// Somebody has waited for long: the next release sets the lock aside.
const HANDOVER: u32 = 0x8000;
const FLAGS: u32 = WAITERS | HANDOVER;

const SIGCONT: i32 = 18;

const _: () = assert!(SLOTS < HANDOVER as usize);

/// How long a waiter lets others overtake it; parking_lot hands over after half of that on average.
const PATIENCE: Duration = Duration::from_millis(1);

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

/// One wait for a lock, from its first attempt to its last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    began: Option<Instant>,
    slept: bool,
}

impl Wait {
    /// A wait that begins.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it has slept: then it may take what is set aside.
    #[must_use]
    pub fn has_slept(&self) -> bool {
        self.slept
    }

    /// Notes that it sleeps now, for this long at most. Who does not mean to wait comes before nobody.
    pub fn sleeps(&mut self, bound: Duration) {
        self.slept |= !bound.is_zero();
    }

    /// Whether it has lasted so long that it is served next. To be asked before each sleep.
    #[must_use]
    pub fn is_long(&mut self) -> bool {
        let began = *self.began.get_or_insert_with(Instant::now);
        // A model has no clock: there, patience is over with the first sleep.
        if cfg!(loom) { self.slept } else { self.slept && began.elapsed() > PATIENCE }
    }
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
        self.acquire_free(word, me).or_else(|| {
            // Set aside: for whoever waits, and this one does not. Others would wait for the first who does.
            let taken = word.compare_exchange(WAITERS, me.word() | WAITERS, Ordering::Acquire, Ordering::Relaxed);
            taken.ok().map(|_| Acquired::Clean)
        })
    }

    /// As [`Self::try_acquire`], but leaves alone what is set aside: the first step of a wait.
    #[inline]
    pub fn acquire_free(&self, word: &AtomicU32, me: Owner) -> Option<Acquired> {
        // Acquire pairs with the release store of `release`: what the previous owner wrote is seen.
        match word.compare_exchange(0, me.word(), Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Some(Acquired::Clean),
            Err(held) => self.take_from_the_dead(word, held, me),
        }
    }

    fn take_from_the_dead(&self, word: &AtomicU32, held: u32, me: Owner) -> Option<Acquired> {
        let owner = match Owner::from_word(held & !FLAGS) {
            Some(owner) if self.is_dead(owner) => owner,
            // Damaged: held by nobody that can be, and so by nobody who would ever give it back.
            None if held & !WAITERS != 0 => Owner::LONG_GONE,
            _ => return None,
        };
        // WAITERS is kept: others sleep on the same word, and this owner must wake them.
        let taken = word.compare_exchange(held, me.word() | WAITERS, Ordering::Acquire, Ordering::Relaxed);
        taken.ok().map(|_| Acquired::FromTheDead(owner))
    }

    /// Tries for the lock, sleeping at most `bound`.
    pub fn acquire_within(&self, word: &AtomicU32, me: Owner, wait: &mut Wait, bound: Duration) -> Attempt {
        for _ in 0..SPINS {
            if word.load(Ordering::Relaxed) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let held = match self.take_or_mark(word, me, wait) {
            Ok(acquired) => return Attempt::Acquired(acquired),
            Err(held) => held,
        };
        crash::point("lock.waits");
        wait.sleeps(bound);
        let woken = self.sleep(word, held, bound);
        crash::point("lock.woken");
        match woken {
            Woken::Interrupted => Attempt::Interrupted,
            Woken::TimedOut | Woken::Look => {
                self.take_or_mark(word, me, wait).map_or(Attempt::Again, Attempt::Acquired)
            }
        }
    }

    /// Takes the lock, or marks that somebody sleeps; then it is held, or set aside, as returned.
    fn take_or_mark(&self, word: &AtomicU32, me: Owner, wait: &mut Wait) -> Result<Acquired, u32> {
        // Others may sleep still, and the release that woke this one has cleared the mark: it is set again, by who takes
        // the lock and by who is overtaken.
        let others = if wait.slept { WAITERS } else { 0 };
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let is_free = seen == 0 || seen == WAITERS && wait.slept;
            let next = if is_free {
                me.word() | others
            } else if let Some(acquired) = self.take_from_the_dead(word, seen, me) {
                return Ok(acquired);
            } else {
                let handover = if seen != WAITERS && wait.is_long() { HANDOVER } else { 0 };
                seen | WAITERS | handover
            };
            match word.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if is_free => return Ok(Acquired::Clean),
                Ok(_) => return Err(next),
                Err(now) => seen = now,
            }
        }
    }

    /// Sleeps while the word is held as seen and its owner lives.
    fn sleep(&self, word: &AtomicU32, held: u32, bound: Duration) -> Woken {
        let bound = bound.min(SLICE);
        let owner = Owner::from_word(held & !FLAGS);
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

    /// Takes a lock of ours that is held for microseconds only, whatever signals arrive. If its holder was stopped in the middle
    /// of them, it is told to go on: whoever is to let it go on may be waiting here.
    pub fn acquire_internal(&self, word: &AtomicU32, me: Owner) -> Acquired {
        if let Some(acquired) = self.try_acquire(word, me) {
            return acquired;
        }
        let mut wait = Wait::new();
        loop {
            if let Attempt::Acquired(acquired) = self.acquire_within(word, me, &mut wait, SLICE) {
                return acquired;
            }
            self.let_go_on(word);
        }
    }

    /// Has the holder of a lock go on, if SIGSTOP or a terminal has stopped it. What a debugger has stopped is left alone.
    pub fn let_go_on(&self, word: &AtomicU32) {
        if cfg!(loom) {
            return;
        }
        let Some(owner) = holder(word) else { return };
        let pid = self.pid_word(owner).map_or(0, |pid| pid.load(Ordering::Acquire));
        if !proc::is_stopped(pid) {
            return;
        }
        if let Ok(process) = process::open(pid)
            && holder(word) == Some(owner)
            && !self.is_dead(owner)
        {
            let _ = process::send_signal(process.as_fd(), SIGCONT);
        }
    }

    /// Gives the lock back and wakes one waiter. `false` if it was not held.
    pub fn release(&self, word: &AtomicU32) -> bool {
        let mut held = word.load(Ordering::Relaxed);
        loop {
            if held & !FLAGS == 0 {
                return false;
            }
            let next = if held & HANDOVER != 0 { WAITERS } else { 0 };
            // Release pairs with the acquire of the next taker.
            match word.compare_exchange(held, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => held = now,
            }
        }
        crash::point("lock.released");
        if held & WAITERS != 0 {
            futex::wake(word, 1);
        }
        true
    }
}

/// Whether the word is held, and by whom.
#[must_use]
pub fn holder(word: &AtomicU32) -> Option<Owner> {
    holder_of(word.load(Ordering::Relaxed))
}

/// The same of a word that was read.
#[must_use]
pub fn holder_of(word: u32) -> Option<Owner> {
    Owner::from_word(word & !FLAGS)
}
