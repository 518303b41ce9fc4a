//! The arena: one piece of shared memory per process tree.
//!
//! A sealed, sparse, nameless memory file, mapped whole by every process of the tree at whatever address. In it:
//!
//! - one [slot](slot) per process: who it is, whether it lives, what it holds, how it ended;
//! - [blocks](block): allocated pieces, each with a kind and a generation; a [`Handle`] names one and travels;
//! - [leases](lease): what keeps a block alive. Each is written into its holder's slot list *before* it is held,
//!   so that the [cleaner](clean) can undo exactly what a dead process had;
//! - a [directory](names) of blocks that have a name;
//! - a [log](txn) of one transaction, so that death inside the allocator leaves everything or nothing.
//!
//! Offsets only, never pointers; every value read back is checked as input from outside.
#![cfg_attr(loom, allow(clippy::reversed_empty_ranges))] // a spin of no passes

pub mod arena;
pub mod block;
pub mod clean;
mod last_words;
mod layout;
pub mod lease;
pub mod names;
pub mod robust;
pub mod slot;
mod standby;
mod statistics;
pub mod survey;
mod txn;
pub mod waits;
pub mod warm;

pub use arena::Arena;
pub use block::{Block, Handle, Kind};
pub use lease::Lease;
pub use robust::{Acquired, Attempt, Wait};
pub use slot::{Owner, Role};
pub use statistics::Statistics;
pub use survey::Survey;
pub use txn::Read;
pub use waits::{WaitNote, Waited};

use forkless_sys::Errno;

/// What can go wrong in the arena.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The system refused memory, descriptors or a mapping.
    #[error("cannot {action}: {errno}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// The arena has no room for a block of this many bytes.
    #[error("the shared arena is full: no room for {bytes} bytes (it has {size}; RLIMIT_AS may keep it small)")]
    Full {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes the arena has in all.
        size: usize,
    },
    /// The message can never have room where it is to wait.
    #[error("a message of {bytes} bytes can never fit into a queue of at most {limit} (max_bytes)")]
    TooLarge {
        /// Bytes of the message.
        bytes: u64,
        /// The most that may wait.
        limit: u64,
    },
    /// The machine, or the control group, has no memory for the pages of a block.
    #[error(
        "no memory for {bytes} bytes more: {available} bytes are available on this machine, or to this control group; send \
         less at once, or have receivers drop what they have"
    )]
    NoMemory {
        /// Bytes needed.
        bytes: u64,
        /// Bytes there are.
        available: u64,
    },
    /// An environment variable has a value that says nothing.
    #[error("{name}={value} is no number of bytes: it may be 0, 4096, 64M or 1G, for example")]
    Setting {
        /// Of the variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Every process slot is taken.
    #[error("the process tree is full: all {} slots are taken", layout::SLOTS)]
    NoSlot,
    /// The handle's object is gone, or it belongs to another process tree.
    #[error("{0}")]
    Stale(&'static str),
    /// A value in shared memory is not one that forkless wrote.
    #[error("shared memory is damaged: {0}")]
    Corrupt(&'static str),
}

impl Error {
    pub(crate) fn system(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { action, errno }
    }
}
