//! What is read of other processes in the arena itself: handles as text, words of locks, names, last words.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use forkless_shm::block::PLAIN;
use forkless_shm::{Acquired, Arena, Attempt, Handle, Owner, Role, Wait, robust};
use forkless_sys::atomic::Ordering;
use forkless_testing::fuzz;

thread_local! {
    static ARENA: &'static Arena = Arena::create(&[]).unwrap();
}

fn handle(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(handle) = text.parse::<Handle>() {
        assert_eq!(handle.to_string().parse::<Handle>().unwrap(), handle);
        let arena = ARENA.with(|arena| *arena);
        // Wherever it points to in this arena.
        let here = Handle { arena: arena.id(), ..handle };
        assert!(arena.open(handle, PLAIN).is_err() && arena.open(here, 7).is_err());
    }
}

#[test]
fn handles() {
    fuzz(20_000, &[b"0-0-0", b"123456789abcdef0-101040-1", b"1-100060-ffffffff", b"+1--1-x"], handle);
}

/// Takes and gives back a lock whose word is anything.
fn lock(bytes: &[u8]) {
    let arena = ARENA.with(|arena| *arena);
    let lease = arena.allocate(8, PLAIN).unwrap();
    let word = arena.map().u32(lease.block().payload()).unwrap();
    let me = arena.me().unwrap();
    let mut start = [0; 4];
    bytes.iter().zip(&mut start).for_each(|(byte, place)| *place = *byte);
    word.store(u32::from_le_bytes(start), Ordering::Relaxed);
    let lives = robust::holder(word).is_some_and(|holder| !arena.is_dead(holder));
    let mut wait = Wait::new();
    let taken = arena.try_acquire(word, me).is_some()
        || matches!(arena.acquire_within(word, me, &mut wait, Duration::from_micros(10)), Attempt::Acquired(_));
    assert_eq!(taken, !lives, "{start:?}");
    if taken {
        assert_eq!(robust::holder(word), Some(me));
    }
    assert!(arena.release(word));
    assert_eq!(robust::holder(word), None);
}

#[test]
fn locks() {
    let good = [[0, 0, 0, 0], [1, 0, 1, 0], [1, 0, 1, 0x80], [1, 0x80, 1, 0x80], [0, 0, 0, 0x80], [2, 0, 1, 0]];
    fuzz(20_000, &good.each_ref().map(|word| &word[..]), lock);
}

#[test]
fn a_lock_that_names_nobody_is_taken_as_from_the_dead() {
    let arena = Arena::create(&[]).unwrap();
    let lease = arena.allocate(8, PLAIN).unwrap();
    let word = arena.map().u32(lease.block().payload()).unwrap();
    let me = arena.me().unwrap();
    // No slot of that number, no generation, no slot, a flag by itself.
    for damaged in [0x0001_1001, 0x0001_7fff, 1, 0x0001_0000, 0x8000, 0x8000_8000] {
        word.store(damaged, Ordering::Relaxed);
        let Some(Acquired::FromTheDead(owner)) = arena.try_acquire(word, me) else { panic!("{damaged:#x} is kept") };
        assert!(arena.is_dead(owner) && arena.last_known(owner).is_none());
        assert!(arena.release(word));
    }
}

/// The layout of a slot, for a test that writes to one.
const SLOTS_AT: usize = 4096;
const SLOT: usize = 256;
const NAME: usize = 144;
const NAME_SIZE: usize = 64;

/// A process of any name, which left any last words and says anything of its end.
fn slot(bytes: &[u8]) {
    let arena = ARENA.with(|arena| *arena);
    arena.me().unwrap();
    let owner = arena.reserve_slot(Role::Child, &String::from_utf8_lossy(bytes)).unwrap();
    let process = arena.process(owner).unwrap();
    assert!(process.name.len() <= NAME_SIZE);
    // Past its parent, role, end, leases and claim, too, if there are many.
    let at = SLOTS_AT + ((owner.word() & 0xffff) as usize - 1) * SLOT;
    let (start, length) = if bytes.len() < NAME_SIZE { (NAME, bytes.len()) } else { (88, bytes.len().min(168)) };
    assert!(arena.map().write(at + start, &bytes[..length]));
    let _ = (arena.process(owner), arena.processes(), arena.end(owner), arena.claimed(owner), arena.is_dead(owner));
    let _ = (arena.streams(owner), arena.assignment_within(owner, Duration::ZERO));
    assert!(arena.last_words(owner).is_none());
    let _ = (arena.disown(owner), arena.return_slot(owner), Owner::from_word(owner.word()));
    // As it was, for who comes next.
    assert!(arena.map().write(at + 72, &[0; SLOT - 72]));
    let _ = arena.return_slot(owner);
}

#[test]
fn slots() {
    fuzz(10_000, &[b"Process-1", "n\u{e4}me".as_bytes(), &[0xff; 70], &[0; 168], b""], slot);
}
