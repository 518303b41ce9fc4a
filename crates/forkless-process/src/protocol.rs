//! What is said to the template: one message of fixed size per request, answered through the arena.
//!
//! A request is one `sendmsg` on a `SOCK_SEQPACKET` socket, so threads and signal handlers need no lock around it; the
//! answer (a pid, or why there is none) appears in the slot that the request names.

use forkless_shm::{Handle, Owner};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Error;

/// How a child begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Forked from the template.
    Forkserver,
    /// A fresh interpreter.
    Spawn,
}

impl Method {
    const ALL: [Self; 2] = [Self::Forkserver, Self::Spawn];

    /// The name users know.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forkserver => "forkserver",
            Self::Spawn => "spawn",
        }
    }

    /// From [`Self::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

const START_FORKSERVER: u32 = 1;
const START_SPAWN: u32 = 2;
const ATTACH: u32 = 3;
const SHUTDOWN: u32 = 4;
const REFILL: u32 = 5;
const KILL: u32 = 6;
const LEARN: u32 = 7;
const RETIRE: u32 = 8;
const KEEP: u32 = 9;
const REDEEM: u32 = 10;

/// `flk1`, so that a stray connection is told from ours.
const MAGIC: u32 = u32::from_le_bytes(*b"flk1");

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Start a child for this slot; its job is in the parcel. Brings descriptors 0 to 2.
    Start { method: Method, owner: Owner, job: Handle },
    /// Send the arena's memory file.
    Attach,
    /// End, with all children.
    Shutdown,
    /// A standby was taken: another one is wanted.
    Refill,
    /// Have no more standbys, and end with the last child.
    Retire,
    /// Kill this child at that moment ([`monotonic_ns`](forkless_sys::time::monotonic_ns)) unless it has ended before.
    Kill { owner: Owner, at: u64 },
    /// What children to come take over from the root is in this block, which the root keeps alive.
    Learn { surroundings: Handle },
    /// Keep the descriptor that this brings until the deposit is gone, and say so in it.
    Keep { deposit: Handle },
    /// Send a descriptor that is kept: the answer is one byte, [`GRANTED`] or [`UNKNOWN`].
    Redeem { deposit: Handle },
}

/// The answer that brings a descriptor.
pub(crate) const GRANTED: u8 = 1;
/// The answer when there is none.
pub(crate) const UNKNOWN: u8 = 0;

/// The message's layout.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
struct Wire {
    magic: u32,
    operation: u32,
    owner: u32,
    generation: u32,
    arena: u64,
    offset: u64,
}

impl Wire {
    fn handle(&self) -> Handle {
        Handle { arena: self.arena, offset: self.offset, generation: self.generation }
    }

    fn set_handle(&mut self, handle: Handle) {
        Handle { arena: self.arena, offset: self.offset, generation: self.generation } = handle;
    }
}

/// Bytes of every request.
pub(crate) const SIZE: usize = size_of::<Wire>();

impl Request {
    pub(crate) fn to_bytes(self) -> [u8; SIZE] {
        let mut wire = Wire { magic: MAGIC, ..Wire::default() };
        match self {
            Self::Start { method, owner, job } => {
                wire.operation = match method {
                    Method::Forkserver => START_FORKSERVER,
                    Method::Spawn => START_SPAWN,
                };
                wire.owner = owner.word();
                wire.set_handle(job);
            }
            Self::Attach => wire.operation = ATTACH,
            Self::Shutdown => wire.operation = SHUTDOWN,
            Self::Refill => wire.operation = REFILL,
            Self::Retire => wire.operation = RETIRE,
            Self::Kill { owner, at } => {
                wire.operation = KILL;
                wire.owner = owner.word();
                wire.offset = at;
            }
            Self::Learn { surroundings } => {
                wire.operation = LEARN;
                wire.set_handle(surroundings);
            }
            Self::Keep { deposit } => {
                wire.operation = KEEP;
                wire.set_handle(deposit);
            }
            Self::Redeem { deposit } => {
                wire.operation = REDEEM;
                wire.set_handle(deposit);
            }
        }
        let mut bytes = [0; SIZE];
        bytes.copy_from_slice(wire.as_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wire = Wire::read_from_bytes(bytes).map_err(|_| Error::Protocol("size"))?;
        if wire.magic != MAGIC {
            return Err(Error::Protocol("not a request"));
        }
        let owner = || Owner::from_word(wire.owner).ok_or(Error::Protocol("no such slot"));
        let handle = wire.handle();
        match wire.operation {
            START_FORKSERVER => Ok(Self::Start { method: Method::Forkserver, owner: owner()?, job: handle }),
            START_SPAWN => Ok(Self::Start { method: Method::Spawn, owner: owner()?, job: handle }),
            ATTACH => Ok(Self::Attach),
            SHUTDOWN => Ok(Self::Shutdown),
            REFILL => Ok(Self::Refill),
            RETIRE => Ok(Self::Retire),
            KILL => Ok(Self::Kill { owner: owner()?, at: wire.offset }),
            LEARN => Ok(Self::Learn { surroundings: handle }),
            KEEP => Ok(Self::Keep { deposit: handle }),
            REDEEM => Ok(Self::Redeem { deposit: handle }),
            _ => Err(Error::Protocol("unknown request")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One of each kind.
    pub(crate) fn examples() -> [Request; 10] {
        let job = Handle { arena: 1, offset: 64, generation: 2 };
        let owner = Owner::from_word(0x1_0001).unwrap();
        [
            Request::Start { method: Method::Spawn, owner, job },
            Request::Start { method: Method::Forkserver, owner, job },
            Request::Attach,
            Request::Shutdown,
            Request::Refill,
            Request::Retire,
            Request::Kill { owner, at: u64::MAX },
            Request::Learn { surroundings: job },
            Request::Keep { deposit: job },
            Request::Redeem { deposit: job },
        ]
    }

    #[test]
    fn requests_survive_the_wire() {
        for request in examples() {
            assert_eq!(Request::from_bytes(&request.to_bytes()).unwrap(), request);
        }
    }

    #[test]
    fn damaged_requests_are_errors() {
        let good = Request::Attach.to_bytes();
        assert!(Request::from_bytes(&good[1..]).is_err());
        for index in 0..8 {
            let mut bad = good;
            bad[index] ^= 0xff;
            assert!(Request::from_bytes(&bad).is_err());
        }
        let mut no_slot = Request::Attach.to_bytes();
        no_slot[4] = 1;
        assert!(Request::from_bytes(&no_slot).is_err());
    }
}
