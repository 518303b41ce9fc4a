//! The barrier: nobody passes before all have arrived, all pass or none, and nobody waits for the dead.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, at_every_step};
use forkless_shm::{Arena, robust};
use forkless_sync::{Arrival, Barrier, Passage};
use forkless_sys::atomic::{AtomicU64, Ordering};
use forkless_sys::model;
use forkless_sys::time::SLICE;

type Child = (&'static Arena, &'static Barrier);

/// A barrier, as each child has it, that has been passed and reset once.
fn set_up<const CHILDREN: usize>(parties: u32) -> (World, &'static Barrier, [Child; CHILDREN]) {
    let mut world = World::new(CHILDREN);
    let barrier = Barrier::create(world.arena, parties).unwrap();
    let arrivals: Vec<_> = (0..parties).map(|_| arrive(&barrier).unwrap()).collect();
    assert_eq!(barrier.pass(*arrivals.last().unwrap()).unwrap(), Passage::Passed);
    barrier.reset().unwrap();
    world.watch(barrier.lease());
    let (barrier, children) = world.share(barrier, Barrier::lease, Barrier::open);
    (world, barrier, children)
}

fn arrive(barrier: &Barrier) -> Result<Arrival, Passage> {
    loop {
        if let Some(arrived) = barrier.arrive_within(SLICE).unwrap() {
            return arrived;
        }
    }
}

fn wait_on(barrier: &Barrier, arrival: Arrival) -> Passage {
    if arrival.last {
        return barrier.pass(arrival).unwrap();
    }
    loop {
        if let Some(passage) = barrier.wait_within(arrival, SLICE).unwrap() {
            return passage;
        }
    }
}

fn wait(barrier: &Barrier) -> Passage {
    arrive(barrier).map_or_else(|passage| passage, |arrival| wait_on(barrier, arrival))
}

#[test]
fn nobody_passes_before_all_have_arrived() {
    let (mut world, barrier, children) = set_up::<3>(3);
    let words = [(); 3].map(|()| world.word());
    world.check(move || {
        let parties: Vec<_> = children
            .into_iter()
            .zip(words)
            .map(|((child, barrier), word)| {
                Process::start(child, move || {
                    word.store(1, Ordering::Relaxed);
                    assert_eq!(wait(barrier), Passage::Passed);
                    assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 1));
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join().unwrap());
        assert_eq!(barrier.waiting().unwrap(), 0);
    });
}

#[test]
fn nobody_is_a_generation_ahead() {
    let (mut world, _, children) = set_up::<2>(2);
    let [first, second] = [(); 2].map(|()| world.word());
    let play = |barrier, mine: &'static AtomicU64, yours: &'static AtomicU64| {
        move || {
            for generation in 1..=2 {
                mine.store(generation, Ordering::Relaxed);
                assert_eq!(wait(barrier), Passage::Passed);
                assert!((generation..=generation + 1).contains(&yours.load(Ordering::Relaxed)));
            }
        }
    };
    world.check(move || {
        let [(child, its), (other, others)] = children;
        let parties =
            [Process::start(child, play(its, first, second)), Process::start(other, play(others, second, first))];
        let _ = parties.map(Process::join);
    });
}

#[test]
fn who_comes_when_all_have_arrived_waits_for_the_next_generation() {
    let (world, barrier, children) = set_up::<3>(2);
    world.preemptions(2).check(move || {
        let parties = children.map(|(child, barrier)| Process::start(child, move || wait(barrier)));
        assert_eq!(wait(barrier), Passage::Passed);
        assert_eq!(parties.map(Process::join), [Some(Passage::Passed); 3]);
    });
}

#[test]
fn who_gives_up_and_who_comes_last_agree() {
    let (world, barrier, children) = set_up::<2>(2);
    world.check(move || {
        let [(first, mine), (second, yours)] = children;
        let hasty = Process::start(first, move || match arrive(mine).unwrap() {
            arrival if arrival.last => mine.pass(arrival).unwrap(),
            arrival => mine.give_up(arrival).unwrap(),
        });
        let patient = Process::start(second, move || wait(yours));
        let ends = (hasty.join().unwrap(), patient.join().unwrap());
        assert_eq!(ends.0, ends.1);
        assert_eq!(barrier.is_broken().unwrap(), ends.0 == Passage::Broken);
    });
}

#[test]
fn breaking_it_wakes_who_waits() {
    let (world, barrier, children) = set_up::<2>(3);
    world.check(move || {
        let parties = children.map(|(child, barrier)| Process::start(child, move || wait(barrier)));
        barrier.abort().unwrap();
        assert_eq!(parties.map(Process::join), [Some(Passage::Broken); 2]);
    });
}

#[test]
fn a_party_that_dies_waiting_breaks_it_for_who_waits_and_who_comes() {
    at_every_step(|doom| {
        let (world, barrier, children) = set_up::<3>(3);
        let [(first, its), others @ ..] = children;
        let arrival = arrive(its).unwrap();
        world.check(move || {
            model::bounded();
            let doomed = Process::start_doomed(first, doom, move || its.wait_within(arrival, SLICE).unwrap());
            let others = others.map(|(child, barrier)| Process::start(child, move || wait(barrier)));
            if doomed.join().is_some() {
                barrier.abort().unwrap();
            }
            let [end, other_end] = others.map(|other| other.join().unwrap());
            assert_eq!(end, other_end);
            check_new(barrier);
        });
    });
}

#[test]
fn a_party_that_dies_coming_last_keeps_nobody_waiting() {
    at_every_step(|doom| {
        let (world, barrier, children) = set_up::<2>(2);
        let [(first, its), (second, others)] = children;
        let arrival = arrive(others).unwrap();
        world.check(move || {
            model::bounded();
            let doomed = Process::start_doomed(first, doom, move || wait(its));
            let other = Process::start(second, move || wait_on(others, arrival));
            let died = doomed.join().is_none();
            if died && barrier.waiting().unwrap() == 1 && !is_locked(barrier) {
                // It has left no trace, so nobody can know that it was to come.
                barrier.abort().unwrap();
            }
            assert!(other.join().unwrap() == Passage::Passed || died);
            check_new(barrier);
        });
    });
}

fn is_locked(barrier: &Barrier) -> bool {
    let lock = barrier.lease().arena().map().u32(barrier.lease().block().payload()).unwrap();
    robust::holder(lock).is_some()
}

/// Whether it is as new once it is reset.
fn check_new(barrier: &Barrier) {
    barrier.reset().unwrap();
    assert_eq!(arrive(barrier).unwrap().index, 0);
}
