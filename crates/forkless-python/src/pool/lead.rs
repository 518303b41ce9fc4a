//! Who receives the answers: as a rule the pool's collector, a thread; but where a program does nothing but submit a task
//! and wait for it, that would be one thread waking another for nothing. Then the collector *rests*, and whoever waits
//! *leads*: it receives its answer itself.
//!
//! The collector rests after some answers in a row that left nothing to do. It looks every [`TICK`]
//! whether it is needed, and rests no longer than [`REST`] after somebody last led. Whatever else happens [rouses](Turn::rouse) it:
//! a second task, a callback, an answer that is no mere result, the end of a child, a leader who leaves work behind.
//!
//! One receives at a time. The turn is no lock: nobody waits for it, and it is held while nothing runs but the reception.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forkless_process::pool::Arrived;

/// Answers in a row after which the collector rests.
const STREAK: u32 = 3;
/// How often it looks whether it is needed. This is the most by which the outcome of a task is late that was
/// submitted after a rest began, if nobody waits for it and nothing else happens.
const TICK: Duration = Duration::from_millis(5);
const REST: Duration = Duration::from_millis(100);
/// For how long a leader looks out for its answer before it sleeps, where the last one came in less than [`QUICK`]: it takes
/// some 30 us to wake a worker, and as long to be woken by it; once both look out for each other, 3 us there and back.
const LOOKOUT: Duration = Duration::from_micros(50);
const QUICK: Duration = Duration::from_micros(200);

/// Whose turn it is.
pub(crate) struct Turn {
    /// Somebody receives.
    taken: AtomicBool,
    resting: AtomicBool,
    streak: AtomicU32,
    /// Somebody has led since this was last looked at.
    led: AtomicBool,
    roused: Mutex<bool>,
    condvar: Condvar,
    /// What leaders have received and leave to the collector.
    left: Mutex<Vec<Arrived>>,
    /// The last leader's answer came at once.
    quick: AtomicBool,
    /// Leaders that may have received something that they have not taken in or left.
    hands: AtomicU32,
}

/// The turn, taken.
pub(crate) struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}

/// What a leader has received is in its hands.
pub(crate) struct Hands<'a>(&'a Turn);

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        self.0.hands.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            streak: AtomicU32::new(0),
            led: AtomicBool::new(false),
            roused: Mutex::new(false),
            condvar: Condvar::new(),
            left: Mutex::default(),
            quick: AtomicBool::new(true),
            hands: AtomicU32::new(0),
        }
    }

    /// Takes it, unless somebody has it.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        let free = self.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        free.then(|| Taken(self))
    }

    /// Takes it in place of the collector, if that rests.
    pub(crate) fn lead(&self) -> Option<Taken<'_>> {
        if !self.is_resting() {
            return None;
        }
        let taken = self.take()?;
        if !self.left.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return None; // That is to be seen to first.
        }
        self.led.store(true, Ordering::Relaxed);
        Some(taken)
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Acquire)
    }

    /// The collector is needed.
    pub(crate) fn rouse(&self) {
        *self.roused.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condvar.notify_all();
    }

    /// Leaves something to the collector.
    pub(crate) fn leave(&self, arrived: Arrived) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(arrived);
        self.rouse();
    }

    /// What a leader does before it sleeps: looks whether it is `ready`, for a moment. Returns when it began.
    pub(crate) fn look_out(&self, ready: impl Fn() -> bool) -> Instant {
        let begun = Instant::now();
        while self.quick.load(Ordering::Relaxed) && !ready() && begun.elapsed() < LOOKOUT {
            std::hint::spin_loop();
        }
        begun
    }

    /// A leader is done.
    pub(crate) fn note_quick(&self, begun: Instant) {
        self.quick.store(begun.elapsed() < QUICK, Ordering::Relaxed);
    }

    /// Said before something is received, until it is taken in or left.
    pub(crate) fn hold(&self) -> Hands<'_> {
        self.hands.fetch_add(1, Ordering::AcqRel);
        Hands(self)
    }

    /// Whether nothing that was received before is in anybody's hands, or left.
    pub(crate) fn is_empty_handed(&self) -> bool {
        self.hands.load(Ordering::Acquire) == 0 && self.left.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What was left to the collector.
    pub(crate) fn take_left(&self) -> Vec<Arrived> {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The collector has brought answers. `alone`: nothing is left to do.
    pub(crate) fn note(&self, alone: bool) {
        if alone {
            self.streak.fetch_add(1, Ordering::Relaxed);
        } else {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// The collector rests, if it may, until it is needed or `bound` has passed.
    pub(crate) fn rest(&self, bound: Duration, is_needed: impl Fn() -> bool) {
        if self.streak.load(Ordering::Relaxed) < STREAK {
            return;
        }
        let end = Instant::now() + bound;
        let mut last = Instant::now();
        self.resting.store(true, Ordering::Release);
        let mut roused = self.roused.lock().unwrap_or_else(PoisonError::into_inner);
        while !*roused && Instant::now() < end {
            (roused, _) = self.condvar.wait_timeout(roused, TICK).unwrap_or_else(PoisonError::into_inner);
            if self.led.swap(false, Ordering::Relaxed) {
                last = Instant::now();
            } else if is_needed() || last.elapsed() > REST {
                *roused = true;
            }
        }
        let needed = std::mem::replace(&mut *roused, false);
        drop(roused);
        if needed {
            self.streak.store(0, Ordering::Relaxed);
        }
        self.resting.store(false, Ordering::Release);
    }
}
