//! Messages between processes that may die at any instruction.
//!
//! A [`Channel`] carries bytes, first in first out, from any process of the tree to any other. A message is committed by
//! one store: death before it, and nothing happened; after it, the message is whole and survives its sender. A
//! message may carry handles of objects in the arena; it keeps them alive while it is on its way.

mod buffer;
mod channel;
mod deposit;
pub mod format;
mod memory;
mod parcel;
mod segment;

pub use buffer::Buffer;
pub use channel::{
    Awaited, Channel, Claim, Closing, Joined, Loss, Message, Outbox, Packed, Received, Sent, Statistics,
};
pub use deposit::{Deposit, State};
pub use forkless_shm::{Handle, Kind, Lease};
pub use memory::Memory;
pub use parcel::{Content, Parcel};
pub use segment::Segment;

/// Every kind of block that needs taking apart; what to make and join arenas with.
pub static KINDS: &[Kind] = &[
    channel::KIND,
    channel::ACCOUNT,
    parcel::KIND,
    deposit::KIND,
    segment::KIND,
    forkless_sync::KINDS[0],
    forkless_sync::KINDS[1],
];
