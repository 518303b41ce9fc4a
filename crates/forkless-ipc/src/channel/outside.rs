//! A channel as a stranger sees it, who has no place in its tree: by reading.

use forkless_shm::waits::Outside;

use super::Channel;
use super::core::{RECEIVE, SEND};

impl Channel {
    /// How many messages wait in the channel in a block; `None` if the block is gone, or is none.
    #[must_use]
    pub fn pending_from_outside(arena: &Outside<'_>, offset: usize, generation: u32) -> Option<u32> {
        let (_, at) = arena.block(offset, generation).filter(|(kind, _)| *kind == Self::KIND)?;
        let received = arena.u32(at + RECEIVE.count_at())?;
        // Read afterwards: it is never behind the other.
        Some(arena.u32(at + SEND.count_at())?.wrapping_sub(received))
    }
}
