//! Deadlines on the monotonic clock.

use std::time::{Duration, Instant};

/// The longest that anything sleeps before it looks again.
///
/// Wake-ups are sent where they are due; this bound is what makes a lost one (its sender was killed, the waiter
/// was killed after being chosen) cost 50 ms instead of for ever. Sources: the prototypes' 2000 kills, longest
/// wait under two bounds.
pub const SLICE: Duration = Duration::from_millis(50);

/// A moment to give up at, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Waits for as long as it takes.
    pub const NEVER: Self = Self(None);

    /// `timeout` from now; a timeout too long for the clock means never.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(now().checked_add(timeout))
    }

    /// Whether the moment has come.
    #[must_use]
    pub fn passed(self) -> bool {
        self.0.is_some_and(|at| now() >= at)
    }

    /// What is left, at most `bound`; zero when the moment has passed.
    #[must_use]
    pub fn remaining(self, bound: Duration) -> Duration {
        self.0.map_or(bound, |at| at.saturating_duration_since(now()).min(bound))
    }
}

/// How long to wait for what another process is about to do, where nothing but time could tell that it never will.
///
/// It is over when the clock says so *and* there were so many looks: all of a machine may stand still, or this process alone,
/// for minutes, and what was about to happen has then had no time to. Each look is to be a sleep of about
/// [`SLICE`](Self::SLICE), or less if woken.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Deadline,
    looks: u32,
}

impl Patience {
    /// How long to sleep between two looks, at most.
    pub const SLICE: Duration = SLICE;

    /// For that long, at least.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        let looks = patience.as_millis() / Self::SLICE.as_millis();
        Self { until: Deadline::after(patience), looks: u32::try_from(looks).unwrap_or(u32::MAX) }
    }

    /// Counts a look that came to nothing; whether it was the last.
    pub fn is_over(&mut self) -> bool {
        let was_last = self.looks == 0;
        self.looks = self.looks.saturating_sub(1);
        was_last && self.until.passed()
    }
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Self {
        Self(Some(at))
    }
}

#[cfg(not(loom))]
fn now() -> Instant {
    Instant::now()
}

/// The clock of a model stands still: an order of steps comes to the same each time it is gone through.
#[cfg(loom)]
fn now() -> Instant {
    static NOW: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *NOW.get_or_init(Instant::now)
}

/// Nanoseconds of the monotonic clock, the same in every process of the machine.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The same clock as the last tick of the kernel left it: a few milliseconds late, and several times cheaper.
#[must_use]
pub fn coarse() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_too_far_away_is_never() {
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
        assert!(!Deadline::NEVER.passed());
        assert_eq!(Deadline::NEVER.remaining(SLICE), SLICE);
    }

    #[test]
    fn patience_is_not_spent_by_a_clock_that_jumps() {
        let mut patience = Patience::new(Duration::from_secs(1));
        // As after a pause of all of the machine.
        patience.until = Deadline::from(Instant::now());
        assert_eq!((0..).take_while(|_| !patience.is_over()).count(), 20);
        let mut patience = Patience::new(Duration::from_secs(3600));
        assert!((0..1_000_000).all(|_| !patience.is_over()), "nor by wake-ups");
    }

    #[test]
    fn a_deadline_of_zero_has_passed() {
        assert!(Deadline::from(Instant::now()).passed());
        let now = Deadline::after(Duration::ZERO);
        assert!(now.passed());
        assert_eq!(now.remaining(SLICE), Duration::ZERO);
    }
}
