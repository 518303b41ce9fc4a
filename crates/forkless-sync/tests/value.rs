//! A mutex with a value: whole whoever dies, and poisoned until somebody says that it is in order.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::time::Duration;

use forkless_shm::{Arena, Error, Owner};
use forkless_sync::{Acquired, Attempt, Deadline, Mutex, ValueMutex, Wait, until};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Scene, at_every_pass, handle, roles};
use proptest::prelude::*;

roles!(&[] => change, recover, hold);

/// No multiple of eight, and large enough to be torn.
const SIZE: usize = 1003;
const TYPE: &str = "[u8; 1003]";

fn acquire(mutex: &ValueMutex) -> Acquired {
    let mut wait = Wait::new();
    let attempt = |bound| match mutex.acquire_within(&mut wait, bound)? {
        Attempt::Acquired(acquired) => Ok(Some(acquired)),
        _ => Ok(None),
    };
    until(Deadline::after(PATIENCE), attempt).unwrap().expect("the mutex within the test's patience")
}

/// The byte that the value consists of.
fn read(mutex: &ValueMutex) -> u8 {
    let mut value = vec![0; mutex.size()];
    mutex.read(&mut value).unwrap();
    assert!(value.iter().all(|byte| *byte == value[0]), "torn: {value:?}");
    value[0]
}

fn open(scene: &mut Scene) -> ValueMutex {
    let handle = scene.handle();
    ValueMutex::open(scene.arena, handle).unwrap()
}

#[test]
fn a_handle_opens_the_same_value_and_knows_its_type() {
    let arena = Arena::create(&[]).unwrap();
    for value in [&b""[..], b"7", b"12345678", b"123456789"] {
        let mutex = ValueMutex::create(arena, "Text", value).unwrap();
        let again = ValueMutex::open(arena, mutex.lease().handle().unwrap()).unwrap();
        assert_eq!((again.size(), again.value_type().as_str()), (value.len(), "Text"));
        assert_eq!(acquire(&again), Acquired::Clean);
        let mut read = vec![0; value.len()];
        mutex.read(&mut read).unwrap();
        assert_eq!(read, value);
        assert!(mutex.read(&mut vec![0; value.len() + 1]).is_err());
        assert!(mutex.commit(&vec![0; value.len() + 1]).is_err());
        assert!(mutex.release().unwrap());
        assert!(!mutex.release().unwrap());
        let handle = mutex.lease().handle().unwrap();
        assert!(matches!(Mutex::open(arena, handle), Err(Error::Stale(_))));
    }
    let long = "é".repeat(30);
    let mutex = ValueMutex::create(arena, &long, b"").unwrap();
    assert_eq!(mutex.value_type(), "é".repeat(20));
    assert!(mutex.is_type(&long) && !mutex.is_type("e"));
}

#[test]
fn a_damaged_block_is_an_error() {
    let arena = Arena::create(&[]).unwrap();
    let mutex = ValueMutex::create(arena, TYPE, &[1; SIZE]).unwrap();
    let handle = mutex.lease().handle().unwrap();
    let at = mutex.lease().block().payload();
    // The poison: a word that names nobody.
    arena.map().u32(at + 8).unwrap().store(0xffff, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(mutex.try_acquire(), Err(Error::Corrupt(_))));
    assert_eq!(mutex.holder().unwrap(), None, "an error does not hold it");
    for size in [u64::MAX, 1 << 40, 4096] {
        arena.map().u64(at + 16).unwrap().store(size, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(ValueMutex::open(arena, handle), Err(Error::Corrupt(_))));
    }
    let small = arena.allocate(1, ValueMutex::KIND).unwrap();
    assert!(matches!(ValueMutex::open(arena, small.handle().unwrap()), Err(Error::Corrupt(_))));
}

/// Holds the mutex until killed.
fn hold(mut scene: Scene) {
    let board = scene.board();
    let mutex = open(&mut scene);
    acquire(&mutex);
    board.set(0, 1);
    board.wait(0, |_| false);
}

#[test]
fn it_is_poisoned_until_somebody_recovers_it() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let mutex = ValueMutex::create(arena, TYPE, &[1; SIZE]).unwrap();
    let child = Child::start(arena, "hold", &[&board, &handle(mutex.lease())]);
    board.wait(0, |held| held == 1);
    assert_eq!(mutex.acquire_within(&mut Wait::new(), Duration::ZERO).unwrap(), Attempt::Again);
    let dead = child.owner();
    assert_eq!(child.finish_killed(), ExitStatus::Signaled(9));
    for _ in 0..2 {
        assert_eq!(mutex.try_acquire().unwrap(), Some(Acquired::FromTheDead(dead)));
        assert_eq!(mutex.poisoned_by().unwrap(), Some(dead));
        assert!(mutex.release().unwrap());
    }
    assert_eq!(acquire(&mutex), Acquired::FromTheDead(dead));
    mutex.recover().unwrap();
    assert!(mutex.release().unwrap());
    assert_eq!(acquire(&mutex), Acquired::Clean);
}

/// Makes the value from all bytes 1 one of all bytes 2.
fn change(mut scene: Scene) {
    let mutex = open(&mut scene);
    assert_eq!(acquire(&mutex), Acquired::Clean);
    assert_eq!(read(&mutex), 1);
    mutex.commit(&[2; SIZE]).unwrap();
    assert!(mutex.release().unwrap());
}

/// Takes the mutex from the dead and says that all is well.
fn recover(mut scene: Scene) {
    let mutex = open(&mut scene);
    let dead: u32 = scene.argument();
    assert_eq!(acquire(&mutex), Acquired::FromTheDead(Owner::from_word(dead).unwrap()));
    mutex.recover().unwrap();
    assert!(mutex.release().unwrap());
}

/// Point, the value afterwards, and whether the mutex was still held.
const DEATHS: [(&str, u8, bool); 3] =
    [("value.taken", 1, true), ("value.written", 1, true), ("value.committed", 2, true)];

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_change_happens_or_it_does_not() {
    let arena = Arena::create(&[]).unwrap();
    for (point, value, held) in DEATHS {
        let mutex = ValueMutex::create(arena, TYPE, &[1; SIZE]).unwrap();
        let child = Child::start_doomed(arena, "change", point, 1, &[&handle(mutex.lease())]);
        let dead = child.owner();
        assert_eq!(child.finish(), ExitStatus::Signaled(9), "{point}");
        let expected = if held { Acquired::FromTheDead(dead) } else { Acquired::Clean };
        assert_eq!(acquire(&mutex), expected, "{point}");
        assert_eq!(read(&mutex), value, "{point}");
        mutex.commit(&[3; SIZE]).unwrap();
        assert_eq!(read(&mutex), 3, "it works again");
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn whoever_dies_recovering_leaves_it_poisoned() {
    let arena = Arena::create(&[]).unwrap();
    for point in ["value.taken", "value.poisoned", "value.recovered"] {
        let board = Board::create(arena, 1);
        let mutex = ValueMutex::create(arena, TYPE, &[1; SIZE]).unwrap();
        let first = Child::start(arena, "hold", &[&board, &handle(mutex.lease())]);
        board.wait(0, |held| held == 1);
        let dead = first.owner().word();
        assert_eq!(first.finish_killed(), ExitStatus::Signaled(9));
        let second = Child::start_doomed(arena, "recover", point, 1, &[&handle(mutex.lease()), &dead]);
        let dead = second.owner();
        assert_eq!(second.finish(), ExitStatus::Signaled(9), "{point}");
        assert_eq!(acquire(&mutex), Acquired::FromTheDead(dead), "{point}");
        assert_eq!(read(&mutex), 1);
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn nothing_is_left_of_whoever_dies_at_any_step() {
    let arena = Arena::create(&[]).unwrap();
    let mutex = ValueMutex::create(arena, TYPE, &[1; SIZE]).unwrap();
    let before = arena.statistics().unwrap();
    let deaths = at_every_pass(|pass| {
        // A child that lived has changed the value.
        acquire(&mutex);
        mutex.recover().unwrap();
        mutex.commit(&[1; SIZE]).unwrap();
        assert!(mutex.release().unwrap());
        Child::start_doomed(arena, "change", "lock.released", pass, &[&handle(mutex.lease())]).finish()
    });
    assert!(deaths >= 1);
    let after = arena.statistics().unwrap();
    assert_eq!((after.blocks, after.leases), (before.blocks, before.leases));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_the_value_committed_last(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 21), 1..10)) {
        static ARENA: std::sync::OnceLock<&Arena> = std::sync::OnceLock::new();
        let arena = *ARENA.get_or_init(|| Arena::create(&[]).unwrap());
        let mutex = ValueMutex::create(arena, "", &values[0]).unwrap();
        let again = ValueMutex::open(arena, mutex.lease().handle().unwrap()).unwrap();
        for value in &values {
            acquire(&mutex);
            mutex.commit(value).unwrap();
            let mut read = [0; 21];
            again.read(&mut read).unwrap();
            prop_assert_eq!(&read[..], &value[..]);
            mutex.release().unwrap();
        }
    }
}
