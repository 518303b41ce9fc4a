//! An event is seen by all that wait for it, in any process.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod support;

use std::thread;
use std::time::{Duration, Instant};

use forkless::sync::{Event, Lock};
use forkless::{Deadline, Error, inherited};
use support::{PATIENCE, SOON, command};

support::plays!(answer, set_and_die);

/// Waits for one event, and sets the other.
fn answer() {
    assert!(inherited::<Event>("question").unwrap().wait_timeout(PATIENCE).unwrap());
    inherited::<Event>("answer").unwrap().set().unwrap();
}

/// Dies having set the event and woken nobody.
fn set_and_die() {
    let event: Event = inherited("event").unwrap();
    assert!(forkless_sys::crash::arm("event.set", 1));
    event.set().unwrap();
}

#[test]
fn it_is_set_and_cleared() {
    let event = Event::create().unwrap();
    assert!(!event.is_set().unwrap());
    assert!(!event.wait_deadline(Instant::now()).unwrap());
    let start = Instant::now();
    assert!(!event.wait_timeout(Duration::from_millis(70)).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(70) && start.elapsed() < SOON);
    event.set().unwrap();
    event.set().unwrap();
    event.wait().unwrap();
    assert!(event.wait_deadline(Deadline::NEVER).unwrap());
    let again = Event::open(event.handle()).unwrap();
    assert!(format!("{again:?}").contains("is_set: true"));
    again.clear().unwrap();
    assert!(!event.is_set().unwrap());
    assert!(matches!(Lock::open(event.handle()), Err(Error::Arena(_))));
}

#[test]
fn who_waits_when_it_is_set_sees_it_though_it_is_cleared_at_once() {
    let (event, waiting) = (Event::create().unwrap(), Event::create().unwrap());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            waiting.set().unwrap();
            event.wait_timeout(PATIENCE).unwrap()
        });
        waiting.wait().unwrap();
        // Until it has seen one of them: whether it waits already, no event tells.
        while !waiter.is_finished() {
            event.set().unwrap();
            event.clear().unwrap();
            thread::yield_now();
        }
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn processes_wait_for_each_other() {
    let (question, answer) = (Event::create().unwrap(), Event::create().unwrap());
    let mut child = command("answer").pass("question", &question).pass("answer", &answer).spawn().unwrap();
    question.set().unwrap();
    assert!(answer.wait_timeout(PATIENCE).unwrap());
    assert!(child.wait().unwrap().success());
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn it_is_seen_though_its_setter_died_at_once() {
    let event = Event::create().unwrap();
    let mut child = command("set_and_die").pass("event", &event).spawn().unwrap();
    let start = Instant::now();
    assert!(event.wait_timeout(PATIENCE).unwrap());
    assert_eq!(child.wait().unwrap().to_string(), "SIGKILL");
    assert!(start.elapsed() < SOON, "after {:?}", start.elapsed());
}
