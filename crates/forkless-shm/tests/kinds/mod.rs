//! A kind of block that owns another one, to see how blocks are taken apart.

use std::sync::atomic::Ordering;

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Arena, Error, Kind, Lease};

/// A block whose first word is the offset of the block it owns, or zero.
pub const WRAPPER: u8 = 1;

/// A block that is an account of one process.
#[allow(dead_code)] // not every test has one
pub const PRIVATE: u8 = 2;

/// What the arenas of these tests are made with.
pub static KINDS: &[Kind] = &[
    Kind { id: WRAPPER, drain: Some(unwrap), settle: None, private: false },
    Kind { id: PRIVATE, drain: None, settle: None, private: true },
];

/// A new block that keeps what `content` keeps alive.
pub fn wrap(arena: &'static Arena, content: Lease) -> Lease {
    let wrapper = arena.allocate(40, PLAIN).expect("the arena has room");
    let at = wrapper.block().payload();
    arena.map().u64(at).expect("a block is in its arena").store(0, Ordering::SeqCst);
    wrapper.set_kind(WRAPPER).expect("a block is in its arena");
    content.entrust(&[(at, content.block().offset() as u64)]).expect("the note is in the arena");
    wrapper
}

fn unwrap(arena: &'static Arena, wrapper: Block) -> Result<usize, Error> {
    let at = wrapper.payload();
    let content = arena.map().u64(at).ok_or(Error::Corrupt("a wrapper"))?.load(Ordering::SeqCst) as usize;
    if content != 0 {
        drop(Lease::adopt(arena, arena.block(content)?, (at, 0))?);
    }
    Ok(0)
}
