//! What a mutex promises while nobody dies; see `faults.rs` for the rest.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forkless_shm::{Arena, Error};
use forkless_sync::{Acquired, Attempt, Deadline, Event, Mutex, Wait};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Scene, handle, roles};
use proptest::prelude::*;

roles!(&[] => release);

fn now() -> Deadline {
    Deadline::after(Duration::ZERO)
}

#[test]
fn a_mutex_is_held_by_one_and_given_back_by_anyone() {
    let arena = Arena::create(&[]).unwrap();
    let mutex = Mutex::create(arena).unwrap();
    assert_eq!(mutex.holder().unwrap(), None);
    assert_eq!(mutex.try_acquire().unwrap(), Some(Acquired::Clean));
    assert_eq!(mutex.holder().unwrap(), Some(arena.me().unwrap()));
    assert_eq!(mutex.try_acquire().unwrap(), None, "it is not recursive");
    assert_eq!(mutex.acquire(now()).unwrap(), None);
    assert_eq!(mutex.acquire_within(&mut Wait::new(), Duration::ZERO).unwrap(), Attempt::Again);
    assert!(thread::scope(|scope| scope.spawn(|| mutex.release().unwrap()).join().unwrap()));
    assert!(!mutex.release().unwrap(), "it was not held");
    assert_eq!(mutex.acquire(Deadline::NEVER).unwrap(), Some(Acquired::Clean));
}

#[test]
fn a_timeout_is_waited_for_and_not_much_longer() {
    let arena = Arena::create(&[]).unwrap();
    let mutex = Mutex::create(arena).unwrap();
    mutex.try_acquire().unwrap();
    for timeout in [1, 30, 120].map(Duration::from_millis) {
        let start = Instant::now();
        assert_eq!(mutex.acquire(Deadline::after(timeout)).unwrap(), None);
        let waited = start.elapsed();
        assert!(waited >= timeout && waited < timeout + Duration::from_secs(30), "{waited:?} in place of {timeout:?}");
    }
}

#[test]
fn threads_take_turns() {
    let arena = Arena::create(&[]).unwrap();
    let mutex = Mutex::create(arena).unwrap();
    let (first, second) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    assert_eq!(mutex.acquire(Deadline::after(PATIENCE)).unwrap(), Some(Acquired::Clean));
                    let count = first.load(Ordering::Relaxed);
                    assert_eq!(count, second.load(Ordering::Relaxed));
                    first.store(count + 1, Ordering::Relaxed);
                    second.store(count + 1, Ordering::Relaxed);
                    assert!(mutex.release().unwrap());
                }
            });
        }
    });
    assert_eq!(first.into_inner(), 8000);
}

/// Gives back a mutex that its parent holds.
fn release(mut scene: Scene) {
    let board = scene.board();
    let handle = scene.handle();
    let mutex = Mutex::open(scene.arena, handle).unwrap();
    board.wait(0, |waiting| waiting == 1);
    assert_ne!(mutex.holder().unwrap(), Some(scene.arena.me().unwrap()));
    assert!(mutex.release().unwrap());
}

#[test]
fn another_process_gives_it_back() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let mutex = Mutex::create(arena).unwrap();
    mutex.try_acquire().unwrap();
    let child = Child::start(arena, "release", &[&board, &handle(mutex.lease())]);
    board.set(0, 1);
    assert_eq!(mutex.acquire(Deadline::after(PATIENCE)).unwrap(), Some(Acquired::Clean));
    assert_eq!(child.finish(), ExitStatus::Exited(0));
    assert_eq!(mutex.holder().unwrap(), Some(arena.me().unwrap()));
}

#[test]
fn a_handle_is_good_for_one_type_and_as_long_as_somebody_holds_it() {
    let arena = Arena::create(&[]).unwrap();
    let mutex = Mutex::create(arena).unwrap();
    let handle = mutex.lease().handle().unwrap();
    let again = Mutex::open(arena, handle).unwrap();
    mutex.try_acquire().unwrap();
    assert_eq!(again.holder().unwrap(), mutex.holder().unwrap());
    assert!(matches!(Event::open(arena, handle), Err(Error::Stale(_))));
    drop(mutex);
    assert_eq!(again.try_acquire().unwrap(), None, "it lives on, and is held");
    drop(again);
    assert!(matches!(Mutex::open(arena, handle), Err(Error::Stale(_))));
    let free = Mutex::create(arena).unwrap();
    assert_eq!(free.holder().unwrap(), None, "a new one in the same place is free");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_boolean(steps in prop::collection::vec(any::<bool>(), 0..40)) {
        static ARENA: std::sync::OnceLock<&Arena> = std::sync::OnceLock::new();
        let arena = *ARENA.get_or_init(|| Arena::create(&[]).unwrap());
        let mutex = Mutex::create(arena).unwrap();
        let mut held = false;
        for acquire in steps {
            if acquire {
                prop_assert_eq!(mutex.acquire(now()).unwrap(), (!held).then_some(Acquired::Clean));
            } else {
                prop_assert_eq!(mutex.release().unwrap(), held);
            }
            held = acquire;
            prop_assert_eq!(mutex.holder().unwrap().is_some(), held);
        }
    }
}
