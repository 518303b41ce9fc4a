//! Death while a lock is held, waited for or given back; death of whoever sets an event.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::thread;
use std::time::{Duration, Instant};

use forkless_shm::{Arena, Statistics};
use forkless_sync::{Acquired, Deadline, Event, Mutex};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Scene, handle, roles};

roles!(&[] => hold, hold_from_a_thread, take, take_and_release, set_event, wait_for_event);

const KILLED: ExitStatus = ExitStatus::Signaled(9);

/// A waiter learns of a death within 100 ms. Machines under test are busy.
const SOON: Duration = Duration::from_secs(30);

fn mutex(scene: &mut Scene) -> Mutex {
    let handle = scene.handle();
    Mutex::open(scene.arena, handle).unwrap()
}

fn event(scene: &mut Scene) -> Event {
    let handle = scene.handle();
    Event::open(scene.arena, handle).unwrap()
}

fn acquire(mutex: &Mutex) -> Acquired {
    mutex.acquire(Deadline::after(PATIENCE)).unwrap().expect("the lock within the test's patience")
}

fn census(arena: &'static Arena) -> (Statistics, usize) {
    let Statistics { blocks, dying, leases, .. } = arena.statistics().unwrap();
    (Statistics { blocks, dying, leases, ..Statistics::default() }, arena.processes().len())
}

/// Holds the mutex until killed.
fn hold(mut scene: Scene) {
    let board = scene.board();
    let mutex = mutex(&mut scene);
    acquire(&mutex);
    board.add(0, 1);
    board.wait(0, |_| false);
}

/// The same in a process whose main thread knows nothing of it: the kernel marks no such process.
fn hold_from_a_thread(scene: Scene) {
    thread::spawn(move || hold(scene)).join().unwrap();
}

/// Takes the mutex and says on the board how: word 1 counts the clean ones, word 2 those from the dead. Gives it back.
fn take(mut scene: Scene) {
    let board = scene.board();
    let mutex = mutex(&mut scene);
    board.add(0, 1);
    match acquire(&mutex) {
        Acquired::Clean => board.add(1, 1),
        Acquired::FromTheDead(_) => board.add(2, 1),
    }
    assert!(mutex.release().unwrap());
}

#[test]
fn a_waiter_asleep_learns_soon_that_the_owner_died() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let mutex = Mutex::create(arena).unwrap();
    let before = census(arena);
    for round in 0..10 {
        board.set(0, 0);
        let mut child = match round % 2 {
            0 => Child::start(arena, "hold", &[&board, &handle(mutex.lease())]),
            _ => Child::start_guest(arena, "hold_from_a_thread", &[&board, &handle(mutex.lease())]),
        };
        board.wait(0, |held| held == 1);
        let owner = child.owner();
        assert_eq!(mutex.holder().unwrap(), Some(owner));
        assert_eq!(mutex.try_acquire().unwrap(), None, "its owner lives");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| (acquire(&mutex), Instant::now()));
            // Long enough for the waiter to be asleep, most of the time.
            assert_eq!(mutex.acquire(Deadline::after(Duration::from_millis(20))).unwrap(), None);
            let death = Instant::now();
            child.kill();
            if round % 3 == 0 {
                // Otherwise nobody reaps it until the waiter has it.
                child.clean();
            }
            let (acquired, at) = waiter.join().unwrap();
            assert_eq!(acquired, Acquired::FromTheDead(owner));
            assert!(at - death < SOON, "the waiter learned of the death after {:?}", at - death);
        });
        assert!(mutex.release().unwrap());
        assert_eq!(mutex.try_acquire().unwrap(), Some(Acquired::Clean));
        assert!(mutex.release().unwrap());
        assert_eq!(child.finish(), KILLED);
        assert_eq!(census(arena), before);
    }
}

#[test]
fn one_of_many_waiters_is_told_of_the_death_and_the_others_come_after_it() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 3);
    let mutex = Mutex::create(arena).unwrap();
    for _ in 0..3 {
        (0..3).for_each(|word| board.set(word, 0));
        let holder = Child::start(arena, "hold", &[&board, &handle(mutex.lease())]);
        board.wait(0, |held| held == 1);
        let waiters: Vec<_> = (0..4).map(|_| Child::start(arena, "take", &[&board, &handle(mutex.lease())])).collect();
        board.wait(0, |waiting| waiting == 5);
        // One waiter dies as well, asleep or on its way there.
        waiters[0].kill();
        let death = Instant::now();
        assert_eq!(holder.finish_killed(), KILLED);
        board.wait(1, |clean| clean >= 2);
        board.wait(2, |told| told == 1);
        assert!(death.elapsed() < SOON, "the waiters had the lock after {:?}", death.elapsed());
        for (index, waiter) in waiters.into_iter().enumerate() {
            let status = waiter.finish();
            assert!(status == ExitStatus::Exited(0) || index == 0, "waiter {index} ended with {status:?}");
        }
    }
}

/// Takes the mutex, says so, takes time to be waited for, gives it back.
fn take_and_release(mut scene: Scene) {
    let board = scene.board();
    let mutex = mutex(&mut scene);
    acquire(&mutex);
    board.set(0, 1);
    board.wait(0, |value| value == 2);
    assert!(mutex.release().unwrap());
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn who_dies_having_woken_nobody_keeps_nobody_waiting() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let mutex = Mutex::create(arena).unwrap();
    let handle = handle(mutex.lease());
    // The last of its passes is the release of the mutex itself; the others are the allocator's.
    let passes = forkless_testing::at_every_pass(|pass| {
        board.set(0, 0);
        let mut child = Child::start_doomed(arena, "take_and_release", "lock.released", pass, &[&board, &handle]);
        while board.get(0) == 0 && !child.has_ended() {
            thread::yield_now();
        }
        let held = board.get(0) == 1;
        thread::scope(|scope| {
            let waiter = scope.spawn(|| acquire(&mutex));
            assert!(!held || mutex.acquire(Deadline::after(Duration::from_millis(20))).unwrap().is_none());
            board.set(0, 2);
            let released = Instant::now();
            assert_eq!(waiter.join().unwrap(), Acquired::Clean, "pass {pass}");
            assert!(released.elapsed() < SOON, "the waiter had the lock after {:?}", released.elapsed());
        });
        assert!(mutex.release().unwrap());
        child.clean()
    });
    assert!(passes >= 3);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_waiter_that_dies_keeps_nobody_waiting() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 3);
    let mutex = Mutex::create(arena).unwrap();
    let handle = handle(mutex.lease());
    for (point, pass) in [("lock.waits", 1), ("lock.woken", 1), ("lock.waits", 2), ("lock.woken", 2)] {
        (0..3).for_each(|word| board.set(word, 0));
        assert_eq!(mutex.try_acquire().unwrap(), Some(Acquired::Clean));
        // From its second pass on it has waited for so long that the next release is to be a hand-over.
        let doomed = Child::start_doomed(arena, "take", point, pass, &[&board, &handle]);
        board.wait(0, |waiting| waiting == 1);
        let waiters: Vec<_> = (0..2).map(|_| Child::start(arena, "take", &[&board, &handle])).collect();
        assert_eq!(doomed.finish(), KILLED, "{point} {pass}");
        board.wait(0, |waiting| waiting == 3);
        assert!(mutex.release().unwrap());
        let released = Instant::now();
        assert_eq!(board.wait(1, |clean| clean == 2), 2, "{point} {pass}");
        assert!(released.elapsed() < SOON, "{point} {pass}: the others had the lock after {:?}", released.elapsed());
        assert!(waiters.into_iter().all(|waiter| waiter.finish() == ExitStatus::Exited(0)));
        assert_eq!(acquire(&mutex), Acquired::Clean);
        assert!(mutex.release().unwrap());
    }
}

#[test]
fn what_is_handed_over_to_the_dead_goes_to_the_next() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 3);
    let mutex = Mutex::create(arena).unwrap();
    let handle = handle(mutex.lease());
    for waited in [5, 20, 60, 120].map(Duration::from_millis) {
        (0..3).for_each(|word| board.set(word, 0));
        assert_eq!(mutex.try_acquire().unwrap(), Some(Acquired::Clean));
        let waiter = Child::start(arena, "take", &[&board, &handle]);
        board.wait(0, |waiting| waiting == 1);
        // Whatever it does after that time, asleep for the first time, or for the second, or not there yet.
        thread::sleep(waited);
        assert!(mutex.release().unwrap());
        waiter.kill();
        let death = Instant::now();
        acquire(&mutex);
        assert!(death.elapsed() < SOON, "{waited:?}: the next had the lock after {:?}", death.elapsed());
        assert!(mutex.release().unwrap());
        assert!(matches!(waiter.finish(), KILLED | ExitStatus::Exited(0)));
    }
}

fn set_event(mut scene: Scene) {
    let board = scene.board();
    let event = event(&mut scene);
    board.wait(0, |waiting| waiting == 3);
    event.set().unwrap();
}

fn wait_for_event(mut scene: Scene) {
    let board = scene.board();
    let event = event(&mut scene);
    board.add(0, 1);
    assert!(event.wait(Deadline::after(PATIENCE)).unwrap());
    board.add(1, 1);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn an_event_set_by_a_process_that_dies_at_once_is_seen_by_all() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 2);
    let event = Event::create(arena).unwrap();
    let handle = handle(event.lease());
    for _ in 0..5 {
        (0..2).for_each(|word| board.set(word, 0));
        event.clear().unwrap();
        let waiters: Vec<_> = (0..3).map(|_| Child::start(arena, "wait_for_event", &[&board, &handle])).collect();
        let setter = Child::start_doomed(arena, "set_event", "event.set", 1, &[&board, &handle]);
        assert_eq!(setter.finish(), KILLED);
        let death = Instant::now();
        board.wait(1, |seen| seen == 3);
        assert!(death.elapsed() < SOON, "the waiters saw the event after {:?}", death.elapsed());
        assert!(event.is_set().unwrap());
        assert!(waiters.into_iter().all(|waiter| waiter.finish() == ExitStatus::Exited(0)));
    }
}
