//! What an event promises.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::thread;
use std::time::{Duration, Instant};

use forkless_shm::{Arena, Error};
use forkless_sync::{Deadline, Event, Mutex};
use forkless_sys::futex::Woken;
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Scene, handle, roles};
use proptest::prelude::*;

roles!(&[] => wait_often);

/// Waits for each of the parent's sets, which the parent clears at once.
fn wait_often(mut scene: Scene) {
    let board = scene.board();
    let handle = scene.handle();
    let event = Event::open(scene.arena, handle).unwrap();
    for round in 1..=scene.argument() {
        board.wait(2, |ready| ready == round);
        let ticket = event.ticket().unwrap();
        board.add(0, 1);
        while event.wait_within(ticket, PATIENCE).unwrap() != Some(Woken::Look) {}
        assert!(event.passed(ticket).unwrap());
        board.add(1, 1);
    }
}

#[test]
fn a_set_that_is_cleared_at_once_is_seen_by_all_who_wait() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 3);
    board.set(2, 1);
    let event = Event::create(arena).unwrap();
    let handle = handle(event.lease());
    let waiters: Vec<_> = (0..3).map(|_| Child::start(arena, "wait_often", &[&board, &handle, &100])).collect();
    for round in 1..=100 {
        board.wait(0, |waiting| waiting == 3 * round);
        event.set().unwrap();
        event.clear().unwrap();
        board.set(2, round + 1);
        board.wait(1, |woken| woken == 3 * round);
    }
    assert!(waiters.into_iter().all(|waiter| waiter.finish() == ExitStatus::Exited(0)));
}

#[test]
fn a_timeout_is_waited_for_and_not_much_longer() {
    let arena = Arena::create(&[]).unwrap();
    let event = Event::create(arena).unwrap();
    for timeout in [0, 1, 30, 120].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(!event.wait(Deadline::after(timeout)).unwrap());
        let waited = start.elapsed();
        assert!(waited >= timeout && waited < timeout + Duration::from_secs(30), "{waited:?} in place of {timeout:?}");
    }
    event.set().unwrap();
    assert!(event.wait(Deadline::after(Duration::ZERO)).unwrap());
    assert!(event.wait(Deadline::NEVER).unwrap());
}

#[test]
fn what_was_written_before_is_seen_after() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    for round in 0..200 {
        let event = Event::create(arena).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(event.wait(Deadline::after(PATIENCE)).unwrap());
                assert_eq!(board.get(0), round);
            });
            board.set(0, round);
            event.set().unwrap();
        });
    }
}

#[test]
fn a_handle_is_good_for_one_type_and_as_long_as_somebody_holds_it() {
    let arena = Arena::create(&[]).unwrap();
    let event = Event::create(arena).unwrap();
    event.set().unwrap();
    let handle = event.lease().handle().unwrap();
    let again = Event::open(arena, handle).unwrap();
    assert!(again.is_set().unwrap());
    assert!(matches!(Mutex::open(arena, handle), Err(Error::Stale(_))));
    drop((event, again));
    assert!(matches!(Event::open(arena, handle), Err(Error::Stale(_))));
    assert!(!Event::create(arena).unwrap().is_set().unwrap(), "a new one in the same place is not set");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Set,
    Clear,
    Ticket,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A wait is over if the event is set, or has been since the wait began.
    #[test]
    fn it_is_a_boolean_with_a_memory(
        steps in prop::collection::vec(prop::sample::select(vec![Step::Set, Step::Clear, Step::Ticket]), 0..40),
    ) {
        static ARENA: std::sync::OnceLock<&Arena> = std::sync::OnceLock::new();
        let arena = *ARENA.get_or_init(|| Arena::create(&[]).unwrap());
        let event = Event::create(arena).unwrap();
        let mut is_set = false;
        let mut tickets = Vec::new();
        for step in steps {
            match step {
                Step::Set => {
                    event.set().unwrap();
                    is_set = true;
                    tickets.iter_mut().for_each(|(_, passed)| *passed = true);
                }
                Step::Clear => {
                    event.clear().unwrap();
                    is_set = false;
                }
                Step::Ticket => tickets.push((event.ticket().unwrap(), is_set)),
            }
            prop_assert_eq!(event.is_set().unwrap(), is_set);
            prop_assert_eq!(event.wait(Deadline::after(Duration::ZERO)).unwrap(), is_set);
            for (ticket, passed) in &tickets {
                prop_assert_eq!(event.passed(*ticket).unwrap(), is_set || *passed);
                let woken = event.wait_within(*ticket, Duration::ZERO).unwrap();
                prop_assert_eq!(woken == Some(Woken::Look), is_set || *passed);
            }
        }
    }
}
