//! A channel's words: where they are, how its sides are locked, how they sleep and wake each other.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use forkless_shm::{Acquired, Arena, Attempt, Error, Wait};
use forkless_sys::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::{Deadline, Patience, SLICE};
use forkless_sys::{bell, crash, process};

/// The words that are written seldom and read by everybody. The block's payload begins 16 bytes into a cache line, and what
/// one side writes all the time has lines of its own.
pub(super) mod field {
    /// u32: the most messages that may wait, 0 for no limit.
    pub(in crate::channel) const MAX_SIZE: usize = 0;
    /// u32: 0, or a `Closing`.
    pub(in crate::channel) const CLOSED: usize = 4;
    /// u64: the most bytes that may wait, 0 for no limit.
    pub(in crate::channel) const MAX_BYTES: usize = 8;
    /// u32: 1 once another process has opened the channel.
    pub(in crate::channel) const SHARED: usize = 24;
    /// u32: which bells are to be rung, a bit each.
    pub(in crate::channel) const RINGING: usize = 28;
    /// u64: tasks done (31..0), and how many of the lost were reported (63..32); the low half is a futex.
    pub(in crate::channel) const DONE: usize = 304;
    /// u32: 1 if somebody sleeps until all tasks are done.
    pub(in crate::channel) const JOINERS: usize = 312;
    /// u64: messages that died with who had taken them.
    pub(in crate::channel) const LOST: usize = 320;
    /// u64: processes that they died with.
    pub(in crate::channel) const DEATHS: usize = 328;
    /// u64 each: the bells of those that wait for messages, then of those that wait for room.
    pub(in crate::channel) const BELLS: usize = 336;
    /// The last processes that messages died with, see [`super::super::account`].
    pub(in crate::channel) const DEAD: usize = 400;
}

/// Bells of each side.
pub(super) const BELLS: usize = 4;

/// A side of the channel: its lock, what it has seen of the other side's count, and its two places; its count, which the
/// other side looks at; and whether its holder sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Side {
    at: usize,
    count: usize,
    sleeps: usize,
    first_bell: usize,
}

pub(super) const SEND: Side = Side { at: 48, count: 176, sleeps: 16, first_bell: BELLS };
pub(super) const RECEIVE: Side = Side { at: 112, count: 240, sleeps: 20, first_bell: 0 };

impl Side {
    /// Where its count is.
    pub(super) fn count_at(self) -> usize {
        self.count
    }

    const LOCK: usize = 0;
    /// u32: the other side's count as last seen, so that its line need not be fetched for each message.
    const SEEN: usize = 4;
    /// Two [`Place`]s, for even and odd counts.
    const PLACES: usize = 8;
    /// u32: the other side's count at which a holder has slept: whoever waits for that count to move has looked out before.
    const SLEPT: usize = 56;
    /// u32: the processor on which this side last moved a large message.
    const PROCESSOR: usize = 60;

    fn other(self) -> Self {
        if self == SEND { RECEIVE } else { SEND }
    }
}

/// How far a side has got, after some number of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The offset of the chunk's block.
    pub(super) chunk: usize,
    /// The next record's offset in the arena.
    pub(super) at: usize,
    /// Messages that have passed, without end.
    pub(super) messages: u64,
    /// Bytes in them.
    pub(super) bytes: u64,
}

impl Place {
    const SIZE: usize = 24;
}

/// What offsets of blocks are multiples of, and records too.
const UNIT: usize = 32;
const CHUNK_BITS: u32 = 32;

/// How long an attempt that does not wait for messages or room waits for the holder of a lock, who needs microseconds.
pub(super) const HOLDER_PATIENCE: Duration = Duration::from_secs(1);

/// How long a holder looks out for the other side before it sleeps. To sleep and be woken costs either side about as
/// much, so that looking out for that long is at most twice as bad as knowing what comes (Karlin et al., *Competitive
/// randomized algorithms for non-uniform problems*, 1990).
const LOOKOUT: Duration = Duration::from_micros(10);
/// And for as long as the last message took to copy, at 10 GB/s, if that was sent from another processor: the next one may be on its
/// way. A sleeper is often woken where its waker runs, and neither gets on while the other does.
const LOOKOUT_PER_BYTE: f64 = 1e-10;
/// Bytes of a message that takes longer than that to copy.
const LARGE: u64 = 100_000;

/// How often a sender makes way before it sleeps for the lock. Where senders are more than processors, the one that holds it has often
/// been preempted; it needs a moment to be done with it, and each that slept for it would have to be woken.
const YIELDS: u32 = forkless_sys::atomic::spins(16);

/// Looks between two at the clock.
const LOOKS: u32 = forkless_sys::atomic::spins(16);

/// A channel's words, for whoever keeps its block alive.
#[derive(Clone, Copy)]
pub(super) struct Core {
    pub(super) arena: &'static Arena,
    pub(super) at: usize,
}

/// Gives a side's lock back.
pub(super) struct Unlock {
    core: Core,
    side: Side,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        if let Ok(lock) = self.core.word(self.side.at + Side::LOCK) {
            self.core.arena.release(lock);
        }
    }
}

impl Core {
    pub(super) fn word(self, field: usize) -> Result<&'static AtomicU32, Error> {
        self.arena.map().u32(self.at + field).ok_or(Error::Corrupt("a channel"))
    }

    pub(super) fn double(self, field: usize) -> Result<&'static AtomicU64, Error> {
        self.arena.map().u64(self.at + field).ok_or(Error::Corrupt("a channel"))
    }

    pub(super) fn count(self, side: Side) -> Result<&'static AtomicU32, Error> {
        self.word(side.count)
    }

    /// Where a side's count is in the arena: what leases are guarded by.
    pub(super) fn count_at(self, side: Side) -> usize {
        self.at + side.count
    }

    pub(super) fn get(self, at: usize) -> Result<u64, Error> {
        let word = self.arena.map().u64(at).ok_or(Error::Corrupt("a channel"))?;
        Ok(word.load(Ordering::Acquire))
    }

    pub(super) fn set(self, at: usize, value: u64) -> Result<(), Error> {
        let word = self.arena.map().u64(at).ok_or(Error::Corrupt("a channel"))?;
        word.store(value, Ordering::Release);
        Ok(())
    }

    /// The place that belongs to a count.
    pub(super) fn place(self, side: Side, count: u32) -> Result<Place, Error> {
        let at = self.at + side.at + Side::PLACES + Place::SIZE * (count & 1) as usize;
        let position = self.get(at)?;
        let chunk = (position >> CHUNK_BITS) as usize * UNIT;
        let offset = position as u32 as usize;
        Ok(Place { chunk, at: chunk + offset, messages: self.get(at + 8)?, bytes: self.get(at + 16)? })
    }

    pub(super) fn set_place(self, side: Side, count: u32, place: Place) -> Result<(), Error> {
        let at = self.at + side.at + Side::PLACES + Place::SIZE * (count & 1) as usize;
        self.set(at, ((place.chunk / UNIT) as u64) << CHUNK_BITS | (place.at - place.chunk) as u64)?;
        self.set(at + 8, place.messages)?;
        self.set(at + 16, place.bytes)
    }

    /// The place of a side that others move meanwhile: of one moment.
    pub(super) fn settled_place(self, side: Side) -> Result<Place, Error> {
        let count = self.count(side)?;
        let mut seen = count.load(Ordering::Acquire);
        // It would have to move between two loads each time.
        for _ in 0..1000 {
            let place = self.place(side, seen)?;
            let now = count.load(Ordering::Acquire);
            if now == seen {
                return Ok(place);
            }
            seen = now;
        }
        self.place(side, seen)
    }

    /// Takes a side's lock, within a bound; without one, only if nobody has it.
    pub(super) fn lock(self, side: Side, bound: Option<Duration>) -> Result<Result<Unlock, Attempt>, Error> {
        let word = self.word(side.at + Side::LOCK)?;
        let me = self.arena.me()?;
        let mut acquired = self.arena.acquire_free(word, me);
        let Some(bound) = bound else {
            return acquired.map_or(Ok(Err(Attempt::Again)), |acquired| self.locked(side, acquired).map(Ok));
        };
        let mut wait = Wait::new();
        for _ in 0..if side == SEND { YIELDS } else { 0 } {
            if acquired.is_some() {
                break;
            }
            std::thread::yield_now();
            acquired = self.arena.acquire_free(word, me);
        }
        let mut attempt = match acquired {
            Some(acquired) => Attempt::Acquired(acquired),
            // Not waiting for messages does not mean not waiting for a holder who is about to be done.
            None => self.arena.acquire_within(word, me, &mut wait, bound.max(Duration::from_millis(1))),
        };
        if bound.is_zero() && attempt == Attempt::Again {
            // A holder asleep on an empty channel keeps the lock; then there is nothing to be had anyway. A holder that
            // was stopped, by a debugger or a terminal, must not keep those who do not want to wait.
            let mut patience = Patience::new(HOLDER_PATIENCE);
            while attempt == Attempt::Again && self.worth_waiting(side)? && !patience.is_over() {
                attempt = self.arena.acquire_within(word, me, &mut wait, SLICE);
            }
        }
        match attempt {
            Attempt::Acquired(acquired) => self.locked(side, acquired).map(Ok),
            other => {
                // Whoever has slept long enough on the lock while there is something to be done: a holder that was stopped,
                // asleep on an empty channel perhaps, would keep all others waiting.
                if other == Attempt::Again && bound >= SLICE && self.worth_waiting(side)? {
                    self.arena.let_go_on(word);
                }
                Ok(Err(other))
            }
        }
    }

    /// From a dead owner: first what it was moving is settled, while the counts still tell.
    fn locked(self, side: Side, acquired: Acquired) -> Result<Unlock, Error> {
        let unlock = Unlock { core: self, side };
        if let Acquired::FromTheDead(_) = acquired {
            crash::point("channel.inherited");
            self.arena.settle()?;
        }
        Ok(unlock)
    }

    fn worth_waiting(self, side: Side) -> Result<bool, Error> {
        if side == SEND { self.may_have_room() } else { Ok(self.waiting()? != 0) }
    }

    /// Messages waiting, exact at one moment.
    pub(super) fn waiting(self) -> Result<u32, Error> {
        let count = self.count(RECEIVE)?;
        let mut received = count.load(Ordering::Acquire);
        loop {
            let sent = self.count(SEND)?.load(Ordering::Acquire);
            // Unchanged, and so both were at once what they are said to be.
            let now = count.load(Ordering::Acquire);
            if now == received {
                return Ok(sent.wrapping_sub(received));
            }
            received = now;
        }
    }

    /// Whether there is a message for the holder of the receivers' lock, who has read `count`.
    pub(super) fn has_message(self, count: u32) -> Result<bool, Error> {
        let seen = self.word(RECEIVE.at + Side::SEEN)?;
        if seen.load(Ordering::Relaxed) != count {
            return Ok(true);
        }
        // Acquire pairs with the commit of `append`: what was seen once stays true.
        let sent = self.count(SEND)?.load(Ordering::Acquire);
        seen.store(sent, Ordering::Relaxed);
        Ok(sent != count)
    }

    /// Whether a message of so many bytes may come in. Holds the senders' lock.
    pub(super) fn has_room_for(self, bytes: u64) -> Result<bool, Error> {
        let sent = self.count(SEND)?.load(Ordering::Relaxed);
        self.has_room(sent, self.place(SEND, sent)?.bytes, bytes)
    }

    /// As [`Self::has_room_for`], behind message `sent` and so many bytes.
    pub(super) fn has_room(self, sent: u32, bytes_sent: u64, bytes: u64) -> Result<bool, Error> {
        let max_size = self.word(field::MAX_SIZE)?.load(Ordering::Relaxed);
        let max_bytes = self.double(field::MAX_BYTES)?.load(Ordering::Relaxed);
        if max_size != 0 {
            let seen = self.word(SEND.at + Side::SEEN)?;
            if sent.wrapping_sub(seen.load(Ordering::Relaxed)) >= max_size {
                let received = self.count(RECEIVE)?.load(Ordering::Acquire);
                seen.store(received, Ordering::Relaxed);
                if sent.wrapping_sub(received) >= max_size {
                    return Ok(false);
                }
            }
        }
        if max_bytes == 0 {
            return Ok(true);
        }
        let waiting = bytes_sent.saturating_sub(self.settled_place(RECEIVE)?.bytes);
        Ok(waiting.saturating_add(bytes) <= max_bytes)
    }

    /// Whether a sender has reason to hope for room, as far as can be told without the lock.
    fn may_have_room(self) -> Result<bool, Error> {
        let max_size = self.word(field::MAX_SIZE)?.load(Ordering::Relaxed);
        let max_bytes = self.double(field::MAX_BYTES)?.load(Ordering::Relaxed);
        let received = self.settled_place(RECEIVE)?.bytes;
        let bytes = self.settled_place(SEND)?.bytes.wrapping_sub(received);
        Ok((max_size == 0 || self.waiting()? < max_size) && (max_bytes == 0 || bytes < max_bytes))
    }

    /// How it was closed, 0 if it was not.
    pub(super) fn closed(self) -> Result<u32, Error> {
        Ok(self.word(field::CLOSED)?.load(Ordering::Acquire))
    }

    /// Sleeps while the other side's count is `seen`. Holds this side's lock.
    pub(super) fn sleep(
        self,
        side: Side,
        seen: u32,
        until: Deadline,
        beside: Option<(&AtomicU32, u32)>,
    ) -> Result<Woken, Error> {
        let word = self.count(side.other())?;
        let changed = |order| {
            word.load(order) != seen || beside.is_some_and(|(beside, seen)| beside.load(Ordering::Relaxed) != seen)
        };
        let slept = self.word(side.at + Side::SLEPT)?;
        let copying = if slept.load(Ordering::Relaxed) == seen { Duration::ZERO } else { self.copying(side)? };
        if look_out(LOOKOUT + copying, || changed(Ordering::Relaxed)) {
            return Ok(Woken::Look);
        }
        slept.store(seen, Ordering::Relaxed);
        let sleeps = self.word(side.sleeps)?;
        sleeps.store(1, Ordering::Relaxed);
        // Pairs with the fence in `wake`: either the other side sees us asleep, or we see its count.
        fence(Ordering::SeqCst);
        let bound = until.remaining(SLICE);
        let woken = match beside {
            _ if self.closed()? != 0 => Woken::Look,
            Some(beside) => futex::wait_either((word, seen), beside, bound),
            None => futex::wait(word, seen, bound),
        };
        sleeps.store(0, Ordering::Relaxed);
        Ok(woken)
    }

    /// Notes where a large message was moved.
    pub(super) fn note_processor(self, side: Side) -> Result<(), Error> {
        self.word(side.at + Side::PROCESSOR)?.store(process::current_processor(), Ordering::Relaxed);
        Ok(())
    }

    /// For how long a message as large as the last one is copied, by who can do so now.
    fn copying(self, side: Side) -> Result<Duration, Error> {
        let other = self.word(side.other().at + Side::PROCESSOR)?.load(Ordering::Relaxed);
        let count = self.count(side)?.load(Ordering::Relaxed);
        let (now, before) = (self.place(side, count)?.bytes, self.place(side, count.wrapping_sub(1))?.bytes);
        // Damaged, it may be anything.
        let bytes = now.saturating_sub(before).min(1 << 30);
        if bytes < LARGE || other == process::current_processor() {
            return Ok(Duration::ZERO);
        }
        Ok(Duration::from_secs_f64(bytes as f64 * LOOKOUT_PER_BYTE))
    }

    /// Wakes who of the other side sleeps, after this side's count has moved.
    pub(super) fn wake(self, side: Side) -> Result<(), Error> {
        let other = side.other();
        fence(Ordering::SeqCst);
        if self.word(other.sleeps)?.load(Ordering::Relaxed) != 0 {
            futex::wake(self.count(side)?, 1);
        }
        if self.word(field::RINGING)?.load(Ordering::Relaxed) >> other.first_bell & ((1 << BELLS) - 1) != 0 {
            self.ring(other)?;
        }
        Ok(())
    }

    /// Wakes both sides, whatever they wait for.
    pub(super) fn wake_all(self) -> Result<(), Error> {
        fence(Ordering::SeqCst);
        for side in [SEND, RECEIVE] {
            futex::wake(self.count(side)?, futex::ALL);
            self.ring(side)?;
        }
        Ok(())
    }

    #[cold]
    fn ring(self, side: Side) -> Result<(), Error> {
        let ringing = self.word(field::RINGING)?;
        let due = ringing.load(Ordering::Acquire);
        for index in (side.first_bell..side.first_bell + BELLS).filter(|index| due >> index & 1 != 0) {
            let bell = self.double(field::BELLS + 8 * index)?;
            let number = bell.load(Ordering::Acquire);
            // Of a process that has died.
            if !bell::ring(number) && bell.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                ringing.fetch_and(!(1 << index), Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// Has a bell rung whenever a side has reason to look. `false`: there are as many as there may be.
    pub(super) fn hang(self, side: Side, number: u64) -> Result<bool, Error> {
        for index in side.first_bell..side.first_bell + BELLS {
            let bell = self.double(field::BELLS + 8 * index)?;
            if bell.compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                self.word(field::RINGING)?.fetch_or(1 << index, Ordering::AcqRel);
                // Pairs with the fence in `wake`: the caller looks once more, or is rung for.
                fence(Ordering::SeqCst);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Undoes [`Self::hang`].
    pub(super) fn take_down(self, side: Side, number: u64) -> Result<(), Error> {
        for index in side.first_bell..side.first_bell + BELLS {
            let bell = self.double(field::BELLS + 8 * index)?;
            if bell.load(Ordering::Acquire) == number {
                self.word(field::RINGING)?.fetch_and(!(1 << index), Ordering::AcqRel);
                let _ = bell.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Bytes from a place in a chunk to its end.
    pub(super) fn left(self, place: Place) -> Result<usize, Error> {
        let block = self.arena.block(place.chunk)?;
        let end = block.payload() + block.capacity();
        if place.at < block.payload() {
            return Err(Error::Corrupt("a place in a channel"));
        }
        end.checked_sub(place.at).ok_or(Error::Corrupt("a place in a channel"))
    }
}

/// Whether it came about within that time, while somebody who may run at the same time could have brought it about.
fn look_out(patience: Duration, came: impl Fn() -> bool) -> bool {
    static ALONE: OnceLock<bool> = OnceLock::new();
    let alone = || std::thread::available_parallelism().is_ok_and(|processors| processors.get() < 2);
    if LOOKS == 0 || *ALONE.get_or_init(alone) {
        return false;
    }
    let began = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if came() {
                return true;
            }
            std::hint::spin_loop();
        }
        if began.elapsed() > patience {
            return false;
        }
    }
}
