//! Taken again by its owner, given back by nobody else, and told of when its owner dies.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::thread;

use forkless_shm::Arena;
use forkless_sync::{Acquired, Deadline, KINDS, Mutex, ReentrantMutex};
use forkless_testing::{Board, Child, PATIENCE, Scene, at_every_pass, handle, roles};

roles!(&KINDS => take_twice, take_and_wait);

fn mutex(scene: &mut Scene) -> ReentrantMutex {
    let handle = scene.handle();
    ReentrantMutex::open(scene.arena, handle).unwrap()
}

fn acquire(mutex: &ReentrantMutex) -> Acquired {
    mutex.acquire(Deadline::after(PATIENCE)).unwrap().expect("the lock within the test's patience")
}

#[test]
fn it_belongs_to_a_thread_as_often_as_that_took_it() {
    let arena = Arena::create(&KINDS).unwrap();
    let mutex = ReentrantMutex::create(arena).unwrap();
    assert!(!mutex.release().unwrap(), "nobody's");
    for _ in 0..3 {
        assert_eq!(acquire(&mutex), Acquired::Clean);
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(mutex.try_acquire().unwrap(), None);
            assert!(!mutex.release().unwrap(), "another thread's");
            assert!(!mutex.is_mine().unwrap());
        });
    });
    assert!(mutex.release().unwrap());
    assert_eq!(mutex.count().unwrap(), 2);
    assert_eq!(mutex.release_all().unwrap(), 2);
    assert_eq!((mutex.holder().unwrap(), mutex.count().unwrap()), (None, 0));
    assert!(!mutex.release().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(acquire(&mutex), Acquired::Clean));
    });
    assert_eq!(mutex.try_acquire().unwrap(), None, "a thread that ended keeps it, as in the standard library");
}

#[test]
fn locks_remember_where_they_were_made() {
    let arena = Arena::create(&KINDS).unwrap();
    let mutex = ReentrantMutex::create_at(arena, "program.py:12").unwrap();
    assert_eq!(mutex.origin(), "program.py:12");
    let long = ReentrantMutex::create_at(arena, &format!("{}.py:12345", "é".repeat(40))).unwrap();
    assert!(long.origin().ends_with("é.py:12345"));
    assert_eq!(Mutex::create(arena).unwrap().origin(), "");
    assert_eq!(Mutex::create_at(arena, "program.py:12").unwrap().origin(), "program.py:12");
}

/// Takes it twice, gives it back twice.
fn take_twice(mut scene: Scene) {
    let mutex = mutex(&mut scene);
    for _ in 0..2 {
        acquire(&mutex);
    }
    for _ in 0..2 {
        assert!(mutex.release().unwrap());
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_death_at_any_step_is_told_and_leaves_a_lock_that_works() {
    let arena = Arena::create(&KINDS).unwrap();
    let mutex = ReentrantMutex::create(arena).unwrap();
    for point in ["reentrant.taken", "reentrant.named", "reentrant.unnamed"] {
        let deaths = at_every_pass(|pass| {
            let mut child = Child::start_doomed(arena, "take_twice", point, pass, &[&handle(mutex.lease())]);
            let status = child.wait();
            let expected = if pass == 1 { Acquired::FromTheDead(child.owner()) } else { Acquired::Clean };
            assert_eq!(acquire(&mutex), expected, "{point}");
            assert_eq!(mutex.count().unwrap(), 1, "{point}");
            assert!(mutex.release().unwrap());
            assert_eq!(acquire(&mutex), Acquired::Clean);
            assert!(mutex.release().unwrap());
            status
        });
        assert_eq!(deaths, 1, "{point}");
    }
}

fn take_and_wait(mut scene: Scene) {
    let board = scene.board();
    let mutex = mutex(&mut scene);
    acquire(&mutex);
    acquire(&mutex);
    board.add(0, 1);
    board.wait(0, |_| false);
}

#[test]
fn a_waiter_learns_of_the_death() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 1);
    let mutex = ReentrantMutex::create(arena).unwrap();
    let mut child = Child::start(arena, "take_and_wait", &[&board, &handle(mutex.lease())]);
    board.wait(0, |held| held == 1);
    assert_eq!(mutex.try_acquire().unwrap(), None);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let acquired = acquire(&mutex);
            assert!(mutex.release().unwrap(), "held once, not as often as by the dead");
            acquired
        });
        child.kill();
        assert_eq!(waiter.join().unwrap(), Acquired::FromTheDead(child.owner()));
    });
    assert_eq!(mutex.holder().unwrap(), None);
    child.clean();
}
