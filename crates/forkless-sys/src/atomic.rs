//! The atomics in shared memory, and the fences between them.
//!
//! The one way to both: the standard library's as a rule, and those of the model checker [loom] under `--cfg loom`, where
//! a [`Mapping`](crate::memory::Mapping) is a model of shared memory and the same protocols run in every order that
//! matters. What is private to a process, such as a `static`, is the standard library's always.
//!
//! [loom]: https://docs.rs/loom

pub use std::sync::atomic::Ordering;

#[cfg(loom)]
pub use crate::model::{AtomicU32, AtomicU64, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// How many passes a spin makes that could have this many: none in a model, where they would be orders without end.
#[must_use]
pub const fn spins(passes: u32) -> u32 {
    if cfg!(loom) { 0 } else { passes }
}
