//! The reentrant mutex: one thread at a time, as often as it likes, and the dead are succeeded once.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, at_every_step, count};
use forkless_shm::{Acquired, Arena};
use forkless_sync::{Deadline, ReentrantMutex};
use forkless_sys::atomic::{AtomicU64, Ordering};

type Child = (&'static Arena, &'static ReentrantMutex);

/// A mutex, as each child has it, and a word that it protects.
fn set_up<const CHILDREN: usize>() -> (World, &'static ReentrantMutex, [Child; CHILDREN], &'static AtomicU64) {
    let mut world = World::new(CHILDREN);
    let mutex = ReentrantMutex::create(world.arena).unwrap();
    acquire(&mutex);
    assert!(mutex.release().unwrap());
    world.watch(mutex.lease());
    let word = world.word();
    let (mutex, children) = world.share(mutex, ReentrantMutex::lease, ReentrantMutex::open);
    (world, mutex, children, word)
}

fn acquire(mutex: &ReentrantMutex) -> Acquired {
    mutex.acquire(Deadline::NEVER).unwrap().unwrap()
}

/// Takes it twice, counts in between, and gives it back as often.
fn count_twice(mutex: &ReentrantMutex, word: &AtomicU64) -> Acquired {
    let acquired = acquire(mutex);
    count(word);
    assert_eq!(acquire(mutex), Acquired::Clean);
    assert_eq!(mutex.count().unwrap(), 2);
    assert!(mutex.release().unwrap());
    assert!(mutex.is_mine().unwrap());
    count(word);
    assert!(mutex.release().unwrap());
    assert!(!mutex.is_mine().unwrap());
    acquired
}

#[test]
fn one_process_at_a_time_takes_it_twice() {
    let (world, mutex, children, word) = set_up::<2>();
    world.check(move || {
        let _ =
            children.map(|(child, mutex)| Process::start(child, move || count_twice(mutex, word))).map(Process::join);
        assert_eq!(mutex.holder().unwrap(), None);
        assert_eq!(word.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn two_threads_of_a_process_are_two() {
    let (world, mutex, [(child, its)], word) = set_up::<1>();
    world.check(move || {
        let threads = [(); 2].map(|()| Process::start(child, move || count_twice(its, word)));
        let _ = threads.map(Process::join);
        assert_eq!(mutex.holder().unwrap(), None);
        assert_eq!(word.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn whoever_waits_for_the_dead_succeeds_them_once() {
    at_every_step(|doom| {
        let (world, mutex, children, word) = set_up::<2>();
        world.check(move || {
            let [(first, mine), (second, yours)] = children;
            let doomed = Process::start_doomed(first, doom, move || count_twice(mine, word));
            let waiter = Process::start(second, move || count_twice(yours, word));
            let died = doomed.join().is_none();
            let acquired = waiter.join().unwrap();
            assert!(died || acquired == Acquired::Clean, "a living one was robbed");
            let left = mutex.try_acquire().unwrap();
            assert!(left == Some(Acquired::Clean) || died && left.is_some(), "held by {:?}", mutex.holder());
            assert_eq!(mutex.count().unwrap(), 1);
        });
    });
}
