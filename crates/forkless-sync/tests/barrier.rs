//! All or none pass, and a party that dies breaks the barrier for the others.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::thread;
use std::time::{Duration, Instant};

use forkless_shm::Arena;
use forkless_sync::{Barrier, Deadline, KINDS, Passage, until};
use forkless_sys::process::ExitStatus;
use forkless_sys::time::SLICE;
use forkless_testing::{Board, Child, PATIENCE, Scene, at_every_pass, handle, roles};

roles!(&KINDS => pass_once, pass_often);

/// A party learns of a death within 100 ms. Machines under test are busy.
const SOON: Duration = Duration::from_secs(30);

/// As any user waits.
fn wait(barrier: &Barrier) -> Passage {
    let deadline = Deadline::after(PATIENCE);
    let arrival = until(deadline, |bound| barrier.arrive_within(bound)).unwrap().expect("room at the barrier");
    let arrival = match arrival {
        Ok(arrival) if arrival.last => return barrier.pass(arrival).unwrap(),
        Ok(arrival) => arrival,
        Err(passage) => return passage,
    };
    until(deadline, |bound| barrier.wait_within(arrival, bound)).unwrap().expect("an end of the wait")
}

fn open(scene: &mut Scene) -> Barrier {
    let handle = scene.handle();
    Barrier::open(scene.arena, handle).unwrap()
}

/// Word 0 counts those that are about to arrive, 1 those that passed, 2 those that found it broken.
fn pass_once(mut scene: Scene) {
    let board = scene.board();
    let barrier = open(&mut scene);
    board.add(0, 1);
    match wait(&barrier) {
        Passage::Passed => board.add(1, 1),
        Passage::Broken => board.add(2, 1),
    }
}

/// Passes 200 times; nobody may be a generation ahead. Words: one count for each party.
fn pass_often(mut scene: Scene) {
    let board = scene.board();
    let barrier = open(&mut scene);
    let me: usize = scene.argument();
    for generation in 1..=200 {
        board.add(me, 1);
        assert_eq!(wait(&barrier), Passage::Passed);
        for party in 0..3 {
            let count = board.get(party);
            assert!(count >= generation && count <= generation + 1, "{party} is at {count}, {me} at {generation}");
        }
    }
}

#[test]
fn generation_after_generation_all_pass_together() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 3);
    let barrier = Barrier::create(arena, 3).unwrap();
    let parties: Vec<_> =
        (0..3).map(|me| Child::start(arena, "pass_often", &[&board, &handle(barrier.lease()), &me])).collect();
    for party in parties {
        assert_eq!(party.finish(), ExitStatus::Exited(0));
    }
    assert_eq!((barrier.waiting().unwrap(), barrier.is_broken().unwrap()), (0, false));
}

#[test]
fn a_party_that_is_killed_breaks_it_for_the_others() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 3);
    let barrier = Barrier::create(arena, 4).unwrap();
    let mut parties: Vec<_> =
        (0..3).map(|_| Child::start(arena, "pass_once", &[&board, &handle(barrier.lease())])).collect();
    while barrier.waiting().unwrap() < 3 {
        thread::yield_now();
    }
    let death = Instant::now();
    parties[1].kill();
    board.wait(2, |broken| broken == 2);
    assert!(death.elapsed() < SOON, "they learned of it after {:?}", death.elapsed());
    assert!(barrier.is_broken().unwrap());
    assert_eq!(wait(&barrier), Passage::Broken);
    parties[1].clean();
    barrier.reset().unwrap();
    let again: Vec<_> = (0..3).map(|_| Child::start(arena, "pass_once", &[&board, &handle(barrier.lease())])).collect();
    assert_eq!(wait(&barrier), Passage::Passed);
    board.wait(1, |passed| passed == 3);
    for child in again {
        assert_eq!(child.finish(), ExitStatus::Exited(0));
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_party_may_die_at_any_step() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 3);
    let barrier = Barrier::create(arena, 2).unwrap();
    for point in ["barrier.counted", "barrier.ending", "barrier.ended"] {
        let deaths = at_every_pass(|pass| {
            barrier.reset().unwrap();
            thread::scope(|scope| {
                let other = scope.spawn(|| wait(&barrier));
                while barrier.waiting().unwrap() < 1 {
                    thread::yield_now();
                }
                let mut child =
                    Child::start_doomed(arena, "pass_once", point, pass, &[&board, &handle(barrier.lease())]);
                let status = child.wait();
                let passage = other.join().unwrap();
                // Past the point of no return all but the dead have passed.
                let passed = pass > 1 || point == "barrier.ended";
                assert_eq!(passage, if passed { Passage::Passed } else { Passage::Broken }, "{point}, pass {pass}");
                child.clean();
                status
            })
        });
        assert_eq!(deaths, 1, "{point}");
        barrier.reset().unwrap();
        assert!(!barrier.is_broken().unwrap());
    }
}

#[test]
fn giving_up_breaks_and_withdrawing_does_not() {
    let arena = Arena::create(&KINDS).unwrap();
    let barrier = Barrier::create(arena, 2).unwrap();
    let arrive = || barrier.arrive_within(SLICE).unwrap().expect("room").expect("unbroken");
    let arrival = arrive();
    barrier.withdraw(arrival).unwrap();
    assert_eq!((barrier.waiting().unwrap(), barrier.is_broken().unwrap()), (0, false));
    let arrival = arrive();
    assert!(!arrival.last);
    assert_eq!(barrier.give_up(arrival).unwrap(), Passage::Broken);
    assert_eq!(barrier.arrive_within(SLICE).unwrap(), Some(Err(Passage::Broken)));
    barrier.reset().unwrap();
    let (first, last) = (arrive(), arrive());
    assert_eq!((first.index, last.index, last.last), (0, 1, true));
    assert_eq!(barrier.arrive_within(Duration::ZERO).unwrap(), None, "all are there and have not passed yet");
    assert_eq!(barrier.pass(last).unwrap(), Passage::Passed);
    assert_eq!(barrier.give_up(first).unwrap(), Passage::Passed);
    barrier.abort().unwrap();
    assert!(barrier.is_broken().unwrap());
}
