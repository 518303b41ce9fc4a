//! A semaphore that gets back what a dead process held of it.
//!
//! One double word is the semaphore:
//!
//! ```text
//! held changes so far (63..32) | WAITERS (31) | value (30..0)
//! ```
//!
//! A token that is merely *acquired* belongs to nobody: another process may release it, as between a producer and a
//! consumer, so taking it needs one compare-and-swap and leaves no trace. A token that is *held* ([`Semaphore::hold`],
//! Python's `with`) comes back when its process dies. How many a process holds is written in a *hold*, a block of its
//! own that only this process leases: the cleaner lets the lease go, and taking the hold apart gives the tokens back.
//!
//! The value and the count in the hold cannot change in one instant. So whoever changes both takes a robust lock, writes
//! the new count into a log of one entry, and then changes value and number of held changes by one store: the
//! commit. Whoever takes the lock from a dead owner compares the log with that number and knows which count is
//! right. Mere acquiring and releasing change the value meanwhile, without the lock, and keep the number.
//!
//! Whoever comes while there is a token takes it, as with the [robust lock](forkless_shm::robust); and as there, a waiter that
//! has waited for long has the next tokens set aside for those that have slept, until one of them has got one.

use std::sync::OnceLock;
use std::time::Duration;

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Acquired, Arena, Attempt, Error, Handle, Kind, Lease, Owner, Wait};
use forkless_sys::atomic::{AtomicU32, AtomicU64, Ordering};
use forkless_sys::crash::point;
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::{Deadline, SLICE};

use crate::turn::Turn;
use crate::until;

/// Somebody sleeps on the word, or may.
pub(crate) const WAITERS: u32 = 0x8000_0000;
/// Passes of the spin before the first sleep.
const SPINS: u32 = forkless_sys::atomic::spins(100);

/// u64, see above; the low half is the futex.
pub(crate) const WORD: usize = 0;
/// u32: the lock of held changes.
const LOCK: usize = 8;
/// u32: the largest value.
const MAX: usize = 12;
/// u64: 0, or `LOGGED` and the number of held changes that the entry belongs to.
const LOG: usize = 16;
/// u64: the hold's payload.
const LOG_HOLD: usize = 24;
/// u64: what the hold will count.
const LOG_COUNT: usize = 32;
/// u32: 1 while tokens are set aside for those that have slept; those that have not sleep on it.
const ASIDE: usize = 40;
const SIZE: usize = 48;
const LOGGED: u64 = 1 << 32;

/// Fields of a hold.
mod hold {
    /// u64: the semaphore's block.
    pub(super) const SEMAPHORE: usize = 0;
    /// u64: tokens held.
    pub(super) const COUNT: usize = 8;
    pub(super) const SIZE: usize = 16;
    pub(super) const KIND: u8 = 8;
}

/// How holds are taken apart: they give back what they count.
pub(crate) const HOLD: Kind = Kind { id: hold::KIND, drain: Some(drain), settle: None, private: true };

/// Counts tokens in shared memory: acquiring takes one and waits for it, releasing adds one.
#[derive(Debug)]
pub struct Semaphore {
    lease: Lease,
    hold: OnceLock<Hold>,
}

/// What this process holds through one `Semaphore`.
#[derive(Debug)]
struct Hold {
    lease: Lease,
    owner: Owner,
}

/// What [`Semaphore::release`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Released {
    /// There is one token more.
    Released,
    /// There would have been more than the semaphore may have; nothing has changed.
    TooMany,
}

impl Semaphore {
    /// The kind of its block.
    pub const KIND: u8 = 7;
    /// The largest value there can be.
    pub const MAX_VALUE: u32 = i32::MAX as u32;

    /// A new semaphore with `value` tokens, which may become `max`.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena, value: u32, max: u32) -> Result<Self, Error> {
        let lease = arena.allocate(SIZE, Self::KIND)?;
        let words = Words { arena, at: lease.block().payload() };
        if !arena.map().write(words.at, &[0; SIZE]) {
            return Err(Error::Corrupt("a new semaphore"));
        }
        words.u32(MAX)?.store(max.min(Self::MAX_VALUE), Ordering::Relaxed);
        words.u64(WORD)?.store(u64::from(value.min(max)), Ordering::Release);
        Ok(Self { lease, hold: OnceLock::new() })
    }

    /// The semaphore that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        Ok(Self { lease: arena.open(handle, Self::KIND)?, hold: OnceLock::new() })
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    fn words(&self) -> Result<Words, Error> {
        Ok(Words { arena: self.lease.arena(), at: self.lease.payload()? })
    }

    /// Tokens there are now.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn value(&self) -> Result<u32, Error> {
        Ok(self.words()?.u64(WORD)?.load(Ordering::Relaxed) as u32 & !WAITERS)
    }

    /// The most tokens there may be.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn max(&self) -> Result<u32, Error> {
        Ok(self.words()?.u32(MAX)?.load(Ordering::Relaxed))
    }

    /// Takes a token if there is one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn try_acquire(&self) -> Result<bool, Error> {
        Ok(self.words()?.take(None, 0)?.is_some())
    }

    /// As [`Self::try_acquire`], for a caller that waits if it comes to nothing: overtakes nobody who has waited for long.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn acquire_free(&self) -> Result<bool, Error> {
        self.words()?.take_free(None)
    }

    /// Tries for a token, sleeping at most `bound` (and at most 50 ms); a step of a longer wait.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn acquire_within(&self, wait: &mut Wait, bound: Duration) -> Result<Attempt, Error> {
        self.words()?.take_within(None, wait, bound)
    }

    /// Waits for a token until the deadline; whether it came.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn acquire(&self, deadline: Deadline) -> Result<bool, Error> {
        Ok(self.acquire_free()? || wait(deadline, |wait, bound| self.acquire_within(wait, bound))?)
    }

    /// Adds a token and wakes one waiter.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn release(&self) -> Result<Released, Error> {
        let given = self.words()?.give(None, |_| 1)?;
        Ok(if given { Released::Released } else { Released::TooMany })
    }

    /// As [`Self::try_acquire`], for a token that comes back if this process dies.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn try_hold(&self) -> Result<bool, Error> {
        Ok(self.words()?.take(self.hold_at()?, 0)?.is_some())
    }

    /// As [`Self::acquire_free`], for a token that comes back if this process dies.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn hold_free(&self) -> Result<bool, Error> {
        self.words()?.take_free(self.hold_at()?)
    }

    /// As [`Self::acquire_within`], for a token that comes back if this process dies.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn hold_within(&self, wait: &mut Wait, bound: Duration) -> Result<Attempt, Error> {
        self.words()?.take_within(self.hold_at()?, wait, bound)
    }

    /// As [`Self::acquire`], for a token that comes back if this process dies.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn hold(&self, deadline: Deadline) -> Result<bool, Error> {
        Ok(self.hold_free()? || wait(deadline, |wait, bound| self.hold_within(wait, bound))?)
    }

    /// Gives back a token that is [held](Self::hold) and wakes one waiter.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn release_held(&self) -> Result<Released, Error> {
        let given = self.words()?.give(self.hold_at()?, |_| 1)?;
        Ok(if given { Released::Released } else { Released::TooMany })
    }

    /// Forgets a token that is [held](Self::hold): from now on it belongs to nobody and comes back from nowhere.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn forget_held(&self) -> Result<(), Error> {
        if let Some(hold) = self.hold_at()? {
            self.words()?.change_held(hold, |count| (count.saturating_sub(1), Some))?;
        }
        Ok(())
    }

    /// This process's hold, made when first needed. `None` in a child that user code forked: the object it inherited
    /// keeps its parent's accounts.
    fn hold_at(&self) -> Result<Option<usize>, Error> {
        let arena = self.lease.arena();
        let me = arena.me()?;
        if self.hold.get().is_none() {
            let lease = arena.allocate(hold::SIZE, PLAIN)?;
            let at = lease.block().payload();
            if !arena.map().write(at, &[0; hold::SIZE]) {
                return Err(Error::Corrupt("a new hold"));
            }
            lease.set_kind(hold::KIND)?;
            self.lease.entrust(&[(at + hold::SEMAPHORE, self.lease.block().offset() as u64)])?;
            // Of two threads that get here, one drops its hold, which counts nothing yet.
            let _ = self.hold.set(Hold { lease, owner: me });
        }
        Ok(self.hold.get().filter(|hold| hold.owner == me).map(|hold| hold.lease.block().payload()))
    }
}

fn wait(
    deadline: Deadline,
    mut attempt: impl FnMut(&mut Wait, Duration) -> Result<Attempt, Error>,
) -> Result<bool, Error> {
    let mut wait = Wait::new();
    let taken = until(deadline, |bound| Ok(matches!(attempt(&mut wait, bound)?, Attempt::Acquired(_)).then_some(())))?;
    Ok(taken.is_some())
}

/// A semaphore's block. `hold` arguments are the payload of a hold to keep accounts in.
#[derive(Clone, Copy)]
struct Words {
    arena: &'static Arena,
    at: usize,
}

impl Words {
    fn u64(self, field: usize) -> Result<&'static AtomicU64, Error> {
        u64_at(self.arena, self.at + field)
    }

    fn u32(self, field: usize) -> Result<&'static AtomicU32, Error> {
        self.arena.map().u32(self.at + field).ok_or(Error::Corrupt("a semaphore"))
    }

    /// Takes a token; how many are left. With `WAITERS` in `others`, more may be asleep.
    fn take(self, hold: Option<usize>, others: u32) -> Result<Option<u32>, Error> {
        let less = |low: u32| (low & !WAITERS != 0).then(|| (low - 1) | others);
        // Acquire pairs with the release in `give`.
        let before = match hold {
            None => change(self.u64(WORD)?, 0, less),
            // A look before the lock: most waiting is done here.
            Some(_) if self.u64(WORD)?.load(Ordering::Relaxed) as u32 & !WAITERS == 0 => None,
            Some(hold) => self.change_held(hold, |count| (count + 1, less))?,
        };
        Ok(before.map(|low| (low & !WAITERS) - 1))
    }

    fn take_free(self, hold: Option<usize>) -> Result<bool, Error> {
        Ok(self.u32(ASIDE)?.load(Ordering::Relaxed) == 0 && self.take(hold, 0)?.is_some())
    }

    fn take_within(self, hold: Option<usize>, wait: &mut Wait, bound: Duration) -> Result<Attempt, Error> {
        const TAKEN: Attempt = Attempt::Acquired(Acquired::Clean);
        let (word, aside) = (self.u64(WORD)?, self.u32(ASIDE)?);
        for _ in 0..SPINS {
            if word.load(Ordering::Relaxed) as u32 & !WAITERS != 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let taken = if wait.has_slept() { self.take(hold, 0)?.is_some() } else { self.take_free(hold)? };
        if taken {
            self.end_setting_aside(wait)?;
            return Ok(TAKEN);
        }
        if !self.mark()? {
            // There are tokens: set aside, or new.
            if wait.has_slept() || aside.load(Ordering::Relaxed) == 0 {
                return Ok(Attempt::Again);
            }
            wait.sleeps(bound);
            let woken = futex::wait(aside, 1, bound.min(SLICE));
            return Ok(if woken == Woken::Interrupted { Attempt::Interrupted } else { Attempt::Again });
        }
        if wait.is_long() {
            aside.store(1, Ordering::Relaxed);
        }
        wait.sleeps(bound);
        if futex::wait(self.u32(WORD)?, WAITERS, bound.min(SLICE)) == Woken::Interrupted {
            return Ok(Attempt::Interrupted);
        }
        // Others may sleep still, and the release that woke this one has cleared the mark: it is set again, by who takes a
        // token and by who is overtaken.
        loop {
            if let Some(left) = self.take(hold, WAITERS)? {
                self.end_setting_aside(wait)?;
                if left > 0 {
                    // Releases that found no mark have woken nobody: the one they woke wakes the next.
                    futex::wake(self.u32(WORD)?, 1);
                }
                return Ok(TAKEN);
            }
            if self.mark()? {
                return Ok(Attempt::Again);
            }
        }
    }

    /// One that has slept has got a token.
    fn end_setting_aside(self, wait: &Wait) -> Result<(), Error> {
        let aside = self.u32(ASIDE)?;
        if wait.has_slept() && aside.load(Ordering::Relaxed) != 0 {
            aside.store(0, Ordering::Relaxed);
            futex::wake(aside, futex::ALL);
        }
        Ok(())
    }

    /// Says that somebody sleeps; `false` if there are tokens.
    fn mark(self) -> Result<bool, Error> {
        let word = self.u64(WORD)?;
        let marked = change(word, 0, |low| (low == 0).then_some(WAITERS)).is_some();
        Ok(marked || word.load(Ordering::Relaxed) as u32 == WAITERS)
    }

    /// Adds as many tokens as `tokens` says, given what the hold counts, and takes them off that; `false` if they are
    /// too many.
    fn give(self, hold: Option<usize>, tokens: impl FnOnce(u64) -> u64) -> Result<bool, Error> {
        let max = u64::from(self.u32(MAX)?.load(Ordering::Relaxed));
        // Clears WAITERS, which whoever is woken sets again. No token wakes nobody, and leaves it.
        let more = |by: u64| {
            move |low: u32| match u64::from(low & !WAITERS) + by {
                _ if by == 0 => Some(low),
                value => Some(value as u32).filter(|_| value <= max),
            }
        };
        let mut given = 0;
        let before = match hold {
            None => {
                given = tokens(0);
                change(self.u64(WORD)?, 0, more(given))
            }
            Some(hold) => self.change_held(hold, |count| {
                given = tokens(count);
                (count.saturating_sub(given), more(given))
            })?,
        };
        point("semaphore.released");
        if given > 0 && before.is_some_and(|low| low & WAITERS != 0) {
            futex::wake(self.u32(WORD)?, given.min(u64::from(futex::ALL)) as u32);
        }
        Ok(before.is_some())
    }

    /// Changes value and hold, both or neither. `plan` gets what the hold counts and says what it shall count and how
    /// the value changes. Returns the low half before, `None` if it does not change.
    fn change_held<F: Fn(u32) -> Option<u32>>(
        self,
        hold: usize,
        plan: impl FnOnce(u64) -> (u64, F),
    ) -> Result<Option<u32>, Error> {
        let _turn = self.turn()?;
        let (word, log) = (self.u64(WORD)?, self.u64(LOG)?);
        let count = u64_at(self.arena, hold + hold::COUNT)?;
        let (counts, step) = plan(count.load(Ordering::Relaxed));
        // Only holders of the lock change the upper half.
        let number = ((word.load(Ordering::Relaxed) >> 32) as u32).wrapping_add(1);
        self.u64(LOG_HOLD)?.store(hold as u64, Ordering::Relaxed);
        self.u64(LOG_COUNT)?.store(counts, Ordering::Relaxed);
        // Release: the entry is there before it counts.
        log.store(LOGGED | u64::from(number), Ordering::Release);
        point("semaphore.logged");
        let before = change(word, 1, step);
        point("semaphore.changed");
        if before.is_some() {
            count.store(counts, Ordering::Release);
            point("semaphore.counted");
        }
        log.store(0, Ordering::Release);
        Ok(before)
    }

    /// Takes the lock of held changes; finishes what a dead owner had begun.
    fn turn(self) -> Result<Turn, Error> {
        let (turn, acquired) = Turn::take(self.arena, self.u32(LOCK)?)?;
        if let Acquired::FromTheDead(_) = acquired {
            let (log, word) = (self.u64(LOG)?, self.u64(WORD)?);
            let logged = log.load(Ordering::Acquire);
            if logged != 0 && (word.load(Ordering::Acquire) >> 32) as u32 == logged as u32 {
                let hold = self.u64(LOG_HOLD)?.load(Ordering::Relaxed) as usize;
                let count = self.u64(LOG_COUNT)?.load(Ordering::Relaxed);
                u64_at(self.arena, hold + hold::COUNT)?.store(count, Ordering::Release);
            }
            log.store(0, Ordering::Release);
        }
        Ok(turn)
    }
}

fn u64_at(arena: &'static Arena, at: usize) -> Result<&'static AtomicU64, Error> {
    arena.map().u64(at).ok_or(Error::Corrupt("a semaphore"))
}

/// Changes the low half of a word and adds to the high half, unless `step` refuses; the low half before.
fn change(word: &AtomicU64, held_changes: u64, step: impl Fn(u32) -> Option<u32>) -> Option<u32> {
    let next = |now: u64| step(now as u32).map(|low| (now >> 32).wrapping_add(held_changes) << 32 | u64::from(low));
    word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next).ok().map(|before| before as u32)
}

/// Gives back what a hold counts, then lets go of the semaphore.
fn drain(arena: &'static Arena, block: Block) -> Result<usize, Error> {
    let at = block.payload();
    let semaphore = u64_at(arena, at + hold::SEMAPHORE)?.load(Ordering::Acquire) as usize;
    if semaphore != 0 {
        let semaphore = arena.block(semaphore)?;
        // Too many only if somebody released what he never had: then these tokens are among those already.
        Words { arena, at: semaphore.payload() }.give(Some(at), |count| count)?;
        drop(Lease::adopt(arena, semaphore, (at + hold::SEMAPHORE, 0))?);
    }
    Ok(0)
}
