//! Shared memory, futexes and death as the model checker [loom] runs them; compiled under `--cfg loom` only.
//!
//! A process of a model is a thread of loom's, with a liveness word of its own. Memory is a map of words. Those under
//! [watch](Memory::watch) are loom's atomics: each access is a point at which another process may go on, and a load may
//! give any value that the memory model allows. All other words are plain and keep to one order, so that a model has to
//! explore only what it is about.
//!
//! A process [dies](live) before the n-th of its steps: changes of watched words, sleeps, wake-ups sent and got. From
//! then on what its destructors do has no effect, its liveness word is marked and a sleeper there is woken, as the kernel
//! does it. With n from 0 up to its survival, a model has it die at every moment that others can tell apart.
//!
//! A [sleep](crate::futex) has no end but a wake-up, so that a lost one is a deadlock, which loom reports. What the 50 ms
//! are there for is modelled in one of two ways. In a [bounded] execution they are over once all sleep, so that whoever
//! was not woken goes on then. To [impatient] processes they are over at once: every sleep times out, which is more orders
//! than can be gone through for all but the smallest models.
//!
//! Not modelled: spurious wake-ups, the order in which sleepers of different priority are woken, words that two
//! processes access in different widths (half a double word can be slept on and loaded, two words can be loaded and
//! stored as one double word, but not at once).
//!
//! [loom]: https://docs.rs/loom

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

#[doc(hidden)]
pub use loom;
use loom::sync::atomic::{AtomicU32 as Word, AtomicU64 as Double};
use loom::thread::Thread;
use rustix::io::Errno;

use crate::futex::Woken;
use crate::liveness;
use crate::memory::MemoryFile;

thread_local! {
    /// Whether this thread of the operating system runs a model, with all the model's threads on it.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::Stopped) };
    /// How many processes neither sleep nor wait for the end of another.
    static AWAKE: Cell<usize> = const { Cell::new(0) };
    static ASLEEP: RefCell<Vec<Arc<Sleeper>>> = const { RefCell::new(Vec::new()) };
}

/// When a sleep times out.
#[derive(Clone, Copy, PartialEq)]
enum Clock {
    Stopped,
    OnceAllSleep,
    AtOnce,
}

/// Words of stack for each process: a cleaner needs more than loom gives.
const STACK: usize = 1 << 15;

loom::thread_local! {
    static LIFE: RefCell<Life> = RefCell::new(Life::default());
}

/// What the calling process has before it.
#[derive(Default)]
struct Life {
    live: Option<&'static AtomicU32>,
    steps_left: Option<u32>,
    dead: bool,
}

/// What unwinds a process that dies.
struct Death;

/// Begins an execution, at the memory that was [kept](Memory::keep); it lasts until the value is dropped.
pub fn begin(memory: &'static Memory) -> impl Drop {
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            RUNNING.set(false);
        }
    }
    RUNNING.set(true);
    CLOCK.set(Clock::Stopped);
    AWAKE.set(1);
    ASLEEP.take();
    memory.restore();
    Running
}

/// From now on, in this execution, sleeps time out once all sleep.
pub fn bounded() {
    CLOCK.set(Clock::OnceAllSleep);
}

/// From now on, in this execution, no sleep is longer than another process's next step.
pub fn impatient() {
    CLOCK.set(Clock::AtOnce);
}

/// A thread of a model.
pub struct Running<T> {
    handle: loom::thread::JoinHandle<T>,
    end: Arc<End>,
}

#[derive(Default)]
struct End {
    over: AtomicBool,
    awaited: AtomicBool,
}

/// Has another thread do something.
pub fn start<T: Send + 'static>(play: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    let end = Arc::<End>::default();
    let its = end.clone();
    let play = move || {
        let value = play();
        its.over.store(true, Ordering::Relaxed);
        if its.awaited.load(Ordering::Relaxed) {
            one_more_awake();
        }
        one_less_awake();
        value
    };
    one_more_awake();
    let handle = loom::thread::Builder::new().stack_size(STACK).spawn(play);
    Running { handle: handle.expect("loom has threads left"), end }
}

impl<T> Running<T> {
    /// Waits for its end.
    pub fn join(self) -> T {
        if !self.end.over.load(Ordering::Relaxed) {
            self.end.awaited.store(true, Ordering::Relaxed);
            one_less_awake();
        }
        self.handle.join().expect("loom ends with a panic")
    }
}

fn one_more_awake() {
    AWAKE.set(AWAKE.get() + 1);
}

fn one_less_awake() {
    AWAKE.set(AWAKE.get() - 1);
    if AWAKE.get() == 0 && CLOCK.get() == Clock::OnceAllSleep {
        for sleeper in ASLEEP.take() {
            sleeper.rouse(&sleeper.timed_out);
        }
    }
}

/// Plays the process with this liveness word, which dies before its step number `dies_before`, counted from 0. `None` if
/// it did.
pub fn live<T>(live: &'static AtomicU32, dies_before: Option<u32>, play: impl FnOnce() -> T) -> Option<T> {
    LIFE.with(|life| *life.borrow_mut() = Life { live: Some(live), steps_left: dies_before, dead: false });
    match catch_unwind(AssertUnwindSafe(play)) {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Death>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// Whether the calling process has died, or the whole model has failed; then it is on its way out and must not give loom
/// a chance to switch.
fn is_dead() -> bool {
    std::thread::panicking() || RUNNING.get() && LIFE.with(|life| life.borrow().dead)
}

/// What others may see from here on is one step more. `false`: it must have no effect.
fn step() -> bool {
    if is_dead() {
        return false;
    }
    if !RUNNING.get() {
        return true;
    }
    let dying = LIFE.with(|life| {
        let mut life = life.borrow_mut();
        match life.steps_left {
            Some(0) => life.live,
            left => {
                life.steps_left = left.map(|left| left - 1);
                None
            }
        }
    });
    if let Some(live) = dying {
        LIFE.with(|life| life.borrow_mut().steps_left = None);
        live.fetch_or(liveness::FUTEX_OWNER_DIED, Ordering::AcqRel);
        wake(live, 1);
        LIFE.with(|life| life.borrow_mut().dead = true);
        resume_unwind(Box::new(Death));
    }
    true
}

/// What is each thread's own: in an execution, each process's; before it, the real thread's.
pub struct LocalKey<T: 'static> {
    outside: &'static std::thread::LocalKey<T>,
    inside: &'static loom::thread::LocalKey<T>,
}

/// The value is no more: its thread is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

#[allow(missing_docs, clippy::missing_errors_doc)]
impl<T> LocalKey<T> {
    pub const fn new(outside: &'static std::thread::LocalKey<T>, inside: &'static loom::thread::LocalKey<T>) -> Self {
        Self { outside, inside }
    }

    pub fn try_with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, Ended> {
        if RUNNING.get() {
            self.inside.try_with(f).map_err(|_| Ended)
        } else {
            self.outside.try_with(f).map_err(|_| Ended)
        }
    }

    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).expect("its thread has not ended")
    }
}

/// As the standard library's, for one variable.
#[macro_export]
macro_rules! thread_local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = $init:expr $(;)?) => {
        $(#[$attribute])*
        static $name: $crate::model::LocalKey<$type> = {
            std::thread_local!(static OUTSIDE: $type = $init);
            $crate::model::loom::thread_local!(static INSIDE: $type = $init);
            $crate::model::LocalKey::new(&OUTSIDE, &INSIDE)
        };
    };
}

/// Shared memory.
pub struct Memory {
    size: usize,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    /// Every double word that is not zero. Of watched ones, what was stored last.
    plain: HashMap<usize, u64>,
    kept: HashMap<usize, u64>,
    watched: HashMap<usize, Watched>,
    /// Which words were accessed as such, and not as halves of double words.
    narrow: HashSet<usize>,
    queues: HashMap<usize, Arc<Queue>>,
    /// The references that were given out: the words of one memory are the same in all executions.
    words: HashMap<usize, &'static AtomicU32>,
    doubles: HashMap<usize, &'static AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Width {
    Four,
    Eight,
}

enum Watched {
    Words(Arc<Word>, Arc<Word>),
    Double(Arc<Double>),
}

/// What stands behind a word.
enum Backing {
    Plain,
    Word(Arc<Word>),
    Double(Arc<Double>),
    Half(Arc<Double>),
    Pair(Arc<Word>, Arc<Word>),
}

#[derive(Clone, Copy)]
enum Change {
    Swap(u64),
    Add(u64),
    Or(u64),
    And(u64),
}

impl Change {
    fn apply(self, now: u64) -> u64 {
        match self {
            Self::Swap(value) => value,
            Self::Add(by) => now.wrapping_add(by),
            Self::Or(bits) => now | bits,
            Self::And(bits) => now & bits,
        }
    }
}

impl Memory {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().expect("held for a moment by code that does not panic")
    }

    /// What there is now is there at the start of each execution.
    pub fn keep(&self) {
        let mut contents = self.contents();
        contents.kept = contents.plain.clone();
    }

    fn restore(&self) {
        let mut contents = self.contents();
        contents.plain = contents.kept.clone();
        contents.watched.clear();
        contents.queues.clear();
    }

    /// Explores what processes do to these bytes. Done at the start of an execution, before there are others. A word that
    /// is to be accessed in four bytes has been before the first execution; all others are taken to be eight wide.
    pub fn watch(&self, offset: usize, length: usize) {
        let mut contents = self.contents();
        for at in (offset / 8 * 8..offset + length).step_by(8) {
            let value = contents.plain.get(&at).copied().unwrap_or(0);
            let watched = if contents.narrow.contains(&at) || contents.narrow.contains(&(at + 4)) {
                Watched::Words(Arc::new(Word::new(value as u32)), Arc::new(Word::new((value >> 32) as u32)))
            } else {
                Watched::Double(Arc::new(Double::new(value)))
            };
            contents.watched.insert(at, watched);
        }
    }
}

/// A word's place in memory.
#[derive(Clone, Copy)]
struct Place {
    memory: &'static Memory,
    at: usize,
    width: Width,
    /// Whether it is copied with others or slept on, which says nothing about its width.
    any_width: bool,
}

impl Place {
    fn backing(self) -> Backing {
        let mut contents = self.memory.contents();
        // The same in each execution: what is done in one decides nothing for the next.
        if self.width == Width::Four && !self.any_width && !RUNNING.get() {
            contents.narrow.insert(self.at);
        }
        match (contents.watched.get(&(self.at / 8 * 8)), self.width) {
            (None, _) => Backing::Plain,
            (Some(Watched::Double(double)), Width::Eight) => Backing::Double(double.clone()),
            (Some(Watched::Double(double)), Width::Four) => Backing::Half(double.clone()),
            (Some(Watched::Words(low, high)), Width::Eight) => Backing::Pair(low.clone(), high.clone()),
            (Some(Watched::Words(low, high)), Width::Four) => {
                Backing::Word(if self.at.is_multiple_of(8) { low.clone() } else { high.clone() })
            }
        }
    }

    fn shift(self) -> usize {
        8 * (self.at % 8)
    }

    fn mask(self) -> u64 {
        if self.width == Width::Four { u64::from(u32::MAX) } else { u64::MAX }
    }

    /// What was stored last, whoever may see it.
    fn last(self) -> u64 {
        let double = self.memory.contents().plain.get(&(self.at / 8 * 8)).copied().unwrap_or(0);
        double >> self.shift() & self.mask()
    }

    fn set_last(self, value: u64) {
        let mut contents = self.memory.contents();
        let double = contents.plain.entry(self.at / 8 * 8).or_insert(0);
        *double = *double & !(self.mask() << self.shift()) | (value & self.mask()) << self.shift();
    }

    fn load(self, order: Ordering) -> u64 {
        if is_dead() {
            // So that what its destructors take apart step by step has an end.
            return 0;
        }
        match self.backing() {
            Backing::Plain => self.last(),
            Backing::Word(word) => u64::from(word.load(order)),
            Backing::Double(double) => double.load(order),
            Backing::Half(double) => double.load(order) >> self.shift() & self.mask(),
            Backing::Pair(low, high) => u64::from(low.load(order)) | u64::from(high.load(order)) << 32,
        }
    }

    fn store(self, value: u64, order: Ordering) {
        let backing = self.backing();
        if !matches!(backing, Backing::Plain) && !step() {
            return;
        }
        match backing {
            Backing::Plain if is_dead() => return,
            Backing::Plain => {}
            Backing::Word(word) => word.store(value as u32, order),
            Backing::Double(double) => double.store(value, order),
            Backing::Half(_) => panic!("half of the double word at {} is stored to", self.at),
            Backing::Pair(low, high) => {
                low.store(value as u32, order);
                high.store((value >> 32) as u32, order);
            }
        }
        self.set_last(value);
    }

    fn change(self, change: Change, order: Ordering) -> u64 {
        let backing = self.backing();
        let effective = matches!(backing, Backing::Plain) && !is_dead() || step();
        if !effective {
            return 0;
        }
        let before = match (backing, change) {
            (Backing::Plain, _) => self.last(),
            (Backing::Word(word), Change::Swap(value)) => word.swap(value as u32, order).into(),
            (Backing::Word(word), Change::Add(by)) => word.fetch_add(by as u32, order).into(),
            (Backing::Word(word), Change::Or(bits)) => word.fetch_or(bits as u32, order).into(),
            (Backing::Word(word), Change::And(bits)) => word.fetch_and(bits as u32, order).into(),
            (Backing::Double(double), Change::Swap(value)) => double.swap(value, order),
            (Backing::Double(double), Change::Add(by)) => double.fetch_add(by, order),
            (Backing::Double(double), Change::Or(bits)) => double.fetch_or(bits, order),
            (Backing::Double(double), Change::And(bits)) => double.fetch_and(bits, order),
            (Backing::Half(_) | Backing::Pair(..), _) => panic!("the word at {} has another width", self.at),
        };
        self.set_last(change.apply(before));
        before
    }

    fn compare_exchange(self, current: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        let backing = self.backing();
        // One that will fail, as far as can be told, is nothing that others see.
        let silent = matches!(backing, Backing::Plain) || self.last() != current;
        let effective = silent && !is_dead() || step();
        if !effective {
            // To the dead all comes easily, so that their destructors have an end.
            return Ok(current);
        }
        let result = match backing {
            Backing::Plain if self.last() == current => Ok(current),
            Backing::Plain => Err(self.last()),
            Backing::Word(word) => {
                let result = word.compare_exchange(current as u32, new as u32, success, failure);
                result.map(u64::from).map_err(u64::from)
            }
            Backing::Double(double) => double.compare_exchange(current, new, success, failure),
            Backing::Half(_) | Backing::Pair(..) => panic!("the word at {} has another width", self.at),
        };
        if result.is_ok() {
            self.set_last(new);
        }
        result
    }

    fn queue(self) -> Arc<Queue> {
        self.memory.contents().queues.entry(self.at).or_default().clone()
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty, $width:expr) => {
        /// As the standard library's, in modelled memory.
        pub struct $name(Place);

        #[allow(missing_docs)]
        impl $name {
            fn at(memory: &'static Memory, at: usize) -> Self {
                Self(Place { memory, at, width: $width, any_width: false })
            }

            /// Where it is in memory.
            pub fn offset(&self) -> usize {
                self.0.at
            }

            pub fn load(&self, order: Ordering) -> $value {
                self.0.load(order) as $value
            }

            pub fn store(&self, value: $value, order: Ordering) {
                self.0.store(value.into(), order);
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.0.change(Change::Swap(value.into()), order) as $value
            }

            pub fn fetch_add(&self, by: $value, order: Ordering) -> $value {
                self.0.change(Change::Add(by.into()), order) as $value
            }

            pub fn fetch_sub(&self, by: $value, order: Ordering) -> $value {
                self.0.change(Change::Add(by.wrapping_neg().into()), order) as $value
            }

            pub fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                self.0.change(Change::Or(bits.into()), order) as $value
            }

            pub fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                self.0.change(Change::And(bits.into()), order) as $value
            }

            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let result = self.0.compare_exchange(current.into(), new.into(), success, failure);
                result.map(|before| before as $value).map_err(|now| now as $value)
            }

            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut next: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut before = self.load(fetch);
                while let Some(value) = next(before) {
                    match self.compare_exchange(before, value, set, fetch) {
                        Ok(before) => return Ok(before),
                        Err(now) => before = now,
                    }
                }
                Err(before)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{:#x} at {}", self.0.last(), self.0.at)
            }
        }
    };
}

atomic!(AtomicU32, u32, Width::Four);
atomic!(AtomicU64, u64, Width::Eight);

/// As the standard library's.
pub fn fence(order: Ordering) {
    if RUNNING.get() && !is_dead() {
        loom::sync::atomic::fence(order);
    }
}

/// Who sleeps on a word. The lock is the kernel's: between its look at the word and the sleep nobody is woken.
#[derive(Default)]
struct Queue {
    lock: loom::sync::Mutex<()>,
    sleepers: Mutex<VecDeque<Arc<Sleeper>>>,
}

impl Queue {
    fn sleepers(&self) -> MutexGuard<'_, VecDeque<Arc<Sleeper>>> {
        self.sleepers.lock().expect("held for a moment by code that does not panic")
    }

    fn forget(&self, sleeper: &Arc<Sleeper>) {
        self.sleepers().retain(|other| !Arc::ptr_eq(other, sleeper));
    }
}

struct Sleeper {
    thread: Thread,
    woken: AtomicBool,
    timed_out: AtomicBool,
}

impl Sleeper {
    fn is_roused(&self) -> bool {
        self.woken.load(Ordering::Relaxed) || self.timed_out.load(Ordering::Relaxed)
    }

    fn rouse(&self, why: &AtomicBool) {
        if !self.is_roused() {
            one_more_awake();
        }
        why.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// As [`futex`](crate::futex) has it.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> Woken {
    sleep(&[(word, expected)], timeout)
}

/// As [`futex`](crate::futex) has it.
pub fn wait_either(first: (&AtomicU32, u32), second: (&AtomicU32, u32), timeout: Duration) -> Woken {
    sleep(&[first, second], timeout)
}

fn sleep(words: &[(&AtomicU32, u32)], timeout: Duration) -> Woken {
    if is_dead() {
        return Woken::Look;
    }
    let holds =
        |word: &AtomicU32, expected| Place { any_width: true, ..word.0 }.load(Ordering::Relaxed) == u64::from(expected);
    if timeout.is_zero() || CLOCK.get() == Clock::AtOnce {
        loom::thread::yield_now();
        let all_hold = words.iter().all(|(word, expected)| holds(word, *expected));
        return if all_hold { Woken::TimedOut } else { Woken::Look };
    }
    // It may die in its sleep.
    step();
    let (woken, timed_out) = Default::default();
    let sleeper = Arc::new(Sleeper { thread: loom::thread::current(), woken, timed_out });
    let queues: Vec<_> = words.iter().map(|(word, _)| word.0.queue()).collect();
    let asleep = queues.iter().zip(words).all(|(queue, (word, expected))| {
        let _lock = queue.lock.lock().expect("nobody panics in the kernel");
        let sleeps = holds(word, *expected);
        if sleeps {
            queue.sleepers().push_back(sleeper.clone());
        }
        sleeps
    });
    if asleep {
        ASLEEP.with_borrow_mut(|asleep| asleep.push(sleeper.clone()));
        one_less_awake();
        while !sleeper.is_roused() {
            loom::thread::park();
        }
        ASLEEP.with_borrow_mut(|asleep| asleep.retain(|other| !Arc::ptr_eq(other, &sleeper)));
    } else if sleeper.is_roused() {
        // By the first word, before the second kept it from sleeping.
        one_less_awake();
    }
    queues.iter().for_each(|queue| queue.forget(&sleeper));
    if sleeper.woken.load(Ordering::Relaxed) {
        // It has got a wake-up, which others do not get.
        step();
    } else if asleep {
        // Loom gives no load after this what one before it gave, if there is something newer.
        loom::thread::yield_now();
        return Woken::TimedOut;
    }
    Woken::Look
}

/// As [`futex`](crate::futex) has it.
pub fn wake(word: &AtomicU32, count: u32) {
    if !RUNNING.get() || !step() {
        return;
    }
    let queue = word.0.queue();
    let _lock = queue.lock.lock().expect("nobody panics in the kernel");
    for _ in 0..count {
        let Some(sleeper) = queue.sleepers().pop_front() else { break };
        sleeper.rouse(&sleeper.woken);
    }
}

/// A view of memory, which the views of other processes share.
pub struct Mapping {
    memory: &'static Memory,
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Mapping {
    pub fn whole(file: &MemoryFile) -> Result<Self, Errno> {
        let memory = Memory { size: file.size(), contents: Mutex::default() };
        Ok(Self { memory: Box::leak(Box::new(memory)) })
    }

    pub fn read_only(_: &MemoryFile, _: usize, _: usize) -> Result<(Self, usize), Errno> {
        Err(Errno::NOSYS)
    }

    pub fn copy_on_write(_: &MemoryFile, _: usize, _: usize) -> Result<(Self, usize), Errno> {
        Err(Errno::NOSYS)
    }

    /// Another process's.
    pub fn share(&self) -> Self {
        Self { memory: self.memory }
    }

    pub fn memory(&self) -> &'static Memory {
        self.memory
    }

    pub fn size(&self) -> usize {
        self.memory.size
    }

    pub fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        self.fits(offset, 4).then(|| {
            let new = || &*Box::leak(Box::new(AtomicU32::at(self.memory, offset)));
            *self.memory.contents().words.entry(offset).or_insert_with(new)
        })
    }

    pub fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        self.fits(offset, 8).then(|| {
            let new = || &*Box::leak(Box::new(AtomicU64::at(self.memory, offset)));
            *self.memory.contents().doubles.entry(offset).or_insert_with(new)
        })
    }

    fn fits(&self, offset: usize, width: usize) -> bool {
        offset.checked_add(width).is_some_and(|end| end <= self.size()) && offset.is_multiple_of(width)
    }

    /// The double words of a range, and what bytes of each belong to it.
    fn doubles(&self, offset: usize, length: usize) -> impl Iterator<Item = (Place, Range<usize>)> {
        let (memory, end) = (self.memory, offset + length);
        (offset / 8 * 8..end).step_by(8).map(move |at| {
            let place = Place { memory, at, width: Width::Eight, any_width: true };
            (place, offset.saturating_sub(at)..(end - at).min(8))
        })
    }

    /// Stores in any order, as far as others can tell.
    #[must_use]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        let fits = offset.checked_add(bytes.len()).is_some_and(|end| end <= self.size());
        if fits {
            let mut rest = bytes;
            for (place, range) in self.doubles(offset, bytes.len()) {
                let mut value = place.last().to_le_bytes();
                let (now, later) = rest.split_at(range.len());
                value[range].copy_from_slice(now);
                place.store(u64::from_le_bytes(value), Ordering::Relaxed);
                rest = later;
            }
        }
        fits
    }

    #[must_use]
    pub fn read(&self, offset: usize, length: usize, into: &mut Vec<u8>) -> bool {
        let start = into.len();
        into.resize(start + length, 0);
        let fits = self.read_into(offset, &mut into[start..]);
        if !fits {
            into.truncate(start);
        }
        fits
    }

    #[must_use]
    pub fn read_into(&self, offset: usize, into: &mut [u8]) -> bool {
        let fits = offset.checked_add(into.len()).is_some_and(|end| end <= self.size());
        if fits {
            let mut rest = into;
            for (place, range) in self.doubles(offset, rest.len()) {
                let (now, later) = rest.split_at_mut(range.len());
                now.copy_from_slice(&place.load(Ordering::Relaxed).to_le_bytes()[range]);
                rest = later;
            }
        }
        fits
    }

    pub fn populate(&self, _: usize, _: usize) {}

    pub fn address(&self, _: usize) -> Option<NonNull<u8>> {
        None
    }

    #[must_use]
    pub fn leak(self) -> &'static Self {
        Box::leak(Box::new(self))
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "a model of {} bytes", self.size())
    }
}
