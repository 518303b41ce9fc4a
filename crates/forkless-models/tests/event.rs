//! The event: no wait sleeps through a set, be it cleared at once or its setter dead, and what was written before a set
//! is seen after it.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, at_every_step};
use forkless_shm::Arena;
use forkless_sync::{Deadline, Event, Ticket};
use forkless_sys::atomic::{AtomicU64, Ordering};
use forkless_sys::model;
use forkless_sys::time::SLICE;

/// An event, as each child has it, and a word that is written before it is set.
fn set_up<const CHILDREN: usize>()
-> (World, &'static Event, [(&'static Arena, &'static Event); CHILDREN], &'static AtomicU64) {
    let mut world = World::new(CHILDREN);
    let event = Event::create(world.arena).unwrap();
    assert!(!event.is_set().unwrap());
    world.watch(event.lease());
    let word = world.word();
    let (event, children) = world.share(event, Event::lease, Event::open);
    (world, event, children, word)
}

fn set(event: &Event, word: &AtomicU64) {
    word.store(1, Ordering::Relaxed);
    event.set().unwrap();
}

fn wait(event: &Event) {
    assert!(event.wait(Deadline::NEVER).unwrap());
}

fn wait_since(event: &Event, ticket: Ticket) {
    while event.wait_within(ticket, SLICE).unwrap().is_none() {}
}

#[test]
fn no_wait_sleeps_through_a_set() {
    let (world, event, children, word) = set_up::<3>();
    world.check(move || {
        let [(setter, its), waiters @ ..] = children;
        let setter = Process::start(setter, move || set(its, word));
        let waiters = waiters.map(|(waiter, its)| {
            Process::start(waiter, move || {
                wait(its);
                assert_eq!(word.load(Ordering::Relaxed), 1);
            })
        });
        setter.join().unwrap();
        let _ = waiters.map(Process::join);
        assert!(event.is_set().unwrap());
    });
}

#[test]
fn a_set_that_is_cleared_at_once_ends_the_waits_begun_before() {
    let (world, event, children, word) = set_up::<3>();
    world.preemptions(2).check(move || {
        let ticket = event.ticket().unwrap();
        let [(setter, its), waiters @ ..] = children;
        let setter = Process::start(setter, move || {
            set(its, word);
            its.clear().unwrap();
        });
        let waiters = waiters.map(|(waiter, its)| {
            Process::start(waiter, move || {
                wait_since(its, ticket);
                assert_eq!(word.load(Ordering::Relaxed), 1);
            })
        });
        setter.join().unwrap();
        let _ = waiters.map(Process::join);
    });
}

/// What a program does that is told of work by an event: it clears the event first and looks for work then.
#[test]
fn whoever_clears_it_sees_what_was_written_before_a_set_that_found_it_set() {
    let (world, event, children, word) = set_up::<2>();
    event.set().unwrap();
    world.check(move || {
        let [(setter, its), (worker, hers)] = children;
        let setter = Process::start(setter, move || set(its, word));
        let worker = Process::start(worker, move || {
            while word.load(Ordering::Relaxed) == 0 {
                wait(hers);
                hers.clear().unwrap();
            }
        });
        setter.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn whom_a_dead_setter_did_not_wake_the_bound_or_the_next_set_does() {
    at_every_step(|doom| {
        let (world, event, children, word) = set_up::<2>();
        world.check(move || {
            let ticket = event.ticket().unwrap();
            let [(setter, its), (waiter, hers)] = children;
            model::impatient();
            let setter = Process::start_doomed(setter, doom, move || {
                set(its, word);
                its.clear().unwrap();
            });
            let waiter = Process::start(waiter, move || wait_since(hers, ticket));
            if setter.join().is_none() && !event.passed(ticket).unwrap() {
                event.set().unwrap();
            }
            waiter.join().unwrap();
        });
    });
}

#[test]
fn a_waiter_that_dies_takes_nobodys_wake_up_along() {
    at_every_step(|doom| {
        let (world, _, children, word) = set_up::<3>();
        world.check(move || {
            let [(setter, its), (doomed, his), (waiter, hers)] = children;
            let doomed = Process::start_doomed(doomed, doom, move || wait(his));
            let waiter = Process::start(waiter, move || wait(hers));
            let setter = Process::start(setter, move || set(its, word));
            setter.join().unwrap();
            waiter.join().unwrap();
            doomed.join();
        });
    });
}
