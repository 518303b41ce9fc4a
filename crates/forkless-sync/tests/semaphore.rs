//! Tokens are conserved: those that are held come back whenever their holder dies, and no others.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use forkless_shm::{Arena, Statistics};
use forkless_sync::{Deadline, KINDS, Released, Semaphore};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Random, Scene, at_every_pass, handle, roles, rounds, seed};
use proptest::prelude::*;

roles!(&KINDS => hold_twice, hold_and_forget, acquire_and_die, hold_for_ever, hold_again_and_again, wait_for_a_token);

fn semaphore(scene: &mut Scene) -> Semaphore {
    let handle = scene.handle();
    Semaphore::open(scene.arena, handle).unwrap()
}

fn patient() -> Deadline {
    Deadline::after(PATIENCE)
}

fn census(arena: &'static Arena) -> (Statistics, usize) {
    let Statistics { blocks, dying, leases, .. } = arena.statistics().unwrap();
    (Statistics { blocks, dying, leases, ..Statistics::default() }, arena.processes().len())
}

proptest! {
    #[test]
    fn it_counts_as_a_number_does(value in 0u32..4, max in 4u32..6, steps in prop::collection::vec(0u8..4, 0..40)) {
        // Not the one of another test, which may count what is in it.
        static ARENA: OnceLock<&Arena> = OnceLock::new();
        let arena = *ARENA.get_or_init(|| Arena::create(&KINDS).unwrap());
        let semaphore = Semaphore::create(arena, value, max).unwrap();
        let mut model = value;
        for step in steps {
            match step {
                0 | 1 => {
                    let taken = if step == 0 { semaphore.try_acquire() } else { semaphore.try_hold() };
                    prop_assert_eq!(taken.unwrap(), model > 0);
                    model = model.saturating_sub(1);
                }
                _ => {
                    let released = if step == 2 { semaphore.release() } else { semaphore.release_held() };
                    let room = model < max;
                    prop_assert_eq!(released.unwrap(), if room { Released::Released } else { Released::TooMany });
                    model += u32::from(room);
                }
            }
            prop_assert_eq!(semaphore.value().unwrap(), model);
        }
        prop_assert_eq!(semaphore.try_acquire().unwrap(), model > 0);
    }
}

/// Holds two tokens, and forgets one of them.
fn hold_and_forget(mut scene: Scene) {
    let semaphore = semaphore(&mut scene);
    assert!(semaphore.try_hold().unwrap() && semaphore.try_hold().unwrap());
    semaphore.forget_held().unwrap();
    // Dies with the other one: its end is no different from a kill here.
    std::mem::forget(semaphore);
}

#[test]
fn a_token_that_was_forgotten_does_not_come_back() {
    let arena = Arena::create(&KINDS).unwrap();
    let semaphore = Semaphore::create(arena, 3, 3).unwrap();
    assert_eq!(Child::start(arena, "hold_and_forget", &[&handle(semaphore.lease())]).finish(), ExitStatus::Exited(0));
    assert_eq!(semaphore.value().unwrap(), 2);
    assert!(semaphore.try_hold().unwrap());
    semaphore.forget_held().unwrap();
    assert_eq!(semaphore.value().unwrap(), 1);
    assert_eq!(semaphore.release().unwrap(), Released::Released);
    assert_eq!(semaphore.value().unwrap(), 2);
}

/// Passes every step of holding and giving back.
fn hold_twice(mut scene: Scene) {
    let semaphore = semaphore(&mut scene);
    for _ in 0..2 {
        assert!(semaphore.hold(patient()).unwrap());
        assert!(semaphore.try_hold().unwrap());
        assert_eq!(semaphore.release_held().unwrap(), Released::Released);
        assert_eq!(semaphore.release_held().unwrap(), Released::Released);
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_death_at_any_step_gives_back_what_was_held() {
    let arena = Arena::create(&KINDS).unwrap();
    let semaphore = Semaphore::create(arena, 3, 3).unwrap();
    let before = census(arena);
    let points = ["semaphore.logged", "semaphore.changed", "semaphore.counted", "semaphore.released"];
    for point in points.into_iter().chain(["arena.written", "arena.logged", "arena.applied"]) {
        let deaths = at_every_pass(|pass| {
            let status = Child::start_doomed(arena, "hold_twice", point, pass, &[&handle(semaphore.lease())]).finish();
            assert_eq!(semaphore.value().unwrap(), 3, "{point}, pass {pass}");
            assert_eq!(census(arena), before, "{point}, pass {pass}");
            status
        });
        assert!(deaths >= 4, "the role passes {point} only {deaths} times");
    }
}

/// Takes one token for good and holds another.
fn acquire_and_die(mut scene: Scene) {
    let semaphore = semaphore(&mut scene);
    assert!(semaphore.try_acquire().unwrap());
    assert!(semaphore.try_hold().unwrap());
}

#[test]
fn a_token_that_was_only_acquired_does_not_come_back() {
    let arena = Arena::create(&KINDS).unwrap();
    let semaphore = Semaphore::create(arena, 2, 2).unwrap();
    let child = Child::start(arena, "acquire_and_die", &[&handle(semaphore.lease())]);
    assert_eq!(child.finish(), ExitStatus::Exited(0));
    assert_eq!(semaphore.value().unwrap(), 1, "taken as a signal, which is gone");
}

fn hold_for_ever(mut scene: Scene) {
    let board = scene.board();
    let semaphore = semaphore(&mut scene);
    assert!(semaphore.hold(patient()).unwrap());
    board.add(0, 1);
    board.wait(0, |_| false);
}

#[test]
fn a_waiter_gets_the_token_of_the_dead() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 1);
    let semaphore = Semaphore::create(arena, 1, 1).unwrap();
    let mut holder = Child::start(arena, "hold_for_ever", &[&board, &handle(semaphore.lease())]);
    board.wait(0, |held| held == 1);
    assert!(!semaphore.acquire(Deadline::after(Duration::from_millis(20))).unwrap());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| semaphore.acquire(patient()).unwrap());
        holder.kill();
        holder.clean();
        assert!(waiter.join().unwrap());
    });
    assert_eq!(semaphore.release().unwrap(), Released::Released);
    assert_eq!(semaphore.release().unwrap(), Released::TooMany);
}

fn wait_for_a_token(mut scene: Scene) {
    let board = scene.board();
    let semaphore = semaphore(&mut scene);
    board.add(0, 1);
    assert!(semaphore.acquire(patient()).unwrap());
    board.add(1, 1);
}

#[test]
fn as_many_waiters_wake_as_there_are_tokens_though_one_dies() {
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 2);
    let semaphore = Semaphore::create(arena, 0, 10).unwrap();
    let arguments: [&dyn std::fmt::Display; 2] = [&board, &handle(semaphore.lease())];
    let mut waiters: Vec<_> = (0..4).map(|_| Child::start(arena, "wait_for_a_token", &arguments)).collect();
    board.wait(0, |waiting| waiting == 4);
    waiters[0].kill();
    waiters[0].clean();
    for count in 1..=3 {
        assert_eq!(semaphore.release().unwrap(), Released::Released);
        board.wait(1, |woken| woken == count);
    }
    assert_eq!(semaphore.value().unwrap(), 0);
}

/// Holds and gives back until killed; says on the board when somebody else was inside.
fn hold_again_and_again(mut scene: Scene) {
    let board = scene.board();
    let semaphore = semaphore(&mut scene);
    let mut count = 0u64;
    loop {
        assert!(semaphore.hold(patient()).unwrap());
        count += 1;
        if count.is_multiple_of(16) {
            board.add(0, 1);
        }
        let _ = semaphore.release_held().unwrap();
    }
}

#[test]
fn random_deaths_lose_and_double_no_token() {
    let seed = seed();
    println!("FORKLESS_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let arena = Arena::create(&KINDS).unwrap();
    let board = Board::create(arena, 1);
    let semaphore = Semaphore::create(arena, 2, 2).unwrap();
    let arguments: [&dyn std::fmt::Display; 2] = [&board, &handle(semaphore.lease())];
    let mut children: Vec<_> = (0..3).map(|_| Child::start(arena, "hold_again_and_again", &arguments)).collect();
    for _ in 0..rounds(30) {
        let so_far = board.get(0);
        let wanted = so_far + random.below(20);
        board.wait(0, |count| count > wanted);
        let victim = random.below(3) as usize;
        children[victim].kill();
        children[victim].clean();
        children[victim] = Child::start(arena, "hold_again_and_again", &arguments);
    }
    for child in children {
        child.kill();
        drop(child);
    }
    assert_eq!(semaphore.value().unwrap(), 2);
}
