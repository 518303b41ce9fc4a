//! The board: what each worker is doing, written by itself and read by whoever wants to know.
//!
//! ```text
//! +0    how many of the tags behind it are revoked       +8   revoked tags, 0 for none
//! +512  the pool's owner, as a word       +520  what it accepts, see [`Accepts`]
//! +640  an entry for each worker, see [`field`]
//! ```
//!
//! All words are atomic and none is waited for; an entry read while it is written may be of two moments, which is good
//! enough for a deadline and for statistics.

use forkless_ipc::Memory;
use forkless_shm::Error;
use forkless_sys::atomic::{AtomicU64, Ordering, fence};

const REVOKED: usize = 0;
const TAGS: usize = 8;
const PLACES: usize = 63;
const OWNER: usize = 512;
const ACCEPTS: usize = 520;
const ENTRIES: usize = 640;
/// Two cache lines, which processors fetch together.
const ENTRY: usize = 128;

mod field {
    pub(super) const TASK: usize = 0;
    pub(super) const SINCE: usize = 8;
    pub(super) const TASKS: usize = 16;
    pub(super) const BUSY: usize = 24;
    pub(super) const RECEIVED: usize = 32;
    pub(super) const SENT: usize = 40;
    pub(super) const BORN: usize = 48;
    pub(super) const READY: usize = 56;
    /// Written by the owner.
    pub(super) const INTERRUPT: usize = 64;
    pub(super) const BLOCKED: usize = 72;
    /// Written by the owner.
    pub(super) const DOOM: usize = 80;
}

/// Which tasks the owner of a pool still accepts from other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// All.
    All = 0,
    /// Those that its own running tasks submit.
    Inner = 1,
    /// None: nobody reads what is sent to it.
    Nothing = 2,
}

/// What a worker has written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The tag of the task that it runs, 0 for none.
    pub task: u64,
    /// Since when it runs it, or is idle: nanoseconds of the monotonic clock.
    pub since: u64,
    /// Tasks done.
    pub tasks: u64,
    /// Nanoseconds in which it ran tasks, the present one not included.
    pub busy: u64,
    /// Bytes of tasks.
    pub received: u64,
    /// Bytes of answers.
    pub sent: u64,
    /// When it was asked for: nanoseconds of the monotonic clock.
    pub born: u64,
    /// When it was ready for tasks, 0 if it is not yet.
    pub ready: u64,
    /// Tasks within the present one that wait for others of the same pool.
    pub blocked: u64,
}

/// Entries for a number of workers, in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Board<'a> {
    memory: &'a Memory,
}

impl<'a> Board<'a> {
    /// Bytes of memory for this many workers.
    #[must_use]
    pub const fn size(workers: usize) -> usize {
        ENTRIES + ENTRY * workers
    }

    /// The board in this memory.
    #[must_use]
    pub fn of(memory: &'a Memory) -> Self {
        Self { memory }
    }

    /// How many entries there are.
    #[must_use]
    pub fn workers(self) -> usize {
        self.memory.length().saturating_sub(ENTRIES) / ENTRY
    }

    fn word(self, at: usize) -> Result<&'a AtomicU64, Error> {
        self.memory.word(at).ok_or(Error::Corrupt("the board of a pool"))
    }

    fn field(self, worker: usize, field: usize) -> Result<&'a AtomicU64, Error> {
        self.word(ENTRIES + ENTRY * worker + field)
    }

    /// A new worker gets this entry.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such entry.
    pub fn open(self, worker: usize, now: u64) -> Result<(), Error> {
        for field in (0..ENTRY).step_by(8) {
            self.field(worker, field)?.store(0, Ordering::Relaxed);
        }
        self.field(worker, field::BORN)?.store(now, Ordering::Release);
        Ok(())
    }

    /// The worker is ready for tasks.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn ready(self, worker: usize, now: u64) -> Result<(), Error> {
        self.field(worker, field::SINCE)?.store(now, Ordering::Relaxed);
        self.field(worker, field::READY)?.store(now, Ordering::Release);
        Ok(())
    }

    /// The worker begins with a task of so many bytes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn begin(self, worker: usize, task: u64, bytes: u64, now: u64) -> Result<(), Error> {
        add(self.field(worker, field::RECEIVED)?, bytes);
        self.field(worker, field::BLOCKED)?.store(0, Ordering::Relaxed);
        self.field(worker, field::SINCE)?.store(now, Ordering::Relaxed);
        // Release: whoever sees the task sees since when.
        self.field(worker, field::TASK)?.store(task, Ordering::Release);
        Ok(())
    }

    /// The worker is done with it; the answer has so many bytes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn end(self, worker: usize, bytes: u64, now: u64) -> Result<(), Error> {
        let since = self.field(worker, field::SINCE)?;
        self.field(worker, field::TASK)?.store(0, Ordering::Relaxed);
        add(self.field(worker, field::BUSY)?, now.saturating_sub(since.load(Ordering::Relaxed)));
        add(self.field(worker, field::SENT)?, bytes);
        add(self.field(worker, field::TASKS)?, 1);
        since.store(now, Ordering::Release);
        Ok(())
    }

    /// What a worker has written down.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn entry(self, worker: usize) -> Result<Entry, Error> {
        let get = |field| Ok::<_, Error>(self.field(worker, field)?.load(Ordering::Acquire));
        Ok(Entry {
            task: get(field::TASK)?,
            since: get(field::SINCE)?,
            tasks: get(field::TASKS)?,
            busy: get(field::BUSY)?,
            received: get(field::RECEIVED)?,
            sent: get(field::SENT)?,
            born: get(field::BORN)?,
            ready: get(field::READY)?,
            blocked: get(field::BLOCKED)?,
        })
    }

    /// Asks a worker to break off a task; it looks when a signal tells it to.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn interrupt(self, worker: usize, task: u64) -> Result<(), Error> {
        self.field(worker, field::INTERRUPT)?.store(task, Ordering::Release);
        Ok(())
    }

    /// The task that a worker is asked to break off, 0 for none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn interrupted(self, worker: usize) -> Result<u64, Error> {
        Ok(self.field(worker, field::INTERRUPT)?.load(Ordering::Acquire))
    }

    /// Whoever runs this task is about to be killed for it, and is not to go on to another one; `false`: it has gone on
    /// already, and nobody is to be killed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn doom(self, worker: usize, task: u64) -> Result<bool, Error> {
        self.field(worker, field::DOOM)?.store(task, Ordering::Relaxed);
        // One of the two sees what the other has written: see `is_doomed`.
        fence(Ordering::SeqCst);
        Ok(self.field(worker, field::TASK)?.load(Ordering::Relaxed) == task)
    }

    /// Whether a worker that is done with a task may be about to be killed for it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn is_doomed(self, worker: usize, task: u64) -> Result<bool, Error> {
        fence(Ordering::SeqCst);
        Ok(self.field(worker, field::DOOM)?.load(Ordering::Relaxed) == task)
    }

    /// The worker's task waits for another one, or does so no more.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn block(self, worker: usize, blocked: bool) -> Result<(), Error> {
        let word = self.field(worker, field::BLOCKED)?;
        if blocked {
            word.fetch_add(1, Ordering::AcqRel);
        } else {
            // It may have been cleared: a wait that is broken off may leave one behind, see `begin`.
            let less = |count: u64| count.checked_sub(1);
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
        }
        Ok(())
    }

    /// The worker of this entry has ended.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn vacate(self, worker: usize) -> Result<(), Error> {
        self.field(worker, field::BLOCKED)?.store(0, Ordering::Release);
        Ok(())
    }

    /// How many workers wait, within a task, for another one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn blocked(self) -> Result<usize, Error> {
        let mut blocked = 0;
        for worker in 0..self.workers() {
            blocked += usize::from(self.field(worker, field::BLOCKED)?.load(Ordering::Acquire) != 0);
        }
        Ok(blocked)
    }

    /// Writes down whose pool it is: the word of an `Owner`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn set_owner(self, owner: u32) -> Result<(), Error> {
        self.word(OWNER)?.store(u64::from(owner), Ordering::Release);
        Ok(())
    }

    /// Whose pool it is.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn owner(self) -> Result<u32, Error> {
        Ok(self.word(OWNER)?.load(Ordering::Acquire) as u32)
    }

    /// Says what the owner accepts from now on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn accept(self, accepts: Accepts) -> Result<(), Error> {
        self.word(ACCEPTS)?.fetch_max(accepts as u64, Ordering::AcqRel);
        Ok(())
    }

    /// What the owner accepts.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn accepts(self) -> Result<Accepts, Error> {
        Ok(match self.word(ACCEPTS)?.load(Ordering::Acquire) {
            0 => Accepts::All,
            1 => Accepts::Inner,
            _ => Accepts::Nothing,
        })
    }

    /// Nobody is to run a task that is on its way; `false`: too many are revoked already, and this one will run.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn revoke(self, task: u64) -> Result<bool, Error> {
        for place in 0..PLACES {
            let word = self.word(TAGS + 8 * place)?;
            if word.compare_exchange(0, task, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                self.word(REVOKED)?.fetch_add(1, Ordering::AcqRel);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a task was revoked; if so, its place is free again.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn take_revoked(self, task: u64) -> Result<bool, Error> {
        let count = self.word(REVOKED)?;
        if count.load(Ordering::Acquire) == 0 {
            return Ok(false);
        }
        for place in 0..PLACES {
            let word = self.word(TAGS + 8 * place)?;
            if word.compare_exchange(task, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                count.fetch_sub(1, Ordering::AcqRel);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Only the worker itself writes there.
fn add(word: &AtomicU64, amount: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(workers: usize) -> Memory {
        let arena = forkless_shm::Arena::create(forkless_ipc::KINDS).unwrap();
        Memory::create(arena, Board::size(workers)).unwrap()
    }

    #[test]
    fn a_worker_is_seen_at_work() {
        let memory = memory(2);
        let board = Board::of(&memory);
        assert_eq!(board.workers(), 2);
        board.open(1, 5).unwrap();
        board.ready(1, 10).unwrap();
        board.begin(1, 77, 100, 20).unwrap();
        let entry = board.entry(1).unwrap();
        assert_eq!((entry.task, entry.since, entry.received), (77, 20, 100));
        board.end(1, 8, 50).unwrap();
        let entry = board.entry(1).unwrap();
        assert_eq!(
            entry,
            Entry { since: 50, tasks: 1, busy: 30, received: 100, sent: 8, born: 5, ready: 10, ..Entry::default() }
        );
        assert_eq!(board.entry(0).unwrap(), Entry::default());
        assert!(board.entry(2).is_err());
    }

    #[test]
    fn who_waits_is_counted_once_and_until_the_next_task() {
        let memory = memory(3);
        let board = Board::of(&memory);
        for worker in [0, 0, 2] {
            board.block(worker, true).unwrap();
        }
        assert_eq!(board.blocked().unwrap(), 2);
        board.block(0, false).unwrap();
        assert_eq!(board.blocked().unwrap(), 2);
        board.begin(0, 7, 1, 1).unwrap();
        board.block(0, false).unwrap();
        assert_eq!((board.blocked().unwrap(), board.entry(0).unwrap().blocked), (1, 0));
        board.vacate(2).unwrap();
        assert_eq!(board.blocked().unwrap(), 0);
    }

    #[test]
    fn what_is_not_accepted_any_more_is_not_accepted_again() {
        let memory = memory(1);
        let board = Board::of(&memory);
        assert_eq!(board.accepts().unwrap(), Accepts::All);
        board.accept(Accepts::Nothing).unwrap();
        board.accept(Accepts::Inner).unwrap();
        assert_eq!(board.accepts().unwrap(), Accepts::Nothing);
        board.set_owner(0x1_0001).unwrap();
        assert_eq!(board.owner().unwrap(), 0x1_0001);
    }

    #[test]
    fn who_has_gone_on_is_not_killed() {
        let memory = memory(1);
        let board = Board::of(&memory);
        board.begin(0, 7, 0, 1).unwrap();
        assert!(!board.is_doomed(0, 7).unwrap());
        assert!(board.doom(0, 7).unwrap());
        board.end(0, 0, 2).unwrap();
        assert!(board.is_doomed(0, 7).unwrap());
        assert!(!board.doom(0, 7).unwrap(), "it is done");
        board.begin(0, 8, 0, 3).unwrap();
        assert!(!board.doom(0, 7).unwrap(), "it has gone on");
        assert!(!board.is_doomed(0, 8).unwrap());
        board.open(0, 4).unwrap();
        assert!(!board.is_doomed(0, 7).unwrap(), "another worker");
    }

    #[test]
    fn a_revoked_task_is_met_once() {
        let memory = memory(1);
        let board = Board::of(&memory);
        assert!(!board.take_revoked(3).unwrap());
        assert!(board.revoke(3).unwrap());
        assert!(!board.take_revoked(4).unwrap());
        assert!(board.take_revoked(3).unwrap());
        assert!(!board.take_revoked(3).unwrap());
        for task in 0..PLACES as u64 {
            assert!(board.revoke(100 + task).unwrap());
        }
        assert!(!board.revoke(99).unwrap());
    }
}
