//! The robust lock: one at a time, nobody asleep for good, and the dead are succeeded.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, at_every_step, count, let_others_go_first};
use forkless_shm::{Acquired, Arena};
use forkless_sync::{Deadline, Mutex};
use forkless_sys::atomic::{AtomicU64, Ordering};

/// A mutex, as each child has it, and a word that it protects.
fn set_up<const CHILDREN: usize>()
-> (World, &'static Mutex, [(&'static Arena, &'static Mutex); CHILDREN], &'static AtomicU64) {
    let mut world = World::new(CHILDREN);
    let mutex = Mutex::create(world.arena).unwrap();
    mutex.acquire(Deadline::NEVER).unwrap();
    mutex.release().unwrap();
    world.watch(mutex.lease());
    let word = world.word();
    let (mutex, children) = world.share(mutex, Mutex::lease, Mutex::open);
    (world, mutex, children, word)
}

fn count_under(mutex: &Mutex, word: &AtomicU64) -> Acquired {
    let acquired = mutex.acquire(Deadline::NEVER).unwrap().unwrap();
    count(word);
    assert!(mutex.release().unwrap());
    acquired
}

#[test]
fn one_at_a_time_and_nobody_sleeps_for_good() {
    let (world, mutex, children, word) = set_up::<3>();
    world.check(move || {
        let _ =
            children.map(|(child, mutex)| Process::start(child, move || count_under(mutex, word))).map(Process::join);
        assert_eq!(mutex.holder().unwrap(), None);
        assert_eq!(word.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn who_is_woken_and_overtaken_leaves_nobody_asleep() {
    let (world, mutex, children, word) = set_up::<2>();
    world.preemptions(2).check(move || {
        mutex.acquire(Deadline::NEVER).unwrap();
        let waiters = children.map(|(child, mutex)| Process::start(child, move || count_under(mutex, word)));
        let_others_go_first();
        mutex.release().unwrap();
        count_under(mutex, word);
        let _ = waiters.map(Process::join);
        assert_eq!(word.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn whoever_waits_for_the_dead_succeeds_them() {
    at_every_step(|doom| {
        let (world, mutex, children, word) = set_up::<2>();
        world.check(move || {
            let [(first, mine), (second, yours)] = children;
            let doomed = Process::start_doomed(first, doom, move || count_under(mine, word));
            let waiter = Process::start(second, move || count_under(yours, word));
            let died = doomed.join().is_none();
            let acquired = waiter.join().unwrap();
            assert!(died || acquired == Acquired::Clean, "a living one was robbed");
            let left = mutex.try_acquire().unwrap();
            assert!(left == Some(Acquired::Clean) || died && left.is_some(), "held by {:?}", mutex.holder());
            assert!((1..=2).contains(&word.load(Ordering::Relaxed)));
        });
    });
}

#[test]
fn all_who_wait_for_the_dead_learn_of_it() {
    at_every_step(|doom| {
        let (world, _, children, word) = set_up::<3>();
        let [(first, its), waiters @ ..] = children;
        its.acquire(Deadline::NEVER).unwrap();
        world.preemptions(2).check(move || {
            let doomed = Process::start_doomed(first, doom, move || its.release().unwrap());
            let waiters = waiters.map(|(child, mutex)| Process::start(child, move || count_under(mutex, word)));
            doomed.join();
            let _ = waiters.map(Process::join);
            assert_eq!(word.load(Ordering::Relaxed), 2);
        });
    });
}
