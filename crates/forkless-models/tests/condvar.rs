//! The condition variable beside its lock: a notification reaches somebody who waits and lives, and nobody sleeps for
//! good.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, at_every_step, clean};
use forkless_shm::{Acquired, Arena, Error};
use forkless_sync::{Condvar, Deadline, Mutex, Waiter, until};
use forkless_sys::atomic::{AtomicU64, Ordering};
use forkless_sys::model;

/// Where the entries of a condition variable begin, and bytes of each.
const ENTRIES: usize = 32;
const ENTRY: usize = 16;

/// A condition variable, its lock, and how many tokens there are to wait for.
#[derive(Clone, Copy)]
struct Tokens {
    condvar: &'static Condvar,
    mutex: &'static Mutex,
    count: &'static AtomicU64,
}

/// Tokens, none so far, and two children that can wait for them.
fn set_up<const CHILDREN: usize>() -> (World, Tokens, [(&'static Arena, Tokens); CHILDREN]) {
    let mut world = World::new(CHILDREN);
    let condvar = Condvar::create(world.arena).unwrap();
    let mutex = Mutex::create(world.arena).unwrap();
    let count = world.word();
    world.watch(mutex.lease());
    world.watch_range(condvar.lease().block().payload(), ENTRIES + CHILDREN * ENTRY);
    let (condvar, condvars) = world.share::<_, CHILDREN>(condvar, Condvar::lease, Condvar::open);
    let (mutex, mutexes) = world.share::<_, CHILDREN>(mutex, Mutex::lease, Mutex::open);
    let tokens = Tokens { condvar, mutex, count };
    tokens.lock();
    for waiter in [(); CHILDREN].map(|()| condvar.enter().unwrap()) {
        assert!(!condvar.leave(waiter).unwrap());
    }
    tokens.unlock();
    let child =
        |index: usize| (mutexes[index].0, Tokens { condvar: condvars[index].1, mutex: mutexes[index].1, count });
    (world, tokens, std::array::from_fn(child))
}

/// The lock was taken from the dead: what happened under it nobody knows.
#[derive(Debug)]
struct OwnerDied;

impl Tokens {
    fn lock(self) -> Acquired {
        self.mutex.acquire(Deadline::NEVER).unwrap().unwrap()
    }

    fn unlock(self) {
        assert!(self.mutex.release().unwrap());
    }

    /// Adds one and tells one waiter.
    fn give(self) {
        self.lock();
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.condvar.notify(1).unwrap();
        self.unlock();
    }

    /// Waits for one and takes it.
    fn take(self) -> Result<(), OwnerDied> {
        let mut acquired = self.lock();
        let taken = loop {
            if acquired != Acquired::Clean {
                break Err(OwnerDied);
            }
            let count = self.count.load(Ordering::Relaxed);
            if count > 0 {
                self.count.store(count - 1, Ordering::Relaxed);
                break Ok(());
            }
            acquired = self.wait();
        };
        self.unlock();
        taken
    }

    /// As `forkless.Condition.wait` does it.
    fn wait(self) -> Acquired {
        let waiter = self.condvar.enter().unwrap();
        self.unlock();
        self.wait_as(waiter)
    }

    fn wait_as(self, waiter: Waiter) -> Acquired {
        loop {
            until(Deadline::NEVER, |bound| {
                let woken = self.condvar.wait_within(&waiter, bound)?.is_some();
                Ok((woken || self.is_left()?).then_some(()))
            })
            .unwrap();
            let acquired = self.lock();
            if acquired != Acquired::Clean || self.condvar.should_leave(&waiter).unwrap() {
                let notified = self.condvar.leave(waiter).unwrap();
                assert!(notified || acquired != Acquired::Clean);
                return acquired;
            }
            self.unlock();
        }
    }

    /// Whether the lock's owner died with it.
    fn is_left(self) -> Result<bool, Error> {
        let holder = self.mutex.holder()?;
        Ok(holder.is_some_and(|holder| self.mutex.lease().arena().is_dead(holder)))
    }
}

#[test]
fn a_notification_reaches_who_waits() {
    let (world, tokens, children) = set_up::<2>();
    world.check(move || {
        let [(waiter, its), (giver, his)] = children;
        let waiter = Process::start(waiter, move || its.take().unwrap());
        let giver = Process::start(giver, move || his.give());
        giver.join();
        waiter.join();
        assert_eq!(tokens.count.load(Ordering::Relaxed), 0);
        assert_eq!(tokens.condvar.waiting().unwrap(), 0);
    });
}

#[test]
fn each_notification_reaches_another_waiter() {
    let (world, tokens, children) = set_up::<2>();
    world.check(move || {
        let waiters = children.map(|(waiter, its)| Process::start(waiter, move || its.take().unwrap()));
        tokens.give();
        tokens.give();
        let _ = waiters.map(Process::join);
        assert_eq!(tokens.count.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn all_that_wait_can_be_notified_at_once() {
    let (world, tokens, children) = set_up::<2>();
    world.check(move || {
        let waiters = children.map(|(waiter, its)| Process::start(waiter, move || its.take().unwrap()));
        tokens.lock();
        tokens.count.store(2, Ordering::Relaxed);
        tokens.condvar.notify(usize::MAX).unwrap();
        tokens.unlock();
        let _ = waiters.map(Process::join);
        assert_eq!(tokens.count.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn who_gives_up_passes_the_notification_on() {
    let (world, tokens, children) = set_up::<2>();
    world.check(move || {
        let [(first, mine), (second, yours)] = children;
        let hasty = Process::start(first, move || {
            mine.lock();
            let waiter = mine.condvar.enter().unwrap();
            mine.unlock();
            mine.lock();
            if mine.condvar.leave(waiter).unwrap() {
                mine.condvar.notify(1).unwrap();
            }
            mine.unlock();
        });
        let waiter = Process::start(second, move || yours.take().unwrap());
        tokens.give();
        hasty.join();
        waiter.join();
        assert_eq!(tokens.count.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn the_dead_are_passed_over() {
    let (world, tokens, children) = set_up::<2>();
    let arena = world.arena;
    let [(first, its), (second, hers)] = children;
    its.lock();
    its.condvar.enter().map(drop).unwrap();
    its.unlock();
    world.check(move || {
        let waiter = Process::start(second, move || hers.take().unwrap());
        clean(arena, [first]);
        tokens.give();
        waiter.join();
        assert_eq!(tokens.count.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn the_notification_of_a_dead_waiter_goes_to_another() {
    at_every_step(|doom| {
        let (world, tokens, children) = set_up::<2>();
        world.preemptions(2).check(move || {
            let [(first, mine), (second, yours)] = children;
            model::bounded();
            mine.lock();
            let longest = mine.condvar.enter().unwrap();
            mine.unlock();
            let doomed = Process::start_doomed(first, doom, move || {
                if mine.wait_as(longest) == Acquired::Clean {
                    mine.count.store(0, Ordering::Relaxed);
                }
                mine.unlock();
            });
            let waiter = Process::start(second, move || drop(yours.take()));
            tokens.give();
            doomed.join();
            // As long as nobody has it, the other gets there without help.
            if tokens.count.load(Ordering::Relaxed) == 0 {
                tokens.give();
            }
            waiter.join().unwrap();
        });
    });
}

#[test]
fn who_dies_notifying_keeps_nobody_asleep() {
    at_every_step(|doom| {
        let (world, tokens, children) = set_up::<2>();
        world.check(move || {
            let [(first, mine), (second, yours)] = children;
            model::bounded();
            let doomed = Process::start_doomed(first, doom, move || mine.give());
            let waiter = Process::start(second, move || drop(yours.take()));
            let died = doomed.join().is_none();
            if died && tokens.count.load(Ordering::Relaxed) == 0 {
                tokens.give();
            }
            waiter.join().unwrap();
        });
    });
}
