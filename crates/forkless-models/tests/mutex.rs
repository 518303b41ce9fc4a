//! The robust lock: one at a time, nobody asleep for good, and the dead are succeeded.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, keep};
use forkless_shm::{Acquired, Arena};
use forkless_sync::{Deadline, Mutex};
use forkless_sys::atomic::{AtomicU64, Ordering};

/// A mutex beside a word that it protects, as each child sees it.
fn set_up<const CHILDREN: usize>() -> (World, &'static Mutex, [(&'static Arena, &'static Mutex); CHILDREN], usize) {
    let mut world = World::new(CHILDREN);
    let mutex = keep(Mutex::create(world.arena).unwrap());
    mutex.acquire(Deadline::NEVER).unwrap();
    mutex.release().unwrap();
    let word = keep(world.arena.allocate(16, 200).unwrap());
    world.watch(mutex.lease());
    world.watch(word);
    let handle = mutex.lease().handle().unwrap();
    let children = std::array::from_fn(|index| {
        let child = world.child(index);
        (child, keep(Mutex::open(child, handle).unwrap()))
    });
    (world, mutex, children, word.block().payload())
}

fn word(arena: &'static Arena, at: usize) -> &'static AtomicU64 {
    arena.map().u64(at).unwrap()
}

/// Counts under the lock, in a way that only a lock makes right.
fn count(arena: &'static Arena, mutex: &Mutex, at: usize) -> Acquired {
    let acquired = mutex.acquire(Deadline::NEVER).unwrap().unwrap();
    let before = word(arena, at).load(Ordering::Relaxed);
    word(arena, at).store(before + 1, Ordering::Relaxed);
    assert!(mutex.release().unwrap());
    acquired
}

#[test]
fn one_at_a_time_and_nobody_sleeps_for_good() {
    let (world, mutex, children, at) = set_up::<3>();
    let arena = world.arena;
    world.preemptions(2).check(move || {
        let _ =
            children.map(|(child, mutex)| Process::start(child, move || count(child, mutex, at))).map(Process::join);
        assert_eq!(mutex.holder().unwrap(), None);
        assert_eq!(word(arena, at).load(Ordering::Relaxed), 3);
    });
}

#[test]
fn whoever_waits_for_the_dead_succeeds_them() {
    // Its steps: to take the lock, to mark its time, to count, to release, to wake.
    for dies_before in 0..8 {
        let (world, mutex, children, at) = set_up::<2>();
        let arena = world.arena;
        world.check(move || {
            let [(first, mine), (second, yours)] = children;
            let doomed = Process::start_doomed(first, Some(dies_before), move || count(first, mine, at));
            let waiter = Process::start(second, move || count(second, yours, at));
            let died = doomed.join().is_none();
            assert!(died || dies_before > 3, "there are at least four steps");
            let acquired = waiter.join().unwrap();
            assert!(died || acquired == Acquired::Clean, "a living one was robbed");
            if let Some(left) = mutex.try_acquire().unwrap() {
                assert!(died || left == Acquired::Clean);
                assert!((1..=2).contains(&word(arena, at).load(Ordering::Relaxed)));
            } else {
                panic!("it is held by {:?}", mutex.holder());
            }
        });
    }
}
