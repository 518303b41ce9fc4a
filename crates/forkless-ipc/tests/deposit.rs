//! Deposits, with a listener that stands for their keeper; what a template does with them is tested with the template.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use forkless_ipc::{Content, Deposit, KINDS, Parcel, State};
use forkless_shm::{Arena, Error};
use forkless_sync::Event;
use forkless_sys::{AsFd, OwnedFd, process, random_u64, socket};

fn keeper() -> (String, OwnedFd) {
    let name = format!("forkless-test-{:016x}", random_u64().unwrap());
    let listener = socket::listen(&name).unwrap();
    (name, listener)
}

fn is_woken(listener: &OwnedFd) -> bool {
    process::readable(&[listener.as_fd()], Duration::ZERO).unwrap()[0]
}

#[test]
fn the_last_lease_wakes_the_keeper() {
    let arena = Arena::create(KINDS).unwrap();
    let before = arena.statistics().unwrap().blocks;
    let (name, listener) = keeper();
    // Not this process, which would know by itself.
    let deposit = Deposit::create(arena, &name, 1).unwrap();
    let handle = deposit.lease().handle().unwrap();
    assert_eq!(deposit.keeper().unwrap(), (name, 1));
    assert_eq!((deposit.state().unwrap(), deposit.is_for_one().unwrap()), (State::Asked, false));
    let other = Deposit::open(arena, handle).unwrap();
    other.set_state(State::Kept).unwrap();
    other.set_for_one().unwrap();
    assert_eq!((deposit.state().unwrap(), deposit.is_for_one().unwrap()), (State::Kept, true));
    drop(deposit);
    assert!(arena.is_live(handle));
    assert!(!is_woken(&listener));
    drop(other);
    assert!(!arena.is_live(handle));
    assert!(is_woken(&listener));
    assert_eq!(arena.statistics().unwrap().blocks, before);
}

#[test]
fn a_keeper_that_is_gone_or_busy_keeps_nobody_waiting() {
    let arena = Arena::create(KINDS).unwrap();
    let (name, listener) = keeper();
    for _ in 0..1000 {
        drop(Deposit::create(arena, &name, 1).unwrap());
    }
    drop(listener);
    drop(Deposit::create(arena, &name, 1).unwrap());
    assert!(matches!(Deposit::create(arena, &"x".repeat(108), 1), Err(Error::Corrupt(_))));
}

#[test]
fn a_parcel_lets_go_one_kind_and_keeps_the_others() {
    let arena = Arena::create(KINDS).unwrap();
    let before = arena.statistics().unwrap().blocks;
    let (name, _listener) = keeper();
    // In every place: first, last, all, none.
    for pattern in 0u32..32 {
        let is_deposit = |place: u32| pattern >> place & 1 == 1;
        let mut handles = Vec::new();
        let mut leases = Vec::new();
        let deposits: Vec<_> = (0..5).map(|_| Deposit::create(arena, &name, 1).unwrap()).collect();
        let events: Vec<_> = (0..5).map(|_| Event::create(arena).unwrap()).collect();
        for place in 0..5 {
            let at = place as usize;
            let lease = if is_deposit(place) { deposits[at].lease() } else { events[at].lease() };
            handles.push(lease.handle().unwrap());
            leases.push(lease);
        }
        let parcel =
            Parcel::pack(arena, &Content { parts: &[b"bytes"], handles: &leases, ..Content::default() }).unwrap();
        drop((deposits, events));
        for _ in 0..2 {
            parcel.let_go(Deposit::KIND).unwrap();
            for place in 0..5 {
                assert_eq!(arena.is_live(handles[place as usize]), !is_deposit(place), "{pattern:05b} {place}");
            }
        }
        assert_eq!(parcel.bytes().unwrap(), b"bytes");
        drop(parcel);
        assert_eq!(arena.statistics().unwrap().blocks, before, "{pattern:05b}");
    }
}
