//! A barrier: nobody passes before all have arrived, and nobody waits for the dead.
//!
//! The parties that have arrived are on a list, each with the owner word of its process. They sleep on the number of the
//! *generation*, which moves on whenever a wait ends, by passing or by breaking; how each of the last 64 ended is a
//! bit. So whoever sleeps through the end of its own generation still learns of it, and the next one need not
//! wait until the last sleeper has left.
//!
//! Everything is changed under a robust lock of our own. Whoever takes that from the dead breaks the barrier, as does
//! whoever waits and finds one of the arrived dead: both look every 50 ms.

use std::time::Duration;

use forkless_shm::{Acquired, Arena, Error, Handle, Lease, Owner, robust};
use forkless_sys::atomic::{AtomicU32, AtomicU64, Ordering};
use forkless_sys::crash::point;
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::SLICE;

use crate::turn::Turn;

/// u32: the lock.
const LOCK: usize = 0;
/// u32 futex.
const GENERATION: usize = 4;
/// u32: how many have to arrive.
const PARTIES: usize = 8;
/// u32: how many have arrived.
const COUNT: usize = 12;
/// u32: 1 from breaking to [`Barrier::reset`].
const BROKEN: usize = 16;
/// u64: bit n says that generation n, modulo 64, ended broken.
const ENDS: usize = 24;
/// u32 each: the owner words of those that have arrived.
const ARRIVED: usize = 32;

/// Where parties wait for each other.
#[derive(Debug)]
pub struct Barrier {
    lease: Lease,
    parties: u32,
}

/// A party that has arrived and has neither passed nor given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Arrival {
    generation: u32,
    /// How many were there before.
    pub index: u32,
    /// Whether it completes the generation: then it lets the others [pass](Barrier::pass), or breaks the barrier.
    pub last: bool,
}

/// How a wait at a barrier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// All had arrived.
    Passed,
    /// Somebody died, gave up, or broke it.
    Broken,
}

impl Barrier {
    /// The kind of its block.
    pub const KIND: u8 = 10;

    /// A new barrier for this many parties, at least one.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena, parties: u32) -> Result<Self, Error> {
        let size = ARRIVED + 4 * parties as usize;
        let barrier = Self { lease: arena.allocate(size, Self::KIND)?, parties };
        if !arena.map().write(barrier.lease.block().payload(), &vec![0; size]) {
            return Err(Error::Corrupt("a new barrier"));
        }
        barrier.u32(PARTIES)?.store(parties, Ordering::Release);
        Ok(barrier)
    }

    /// The barrier that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        let mut barrier = Self { lease: arena.open(handle, Self::KIND)?, parties: 0 };
        barrier.parties = barrier.u32(PARTIES)?.load(Ordering::Acquire);
        if ARRIVED + 4 * barrier.parties as usize > barrier.lease.block().capacity() {
            return Err(Error::Corrupt("the size of a barrier"));
        }
        Ok(barrier)
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// How many have to arrive.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.parties
    }

    /// How many have arrived and wait.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn waiting(&self) -> Result<u32, Error> {
        Ok(self.u32(COUNT)?.load(Ordering::Relaxed).min(self.parties))
    }

    /// Whether it is broken, until [`Self::reset`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn is_broken(&self) -> Result<bool, Error> {
        Ok(self.u32(BROKEN)?.load(Ordering::Relaxed) != 0)
    }

    /// Arrives, unless the barrier is broken. `Ok(None)` after at most `bound` (and 50 ms): all had arrived already and
    /// have not passed yet; try again.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn arrive_within(&self, bound: Duration) -> Result<Option<Result<Arrival, Passage>>, Error> {
        let generation = {
            let _turn = self.turn()?;
            if self.is_broken()? {
                return Ok(Some(Err(Passage::Broken)));
            }
            let generation = self.u32(GENERATION)?.load(Ordering::Relaxed);
            let index = self.waiting()?;
            if index < self.parties {
                let me = self.lease.arena().me()?;
                self.u32(ARRIVED + 4 * index as usize)?.store(me.word(), Ordering::Relaxed);
                self.u32(COUNT)?.store(index + 1, Ordering::Release);
                point("barrier.counted");
                let last = index + 1 == self.parties;
                if last && self.lacks_a_living()? {
                    self.end(Passage::Broken)?;
                    return Ok(Some(Err(Passage::Broken)));
                }
                return Ok(Some(Ok(Arrival { generation, index, last })));
            }
            generation
        };
        self.sleep(generation, bound)?;
        Ok(None)
    }

    /// Waits, at most `bound` (and at most 50 ms), for the end of the generation.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn wait_within(&self, arrival: Arrival, bound: Duration) -> Result<Option<Passage>, Error> {
        if let Some(end) = self.end_of(arrival)? {
            return Ok(Some(end));
        }
        self.sleep(arrival.generation, bound)?;
        self.end_of(arrival)
    }

    /// Lets everybody pass: done by the last to arrive. Broken if somebody has died or broken it meanwhile.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn pass(&self, arrival: Arrival) -> Result<Passage, Error> {
        let _turn = self.turn()?;
        if let Some(end) = self.end_of(arrival)? {
            return Ok(end);
        }
        let end = if self.lacks_a_living()? { Passage::Broken } else { Passage::Passed };
        self.end(end)?;
        Ok(end)
    }

    /// Gives up waiting, which breaks the barrier, unless the generation has ended meanwhile.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn give_up(&self, arrival: Arrival) -> Result<Passage, Error> {
        let _turn = self.turn()?;
        if let Some(end) = self.end_of(arrival)? {
            return Ok(end);
        }
        self.end(Passage::Broken)?;
        Ok(Passage::Broken)
    }

    /// Goes away as if it had never arrived, unless the generation has ended or all have arrived.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn withdraw(&self, arrival: Arrival) -> Result<(), Error> {
        let _turn = self.turn()?;
        let count = self.waiting()?;
        if count == self.parties || self.end_of(arrival)?.is_some() {
            return Ok(());
        }
        let me = self.lease.arena().me()?.word();
        let last = self.u32(ARRIVED + 4 * (count as usize).saturating_sub(1))?;
        for index in 0..count as usize {
            let entry = self.u32(ARRIVED + 4 * index)?;
            if entry.load(Ordering::Relaxed) == me {
                entry.store(last.load(Ordering::Relaxed), Ordering::Relaxed);
                self.u32(COUNT)?.store(count - 1, Ordering::Release);
                break;
            }
        }
        Ok(())
    }

    /// Breaks the barrier: whoever waits, or comes before the next [`Self::reset`], is turned away.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn abort(&self) -> Result<(), Error> {
        let _turn = self.turn()?;
        self.end(Passage::Broken)
    }

    /// Makes it as new. Whoever waits is turned away.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn reset(&self) -> Result<(), Error> {
        let _turn = self.turn()?;
        if self.waiting()? > 0 {
            self.end(Passage::Broken)?;
        }
        self.u32(BROKEN)?.store(0, Ordering::Release);
        Ok(())
    }

    /// Sleeps while the generation lasts, at most `bound`, then breaks it if a party has died.
    fn sleep(&self, generation: u32, bound: Duration) -> Result<(), Error> {
        let word = self.u32(GENERATION)?;
        // A first look without the lock: what it finds is looked at again.
        let woken = futex::wait(word, generation, bound.min(SLICE));
        if woken == Woken::TimedOut && (self.lacks_a_living()? || self.is_left_locked()?) {
            let _turn = self.turn()?;
            if word.load(Ordering::Relaxed) == generation && self.lacks_a_living()? {
                self.end(Passage::Broken)?;
            }
        }
        Ok(())
    }

    /// Whether one of the arrived is dead.
    fn lacks_a_living(&self) -> Result<bool, Error> {
        let arena = self.lease.arena();
        for index in 0..self.waiting()? as usize {
            let owner = Owner::from_word(self.u32(ARRIVED + 4 * index)?.load(Ordering::Acquire));
            if owner.is_none_or(|owner| arena.is_dead(owner)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the lock's owner is dead: it may have been about to end the generation.
    fn is_left_locked(&self) -> Result<bool, Error> {
        let owner = robust::holder(self.u32(LOCK)?);
        Ok(owner.is_some_and(|owner| self.lease.arena().is_dead(owner)))
    }

    /// How the generation ended in which the party arrived, if it did.
    fn end_of(&self, arrival: Arrival) -> Result<Option<Passage>, Error> {
        // Acquire pairs with the release in `end`: the bit is there before the generation moves.
        if self.u32(GENERATION)?.load(Ordering::Acquire) == arrival.generation {
            return Ok(None);
        }
        let broken = self.ends()?.load(Ordering::Relaxed) >> (arrival.generation % 64) & 1 != 0;
        Ok(Some(if broken { Passage::Broken } else { Passage::Passed }))
    }

    /// Ends the generation and wakes everybody. The caller holds the lock.
    fn end(&self, how: Passage) -> Result<(), Error> {
        let word = self.u32(GENERATION)?;
        let generation = word.load(Ordering::Relaxed);
        let bit = 1u64 << (generation % 64);
        match how {
            Passage::Passed => self.ends()?.fetch_and(!bit, Ordering::Relaxed),
            Passage::Broken => {
                self.u32(BROKEN)?.store(1, Ordering::Relaxed);
                self.ends()?.fetch_or(bit, Ordering::Relaxed)
            }
        };
        self.u32(COUNT)?.store(0, Ordering::Relaxed);
        point("barrier.ending");
        word.store(generation.wrapping_add(1), Ordering::Release);
        point("barrier.ended");
        futex::wake(word, futex::ALL);
        Ok(())
    }

    fn turn(&self) -> Result<Turn, Error> {
        let (turn, acquired) = Turn::take(self.lease.arena(), self.u32(LOCK)?)?;
        if let Acquired::FromTheDead(_) = acquired {
            self.end(Passage::Broken)?;
        }
        Ok(turn)
    }

    fn u32(&self, field: usize) -> Result<&'static AtomicU32, Error> {
        self.lease.arena().map().u32(self.lease.payload()? + field).ok_or(Error::Corrupt("a barrier"))
    }

    fn ends(&self) -> Result<&AtomicU64, Error> {
        self.lease.arena().map().u64(self.lease.payload()? + ENDS).ok_or(Error::Corrupt("a barrier"))
    }
}
