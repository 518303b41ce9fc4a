//! Processes killed at random moments in and out of a critical section: nobody hangs, nobody is let in beside another.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::thread;
use std::time::Duration;

use forkless_shm::Arena;
use forkless_sync::{Acquired, Deadline, Mutex};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Random, Scene, handle, roles, rounds, seed};

roles!(&[] => count);

const WORKERS: usize = 4;

/// Words of the board: the two halves of what the lock protects, a flag that ends the work, and from `OWN` on each
/// worker's own count.
const FIRST: usize = 0;
const SECOND: usize = 1;
const STOP: usize = 2;
const OWN: usize = 3;

/// Reads and writes a word as if it were plain memory: what another process writes meanwhile is overwritten.
fn increment(board: &Board, word: usize) -> u64 {
    let value = board.get(word);
    std::hint::black_box(value);
    board.set(word, value + 1);
    value + 1
}

/// Counts under the lock, in two steps between which it may die.
fn count(mut scene: Scene) {
    let board = scene.board();
    let handle = scene.handle();
    let mutex = Mutex::open(scene.arena, handle).unwrap();
    let own = OWN + scene.argument::<usize>();
    while board.get(STOP) == 0 {
        let acquired = mutex.acquire(Deadline::after(PATIENCE)).unwrap().expect("the lock within the test's patience");
        let (first, second) = (board.get(FIRST), board.get(SECOND));
        match acquired {
            Acquired::Clean => assert_eq!(first, second, "torn by somebody who did not die"),
            Acquired::FromTheDead(dead) => {
                assert!(scene.arena.is_dead(dead));
                assert!(first == second || first == second + 1);
                board.set(SECOND, first);
            }
        }
        let first = increment(&board, FIRST);
        assert_eq!(increment(&board, SECOND), first, "somebody else is in here");
        assert!(mutex.release().unwrap());
        board.add(own, 1);
    }
}

#[test]
fn nobody_hangs_and_the_count_is_right() {
    let seed = seed();
    println!("FORKLESS_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, OWN + WORKERS);
    let mutex = Mutex::create(arena).unwrap();
    let start = |index: usize| Child::start(arena, "count", &[&board, &handle(mutex.lease()), &index]);
    let mut workers: Vec<_> = (0..WORKERS).map(start).collect();
    let before = arena.statistics().unwrap().blocks;
    let mut deaths = 0;
    for _ in 0..rounds(1000) {
        // Not for synchronisation: a random moment.
        thread::sleep(Duration::from_micros(random.below(4000)));
        // Sometimes several at once.
        let victims: Vec<_> = (0..WORKERS).filter(|_| random.below(3) == 0).collect();
        victims.iter().for_each(|&index| workers[index].kill());
        for index in victims {
            let status = workers[index].wait();
            assert_eq!(status, ExitStatus::Signaled(9), "worker {index} found something wrong");
            deaths += 1;
            // The old one is cleaned up after only now, with its successor at work already.
            workers[index] = start(index);
        }
    }
    board.set(STOP, 1);
    for worker in workers {
        assert_eq!(worker.finish(), ExitStatus::Exited(0));
    }
    let acquired = mutex.acquire(Deadline::after(PATIENCE)).unwrap().expect("the lock is free");
    assert!(acquired == Acquired::Clean || deaths > 0);
    let counted: u64 = (0..WORKERS).map(|index| board.get(OWN + index)).sum();
    let first = board.get(FIRST);
    assert!((counted..=counted + deaths).contains(&first), "{first} times under the lock, {counted} confirmed");
    assert_eq!(arena.statistics().unwrap().blocks, before);
    println!("{deaths} deaths, {first} times under the lock");
}
