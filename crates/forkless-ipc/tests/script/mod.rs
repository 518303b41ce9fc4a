#![allow(clippy::unwrap_used, dead_code)] // unwrapping is how a helper of tests fails; no test uses all of them
//! Messages that check themselves: everything about one follows from its number.

use forkless_ipc::{Buffer, Channel, Handle, Message};
use forkless_shm::block::PLAIN;
use forkless_shm::{Arena, Statistics};
use forkless_sys::time::Deadline;
use forkless_testing::{PATIENCE, Random};

/// Bytes and number of handles of the messages of a script: small ones, the largest that travel inline (four of them
/// fill a chunk), parcels, and messages that carry buffers.
pub const SCRIPT: [(usize, usize); 14] = [
    (0, 0),
    (10, 0),
    (16 << 10, 0),
    (16 << 10, 0),
    (16_000, 0),
    (16 << 10, 0),
    (0, 1),
    ((16 << 10) + 1, 0),
    (100_000, 0),
    (16 << 10, 0),
    (20_000, 2),
    (16 << 10, 0),
    (3, 0),
    (16 << 10, 0),
];

/// Bytes of a handle in a message.
const HANDLE: usize = 20;

fn random(number: u64, length: usize) -> Vec<u8> {
    Random::new(number).bytes(length)
}

/// Sends message `number` of this shape: the handles of new buffers, then bytes that follow from the number.
pub fn send(channel: &Channel, number: u64, (length, handles): (usize, usize)) {
    let arena = channel.lease().arena();
    let description = number.to_le_bytes();
    let buffers: Vec<_> =
        (0..handles).map(|_| Buffer::create(arena, &description, &random(!number, 3000)).unwrap()).collect();
    let mut bytes = Vec::new();
    for buffer in &buffers {
        let Handle { arena, offset, generation } = buffer.lease().handle().unwrap();
        bytes.extend(arena.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend(generation.to_le_bytes());
    }
    bytes.extend(random(number, length));
    let leases: Vec<_> = buffers.iter().map(Buffer::lease).collect();
    assert!(channel.send(number, &bytes, &leases, Deadline::after(PATIENCE)).unwrap(), "no room after {PATIENCE:?}");
}

/// Checks that a message, and whatever it carries, is as it was sent.
pub fn check(arena: &'static Arena, message: &Message, (length, handles): (usize, usize)) {
    let number = message.tag;
    let bytes = message.bytes().unwrap();
    let (carried, rest) = bytes.split_at(handles * HANDLE);
    assert!(rest == random(number, length), "message {number} is not what was sent");
    for handle in carried.chunks_exact(HANDLE) {
        let word = |at: usize| u64::from_le_bytes(handle[at..at + 8].try_into().unwrap());
        let generation = u32::from_le_bytes(handle[16..].try_into().unwrap());
        let buffer = Buffer::open(arena, Handle { arena: word(0), offset: word(8), generation }).unwrap();
        assert_eq!(buffer.description(), number.to_le_bytes());
        assert_eq!(buffer.length(), 3000);
    }
}

/// The next message, which must be there.
pub fn receive(channel: &Channel) -> Message {
    channel.receive(Deadline::after(PATIENCE)).unwrap().expect("a message within the test's patience")
}

/// The next message, if there is one.
pub fn try_receive(channel: &Channel) -> Option<Message> {
    channel.receive(Deadline::after(std::time::Duration::ZERO)).unwrap()
}

/// Leaves garbage in the blocks that will be allocated next, so that nothing relies on zeros.
pub fn litter(arena: &'static Arena) {
    let sizes = (6..18).flat_map(|class| [(1 << class) - 64; 4]);
    let leases: Vec<_> = sizes.map(|size| arena.allocate(size, PLAIN).unwrap()).collect();
    for lease in &leases {
        assert!(arena.map().write(lease.block().payload(), &vec![0xa5; lease.block().capacity()]));
    }
}

/// What must be the same before and after.
pub fn census(arena: &'static Arena) -> (Statistics, usize) {
    let Statistics { blocks, dying, leases, .. } = arena.statistics().expect("the heap is sound");
    (Statistics { blocks, dying, leases, ..Statistics::default() }, arena.processes().len())
}
