//! What the threads of each process wait for, noted where everybody can read it.
//!
//! A thread notes its wait before it sleeps, and takes the note back when it wakes: what for, on which object, since when.
//! Nobody of the tree reads that. It is for whoever looks at a tree that hangs, and needs no right to trace its
//! processes. Only a wait pays for it, some nanoseconds before a system call; what does not wait notes nothing, nor does
//! who gets a lock after a moment's spin.
//!
//! Each process has [`WAITS`] places of its own; who finds none waits without a note. A place belongs to the thread that
//! has put its head into it by one compare-and-swap. The rest is written while the head says so, and the head carries a
//! number that grows: a reader that finds the same whole head before and after has read one note, not parts of two.
//! The generation of the slot is in it, too, so what a dead process has left is nobody's.

use std::cell::Cell;
use std::sync::atomic::AtomicU32 as PrivateU32;

use forkless_sys::atomic::{Ordering, fence};
use forkless_sys::memory::MemoryFile;
use forkless_sys::{process, time};

use crate::arena::Arena;
use crate::block::{State, parse_header, payload_offset};
use crate::layout::{HEAP, MAGIC, SLOTS, SLOTS_AT, VERSION, WAITS, WAITS_AT, header, slot, wait};
use crate::slot::{Owner, Process};
use crate::{Error, Lease};

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// A lock.
    Lock,
    /// A lock that its owner may take again.
    RLock,
    /// A semaphore.
    Semaphore,
    /// An event.
    Event,
    /// A notification of a condition.
    Condition,
    /// The others at a barrier.
    Barrier,
    /// Room in a queue.
    QueuePut,
    /// A message in a queue.
    QueueGet,
    /// That all tasks of a queue are done.
    QueueJoin,
    /// The end of a process.
    Process,
    /// The result of a task.
    Result,
    /// A task to do.
    Task,
}

impl Waited {
    const ALL: [Self; 12] = [
        Self::Lock,
        Self::RLock,
        Self::Semaphore,
        Self::Event,
        Self::Condition,
        Self::Barrier,
        Self::QueuePut,
        Self::QueueGet,
        Self::QueueJoin,
        Self::Process,
        Self::Result,
        Self::Task,
    ];

    fn code(self) -> u64 {
        self as u64 + 1
    }

    fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }
}

/// The calling thread's number, which the system is asked for once: a copy of the process is another owner.
fn own_thread(owner: Owner) -> u32 {
    forkless_sys::thread_local! {
        static KNOWN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }
    KNOWN.with(|known| {
        if known.get().0 != owner.word() {
            known.set((owner.word(), process::thread_id()));
        }
        known.get().1
    })
}

/// A note of a wait; it is taken back when this is dropped.
#[derive(Debug)]
pub struct WaitNote {
    arena: &'static Arena,
    owner: Owner,
    at: usize,
}

impl Lease {
    /// Notes that the calling thread waits for this object; `None` if there is no place for that.
    #[must_use]
    pub fn note_wait(&self, waited: Waited) -> Option<WaitNote> {
        let handle = self.handle().ok()?;
        self.arena().note(waited, handle.offset, u64::from(handle.generation) << 32)
    }
}

impl Arena {
    /// Notes that the calling thread waits for something that is no object: for this process to end, or for what a process
    /// with this number works on; 0 if there is none.
    #[must_use]
    pub fn note_wait(&'static self, waited: Waited, pid: u32) -> Option<WaitNote> {
        self.note(waited, 0, u64::from(pid))
    }

    fn note(&'static self, waited: Waited, offset: u64, which: u64) -> Option<WaitNote> {
        // A model has neither threads of the system nor a clock, and nobody who reads.
        if cfg!(loom) {
            return None;
        }
        static NOTES: PrivateU32 = PrivateU32::new(0);
        let owner = self.me().ok()?;
        let thread = own_thread(owner);
        let count = NOTES.fetch_add(1, Ordering::Relaxed);
        let whole = u64::from(thread) << 32 | u64::from(owner.word() >> 16) << 17 | u64::from(count & 0xffff) << 1;
        let places = (0..WAITS).map(|place| places(owner) + (thread as usize + place) % WAITS * wait::SIZE);
        let at = places.into_iter().find(|&at| self.take_place(at, owner, whole | 1))?;
        self.word(at + wait::WHAT).ok()?.store(waited.code() << 56 | offset, Ordering::Relaxed);
        self.word(at + wait::WHICH).ok()?.store(which, Ordering::Relaxed);
        self.word(at + wait::SINCE).ok()?.store(time::coarse().as_nanos() as u64, Ordering::Relaxed);
        // Release pairs with the acquire of a reader: the fields are there when the head is whole.
        self.word(at + wait::HEAD).ok()?.store(whole, Ordering::Release);
        Some(WaitNote { arena: self, owner, at })
    }

    /// Takes a place if it is empty, or was left by a process that had the slot before.
    fn take_place(&self, at: usize, owner: Owner, head: u64) -> bool {
        let Ok(word) = self.word(at + wait::HEAD) else { return false };
        let seen = word.load(Ordering::Relaxed);
        // Acquire: the fields are written after this.
        !is_of(seen, owner) && word.compare_exchange(seen, head, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

impl Drop for WaitNote {
    fn drop(&mut self) {
        // Not in a copy of the process, made by a signal handler in the middle of the wait: the note is the original's.
        if self.arena.is_me(self.owner)
            && let Ok(head) = self.arena.word(self.at + wait::HEAD)
        {
            head.store(0, Ordering::Release);
        }
    }
}

fn places(owner: Owner) -> usize {
    WAITS_AT + owner.index() * WAITS * wait::SIZE
}

/// Whether a head is a note of this process.
fn is_of(head: u64, owner: Owner) -> bool {
    head != 0 && (head >> 17 & 0x7fff) as u32 == owner.word() >> 16
}

/// A wait, as it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The thread, by the system's number.
    pub thread: u32,
    /// What for.
    pub waited: Waited,
    /// The object: the offset of its block, and its generation.
    pub block: Option<(usize, u32)>,
    /// The process that is waited for.
    pub pid: Option<u32>,
    /// Since when, in nanoseconds of the monotonic clock.
    pub since: u64,
}

/// An arena of which this process is no part, to be read only.
#[derive(Debug)]
pub struct Outside<'a> {
    file: &'a MemoryFile,
}

impl<'a> Outside<'a> {
    /// Of an arena's file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the file is no arena, [`Error::Stale`] if it is one of another version of forkless.
    pub fn new(file: &'a MemoryFile) -> Result<Self, Error> {
        let it = Self { file };
        if it.u64(header::MAGIC) != Some(MAGIC) {
            return Err(Error::Corrupt("not an arena"));
        }
        if it.u64(header::VERSION) != Some(VERSION) {
            return Err(Error::Stale("it belongs to another version of forkless"));
        }
        Ok(it)
    }

    /// The processes that have a place in it, and what they wait for.
    #[must_use]
    pub fn processes(&self) -> Vec<(Process, Vec<Noted>)> {
        let used = self.u64(header::SLOTS_USED).unwrap_or(0) as usize;
        let processes = (0..used.min(SLOTS)).filter_map(|index| self.process_at(index));
        processes.map(|process| (process.clone(), self.notes(process.owner))).collect()
    }

    /// A process of it; `None` if its place is another's by now.
    #[must_use]
    pub fn process(&self, owner: Owner) -> Option<Process> {
        self.process_at(owner.index()).filter(|process| process.owner == owner)
    }

    fn process_at(&self, index: usize) -> Option<Process> {
        Process::parse(index, &self.read::<{ slot::SIZE }>(SLOTS_AT + index * slot::SIZE)?)
    }

    fn notes(&self, owner: Owner) -> Vec<Noted> {
        (0..WAITS).filter_map(|place| self.noted(places(owner) + place * wait::SIZE, owner)).collect()
    }

    fn noted(&self, at: usize, owner: Owner) -> Option<Noted> {
        let head = self.u64(at + wait::HEAD)?;
        fence(Ordering::Acquire);
        let (what, which, since) =
            (self.u64(at + wait::WHAT)?, self.u64(at + wait::WHICH)?, self.u64(at + wait::SINCE)?);
        let is_whole = head & 1 == 0 && is_of(head, owner) && self.u64(at + wait::HEAD) == Some(head);
        let offset = (what & ((1 << 56) - 1)) as usize;
        let (generation, pid) = ((which >> 32) as u32, which as u32);
        Some(Noted {
            thread: (head >> 32) as u32,
            waited: Waited::from_code(what >> 56).filter(|_| is_whole)?,
            block: (offset != 0).then_some((offset, generation)),
            pid: (pid != 0).then_some(pid),
            since,
        })
    }

    /// The kind of a block, and where its payload begins; `None` if it is gone.
    #[must_use]
    pub fn block(&self, offset: usize, generation: u32) -> Option<(u8, usize)> {
        let word = self.u64(offset).filter(|_| offset >= HEAP)?;
        let (size, kind, state) = parse_header(word)?;
        let is_it = state == State::Live && (word >> 32) as u32 == generation;
        is_it.then(|| (kind, offset + payload_offset(size)))
    }

    /// The word at an offset.
    #[must_use]
    pub fn u32(&self, at: usize) -> Option<u32> {
        self.read(at).map(u32::from_ne_bytes)
    }

    /// The double word at an offset.
    #[must_use]
    pub fn u64(&self, at: usize) -> Option<u64> {
        self.read(at).map(u64::from_ne_bytes)
    }

    /// So many bytes of text, without the zeros behind it.
    #[must_use]
    pub fn text(&self, at: usize, length: usize) -> String {
        let mut bytes = vec![0; length];
        let read = self.file.read_at(at, &mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).trim_end_matches('\0').to_owned()
    }

    fn read<const LENGTH: usize>(&self, at: usize) -> Option<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        (self.file.read_at(at, &mut bytes) == Ok(LENGTH)).then_some(bytes)
    }
}
