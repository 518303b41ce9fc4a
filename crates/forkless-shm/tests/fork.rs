//! Copies of a process made by user code: what they hold, what they do not, and what is left.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod kinds;

use std::sync::atomic::Ordering;

use forkless_shm::block::PLAIN;
use forkless_shm::{Arena, Error, Lease, Statistics};
#[cfg(debug_assertions)]
use forkless_sys::crash;
use forkless_sys::process::ExitStatus;
#[cfg(debug_assertions)]
use forkless_testing::at_every_pass;
use forkless_testing::{Board, Child, Copy, Random, Scene, roles};
use kinds::{KINDS, PRIVATE, wrap};

#[cfg(debug_assertions)]
roles!(KINDS => lets_go, copies_of_copies, comes_too_late, keeps_private_accounts, exits_holding, die_taking);
#[cfg(not(debug_assertions))]
roles!(KINDS => lets_go, copies_of_copies, comes_too_late, keeps_private_accounts, exits_holding);

const SIZES: [usize; 5] = [8, 40, 100, 5000, 200_000];
const FINE: ExitStatus = ExitStatus::Exited(0);

fn filled(arena: &'static Arena, size: usize) -> Lease {
    let lease = arena.allocate(size, PLAIN).unwrap();
    let bytes = Random::new(size as u64).bytes(size);
    assert!(arena.map().write(lease.payload().unwrap(), &bytes));
    lease
}

fn check(lease: &Lease, size: usize) {
    let mut bytes = Vec::new();
    assert!(lease.arena().map().read(lease.payload().unwrap(), size, &mut bytes));
    assert_eq!(bytes, Random::new(size as u64).bytes(size));
}

fn check_all(leases: &[Lease]) {
    leases.iter().zip(SIZES).for_each(|(lease, size)| check(lease, size));
}

/// Allocates and fills so much that freed memory is used again.
fn churn(arena: &'static Arena) {
    for _ in 0..3 {
        let leases: Vec<_> = SIZES.iter().flat_map(|size| [arena.allocate(*size, PLAIN), wrapped(arena)]).collect();
        for lease in leases.iter().flatten() {
            assert!(arena.map().write(lease.block().payload(), &[0xaa; 8]));
        }
    }
}

fn wrapped(arena: &'static Arena) -> Result<Lease, Error> {
    let plain = arena.allocate(8, PLAIN)?;
    drop(wrap(arena, plain));
    arena.allocate(8, PLAIN)
}

/// The copy goes on with what the original lets go, and the other way round.
fn lets_go(mut scene: Scene) {
    let arena = scene.arena;
    let board = scene.board();
    // A copy takes its copy of them out of here, and leaves the original's where it is.
    let mut leases = Some(SIZES.map(|size| filled(arena, size)));
    let ended = Copy::make(|| {
        forkless_shm::arena::take_leases_after_fork().unwrap();
        let leases = leases.take().unwrap();
        check_all(&leases);
        let handles = leases.each_ref().map(|lease| lease.handle().unwrap());
        let duplicates = leases.each_ref().map(|lease| lease.duplicate().unwrap());
        drop(leases);
        churn(arena);
        check_all(&duplicates);
        drop(duplicates);
        // The original's leases are its own.
        for handle in handles {
            arena.open(handle, PLAIN).unwrap();
        }
        board.add(0, 1);
    });
    assert_eq!(ended.finish(), FINE);
    let leases = leases.unwrap();
    check_all(&leases);
    // And the copy's are its own.
    let (ready, go) = (filled(arena, 8), filled(arena, 8));
    let flags = [&ready, &go].map(|lease| arena.map().u64(lease.payload().unwrap()).unwrap());
    flags.iter().for_each(|flag| flag.store(0, Ordering::Release));
    let wait = |flag: usize| {
        while flags[flag].load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    };
    let copy = Copy::make(|| {
        forkless_shm::arena::take_leases_after_fork().unwrap();
        flags[0].store(1, Ordering::Release);
        wait(1);
        check_all(&leases);
    });
    wait(0);
    drop(leases);
    churn(arena);
    flags[1].store(1, Ordering::Release);
    assert_eq!(copy.finish(), FINE);
}

#[test]
fn a_copy_holds_what_the_original_held() {
    run("lets_go", 1);
}

/// A copy, its original ended, and a copy of that copy.
fn copies_of_copies(mut scene: Scene) {
    let arena = scene.arena;
    let board = scene.board();
    let mut leases = Some(SIZES.map(|size| filled(arena, size)));
    let first = Copy::make(|| {
        forkless_shm::arena::take_leases_after_fork().unwrap();
        let later = filled(arena, 77);
        let second = Copy::make(|| {
            // Takes its leases when it first uses something.
            check_all(leases.as_ref().unwrap());
            check(&later, 77);
            let third = Copy::make(|| {
                check_all(leases.as_ref().unwrap());
                check(&later, 77);
                board.add(0, 1);
            });
            assert_eq!(third.finish(), FINE);
            drop(leases.take());
            churn(arena);
        });
        assert_eq!(second.finish(), FINE);
        check_all(leases.as_ref().unwrap());
        check(&later, 77);
    });
    assert_eq!(first.finish(), FINE);
    check_all(leases.as_ref().unwrap());
}

#[test]
fn copies_of_copies_hold_it_too() {
    run("copies_of_copies", 1);
}

/// What is let go before the copy could take hold of it is an error there, whatever has its place by then.
fn comes_too_late(mut scene: Scene) {
    let arena = scene.arena;
    let board = scene.board();
    let (mut gone, kept) = (Some(filled(arena, 100)), filled(arena, 5000));
    // Looked at without holding it: a copy that uses a lease has taken its own.
    let go = arena.allocate(8, PLAIN).unwrap();
    let flag = arena.map().u64(go.payload().unwrap()).unwrap();
    flag.store(0, Ordering::Release);
    let copy = Copy::make(|| {
        while flag.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let gone = gone.take().unwrap();
        assert!(matches!(gone.payload(), Err(Error::Stale(_))));
        assert!(matches!(gone.duplicate(), Err(Error::Stale(_))));
        check(&kept, 5000);
        drop(gone);
        board.add(0, 1);
    });
    drop(gone);
    let others: Vec<_> = (0..20).map(|_| filled(arena, 100)).collect();
    flag.store(1, Ordering::Release);
    assert_eq!(copy.finish(), FINE);
    others.iter().for_each(|lease| check(lease, 100));
}

#[test]
fn what_is_gone_before_the_copy_looks_is_an_error() {
    run("comes_too_late", 1);
}

/// An account of the original alone is settled when the original ends, whatever copies there are.
fn keeps_private_accounts(mut scene: Scene) {
    let arena = scene.arena;
    let board = scene.board();
    let mut private = Some(arena.allocate(16, PLAIN).unwrap());
    private.as_ref().unwrap().set_kind(PRIVATE).unwrap();
    let plain = filled(arena, 40);
    let ended = Copy::make(|| {
        forkless_shm::arena::take_leases_after_fork().unwrap();
        check(&plain, 40);
        let private = private.take().unwrap();
        assert!(matches!(private.payload(), Err(Error::Stale(_))));
        assert!(matches!(private.duplicate(), Err(Error::Stale(_))));
        drop(private);
        board.add(0, 1);
    });
    assert_eq!(ended.finish(), FINE);
}

#[test]
fn private_accounts_are_not_inherited() {
    run("keeps_private_accounts", 1);
}

/// A copy that is killed, so to speak, with all that it holds.
fn exits_holding(mut scene: Scene) {
    let arena = scene.arena;
    let board = scene.board();
    let leases = SIZES.map(|size| filled(arena, size));
    for _ in 0..3 {
        let ended = Copy::make(|| {
            forkless_shm::arena::take_leases_after_fork().unwrap();
            std::mem::forget(filled(arena, 300));
            board.add(0, 1);
            forkless_sys::process::exit_now(0);
        });
        assert_eq!(ended.finish(), FINE);
    }
    drop(leases);
}

#[test]
fn what_a_copy_leaves_behind_is_given_back() {
    run("exits_holding", 3);
}

/// Copies that die at every step of taking hold of what the original holds.
#[cfg(debug_assertions)] // the points where a process can be made to die are in debug builds only
fn die_taking(mut scene: Scene) {
    let arena = scene.arena;
    let board = scene.board();
    let leases = SIZES.map(|size| filled(arena, size));
    for point in ["arena.written", "arena.logged", "arena.applied"] {
        let deaths = at_every_pass(|pass| {
            let copy = Copy::make(|| {
                assert!(crash::arm(point, pass));
                forkless_shm::arena::take_leases_after_fork().unwrap();
                check_all(&leases);
                // Ends before anything is let go.
                forkless_sys::process::exit_now(0);
            });
            let ended = copy.finish();
            check_all(&leases);
            ended
        });
        assert!(deaths >= SIZES.len() as u32, "{point}");
        board.add(0, 1);
    }
}

#[test]
#[cfg(debug_assertions)]
fn a_death_while_taking_hold_leaves_nothing_behind() {
    run("die_taking", 3);
}

/// Plays a role; nothing may be left of it in the arena.
fn run(role: &str, expected: u32) {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let before = census(arena);
    assert_eq!(Child::start(arena, role, &[&board]).finish(), FINE);
    assert_eq!(board.get(0), expected.into());
    // Copies are guests: the next one cleans up after them.
    assert_eq!(Child::start_guest(arena, "lets_go", &[&board]).finish(), FINE);
    arena.clean_up_after_guests().unwrap();
    assert_eq!(census(arena), before);
}

fn census(arena: &'static Arena) -> (Statistics, usize) {
    let Statistics { blocks, dying, leases, .. } = arena.statistics().expect("the heap is sound");
    (Statistics { blocks, dying, leases, ..Statistics::default() }, arena.processes().len())
}
