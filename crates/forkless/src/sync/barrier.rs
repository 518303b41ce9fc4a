//! Nobody passes before all have arrived.

use std::time::Duration;

use forkless_shm::{Arena, Handle, Lease, Waited};
use forkless_sync::Passage;
use forkless_sys::time::Deadline;

use crate::shared::named;
use crate::wait::until;
use crate::{Error, arena};

/// Where a fixed number of processes or threads wait for each other, any number of times.
///
/// # When a process dies
///
/// If one that has arrived dies, the barrier breaks, within 100 ms: whoever waits gets [`Error::BarrierBroken`], as does
/// whoever comes later, until somebody [resets](Self::reset) it. One that dies on its way there goes unnoticed: look
/// after the processes that you wait for, or wait with a timeout.
///
/// # Examples
/// ```
/// use forkless::sync::Barrier;
///
/// # fn main() -> Result<(), forkless::Error> {
/// let barrier = Barrier::create(2)?;
/// let leaders = std::thread::scope(|scope| {
///     // Just as well another process, which has opened it by its handle.
///     let other = scope.spawn(|| barrier.wait());
///     let mine = barrier.wait()?.is_leader();
///     let other = other.join().expect("it does not panic")?.is_leader();
///     Ok::<_, forkless::Error>(usize::from(mine) + usize::from(other))
/// })?;
/// assert_eq!(leaders, 1);
/// # Ok(())
/// # }
/// ```
pub struct Barrier {
    inner: forkless_sync::Barrier,
    handle: Handle,
}

named!(Barrier, forkless_sync::Barrier, waiting, is_broken);

/// What a party learns when all have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this party is the one of all that does what only one should do: the last to arrive.
    #[must_use]
    pub fn is_leader(self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A new barrier for this many parties, in this process's [`arena`](crate::arena()). One for none lets each pass, as
    /// one for a single party does.
    ///
    /// # Errors
    /// [`Error::Arena`] if there is no arena, or no room in it.
    pub fn create(parties: u32) -> Result<Self, Error> {
        Self::wrap(forkless_sync::Barrier::create(arena()?, parties.max(1))?)
    }

    /// Waits until all have arrived.
    ///
    /// # Errors
    /// [`Error::BarrierBroken`] if one that has arrived dies or gives up, or the barrier is broken already or meanwhile.
    pub fn wait(&self) -> Result<BarrierWaitResult, Error> {
        self.wait_deadline(Deadline::NEVER)
    }

    /// As [`wait`](Self::wait), but gives up after this long, which breaks the barrier.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, Error> {
        self.wait_deadline(Deadline::after(timeout))
    }

    /// As [`wait`](Self::wait), but gives up at this moment, which breaks the barrier.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_deadline(&self, deadline: impl Into<Deadline>) -> Result<BarrierWaitResult, Error> {
        let deadline = deadline.into();
        // Those of the time before are on their way out, or dead, which is noticed: this takes no time worth limiting.
        let waited = (self.inner.lease(), Waited::Barrier);
        let arrival = until(Deadline::NEVER, waited, |bound| Ok(self.inner.arrive_within(bound)?))?;
        let Some(Ok(arrival)) = arrival else { return Err(Error::BarrierBroken) };
        let passage = if arrival.last {
            self.inner.pass(arrival)?
        } else {
            match until(deadline, waited, |bound| Ok(self.inner.wait_within(arrival, bound)?))? {
                Some(passage) => passage,
                None => self.inner.give_up(arrival)?,
            }
        };
        match passage {
            Passage::Passed => Ok(BarrierWaitResult(arrival.last)),
            Passage::Broken => Err(Error::BarrierBroken),
        }
    }

    /// How many have to arrive.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.inner.parties()
    }

    /// How many have arrived and wait. By the time this returns that may have changed.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn waiting(&self) -> Result<u32, Error> {
        Ok(self.inner.waiting()?)
    }

    /// Whether it is broken.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn is_broken(&self) -> Result<bool, Error> {
        Ok(self.inner.is_broken()?)
    }

    /// Breaks it, for example because this process cannot go on: nobody waits for it in vain.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn abort(&self) -> Result<(), Error> {
        Ok(self.inner.abort()?)
    }

    /// Makes it as new. Whoever waits gets [`Error::BarrierBroken`].
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn reset(&self) -> Result<(), Error> {
        Ok(self.inner.reset()?)
    }
}
