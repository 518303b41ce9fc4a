//! Death at every step of the allocator, of registration and of the cleaner: nothing leaks, nothing is torn.
#![cfg(debug_assertions)] // the points where a process can be made to die are in debug builds only
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod kinds;

use std::sync::atomic::Ordering;

use forkless_shm::block::PLAIN;
use forkless_shm::{Arena, Lease, Role, Statistics};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, Random, Scene, at_every_pass, handle, roles};
use kinds::{KINDS, wrap};

roles!(KINDS => allocate, hold, clean, reserve, idle);

/// The steps of a transaction.
const STEPS: [&str; 3] = ["arena.written", "arena.logged", "arena.applied"];

/// What a child that arrives and leaves must not change.
fn census(arena: &'static Arena) -> (Statistics, usize) {
    let Statistics { blocks, dying, leases, .. } = arena.statistics().expect("the heap is sound");
    (Statistics { blocks, dying, leases, ..Statistics::default() }, arena.processes().len())
}

fn fill(lease: &Lease, seed: u64, length: usize) {
    let bytes = Random::new(seed).bytes(length);
    assert!(lease.arena().map().write(lease.block().payload(), &bytes));
}

fn check(lease: &Lease, seed: u64, length: usize) {
    let mut bytes = Vec::new();
    assert!(lease.arena().map().read(lease.block().payload(), length, &mut bytes));
    assert_eq!(bytes, Random::new(seed).bytes(length), "a block of {length} bytes was written to by somebody else");
}

/// Uses every operation of the allocator, and checks that blocks keep what was written into them.
fn allocate(mut scene: Scene) {
    let arena = scene.arena;
    let board = scene.board();
    let handle = scene.handle();
    let of_parent = arena.open(handle, PLAIN).unwrap();
    let sizes = [0, 40, 100, 5000, 20_000];
    for _ in 0..2 {
        let leases = sizes.map(|size| arena.allocate(size, PLAIN).unwrap());
        for (lease, size) in leases.iter().zip(sizes) {
            fill(lease, size as u64, size);
            board.add(0, 1);
        }
        let again = of_parent.duplicate().unwrap();
        let wrapped = wrap(arena, wrap(arena, arena.allocate(60, PLAIN).unwrap()));
        let shared = wrap(arena, of_parent.duplicate().unwrap());
        for (lease, size) in leases.iter().zip(sizes) {
            check(lease, size as u64, size);
        }
        drop(wrapped);
        drop(leases);
        drop((again, shared));
        board.add(0, 1);
    }
    check(&of_parent, 1, 100);
}

#[test]
fn a_death_at_any_step_of_the_allocator_leaves_everything_or_nothing() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let kept = arena.allocate(100, PLAIN).unwrap();
    fill(&kept, 1, 100);
    let before = census(arena);
    for point in STEPS {
        let deaths = at_every_pass(|pass| {
            let child = Child::start_doomed(arena, "allocate", point, pass, &[&board, &handle(&kept)]);
            // Meanwhile, and with the lock left by the dead: this process waits for it and finishes what was logged.
            while !child.has_ended() {
                let own = arena.allocate(100, PLAIN).unwrap();
                fill(&own, 2, 100);
                check(&own, 2, 100);
            }
            check(&kept, 1, 100);
            let status = child.finish();
            assert_eq!(census(arena), before, "{point}, pass {pass}");
            status
        });
        assert!(deaths > 50, "the role passes {point} only {deaths} times");
    }
}

/// Holds a bit of everything until killed.
fn hold(mut scene: Scene) {
    let arena = scene.arena;
    let board = scene.board();
    let handle = scene.handle();
    let of_parent = arena.open(handle, PLAIN).unwrap();
    let _held = (
        arena.allocate(40, PLAIN).unwrap(),
        wrap(arena, wrap(arena, arena.allocate(5000, PLAIN).unwrap())),
        wrap(arena, of_parent.duplicate().unwrap()),
        arena.reserve_slot(Role::Child, "never started").unwrap(),
    );
    board.set(0, 1);
    board.wait(0, |_| false);
}

/// Cleans up after another process.
fn clean(mut scene: Scene) {
    let pid: u32 = scene.argument();
    let dead = scene.arena.processes().into_iter().find(|process| process.pid == pid).unwrap();
    assert!(scene.arena.is_dead(dead.owner));
    scene.arena.clean(dead.owner, forkless_shm::slot::End::Unknown).unwrap();
}

#[test]
fn a_cleaner_that_dies_leaves_the_rest_to_the_next_one() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let kept = arena.allocate(100, PLAIN).unwrap();
    fill(&kept, 1, 100);
    let before = census(arena);
    for point in STEPS {
        let deaths = at_every_pass(|pass| {
            board.set(0, 0);
            let mut holder = Child::start(arena, "hold", &[&board, &handle(&kept)]);
            board.wait(0, |ready| ready == 1);
            holder.kill();
            assert_eq!(holder.wait(), ExitStatus::Signaled(9));
            let pid = arena.process(holder.owner()).unwrap().pid;
            let status = Child::start_doomed(arena, "clean", point, pass, &[&pid]).finish();
            drop(holder);
            check(&kept, 1, 100);
            assert_eq!(census(arena), before, "{point}, pass {pass}");
            status
        });
        assert!(deaths > 5, "the role passes {point} only {deaths} times");
    }
}

fn reserve(scene: Scene) {
    scene.arena.reserve_slot(Role::Child, "never started").unwrap();
}

#[test]
fn slots_that_a_dead_process_reserved_are_freed() {
    let arena = Arena::create(KINDS).unwrap();
    drop(arena.allocate(1, PLAIN).unwrap());
    let before = census(arena);
    let deaths = at_every_pass(|pass| {
        let mut child = Child::start_doomed(arena, "reserve", "slot.reserved", pass, &[]);
        let status = child.wait();
        assert_eq!(arena.processes().len(), before.1 + 2, "the child's slot and the one that it reserved");
        drop(child);
        assert_eq!(census(arena), before);
        status
    });
    assert_eq!(deaths, 1);
}

fn idle(scene: Scene) {
    assert!(!scene.arena.is_dead(scene.arena.me().unwrap()));
}

#[test]
fn a_process_that_dies_on_arrival_never_was() {
    let arena = Arena::create(KINDS).unwrap();
    drop(arena.allocate(1, PLAIN).unwrap());
    let before = census(arena);
    let deaths = at_every_pass(|pass| {
        let mut child = Child::start_doomed(arena, "idle", "slot.registered", pass, &[]);
        let status = child.clean();
        assert!(arena.is_dead(child.owner()));
        let live = arena.liveness(child.owner()).unwrap().load(Ordering::SeqCst);
        assert!(forkless_sys::liveness::died(live), "the kernel marks a process from its registration on");
        assert_eq!(arena.end(child.owner()), Some(forkless_shm::slot::End::Status(status)));
        drop(child);
        assert_eq!(census(arena), before);
        status
    });
    assert_eq!(deaths, 1);
}
