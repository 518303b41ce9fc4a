//! A mutex without data, and one that its owner may take again.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod support;

use std::thread;
use std::time::{Duration, Instant};

use forkless::process::ExitStatus;
use forkless::sync::{Event, Lock, LockError, ReentrantLock};
use forkless::{Error, arena, inherited};
use support::{PATIENCE, SOON, command};

support::plays!(hold, hold_reentrant);

fn hold() {
    let lock: Lock = inherited("lock").unwrap();
    std::mem::forget(lock.lock().unwrap());
    inherited::<Event>("held").unwrap().set().unwrap();
    Event::create().unwrap().wait().unwrap();
}

fn hold_reentrant() {
    let lock: ReentrantLock = inherited("lock").unwrap();
    std::mem::forget((lock.lock().unwrap(), lock.lock().unwrap()));
    inherited::<Event>("held").unwrap().set().unwrap();
    Event::create().unwrap().wait().unwrap();
}

#[test]
fn it_is_held_by_one() {
    let lock = Lock::create().unwrap();
    let guard = lock.lock().unwrap();
    assert!(lock.try_lock().unwrap().is_none());
    assert!(lock.lock_timeout(Duration::from_millis(1)).unwrap().is_none());
    assert!(lock.lock_deadline(Instant::now()).unwrap().is_none());
    assert_eq!(lock.holder().unwrap(), Some(arena().unwrap().me().unwrap()));
    assert!(format!("{lock:?}").contains("holder: Some"));
    drop(guard);
    let again = Lock::open(lock.handle()).unwrap();
    let _guard = again.try_lock().unwrap().unwrap();
    assert!(lock.try_lock().unwrap().is_none());
    assert!(matches!(ReentrantLock::open(lock.handle()), Err(Error::Arena(_))));
}

#[test]
fn whoever_takes_it_from_the_dead_is_told_once() {
    let (lock, held) = (Lock::create().unwrap(), Event::create().unwrap());
    let child = command("hold").pass("lock", &lock).pass("held", &held).spawn().unwrap();
    assert!(held.wait_timeout(PATIENCE).unwrap());
    assert!(lock.lock_timeout(Duration::from_millis(20)).unwrap().is_none(), "its owner lives");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let Err(LockError::OwnerDied(died)) = lock.lock() else { panic!("nobody was told") };
            let learned = Instant::now();
            assert_eq!(died.death().name(), Some("hold"));
            drop(died.into_inner());
            learned
        });
        let death = Instant::now();
        child.kill().unwrap();
        let learned = waiter.join().unwrap();
        assert!(learned - death < SOON, "after {:?}", learned - death);
    });
    drop(lock.lock().unwrap());
    assert_eq!(child.wait_timeout(PATIENCE).unwrap(), Some(ExitStatus::Signaled(9)));
}

#[test]
fn a_thread_takes_it_again_and_others_do_not() {
    let lock = ReentrantLock::create().unwrap();
    let outer = lock.lock().unwrap();
    let inner = lock.try_lock().unwrap().unwrap();
    let elsewhere = || thread::scope(|scope| scope.spawn(|| lock.try_lock().unwrap().is_some()).join().unwrap());
    assert!(!elsewhere());
    drop(outer);
    assert!(!elsewhere(), "guards may be dropped in any order");
    drop(inner);
    assert!(elsewhere());
    assert_eq!(lock.holder().unwrap(), None);
    assert!(lock.lock_deadline(Instant::now()).unwrap().is_some());
    assert!(format!("{lock:?}").contains("holder: None"));
}

#[test]
fn a_reentrant_lock_is_taken_from_the_dead_however_often_they_had_it() {
    let (lock, held) = (ReentrantLock::create().unwrap(), Event::create().unwrap());
    let mut child = command("hold_reentrant").pass("lock", &lock).pass("held", &held).spawn().unwrap();
    assert!(held.wait_timeout(PATIENCE).unwrap());
    assert!(lock.lock_timeout(Duration::ZERO).unwrap().is_none());
    child.kill().unwrap();
    let Err(LockError::OwnerDied(died)) = lock.lock() else { panic!("nobody was told") };
    assert_eq!(died.death().owner(), child.owner());
    drop(died.recover());
    assert_eq!(lock.holder().unwrap(), None);
    child.wait().unwrap();
}
