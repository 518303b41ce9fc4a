//! Words of shared memory flipped at random: whoever reads them gets an error, never a panic, a crash or a hang.
//!
//! The words of locks are left alone: a lock that says that a living process holds it is waited for, and rightly so.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod script;

use std::sync::atomic::Ordering;
use std::time::Duration;

use forkless_ipc::{Buffer, Channel, Claim, Content, KINDS, Parcel, Received};
use forkless_shm::block::PLAIN;
use forkless_shm::slot::End;
use forkless_shm::{Arena, Error, Role};
use forkless_sync::{Event, Mutex};
use forkless_sys::process::ExitStatus;
use forkless_sys::time::Deadline;
use forkless_testing::{Board, Child, PATIENCE, Random, Scene, roles, rounds, seed};
use script::{SCRIPT, send};

roles!(KINDS => suffer);

/// The first byte of slots and heap: see the layout of the arena. A test knows it so as to hit something.
const SLOTS_AT: u64 = 4096;
const SLOT: u64 = 256;
const HEAP: u64 = SLOTS_AT + 4096 * SLOT;

const SOON: Duration = Duration::from_millis(2);

/// A random place of a word, and what to write there.
fn damage(random: &mut Random, arena: &'static Arena, interesting: &[usize]) -> (usize, u64) {
    let offset = match random.below(8) {
        0 => 8 * random.below(64),
        1 => 2048 + 8 * random.below(32),
        // Behind the word that the kernel marks and what the C library keeps there.
        2 | 3 => SLOTS_AT + SLOT * random.below(3) + 64 + 8 * random.below(24),
        4 => HEAP + 8 * random.below(512),
        _ => interesting[random.below(interesting.len() as u64) as usize] as u64 + 8 * random.below(32),
    };
    let now = arena.map().u64(offset as usize).unwrap().load(Ordering::SeqCst);
    let value = match random.below(8) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => now ^ 1 << random.below(64),
        4 => now.wrapping_add(8),
        5 => HEAP + 64 * random.below(64),
        6 => now.rotate_right(32),
        _ => random.bits(),
    };
    (offset as usize, value)
}

/// Everything that an arena can hold, in use.
struct Town {
    arena: &'static Arena,
    channel: Channel,
    mutex: Mutex,
    event: Event,
    buffer: Buffer,
    parcel: Parcel,
    reserved: forkless_shm::Owner,
}

impl Town {
    fn build() -> Result<Self, Error> {
        let arena = Arena::create(KINDS)?;
        let channel = Channel::create(arena, 0)?;
        for (number, shape) in SCRIPT.into_iter().enumerate() {
            send(&channel, number as u64, shape);
        }
        let buffer = Buffer::create(arena, b"description", &[7; 5000])?;
        let parcel = Parcel::pack(
            arena,
            &Content {
                parts: &[&[8; 100], &[8; 100]],
                extents: &[&[9; 70], &[], &[9; 5000]],
                handles: &[buffer.lease(), channel.lease()],
            },
        )?;
        // Something on the free lists.
        for size in [10, 100, 5000, 100_000, 2 << 20] {
            drop(arena.allocate(size, PLAIN)?);
        }
        let reserved = arena.reserve_slot(Role::Child, "reserved")?;
        Ok(Self {
            mutex: Mutex::create(arena)?,
            event: Event::create(arena)?,
            arena,
            channel,
            buffer,
            parcel,
            reserved,
        })
    }

    fn interesting(&self) -> Vec<usize> {
        let blocks = [self.channel.lease(), self.buffer.lease(), self.parcel.lease(), self.event.lease()];
        blocks.iter().map(|lease| lease.block().offset()).collect()
    }

    /// The words of locks, which decide who waits for whom.
    fn is_lock(&self, offset: usize) -> bool {
        let channel = self.channel.lease().block().payload();
        let mutex = self.mutex.lease().block().payload();
        [32, mutex, channel + 48, channel + 112].into_iter().any(|lock| lock / 8 == offset / 8)
    }

    /// Uses all of it. What fails, fails.
    fn live(self) {
        let Self { arena, channel, mutex, event, buffer, parcel, reserved } = self;
        let _ = arena.statistics();
        let _ = arena.processes();
        let leases: Vec<_> = [10, 100, 5000, 100_000, 1 << 20].map(|size| arena.allocate(size, PLAIN)).into();
        for handle in [channel.lease(), buffer.lease(), parcel.lease(), mutex.lease()].map(forkless_shm::Lease::handle)
        {
            let Ok(handle) = handle else { continue };
            let _ = (Channel::open(arena, handle), Buffer::open(arena, handle), Parcel::open(arena, handle));
        }
        let _ = (buffer.description(), parcel.bytes(), parcel.length(), parcel.extents());
        let _ = channel.send(1, &[1; 100], &[], Deadline::after(SOON));
        let _ = channel.send(1, &[1; 40_000], &[buffer.lease()], Deadline::after(SOON));
        for _ in 0..SCRIPT.len() + 3 {
            if let Ok(Received::Message(message)) = channel.receive_within(SOON, Claim::Tag, None) {
                let _ = (message.bytes(), message.parcel().map(|parcel| parcel.extents()));
            }
        }
        let _ = (channel.len(), channel.max_size());
        let _ = (event.set(), event.wait(Deadline::after(SOON)), event.clear(), event.wait(Deadline::after(SOON)));
        let _ = (mutex.try_acquire(), mutex.holder(), mutex.release());
        let _ = arena.clean(reserved, End::Unknown);
        let _ = (arena.end(reserved), arena.claimed(reserved), arena.return_slot(reserved));
        let _ = arena.reserve_slot(Role::Child, "another").map(|owner| arena.disown(owner));
        drop((parcel, channel, buffer, leases));
        let _ = arena.statistics();
    }
}

/// Damages one arena after the other. The board says where.
fn suffer(mut scene: Scene) {
    let board = scene.board();
    let mut random = Random::new(scene.argument());
    for round in 0..scene.argument::<u64>() {
        let town = Town::build().unwrap();
        let (offset, value) = damage(&mut random, town.arena, &town.interesting());
        if town.is_lock(offset) {
            continue;
        }
        board.set(0, round + 1);
        board.set(1, offset as u64);
        board.set(2, value);
        town.arena.map().u64(offset).unwrap().store(value, Ordering::SeqCst);
        town.live();
    }
}

#[test]
fn damage_is_an_error() {
    let seed = seed();
    println!("FORKLESS_TEST_SEED={seed}");
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 3);
    // An arena stays mapped as long as its process lives, and takes a good part of its address space.
    for part in 0..rounds(300).div_ceil(100) {
        let child = Child::start(arena, "suffer", &[&board, &seed.wrapping_add(part), &100]);
        let ended = child.ends_within(PATIENCE / 2);
        let what = format!("round {} of part {part}: {:#x} at {}", board.get(0), board.get(2), board.get(1));
        assert!(ended, "{what}: the child hangs");
        assert_eq!(child.finish(), ExitStatus::Exited(0), "{what}");
    }
}
