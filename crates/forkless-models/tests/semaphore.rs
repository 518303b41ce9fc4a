//! The semaphore: tokens are neither lost nor made, nobody sleeps beside one, and what the dead held comes back once.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, at_every_step, clean, count, let_others_go_first, next_block};
use forkless_shm::Arena;
use forkless_shm::slot::End;
use forkless_sync::{Attempt, Deadline, Released, Semaphore, Wait};
use forkless_sys::atomic::{AtomicU64, Ordering};
use forkless_sys::model;
use forkless_sys::time::SLICE;

/// Bytes of a hold.
const HOLD: usize = 16;

type Child = (&'static Arena, &'static Semaphore);

/// A semaphore with this many tokens, and a word that is changed by who has a token. Each child has a hold, which counts
/// nothing.
fn set_up<const CHILDREN: usize>(tokens: u32) -> (World, &'static Semaphore, [Child; CHILDREN], &'static AtomicU64) {
    let mut world = World::new(CHILDREN);
    let semaphore = Semaphore::create(world.arena, tokens + 1, 9).unwrap();
    world.watch(semaphore.lease());
    let word = world.word();
    let (semaphore, children) = world.share(semaphore, Semaphore::lease, Semaphore::open);
    for (child, semaphore) in children {
        world.watch_range(next_block(child, HOLD).payload(), HOLD);
        assert!(semaphore.try_hold().unwrap());
        release_held(semaphore);
    }
    acquire(semaphore);
    (world, semaphore, children, word)
}

fn acquire(semaphore: &Semaphore) {
    assert!(semaphore.acquire(Deadline::NEVER).unwrap());
}

fn release(semaphore: &Semaphore) {
    assert_eq!(semaphore.release().unwrap(), Released::Released);
}

fn hold(semaphore: &Semaphore) {
    assert!(semaphore.hold(Deadline::NEVER).unwrap());
}

fn release_held(semaphore: &Semaphore) {
    assert_eq!(semaphore.release_held().unwrap(), Released::Released);
}

fn count_with_a_token(semaphore: &Semaphore, word: &AtomicU64) {
    acquire(semaphore);
    count(word);
    release(semaphore);
}

fn count_holding_a_token(semaphore: &Semaphore, word: &AtomicU64) {
    hold(semaphore);
    count(word);
    release_held(semaphore);
}

/// What a cleaner does.
fn give_back(cleaner: &'static Arena, dead: &'static Arena) {
    cleaner.clean(dead.me().unwrap(), End::Unknown).unwrap();
}

#[test]
fn one_token_is_one_processs_at_a_time_and_nobody_sleeps_for_good() {
    let (world, semaphore, children, word) = set_up::<3>(1);
    world.preemptions(2).check(move || {
        let _ = children
            .map(|(child, semaphore)| Process::start(child, move || count_with_a_token(semaphore, word)))
            .map(Process::join);
        assert_eq!(semaphore.value().unwrap(), 1);
        assert_eq!(word.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn who_is_woken_and_overtaken_leaves_nobody_asleep() {
    let (world, semaphore, children, _) = set_up::<2>(0);
    world.preemptions(1).check(move || {
        let [(first, mine), (second, yours)] = children;
        let hasty = Process::start(first, move || {
            if let Attempt::Acquired(_) = mine.acquire_within(&mut Wait::new(), SLICE).unwrap() {
                release(mine);
            }
        });
        let waiter = Process::start(second, move || acquire(yours));
        let_others_go_first();
        release(semaphore);
        if semaphore.try_acquire().unwrap() {
            release(semaphore);
        }
        waiter.join();
        release(semaphore);
        hasty.join();
    });
}

#[test]
fn as_many_as_there_are_releases_go_on() {
    let (world, semaphore, children, _) = set_up::<3>(0);
    world.preemptions(2).check(move || {
        let [(giver, its), takers @ ..] = children;
        let takers = takers.map(|(taker, semaphore)| Process::start(taker, move || acquire(semaphore)));
        let giver = Process::start(giver, move || (0..2).for_each(|_| release(its)));
        giver.join();
        let _ = takers.map(Process::join);
        assert_eq!(semaphore.value().unwrap(), 0);
    });
}

#[test]
fn a_held_token_is_one_processs_at_a_time_and_nobody_sleeps_for_good() {
    let (world, semaphore, children, word) = set_up::<2>(1);
    world.check(move || {
        let _ = children
            .map(|(child, semaphore)| Process::start(child, move || count_holding_a_token(semaphore, word)))
            .map(Process::join);
        assert_eq!(semaphore.value().unwrap(), 1);
        assert_eq!(word.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn held_and_plain_tokens_are_counted_together() {
    let (world, semaphore, children, word) = set_up::<2>(1);
    world.check(move || {
        let [(first, mine), (second, yours)] = children;
        let holder = Process::start(first, move || count_holding_a_token(mine, word));
        let plain = Process::start(second, move || count_with_a_token(yours, word));
        holder.join();
        plain.join();
        assert_eq!(semaphore.value().unwrap(), 1);
        assert_eq!(word.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn what_the_dead_held_comes_back_once() {
    at_every_step(|doom| {
        let (world, semaphore, children, word) = set_up::<2>(1);
        let arena = world.arena;
        world.preemptions(2).check(move || {
            let [(first, mine), (second, yours)] = children;
            model::bounded();
            let doomed = Process::start_doomed(first, doom, move || count_holding_a_token(mine, word));
            let other = Process::start(second, move || count_holding_a_token(yours, word));
            if doomed.join().is_none() {
                clean(arena, [first]);
            }
            other.join().unwrap();
            assert_eq!(semaphore.value().unwrap(), 1);
        });
    });
}

#[test]
fn a_cleaner_that_dies_leaves_the_rest_to_the_next() {
    at_every_step(|doom| {
        let (world, semaphore, children, _) = set_up::<3>(1);
        let arena = world.arena;
        let [(first, mine), (second, _), (third, yours)] = children;
        hold(mine);
        world.preemptions(2).check(move || {
            model::bounded();
            let doomed = Process::start_doomed(second, doom, move || give_back(second, first));
            let other = Process::start(third, move || {
                hold(yours);
                release_held(yours);
            });
            if doomed.join().is_none() {
                clean(arena, [second, first]);
            }
            other.join().unwrap();
            assert_eq!(semaphore.value().unwrap(), 1);
        });
    });
}

#[test]
fn two_deaths_in_a_row_make_and_lose_no_token() {
    at_every_step(|first| {
        at_every_step(|second| {
            let (world, semaphore, children, word) = set_up::<2>(1);
            let arena = world.arena;
            world.check(move || {
                let [(holder, its), (cleaner, _)] = children;
                Process::start_doomed(holder, first, move || count_holding_a_token(its, word)).join();
                Process::start_doomed(cleaner, second, move || give_back(cleaner, holder)).join();
                clean(arena, [cleaner, holder]);
                assert_eq!(semaphore.value().unwrap(), 1);
            });
        });
    });
}

#[test]
fn who_held_nothing_takes_nobodys_wake_up_along() {
    let (world, semaphore, children, _) = set_up::<2>(0);
    let arena = world.arena;
    world.check(move || {
        let [(first, _), (second, yours)] = children;
        let waiter = Process::start(second, move || acquire(yours));
        clean(arena, [first]);
        release(semaphore);
        waiter.join().unwrap();
    });
}
