//! Permits come back, whoever dies.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod support;

use std::thread;
use std::time::{Duration, Instant};

use forkless::sync::{Event, Semaphore};
use forkless::{Error, inherited};
use support::{PATIENCE, SOON, command};

support::plays!(hold_two_forget_one, wait_for_a_permit);

fn hold_two_forget_one() {
    let semaphore: Semaphore = inherited("semaphore").unwrap();
    let (first, second) = (semaphore.acquire().unwrap(), semaphore.acquire().unwrap());
    first.forget();
    inherited::<Event>("held").unwrap().set().unwrap();
    Event::create().unwrap().wait().unwrap();
    drop(second);
}

fn wait_for_a_permit() {
    let semaphore: Semaphore = inherited("semaphore").unwrap();
    drop(semaphore.acquire_timeout(PATIENCE).unwrap().unwrap());
}

#[test]
fn permits_are_taken_and_given_back() {
    let semaphore = Semaphore::create(2).unwrap();
    let first = semaphore.acquire().unwrap();
    let second = semaphore.try_acquire().unwrap().unwrap();
    assert!(semaphore.try_acquire().unwrap().is_none());
    assert!(semaphore.acquire_timeout(Duration::from_millis(1)).unwrap().is_none());
    assert!(semaphore.acquire_deadline(Instant::now()).unwrap().is_none());
    drop(first);
    assert_eq!(semaphore.available_permits().unwrap(), 1);
    second.forget();
    assert_eq!(semaphore.available_permits().unwrap(), 1);
    semaphore.release().unwrap();
    let again = Semaphore::open(semaphore.handle()).unwrap();
    assert_eq!(again.available_permits().unwrap(), 2);
    assert!(format!("{again:?}").contains("available_permits: 2"));
    assert!(matches!(Event::open(semaphore.handle()), Err(Error::Arena(_))));
}

#[test]
fn there_are_only_so_many() {
    let semaphore = Semaphore::create(Semaphore::MAX_PERMITS).unwrap();
    assert!(matches!(semaphore.release(), Err(Error::TooManyPermits)));
}

#[test]
fn a_permit_wakes_one_that_waits() {
    let semaphore = Semaphore::create(0).unwrap();
    thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..3).map(|_| scope.spawn(|| semaphore.acquire().map(|permit| permit.forget()))).collect();
        (0..3).for_each(|_| semaphore.release().unwrap());
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap().unwrap());
    });
    assert_eq!(semaphore.available_permits().unwrap(), 0);
}

#[test]
fn the_permits_of_a_killed_child_come_back_while_its_parent_waits_for_one() {
    let (semaphore, held) = (Semaphore::create(2).unwrap(), Event::create().unwrap());
    let child = command("hold_two_forget_one").pass("semaphore", &semaphore).pass("held", &held).spawn().unwrap();
    assert!(held.wait_timeout(PATIENCE).unwrap());
    assert!(semaphore.try_acquire().unwrap().is_none());
    let death = Instant::now();
    child.kill().unwrap();
    // Nobody waits for the child itself.
    let permit = semaphore.acquire_timeout(PATIENCE).unwrap().unwrap();
    assert!(death.elapsed() < SOON, "after {:?}", death.elapsed());
    assert!(semaphore.try_acquire().unwrap().is_none(), "what was forgotten does not come back");
    drop(permit);
}

#[test]
fn the_permits_of_a_killed_child_come_back_to_its_sibling() {
    let (semaphore, held) = (Semaphore::create(2).unwrap(), Event::create().unwrap());
    let first = command("hold_two_forget_one").pass("semaphore", &semaphore).pass("held", &held).spawn().unwrap();
    assert!(held.wait_timeout(PATIENCE).unwrap());
    let mut second = command("wait_for_a_permit").pass("semaphore", &semaphore).spawn().unwrap();
    first.kill().unwrap();
    // The parent waits for the other one.
    assert!(second.wait().unwrap().success());
}
