//! Sleeping on shared words.
//!
//! [`futex(2)`] and [`futex_waitv(2)`], without the PRIVATE flag: the words live in memory that several processes
//! map at different addresses. `futex_waitv` needs Linux 5.16 and may be refused by a seccomp profile (gVisor, old
//! container runtimes); then [`wait_either`] sleeps on the first word alone, in shorter slices.
//!
//! [`futex(2)`]: https://man7.org/linux/man-pages/man2/futex.2.html
//! [`futex_waitv(2)`]: https://docs.kernel.org/userspace-api/futex2.html
#![cfg_attr(loom, allow(unused))] // a model sleeps in `model.rs`

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec};

use crate::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
pub use crate::model::{wait, wait_either, wake};

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A wake-up arrived, or the word had another value than expected already. Look again.
    Look,
    /// The time is over.
    TimedOut,
    /// A signal handler ran. Python's handlers should run before the next sleep.
    Interrupted,
}

/// Set once the kernel has refused `futex_waitv`.
static NO_WAITV: AtomicBool = AtomicBool::new(false);

/// How long [`wait_either`] sleeps at most where it cannot watch the second word.
const BLIND_SLICE: Duration = Duration::from_millis(5);

/// Sleeps while `word` holds `expected`, at most for `timeout`.
#[cfg(not(loom))]
pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> Woken {
    let timeout = timespec(timeout);
    outcome(futex::wait(word, futex::Flags::empty(), expected, Some(&timeout)))
}

/// Sleeps while both words hold what is expected of them, at most for `timeout`.
#[cfg(not(loom))]
pub fn wait_either(first: (&AtomicU32, u32), second: (&AtomicU32, u32), timeout: Duration) -> Woken {
    if !NO_WAITV.load(Ordering::Relaxed) {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let until = now.checked_add(timespec(timeout)).unwrap_or(now);
        let waiters = [shared_wait(first), shared_wait(second)];
        match futex::waitv(&waiters, futex::WaitvFlags::empty(), Some(&until), ClockId::Monotonic) {
            Err(Errno::NOSYS | Errno::PERM) => NO_WAITV.store(true, Ordering::Relaxed),
            other => return outcome(other.map(|_| ())),
        }
    }
    if second.0.load(Ordering::Acquire) != second.1 {
        return Woken::Look;
    }
    match wait(first.0, first.1, timeout.min(BLIND_SLICE)) {
        Woken::TimedOut if timeout > BLIND_SLICE => Woken::Look,
        other => other,
    }
}

/// Wakes up to `count` sleepers on `word`, in any process.
#[cfg(not(loom))]
pub fn wake(word: &AtomicU32, count: u32) {
    // Waking a valid word cannot fail; a failure would only delay a waiter until its slice ends.
    let _ = futex::wake(word, futex::Flags::empty(), count);
}

/// Every sleeper, for [`wake`].
pub const ALL: u32 = i32::MAX as u32;

#[cfg(not(loom))]
fn shared_wait((word, expected): (&AtomicU32, u32)) -> futex::Wait {
    let mut wait = futex::Wait::new();
    wait.val = u64::from(expected);
    wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
    wait.flags = futex::WaitFlags::SIZE_U32;
    wait
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

fn outcome(result: Result<(), Errno>) -> Woken {
    match result {
        Err(Errno::TIMEDOUT) => Woken::TimedOut,
        Err(Errno::INTR) => Woken::Interrupted,
        // Woken, or EAGAIN: the word changed before we slept. Any other error would be a word outside our
        // mappings, which the types rule out; looking again is right there too.
        _ => Woken::Look,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_does_not_sleep() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0, Duration::from_secs(60)), Woken::Look);
        assert_eq!(wait_either((&word, 1), (&word, 0), Duration::from_secs(60)), Woken::Look);
    }

    #[test]
    fn an_unchanged_word_times_out() {
        let word = AtomicU32::new(0);
        assert_eq!(wait(&word, 0, Duration::from_millis(1)), Woken::TimedOut);
        assert_eq!(wait_either((&word, 0), (&word, 0), Duration::from_millis(1)), Woken::TimedOut);
    }

    #[test]
    fn either_word_wakes() {
        for index in 0..2 {
            let words = [AtomicU32::new(0), AtomicU32::new(0)];
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| {
                    while words.iter().all(|word| word.load(Ordering::Acquire) == 0) {
                        wait_either((&words[0], 0), (&words[1], 0), Duration::from_secs(60));
                    }
                });
                words[index].store(1, Ordering::Release);
                wake(&words[index], ALL);
                sleeper.join().unwrap();
            });
        }
    }
}
