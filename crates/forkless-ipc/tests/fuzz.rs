//! Everything that an arena can hold, with words changed at will: whoever reads them gets an error or a value.
//!
//! As `damage.rs`, but with many changes at once, of all kinds of objects, in one process and arena: each round begins by
//! putting the arena back to what it was.
#![allow(clippy::unwrap_used)]

use std::cell::OnceCell;
use std::time::Duration;

use forkless_ipc::format::Value;
use forkless_ipc::{Awaited, Buffer, Channel, Claim, Closing, Content, KINDS, Memory, Parcel, Received, Segment};
use forkless_shm::block::PLAIN;
use forkless_shm::slot::End;
use forkless_shm::{Arena, Handle, Lease, Owner, Role, Wait, robust};
use forkless_sync::{Barrier, Condvar, Event, Mutex, ReentrantMutex, Semaphore, ValueMutex};
use forkless_sys::atomic::Ordering;
use forkless_sys::time::Deadline;
use forkless_testing::fuzz;

/// Long enough for what happens at once.
const BRIEFLY: Duration = Duration::from_micros(50);

/// See the layout of the arena.
const SLOTS_AT: usize = 4096;
const SLOT: usize = 256;
/// Notes of waits, 16 of 32 bytes for each slot, lie in between.
const HEAP: usize = SLOTS_AT + 4096 * (SLOT + 16 * 32);
/// What is put back: the header, the first slots, and the heap as far as what is in it at the beginning.
const PUT_BACK: [(usize, usize); 2] = [(0, SLOTS_AT + 16 * SLOT), (HEAP, 16 << 10)];

/// An arena that can be put back to what it was before there was anything in it.
struct Ground {
    arena: &'static Arena,
    before: Vec<Vec<u8>>,
}

impl Ground {
    fn new() -> Self {
        let arena = Arena::create(KINDS).unwrap();
        arena.me().unwrap();
        // The first leases make room for others.
        drop(arena.allocate(1, PLAIN).unwrap());
        let read = |(at, length)| {
            let mut bytes = Vec::new();
            assert!(arena.map().read(at, length, &mut bytes));
            bytes
        };
        Self { arena, before: PUT_BACK.map(read).into() }
    }

    fn put_back(&self) {
        for ((at, _), bytes) in PUT_BACK.iter().zip(&self.before) {
            // Not the words that the kernel and the C library have: they have not changed.
            if *at == 0 {
                assert!(self.arena.map().write(0, &bytes[..SLOTS_AT]));
                for slot in (SLOTS_AT..bytes.len()).step_by(SLOT) {
                    assert!(self.arena.map().write(slot + 64, &bytes[slot + 64..slot + SLOT]));
                }
            } else {
                assert!(self.arena.map().write(*at, bytes));
            }
        }
    }
}

/// Of the segment.
const NAME: &str = "forkless-fuzz";

thread_local! {
    static GROUND: OnceCell<Ground> = const { OnceCell::new() };
    /// The same in each round.
    static RECORDS: OnceCell<usize> = const { OnceCell::new() };
}

/// The bytes of the first message, by which the records of a channel are found.
const MARK: &[u8] = b"found wherever a channel has them";
/// Where they are looked for.
const SEARCHED: usize = 1 << 20;

fn find(arena: &Arena) -> usize {
    let mut heap = Vec::new();
    assert!(arena.map().read(HEAP, SEARCHED, &mut heap));
    let at = heap.windows(MARK.len()).position(|bytes| bytes == MARK).expect("a message in the heap");
    HEAP + at
}

/// One of everything, in use.
struct Town {
    arena: &'static Arena,
    records: usize,
    reserved: Owner,
    channel: Channel,
    parcel: Parcel,
    buffer: Buffer,
    memory: Memory,
    segment: Segment,
    mutex: Mutex,
    reentrant: ReentrantMutex,
    value: ValueMutex,
    semaphore: Semaphore,
    event: Event,
    condvar: Condvar,
    barrier: Barrier,
}

impl Town {
    fn build(arena: &'static Arena) -> Self {
        let buffer = Buffer::create(arena, b"description", &[7; 300]).unwrap();
        let channel = Channel::create(arena, 0).unwrap();
        let now = || Deadline::after(Duration::ZERO);
        assert!(channel.send(1, MARK, &[], now()).unwrap());
        assert!(channel.send(2, &[2; 20], &[buffer.lease()], now()).unwrap());
        assert!(channel.send(3, b"", &[], now()).unwrap());
        Self {
            arena,
            records: RECORDS.with(|place| *place.get_or_init(|| find(arena))),
            reserved: arena.reserve_slot(Role::Child, "reserved").unwrap(),
            parcel: Parcel::pack(
                arena,
                &Content {
                    parts: &[&[8; 20]],
                    extents: &[&[9; 100], &[]],
                    handles: &[buffer.lease(), channel.lease()],
                },
            )
            .unwrap(),
            memory: Memory::create(arena, 100).unwrap(),
            segment: Segment::create(arena, NAME, 100).unwrap().expect("nobody else has the name"),
            mutex: Mutex::create_at(arena, "here").unwrap(),
            reentrant: ReentrantMutex::create_at(arena, "here").unwrap(),
            value: ValueMutex::create(arena, "u64", &[9; 8]).unwrap(),
            semaphore: Semaphore::create(arena, 2, 5).unwrap(),
            event: Event::create(arena).unwrap(),
            condvar: Condvar::create(arena).unwrap(),
            barrier: Barrier::create(arena, 2).unwrap(),
            channel,
            buffer,
        }
    }

    fn leases(&self) -> [&Lease; 12] {
        [
            self.channel.lease(),
            self.parcel.lease(),
            self.buffer.lease(),
            self.memory.lease(),
            self.mutex.lease(),
            self.reentrant.lease(),
            self.value.lease(),
            self.semaphore.lease(),
            self.event.lease(),
            self.condvar.lease(),
            self.barrier.lease(),
            self.segment.lease(),
        ]
    }

    /// Changes words as the bytes say: where (two bytes), and to what (one byte, and eight if it says so).
    fn damage(&self, mut bytes: &[u8]) {
        while let Some(([place, word, how], rest)) = bytes.split_first_chunk() {
            bytes = rest;
            let (place, word) = (usize::from(*place), usize::from(*word));
            let leases = self.leases();
            let at = match place {
                // The header and its log; slots, but for what the kernel marks; the first blocks, leases among them.
                0..32 => 8 * (word + 256 * (place % 2)),
                32..64 => SLOTS_AT + SLOT * (place % 3) + 64 + 8 * (word % 24),
                64..96 => HEAP + 8 * (word + 256 * (place % 4)),
                // The channel's messages.
                96..128 => (self.records & !7) + 8 * (word % 24) - 24,
                // From their headers on.
                _ => leases[place % leases.len()].block().offset() + 8 * (word % 64),
            };
            let now = self.arena.map().u64(at).unwrap();
            let is = now.load(Ordering::SeqCst);
            let new = match how {
                0 => 0,
                1 => u64::MAX,
                2 => is.wrapping_add(1),
                3 => is.wrapping_sub(1),
                4 => is.rotate_right(32),
                5..69 => is ^ 1 << (how - 5),
                69..100 => leases[usize::from(how - 69) % leases.len()].block().offset() as u64,
                100..110 => leases[usize::from(how - 100)].block().payload() as u64,
                110..120 => HEAP as u64 + 32 * u64::from(how - 110),
                120..130 => u64::from(how - 120),
                130..140 => u64::from(self.arena.me().unwrap().word()) << (how % 2 * 32),
                _ => match rest.split_first_chunk() {
                    Some((value, rest)) => {
                        bytes = rest;
                        u64::from_le_bytes(*value)
                    }
                    None => is.swap_bytes(),
                },
            };
            now.store(new, Ordering::SeqCst);
        }
        // A lock that says that a living process holds it is waited for, and rightly so.
        let fields = [(0, 48), (0, 112), (4, 0), (5, 0), (6, 0), (7, 8), (10, 0)];
        let locks = fields.map(|(object, field)| self.leases()[object].block().payload() + field);
        for lock in locks.into_iter().chain([32]) {
            let word = self.arena.map().u32(lock).unwrap();
            if robust::holder(word).is_some_and(|holder| !self.arena.is_dead(holder)) {
                word.store(0, Ordering::SeqCst);
            }
        }
    }

    /// Uses all of it. What fails, fails.
    fn live(self) {
        let arena = self.arena;
        let _ = (arena.statistics(), arena.processes(), arena.last_known(self.reserved));
        let handles: Vec<Handle> = self.leases().into_iter().filter_map(|lease| lease.handle().ok()).collect();
        let copies: Vec<_> = self.leases().into_iter().map(Lease::duplicate).collect();
        for handle in &handles {
            let _ = (Channel::open(arena, *handle), Parcel::open(arena, *handle), Buffer::open(arena, *handle));
            let _ = (Memory::open(arena, *handle), Barrier::open(arena, *handle), Semaphore::open(arena, *handle));
            let _ = (ValueMutex::open(arena, *handle), Condvar::open(arena, *handle), Segment::open(arena, *handle));
        }
        self.send_and_receive();
        self.wait_for_things();
        self.find_by_name();
        let _ = (self.buffer.description(), self.parcel.bytes(), self.parcel.length(), self.parcel.size());
        for extent in self.parcel.extents().unwrap_or_default() {
            // In bounds, or an error.
            assert!(self.parcel.address(&extent).is_err() || extent.end <= arena.size());
        }
        let mut some = [0; 10];
        let _ = (self.memory.read(5, &mut some), self.memory.write(95, &some));
        let (reserved, barrier) = (self.reserved, self.barrier.lease().duplicate());
        let _ = (arena.end(reserved), arena.claimed(reserved), arena.last_words(reserved));
        let _ = arena.clean(reserved, End::Unknown);
        let _ = arena.return_slot(reserved);
        let _ = arena.reserve_slot(Role::Child, "another").map(|owner| arena.disown(owner));
        let new: Vec<_> = [10, 100, 5000].map(|size| arena.allocate(size, PLAIN)).into();
        drop((self, copies, barrier, new));
        let _ = arena.statistics();
    }

    fn send_and_receive(&self) {
        let Self { channel, buffer, .. } = self;
        let _ = channel.send(4, &[1; 100], &[], Deadline::after(BRIEFLY));
        let _ = channel.send(5, &[1; 20_000], &[buffer.lease()], Deadline::after(BRIEFLY));
        for _ in 0..7 {
            if let Ok(Received::Message(message)) = channel.receive_within(BRIEFLY, Claim::Tag, None)
                && let Ok(bytes) = message.bytes()
            {
                let _ = Value::of(message.tag, &bytes);
            }
        }
        let _ = (channel.len(), channel.max_size(), channel.max_bytes(), channel.statistics(), channel.is_left_alone());
        let _ = (channel.hang(Awaited::Message, 1), channel.take_down(Awaited::Message, 1));
        let _ = channel.send(6, &[1; 100], &[], Deadline::after(BRIEFLY));
        let mut messages = Vec::new();
        let _ = channel.receive_many_within(5, BRIEFLY, Claim::Owed, None, &mut messages);
        let _ = (channel.finished(1), channel.unfinished(), channel.task_done(), channel.join_within(BRIEFLY));
        let _ = channel.send(7, &[1; 100], &[], Deadline::after(BRIEFLY));
        let _ = (channel.close(Closing::Graceful), channel.close(Closing::Immediate), channel.is_closed());
    }

    fn find_by_name(&self) {
        let Self { arena, segment, .. } = self;
        let _ = (segment.name(), segment.is_linked(), segment.is_public(), segment.address(), segment.file().is_ok());
        let others = [NAME, "another"].map(|name| Segment::create(arena, name, 5));
        let _ = (Segment::find(arena, NAME), Segment::find(arena, ""), segment.unlink(), segment.unlink());
        drop(others);
    }

    fn wait_for_things(&self) {
        let Self { mutex, reentrant, value, semaphore, event, condvar, barrier, .. } = self;
        let mut wait = Wait::new();
        let _ = (mutex.acquire_within(&mut wait, BRIEFLY), mutex.holder(), mutex.held_for(), mutex.mark());
        let _ = (mutex.origin(), mutex.release());
        let _ = (reentrant.acquire_within(&mut wait, BRIEFLY), reentrant.count(), reentrant.is_mine());
        let _ = (reentrant.try_acquire(), reentrant.release(), reentrant.release_all(), reentrant.origin());
        let _ = (value.acquire_within(&mut wait, BRIEFLY), value.poisoned_by(), value.value_type());
        let mut bytes = vec![0; value.size().min(100)];
        let _ = (value.read(&mut bytes), value.commit(&bytes), value.recover(), value.release());
        let _ = (semaphore.try_hold(), semaphore.hold_within(&mut wait, BRIEFLY), semaphore.value(), semaphore.max());
        let _ = (semaphore.try_acquire(), semaphore.release(), semaphore.release_held(), semaphore.forget_held());
        let _ = (event.set(), event.is_set(), event.clear(), event.wait(Deadline::after(BRIEFLY)));
        if let Ok(waiter) = condvar.enter() {
            let _ = (condvar.waiting(), condvar.notify(2), condvar.should_leave(&waiter));
            let _ = (condvar.wait_within(&waiter, BRIEFLY), condvar.leave(waiter));
        }
        if let Ok(Some(Ok(arrival))) = barrier.arrive_within(BRIEFLY) {
            let _ = (barrier.waiting(), barrier.wait_within(arrival, BRIEFLY), barrier.give_up(arrival));
        }
        let _ = (barrier.is_broken(), barrier.reset(), barrier.abort());
    }
}

fn town(bytes: &[u8]) {
    GROUND.with(|ground| {
        let ground = ground.get_or_init(Ground::new);
        ground.put_back();
        let town = Town::build(ground.arena);
        town.damage(&bytes[..bytes.len().min(300)]);
        town.live();
    });
}

#[test]
fn an_arena_is_input_from_outside() {
    let places: Vec<Vec<u8>> = (0..=255).step_by(5).map(|place| vec![place, place / 5, place ^ 0x55]).collect();
    let good: Vec<&[u8]> = places.iter().map(Vec::as_slice).collect();
    fuzz(3000, &good, town);
}

fn format(bytes: &[u8]) {
    let (tag, rest) = bytes.split_first().map_or((0, bytes), |(tag, rest)| (u64::from(*tag), rest));
    if let (Ok(content), true) = (Value::of(tag, rest), tag > 1) {
        assert!(!matches!(content, Value::Pickle(_) | Value::Bytes(_)));
    }
}

#[test]
fn formats() {
    fuzz(20_000, &[b"\0N.", b"\x02text", b"\x03\x01\0\0\0\0\0\0\0", b"\x07"], format);
}
