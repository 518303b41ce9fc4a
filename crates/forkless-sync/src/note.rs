//! What stands beside a lock for whoever finds its owner dead: since when it was held, and where it was made.

use std::time::Duration;

use forkless_shm::{Arena, Error};
use forkless_sys::atomic::{AtomicU32, Ordering};
use forkless_sys::time;

/// Hundredths of a second on a clock that wraps after 497 days.
fn now() -> u32 {
    (time::coarse().as_millis() / 10) as u32
}

/// How long ago something was noted.
pub(crate) fn ago(then: u32) -> Duration {
    Duration::from_millis(10 * u64::from(now().wrapping_sub(then)))
}

/// The note of one lock: a word for the time, then text, padded with zeros.
#[derive(Clone, Copy)]
pub(crate) struct Note {
    pub(crate) arena: &'static Arena,
    /// Where the time is.
    pub(crate) since: usize,
    /// Where the text is, and bytes of it.
    pub(crate) origin: (usize, usize),
}

impl Note {
    fn since(self) -> Result<&'static AtomicU32, Error> {
        self.arena.map().u32(self.since).ok_or(Error::Corrupt("a lock"))
    }

    /// Notes that the lock was taken now.
    pub(crate) fn mark(self) -> Result<(), Error> {
        self.since()?.store(now(), Ordering::Relaxed);
        Ok(())
    }

    /// How long ago that was.
    pub(crate) fn held_for(self) -> Result<Duration, Error> {
        Ok(ago(self.since()?.load(Ordering::Relaxed)))
    }

    /// Notes where the lock was made: the end of the text, if there is no room for all.
    pub(crate) fn set_origin(self, origin: &str) -> Result<(), Error> {
        let (at, room) = self.origin;
        let start = origin.ceil_char_boundary(origin.len().saturating_sub(room));
        let mut bytes = vec![0; room];
        bytes[..origin.len() - start].copy_from_slice(&origin.as_bytes()[start..]);
        if self.arena.map().write(at, &bytes) { Ok(()) } else { Err(Error::Corrupt("a new lock")) }
    }

    /// Where the lock was made; empty if nobody said.
    pub(crate) fn origin(self) -> String {
        let mut bytes = Vec::new();
        let (at, room) = self.origin;
        // In bounds by the size of the block; a failure would read as an empty text.
        let _ = self.arena.map().read(at, room, &mut bytes);
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }
}
