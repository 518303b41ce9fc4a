//! A mutex with a value: what is read is what was committed last, also by the dead.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, at_every_step};
use forkless_shm::{Acquired, Arena, Attempt};
use forkless_sync::{Deadline, ValueMutex, Wait, until};

fn acquire(mutex: &ValueMutex) -> Acquired {
    let mut wait = Wait::new();
    let attempt = |bound| match mutex.acquire_within(&mut wait, bound)? {
        Attempt::Acquired(acquired) => Ok(Some(acquired)),
        _ => Ok(None),
    };
    until(Deadline::NEVER, attempt).unwrap().unwrap()
}

/// The value: two words that must agree.
fn read(mutex: &ValueMutex) -> u8 {
    let mut value = [0; 16];
    mutex.read(&mut value).unwrap();
    assert!(value.iter().all(|byte| *byte == value[0]), "torn: {value:?}");
    value[0]
}

/// Adds one, as anybody does.
fn add(mutex: &ValueMutex) -> Acquired {
    let acquired = acquire(mutex);
    let value = read(mutex);
    mutex.commit(&[value + 1; 16]).unwrap();
    assert!(mutex.release().unwrap());
    acquired
}

/// The parent's mutex, and each child's.
fn set_up<const CHILDREN: usize>() -> (World, &'static ValueMutex, [(&'static Arena, &'static ValueMutex); CHILDREN]) {
    let mut world = World::new(CHILDREN);
    let mutex = ValueMutex::create(world.arena, "", &[0; 16]).unwrap();
    add(&mutex);
    mutex.recover().unwrap();
    world.watch(mutex.lease());
    let (mutex, children) = world.share(mutex, ValueMutex::lease, ValueMutex::open);
    (world, mutex, children)
}

#[test]
fn every_change_is_seen() {
    let (world, mutex, children) = set_up::<2>();
    world.check(move || {
        let started = children.map(|(child, mutex)| Process::start(child, move || add(mutex)));
        assert_eq!(started.map(Process::join), [Some(Acquired::Clean); 2]);
        assert_eq!(read(mutex), 3);
    });
}

#[test]
fn a_change_of_the_dead_happened_or_it_did_not() {
    at_every_step(|doom| {
        let (world, mutex, children) = set_up::<2>();
        let arena = world.arena;
        world.check(move || {
            let [(first, mine), (second, yours)] = children;
            let owner = first.me().unwrap();
            let doomed = Process::start_doomed(first, doom, move || add(mine));
            let other = Process::start(second, move || add(yours));
            let died = doomed.join().is_none();
            let told = other.join().unwrap();
            let acquired = mutex.try_acquire().unwrap().unwrap();
            let poisoned = acquired == Acquired::FromTheDead(owner);
            assert!(died || (!poisoned && told == Acquired::Clean), "a living one was robbed");
            assert!(poisoned || told == Acquired::Clean, "forgotten before it was recovered");
            let value = read(mutex);
            assert!(value == 3 || (died && value == 2), "{value}");
            mutex.recover().unwrap();
            assert!(mutex.release().unwrap());
            assert!(!arena.is_dead(arena.me().unwrap()));
        });
    });
}
