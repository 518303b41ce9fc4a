//! Whoever has waited for long comes next, and nobody is kept out for good.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::time::{Duration, Instant};

use forkless_shm::Arena;
use forkless_sync::{Acquired, Attempt, Deadline, KINDS, Mutex, Semaphore, Wait};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Scene, handle, roles};

roles!(&KINDS => take_turns, take_tokens);

/// Longer than a waiter lets others overtake it.
const LONG: Duration = Duration::from_millis(5);

/// Waits, in vain, until it is owed the next turn.
fn wait_for_long(mut step: impl FnMut(&mut Wait, Duration) -> Attempt) -> Wait {
    let mut wait = Wait::new();
    let begin = Instant::now();
    while begin.elapsed() < LONG {
        assert_eq!(step(&mut wait, Duration::from_millis(1)), Attempt::Again);
    }
    // Only now may it have noticed.
    assert_eq!(step(&mut wait, Duration::from_millis(1)), Attempt::Again);
    wait
}

#[test]
fn a_mutex_is_set_aside_for_a_long_wait() {
    let arena = Arena::create(&KINDS).unwrap();
    let mutex = Mutex::create(arena).unwrap();
    mutex.try_acquire().unwrap();
    let mut waiter = wait_for_long(|wait, bound| mutex.acquire_within(wait, bound).unwrap());
    assert!(mutex.release().unwrap());
    assert_eq!(mutex.holder().unwrap(), None);
    assert!(!mutex.release().unwrap(), "it is free, and stays set aside");
    assert_eq!(mutex.acquire_free().unwrap(), None, "somebody comes who means to wait");
    let taken = mutex.acquire_within(&mut waiter, Duration::ZERO).unwrap();
    assert_eq!(taken, Attempt::Acquired(Acquired::Clean));
    // That was one turn. Whoever comes takes the next.
    assert!(mutex.release().unwrap());
    assert_eq!(mutex.acquire_free().unwrap(), Some(Acquired::Clean));
}

#[test]
fn a_mutex_that_is_set_aside_for_nobody_keeps_nobody_out() {
    let arena = Arena::create(&KINDS).unwrap();
    let mutex = Mutex::create(arena).unwrap();
    for patience in [Duration::ZERO, PATIENCE] {
        mutex.try_acquire().unwrap();
        // Gives up.
        wait_for_long(|wait, bound| mutex.acquire_within(wait, bound).unwrap());
        assert!(mutex.release().unwrap());
        let taken =
            if patience.is_zero() { mutex.try_acquire() } else { mutex.acquire(Deadline::after(patience)) }.unwrap();
        assert_eq!(taken, Some(Acquired::Clean));
        assert!(mutex.release().unwrap());
    }
}

#[test]
fn tokens_are_set_aside_for_a_long_wait() {
    let arena = Arena::create(&KINDS).unwrap();
    let semaphore = Semaphore::create(arena, 0, 3).unwrap();
    let mut waiter = wait_for_long(|wait, bound| semaphore.acquire_within(wait, bound).unwrap());
    let _ = semaphore.release().unwrap();
    assert!(!semaphore.acquire_free().unwrap() && !semaphore.hold_free().unwrap(), "somebody comes who means to wait");
    assert_eq!(semaphore.acquire_within(&mut waiter, Duration::ZERO).unwrap(), Attempt::Acquired(Acquired::Clean));
    let _ = semaphore.release().unwrap();
    assert!(semaphore.acquire_free().unwrap(), "that was one turn");
}

#[test]
fn tokens_that_are_set_aside_for_nobody_keep_nobody_out() {
    let arena = Arena::create(&KINDS).unwrap();
    let semaphore = Semaphore::create(arena, 0, 3).unwrap();
    for patience in [Duration::ZERO, PATIENCE] {
        // Gives up.
        wait_for_long(|wait, bound| semaphore.acquire_within(wait, bound).unwrap());
        let _ = semaphore.release().unwrap();
        let taken =
            if patience.is_zero() { semaphore.try_acquire() } else { semaphore.hold(Deadline::after(patience)) };
        assert!(taken.unwrap());
    }
}

const CROWD: usize = 8;
const STOP: usize = CROWD;
const TURNS: u64 = 20;

/// Takes the mutex again as soon as it has given it back.
fn take_turns(mut scene: Scene) {
    let (board, handle, own) = (scene.board(), scene.handle(), scene.argument());
    let mutex = Mutex::open(scene.arena, handle).unwrap();
    while board.get(STOP) == 0 {
        assert_eq!(mutex.acquire(Deadline::after(PATIENCE)).unwrap(), Some(Acquired::Clean));
        board.add(own, 1);
        std::thread::yield_now();
        assert!(mutex.release().unwrap());
    }
}

/// The same with the one token of a semaphore.
fn take_tokens(mut scene: Scene) {
    let (board, handle, own) = (scene.board(), scene.handle(), scene.argument());
    let semaphore = Semaphore::open(scene.arena, handle).unwrap();
    while board.get(STOP) == 0 {
        assert!(semaphore.acquire(Deadline::after(PATIENCE)).unwrap());
        board.add(own, 1);
        std::thread::yield_now();
        let _ = semaphore.release().unwrap();
    }
}

/// All of a crowd get their turns, however greedy they are.
fn crowd(role: &str, object: &str, arena: &'static Arena) -> Vec<u64> {
    let board = Board::create(arena, CROWD + 1);
    let children: Vec<_> = (0..CROWD).map(|own| Child::start(arena, role, &[&board, &object, &own])).collect();
    for own in 0..CROWD {
        board.wait(own, |turns| turns >= TURNS);
    }
    let turns: Vec<_> = (0..CROWD).map(|own| board.get(own)).collect();
    board.set(STOP, 1);
    for child in children {
        assert_eq!(child.finish(), ExitStatus::Exited(0));
    }
    turns
}

#[test]
fn nobody_starves_in_a_crowd() {
    let arena = Arena::create(&KINDS).unwrap();
    let mutex = Mutex::create(arena).unwrap();
    println!("turns: {:?}", crowd("take_turns", &handle(mutex.lease()), arena));
    let semaphore = Semaphore::create(arena, 1, 1).unwrap();
    println!("tokens: {:?}", crowd("take_tokens", &handle(semaphore.lease()), arena));
}
