//! A notification reaches exactly one living waiter, whoever dies on the way.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::thread;

use forkless_shm::{Arena, Statistics};
use forkless_sync::{Acquired, Condvar, Deadline, KINDS, Mutex};
use forkless_sys::process::ExitStatus;
use forkless_sys::time::SLICE;
use forkless_testing::{Board, Child, PATIENCE, Scene, at_every_pass, handle, roles};

roles!(&KINDS => wait_once, notify_all, enter_only);

const KILLED: ExitStatus = ExitStatus::Signaled(9);

/// A condition variable with its lock.
struct Pair {
    mutex: Mutex,
    condvar: Condvar,
}

impl Pair {
    fn create(arena: &'static Arena) -> Self {
        Self { mutex: Mutex::create(arena).unwrap(), condvar: Condvar::create(arena).unwrap() }
    }

    fn open(scene: &mut Scene) -> Self {
        let (mutex, condvar) = (scene.handle(), scene.handle());
        Self { mutex: Mutex::open(scene.arena, mutex).unwrap(), condvar: Condvar::open(scene.arena, condvar).unwrap() }
    }

    fn handles(&self) -> String {
        format!("{} {}", handle(self.mutex.lease()), handle(self.condvar.lease()))
    }

    fn lock(&self) -> Acquired {
        self.mutex.acquire(Deadline::after(PATIENCE)).unwrap().expect("the lock within the test's patience")
    }

    fn unlock(&self) {
        assert!(self.mutex.release().unwrap());
    }

    /// As any user waits: with the lock before and after.
    fn wait(&self) {
        let waiter = self.condvar.enter().unwrap();
        let deadline = Deadline::after(PATIENCE);
        loop {
            self.unlock();
            while self.condvar.wait_within(&waiter, SLICE).unwrap().is_none() {
                assert!(!deadline.passed(), "no notification came");
            }
            self.lock();
            if self.condvar.should_leave(&waiter).unwrap() {
                assert!(self.condvar.leave(waiter).unwrap());
                return;
            }
        }
    }

    fn notify(&self, count: usize) -> usize {
        self.lock();
        let notified = self.condvar.notify(count).unwrap();
        self.unlock();
        notified
    }
}

/// Waits; word 0 counts those that wait, word 1 those that are through.
fn wait_once(mut scene: Scene) {
    let board = scene.board();
    let pair = Pair::open(&mut scene);
    pair.lock();
    board.add(0, 1);
    pair.wait();
    board.add(1, 1);
    pair.unlock();
}

#[test]
fn as_many_as_are_notified_wake_and_no_more() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 2);
    let pair = Pair::create(arena);
    assert_eq!(pair.notify(1), 0, "nobody waits");
    let waiters: Vec<_> = (0..4).map(|_| Child::start(arena, "wait_once", &[&board, &pair.handles()])).collect();
    board.wait(0, |waiting| waiting == 4);
    assert_eq!(pair.notify(2), 2);
    board.wait(1, |through| through == 2);
    pair.lock();
    assert_eq!(pair.condvar.waiting().unwrap(), 2);
    pair.unlock();
    assert_eq!(pair.notify(10), 2);
    board.wait(1, |through| through == 4);
    for waiter in waiters {
        assert_eq!(waiter.finish(), ExitStatus::Exited(0));
    }
}

#[test]
fn who_waited_longest_is_first() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 2);
    let pair = Pair::create(arena);
    let order = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..5 {
            let (pair, board, order) = (&pair, &board, &order);
            scope.spawn(move || {
                pair.lock();
                board.add(0, 1);
                pair.wait();
                order.lock().unwrap().push(number);
                board.add(1, 1);
                pair.unlock();
            });
            board.wait(0, |waiting| waiting == number + 1);
        }
        for number in 0..5 {
            assert_eq!(pair.notify(1), 1);
            board.wait(1, |through| through == number + 1);
        }
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
}

#[test]
fn the_dead_are_passed_over() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 2);
    let pair = Pair::create(arena);
    let mut waiters: Vec<_> = Vec::new();
    for number in 1..=3 {
        waiters.push(Child::start(arena, "wait_once", &[&board, &pair.handles()]));
        board.wait(0, |waiting| waiting == number);
    }
    // The lock is needed to see that the third one really waits, not only is about to.
    pair.lock();
    pair.unlock();
    waiters[0].kill();
    waiters[0].wait();
    assert_eq!(pair.notify(1), 1);
    board.wait(1, |through| through == 1);
    assert_eq!(pair.notify(5), 1);
    board.wait(1, |through| through == 2);
    assert_eq!(waiters.remove(0).finish(), KILLED);
}

/// Becomes a waiter that never sleeps: what it is notified of it never learns.
fn enter_only(mut scene: Scene) {
    let board = scene.board();
    let pair = Pair::open(&mut scene);
    pair.lock();
    let _waiter = pair.condvar.enter().unwrap();
    pair.unlock();
    board.add(0, 1);
    board.wait(0, |_| false);
}

#[test]
fn a_notification_of_the_dead_goes_to_another_waiter() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 2);
    let pair = Pair::create(arena);
    let mut chosen = Child::start(arena, "enter_only", &[&board, &pair.handles()]);
    board.wait(0, |waiting| waiting == 1);
    let other = Child::start(arena, "wait_once", &[&board, &pair.handles()]);
    board.wait(0, |waiting| waiting == 2);
    assert_eq!(pair.notify(1), 1, "the first one, which waited longest");
    chosen.kill();
    chosen.wait();
    board.wait(1, |through| through == 1);
    assert_eq!(other.finish(), ExitStatus::Exited(0));
    pair.lock();
    assert_eq!(pair.condvar.notify(1).unwrap(), 0);
    pair.unlock();
}

/// Notifies everybody, in one go.
fn notify_all(mut scene: Scene) {
    let pair = Pair::open(&mut scene);
    pair.lock();
    pair.condvar.notify(usize::MAX).unwrap();
    pair.unlock();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_notifier_may_die_at_any_step() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 2);
    let pair = Pair::create(arena);
    let deaths = at_every_pass(|pass| {
        (0..2).for_each(|word| board.set(word, 0));
        let waiters: Vec<_> = (0..3).map(|_| Child::start(arena, "wait_once", &[&board, &pair.handles()])).collect();
        board.wait(0, |waiting| waiting == 3);
        pair.lock();
        pair.unlock();
        let mut child = Child::start_doomed(arena, "notify_all", "condition.notified", pass, &[&pair.handles()]);
        let status = child.wait();
        board.wait(1, |through| through == u64::from(pass).min(3));
        // The others still wait, and the next notification is theirs.
        assert_eq!(pair.notify(5), 3 - pass.min(3) as usize);
        board.wait(1, |through| through == 3);
        for waiter in waiters {
            assert_eq!(waiter.finish(), ExitStatus::Exited(0));
        }
        status
    });
    assert_eq!(deaths, 3);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_waiter_may_die_at_any_step() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 2);
    let pair = Pair::create(arena);
    for point in ["condition.claimed", "condition.entered", "condition.left"] {
        (0..2).for_each(|word| board.set(word, 0));
        let mut child = Child::start_doomed(arena, "wait_once", point, 1, &[&board, &pair.handles()]);
        board.wait(0, |waiting| waiting == 1);
        if point == "condition.left" {
            while pair.notify(1) == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(child.wait(), KILLED);
        // It died inside the lock, which tells so; the condition goes on.
        assert!(matches!(pair.lock(), Acquired::FromTheDead(_)), "{point}");
        assert_eq!(pair.condvar.waiting().unwrap(), 0, "{point}");
        pair.unlock();
        let other = Child::start(arena, "wait_once", &[&board, &pair.handles()]);
        board.wait(0, |waiting| waiting == 2);
        assert_eq!(pair.notify(1), 1, "{point}");
        assert_eq!(other.finish(), ExitStatus::Exited(0));
        child.clean();
    }
}

#[test]
fn there_is_room_for_many_and_nothing_is_left_of_it() {
    let arena = Arena::create(&KINDS).unwrap();
    let warm = Condvar::create(arena).unwrap();
    drop(warm);
    let Statistics { blocks, leases, .. } = arena.statistics().unwrap();
    let pair = Pair::create(arena);
    pair.lock();
    let waiters: Vec<_> = (0..300).map(|_| pair.condvar.enter().unwrap()).collect();
    assert_eq!(pair.condvar.waiting().unwrap(), 300);
    assert_eq!(pair.condvar.notify(299).unwrap(), 299);
    let notified: Vec<_> = waiters.into_iter().map(|waiter| pair.condvar.leave(waiter).unwrap()).collect();
    assert!(notified[..299].iter().all(|notified| *notified) && !notified[299]);
    pair.unlock();
    drop(pair);
    let after = arena.statistics().unwrap();
    assert_eq!((after.blocks, after.leases), (blocks, leases));
}
