//! Nobody passes a barrier before all have arrived, and nobody waits for the dead.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod support;

use std::thread;
use std::time::{Duration, Instant};

use forkless::sync::{Barrier, Event};
use forkless::{Error, inherited};
use support::{PATIENCE, SOON, command};

support::plays!(arrive, arrive_thrice);

fn arrive() {
    let barrier: Barrier = inherited("barrier").unwrap();
    assert!(matches!(barrier.wait(), Err(Error::BarrierBroken)));
}

fn arrive_thrice() {
    let barrier: Barrier = inherited("barrier").unwrap();
    for _ in 0..3 {
        barrier.wait_timeout(PATIENCE).unwrap();
    }
}

fn is_broken<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::BarrierBroken)), "{result:?}");
}

#[test]
fn one_of_all_is_the_leader_each_time() {
    let barrier = Barrier::create(3).unwrap();
    let arrive = || (0..20).map(|_| usize::from(barrier.wait().unwrap().is_leader())).sum::<usize>();
    let leaders: usize = thread::scope(|scope| {
        let others = [scope.spawn(arrive), scope.spawn(arrive)];
        arrive() + others.into_iter().map(|other| other.join().unwrap()).sum::<usize>()
    });
    assert_eq!(leaders, 20);
    assert_eq!((barrier.parties(), barrier.waiting().unwrap()), (3, 0));
    assert!(Barrier::create(0).unwrap().wait().unwrap().is_leader());
    assert!(Barrier::create(1).unwrap().wait_timeout(Duration::ZERO).unwrap().is_leader());
}

#[test]
fn processes_pass_together() {
    let barrier = Barrier::create(3).unwrap();
    let mut children = [(); 2].map(|()| command("arrive_thrice").pass("barrier", &barrier).spawn().unwrap());
    for _ in 0..3 {
        barrier.wait_timeout(PATIENCE).unwrap();
    }
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
}

#[test]
fn a_handle_opens_the_same_barrier() {
    let barrier = Barrier::create(2).unwrap();
    let again = Barrier::open(barrier.handle()).unwrap();
    assert_eq!(again.parties(), 2);
    again.abort().unwrap();
    assert!(barrier.is_broken().unwrap());
    assert!(format!("{barrier:?}").contains("is_broken: true"));
    is_broken(barrier.wait());
    barrier.reset().unwrap();
    assert!(!again.is_broken().unwrap());
    assert!(matches!(Event::open(barrier.handle()), Err(Error::Arena(_))));
}

#[test]
fn who_gives_up_breaks_it_for_all() {
    let barrier = Barrier::create(3).unwrap();
    thread::scope(|scope| {
        let other = scope.spawn(|| is_broken(barrier.wait_timeout(PATIENCE)));
        while barrier.waiting().unwrap() == 0 {
            thread::yield_now();
        }
        let start = Instant::now();
        is_broken(barrier.wait_timeout(Duration::from_millis(30)));
        assert!(start.elapsed() >= Duration::from_millis(30));
        other.join().unwrap();
    });
    is_broken(barrier.wait_deadline(Instant::now()));
}

#[test]
fn the_death_of_one_that_waits_breaks_it() {
    let barrier = Barrier::create(4).unwrap();
    let doomed = command("arrive").pass("barrier", &barrier).spawn().unwrap();
    let mut other = command("arrive").pass("barrier", &barrier).spawn().unwrap();
    while barrier.waiting().unwrap() < 2 {
        thread::yield_now();
    }
    let death = Instant::now();
    doomed.kill().unwrap();
    is_broken(barrier.wait_timeout(PATIENCE));
    assert!(death.elapsed() < SOON, "after {:?}", death.elapsed());
    assert!(other.wait().unwrap().success());
}
