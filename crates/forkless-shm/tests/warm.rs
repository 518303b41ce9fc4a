//! Warm memory: what free blocks keep, what is given back, and that a death in between loses nothing.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use forkless_shm::block::PLAIN;
use forkless_shm::{Arena, Error, Kind, Lease};
#[cfg(debug_assertions)]
use forkless_testing::{Child, at_every_pass};
use forkless_testing::{Scene, roles};

static KINDS: &[Kind] = &[];

roles!(KINDS => let_go, trim, fill);

const MB: usize = 1 << 20;

fn arena(limit: usize) -> &'static Arena {
    let arena = Arena::create(KINDS).unwrap();
    arena.set_warm_limit(limit as u64).unwrap();
    arena
}

fn blocks(arena: &'static Arena, size: usize, count: usize) -> Vec<Lease> {
    (0..count).map(|_| arena.allocate(size, PLAIN).unwrap()).collect()
}

fn warm(arena: &'static Arena) -> usize {
    arena.statistics().unwrap().warm
}

#[test]
fn what_was_used_is_counted_and_not_what_there_is_room_for() {
    let arena = arena(100 * MB);
    drop(blocks(arena, 5 * MB, 1));
    assert_eq!(warm(arena), 5 * MB + 64);
    let block = blocks(arena, 4 * MB, 1);
    assert_eq!(warm(arena), 0);
    drop(block);
    assert_eq!(warm(arena), 5 * MB + 64, "pages that are there are still there");
    drop(blocks(arena, 7 * MB, 1));
    assert_eq!(warm(arena), 7 * MB + 64);
    // Small blocks are not worth counting.
    drop(blocks(arena, 1000, 100));
    assert_eq!(warm(arena), 7 * MB + 64);
}

#[test]
fn more_than_the_limit_is_given_back() {
    let arena = arena(10 * MB);
    drop(blocks(arena, 3 * MB, 8));
    assert!((7 * MB..=10 * MB).contains(&warm(arena)));
    drop(blocks(arena, 20 * MB, 1));
    assert!(warm(arena) <= 10 * MB, "too large to be kept at all, and no reason to give up others");
    assert!(warm(arena) >= 7 * MB);
    arena.set_warm_limit(4 * MB as u64).unwrap();
    assert!(warm(arena) <= 4 * MB);
    assert_eq!(arena.warm_limit().unwrap(), 4 * MB as u64);
    arena.set_warm_limit(0).unwrap();
    drop(blocks(arena, 3 * MB, 2));
    assert_eq!(warm(arena), 0);
}

#[test]
fn pages_given_back_are_gone() {
    let arena = arena(0);
    let block = arena.allocate(MB, PLAIN).unwrap();
    let place = block.payload().unwrap() + 8192;
    assert!(arena.map().write(place, b"something"));
    drop(block);
    let mut bytes = Vec::new();
    assert!(arena.map().read(place, 9, &mut bytes));
    assert_eq!(bytes, [0; 9]);
}

#[test]
fn the_size_in_use_now_displaces_those_of_before() {
    let arena = arena(10 * MB);
    drop(blocks(arena, 9 * MB, 1));
    // Each of these, when it is let go, would be too much beside that.
    drop(blocks(arena, 2 * MB, 3));
    assert_eq!(warm(arena), 3 * (2 * MB + 64));
    let again = blocks(arena, 2 * MB, 3);
    assert_eq!(warm(arena), 0, "all three are warm");
    drop(again);
}

#[test]
fn trimming_gives_all_of_it_back_and_says_how_much() {
    let arena = arena(100 * MB);
    assert_eq!(arena.trim(0).unwrap(), 0);
    drop((blocks(arena, 3 * MB, 2), blocks(arena, 100_000, 3)));
    let before = warm(arena);
    assert_eq!(arena.trim(0).unwrap(), before as u64);
    assert_eq!(warm(arena), 0);
    let census = arena.statistics().unwrap();
    drop(blocks(arena, 3 * MB, 2));
    assert_eq!(arena.statistics().unwrap().bytes_used, census.bytes_used, "cold blocks are used again");
}

#[test]
fn what_no_machine_has_is_an_error_that_says_so() {
    let arena = arena(0);
    let before = arena.statistics().unwrap();
    let size = arena.size() / 4;
    match arena.allocate(size, PLAIN).map(drop) {
        Err(Error::NoMemory { bytes, available }) => assert!(bytes >= size as u64 && available < bytes),
        // On a machine with more memory than that there is nothing to see.
        other => assert_eq!(other, Ok(())),
    }
    let now = arena.statistics().unwrap();
    assert_eq!((now.blocks, now.leases, now.warm), (before.blocks, before.leases, 0));
}

/// Shares bytes in blocks that have pages, in such that have some, and in new ones.
fn fill(scene: Scene) {
    scene.arena.trim(0).unwrap();
    for size in [MB, 3 * MB, 2 * MB, 100_000] {
        drop(filled(scene.arena, size));
    }
}

fn filled(arena: &'static Arena, size: usize) -> Lease {
    let bytes: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
    let (one, other) = bytes.split_at(size / 3);
    let pieces = [(0, one), (size / 3, other)];
    let lease = arena.allocate_filled(size + 100, PLAIN, |block| block.payload() + 60, &pieces).unwrap();
    let mut there = vec![0; size];
    assert!(arena.map().read_into(lease.block().payload() + 60, &mut there));
    assert!(there == bytes);
    lease
}

#[test]
fn new_blocks_are_filled_whatever_pages_they_have() {
    let arena = arena(100 * MB);
    drop(blocks(arena, 2 * MB, 1));
    for size in [3 * MB, MB, 3 * MB - 500, 4 * MB - 1000, 0, 10, 50_000, 70_000] {
        drop(filled(arena, size));
    }
    let place = |block: forkless_shm::block::Block| block.payload();
    assert!(matches!(arena.allocate_filled(10, PLAIN, place, &[(0, &[1; 11])]), Err(Error::Corrupt(_))));
    assert!(matches!(arena.allocate_filled(10, PLAIN, |_| 0, &[(0, &[1])]), Err(Error::Corrupt(_))));
    arena.trim(0).unwrap();
    assert_eq!(warm(arena), 0);
}

/// Has pages given back in both ways: of the block that is let go, and of others.
fn let_go(scene: Scene) {
    for size in [MB, 3 * MB, 9 * MB, 2 * MB] {
        drop(blocks(scene.arena, size, 2));
    }
}

/// Gives back what there is.
fn trim(scene: Scene) {
    drop(blocks(scene.arena, MB, 3));
    scene.arena.trim(0).unwrap();
}

#[cfg(debug_assertions)]
#[test]
fn a_death_between_leaves_no_block_and_no_page() {
    let arena = arena(4 * MB);
    for role in ["let_go", "trim", "fill"] {
        let more = if role == "fill" { "warm.filling" } else { "warm.chosen" };
        for point in [more, "warm.filled", "warm.punched", "arena.written", "arena.logged", "arena.applied"] {
            let deaths = at_every_pass(|pass| {
                let before = arena.statistics().unwrap();
                let mut child = Child::start_doomed(arena, role, point, pass, &[]);
                let status = child.clean();
                drop(child);
                let now = arena.statistics().unwrap();
                let case = format!("{role}, {point}, pass {pass}");
                assert_eq!((now.blocks, now.leases, now.dying), (before.blocks, before.leases, 0), "{case}");
                assert!(now.warm <= 4 * MB, "{case}");
                status
            });
            let is_expected = point.starts_with("arena") || (role == "fill") == point.starts_with("warm.fill");
            assert!(
                deaths >= 2 || !is_expected || (role, point) == ("trim", "warm.chosen"),
                "{role}, {point}: {deaths}"
            );
        }
    }
}
