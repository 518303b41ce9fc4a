//! A condition variable beside a mutex, used by processes that die.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod support;

use std::thread;
use std::time::{Duration, Instant};

use forkless::process::ExitStatus;
use forkless::sync::{Condvar, Event, Lock, LockError, Mutex, ReentrantLock};
use forkless::{Error, inherited};
use support::{PATIENCE, SOON, command};

support::plays!(take_one, die_with_the_mutex, hold_on, notify_and_die);

/// Waits for one of the goods and takes it.
fn take_one() {
    let (goods, more): (Mutex<u32>, Condvar) = (inherited("goods").unwrap(), inherited("more").unwrap());
    let guard = goods.lock().unwrap();
    let (mut guard, result) = more.wait_timeout_while(guard, PATIENCE, |goods| *goods == 0).unwrap();
    assert!(!result.timed_out());
    *guard -= 1;
}

/// Dies with the mutex once somebody waits.
fn die_with_the_mutex() {
    let (goods, more): (Mutex<u32>, Condvar) = (inherited("goods").unwrap(), inherited("more").unwrap());
    while more.waiting().unwrap() == 0 {
        thread::yield_now();
    }
    let mut guard = goods.lock().unwrap();
    *guard = 99;
    std::process::abort();
}

/// Waits, and never takes the mutex again: it is killed.
fn hold_on() {
    let (goods, more): (Mutex<u32>, Condvar) = (inherited("goods").unwrap(), inherited("more").unwrap());
    drop(more.wait(goods.lock().unwrap()).unwrap());
}

/// Dies having notified one and woken nobody.
fn notify_and_die() {
    let (goods, more): (Mutex<u32>, Condvar) = (inherited("goods").unwrap(), inherited("more").unwrap());
    *goods.lock().unwrap() += 1;
    assert!(forkless_sys::crash::arm("condition.notified", 1));
    more.notify_one().unwrap();
}

fn pair() -> (Mutex<u32>, Condvar) {
    (Mutex::create(0).unwrap(), Condvar::create().unwrap())
}

fn wait_until_waiting(more: &Condvar, count: usize) {
    while more.waiting().unwrap() != count {
        thread::yield_now();
    }
}

#[test]
fn a_notified_waiter_finds_what_it_waits_for() {
    let (goods, more) = pair();
    let mut children = [(); 3].map(|()| command("take_one").pass("goods", &goods).pass("more", &more).spawn().unwrap());
    wait_until_waiting(&more, 3);
    // What is changed through the guard is there before it is given back; whether it is held then does not matter.
    let mut guard = goods.lock().unwrap();
    *guard += 1;
    assert!(more.notify_one().unwrap());
    drop(guard);
    wait_until_waiting(&more, 2);
    *goods.lock().unwrap() += 2;
    assert_eq!(more.notify_all().unwrap(), 2);
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(*goods.lock().unwrap(), 0);
    assert!(!more.notify_one().unwrap(), "nobody waits");
}

#[test]
fn a_timeout_is_waited_for_and_the_mutex_is_held_again() {
    let (goods, more) = pair();
    let start = Instant::now();
    let (guard, result) = more.wait_timeout(goods.lock().unwrap(), Duration::from_millis(70)).unwrap();
    assert!(result.timed_out());
    assert!(start.elapsed() >= Duration::from_millis(70) && start.elapsed() < SOON);
    assert!(goods.try_lock().unwrap().is_none());
    let (guard, result) = more.wait_deadline(guard, Instant::now()).unwrap();
    assert!(result.timed_out());
    let (guard, result) = more.wait_timeout_while(guard, Duration::ZERO, |goods| *goods == 0).unwrap();
    assert!(result.timed_out());
    let guard = more.wait_while(guard, |goods| *goods > 0).unwrap();
    drop(guard);
    assert_eq!(more.waiting().unwrap(), 0);
    let again = Condvar::open(more.handle()).unwrap();
    assert!(format!("{again:?}").contains("waiting: 0"));
    assert!(matches!(Event::open(more.handle()), Err(Error::Arena(_))));
}

#[test]
fn it_works_beside_any_lock() {
    let (more, lock, reentrant) =
        (Condvar::create().unwrap(), Lock::create().unwrap(), ReentrantLock::create().unwrap());
    let notified = |wait: &(dyn Fn() + Sync)| {
        thread::scope(|scope| {
            let waiter = scope.spawn(wait);
            wait_until_waiting(&more, 1);
            more.notify_one().unwrap();
            waiter.join().unwrap();
        });
    };
    notified(&|| {
        let guard = more.wait(lock.lock().unwrap()).unwrap();
        assert!(lock.try_lock().unwrap().is_none());
        drop(guard);
    });
    notified(&|| {
        let outer = reentrant.lock().unwrap();
        let inner = more.wait(reentrant.lock().unwrap()).unwrap();
        drop(outer);
        assert!(reentrant.holder().unwrap().is_some(), "held as often as before");
        drop(inner);
    });
    assert_eq!((lock.holder().unwrap(), reentrant.holder().unwrap()), (None, None));
}

#[test]
fn all_that_wait_learn_that_the_owner_of_the_mutex_died() {
    let (goods, more) = pair();
    let told = Mutex::create(0_u32).unwrap();
    thread::scope(|scope| {
        let wait = || {
            let Err(LockError::OwnerDied(died)) = more.wait(goods.lock().unwrap()) else { panic!("nobody was told") };
            assert_eq!(died.death().name(), Some("die_with_the_mutex"));
            // Gives up: the others are told, too.
            assert_eq!(*died.into_inner(), 0, "a change that was not committed");
            *told.lock().unwrap() += 1;
        };
        let waiters = [scope.spawn(wait), scope.spawn(wait)];
        wait_until_waiting(&more, 2);
        let start = Instant::now();
        let mut child = command("die_with_the_mutex").pass("goods", &goods).pass("more", &more).spawn().unwrap();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(start.elapsed() < SOON, "after {:?}", start.elapsed());
        assert_eq!(child.wait().unwrap(), ExitStatus::Signaled(6));
    });
    assert_eq!(*told.lock().unwrap(), 2);
    assert!(goods.is_poisoned().unwrap());
}

#[test]
fn a_notification_of_the_dead_goes_to_the_next() {
    let (goods, more) = pair();
    let first = command("hold_on").pass("goods", &goods).pass("more", &more).spawn().unwrap();
    wait_until_waiting(&more, 1);
    let mut second = command("take_one").pass("goods", &goods).pass("more", &more).spawn().unwrap();
    wait_until_waiting(&more, 2);
    // The first one is notified while somebody else has the mutex, and killed before it gets that.
    let mut guard = goods.lock().unwrap();
    *guard += 1;
    assert!(more.notify_one().unwrap());
    first.kill().unwrap();
    assert_eq!(first.wait_timeout(PATIENCE).unwrap(), Some(ExitStatus::Signaled(9)));
    drop(guard);
    assert!(second.wait().unwrap().success());
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_notifier_may_die_having_woken_nobody() {
    let (goods, more) = pair();
    let mut taker = command("take_one").pass("goods", &goods).pass("more", &more).spawn().unwrap();
    wait_until_waiting(&more, 1);
    let mut notifier = command("notify_and_die").pass("goods", &goods).pass("more", &more).spawn().unwrap();
    assert_eq!(notifier.wait().unwrap(), ExitStatus::Signaled(9));
    assert!(taker.wait().unwrap().success());
}

#[test]
fn notifications_without_the_mutex_are_not_lost() {
    let (goods, more) = pair();
    const EACH: u32 = 300;
    thread::scope(|scope| {
        let take = || {
            for _ in 0..EACH {
                let guard = goods.lock().unwrap();
                let (mut guard, result) = more.wait_timeout_while(guard, PATIENCE, |goods| *goods == 0).unwrap();
                assert!(!result.timed_out());
                *guard -= 1;
            }
        };
        let give = || {
            for _ in 0..EACH {
                *goods.lock().unwrap() += 1;
                more.notify_one().unwrap();
            }
        };
        for _ in 0..2 {
            scope.spawn(take);
            scope.spawn(give);
        }
    });
    assert_eq!(*goods.lock().unwrap(), 0);
}
