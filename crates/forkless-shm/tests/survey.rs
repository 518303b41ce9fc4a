//! What a survey finds: all there is when nobody changes it, what is certain while others do, and never a crash.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod kinds;

use std::sync::atomic::Ordering;
use std::time::Duration;

use forkless_shm::block::{LEASE, PLAIN};
use forkless_shm::survey::{Holder, Surveyed};
use forkless_shm::{Arena, Error, Lease, Owner, Survey};
use forkless_sys::memory::MemoryFile;
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Random, Scene, fuzz, handle, roles};
use kinds::{KINDS, WRAPPER, wrap};

roles!(KINDS => hold, churn, allocate);

fn file(arena: &Arena) -> MemoryFile {
    MemoryFile::adopt(arena.file().try_clone_to_owned().unwrap()).unwrap()
}

fn survey(arena: &Arena) -> Survey {
    Survey::read(&file(arena), PATIENCE).unwrap()
}

fn holder(survey: &Survey, owner: Owner) -> &Holder {
    survey.holders.iter().find(|holder| holder.process.owner == owner).unwrap()
}

/// The blocks of a kind that a process holds.
fn held(survey: &Survey, owner: Owner, kind: u8) -> Vec<Surveyed> {
    let blocks = holder(survey, owner).blocks.iter().map(|&index| survey.blocks[index]);
    blocks.filter(|block| block.kind == Some(kind)).collect()
}

#[test]
fn it_finds_what_statistics_count() {
    let arena = Arena::create(KINDS).unwrap();
    let mut random = Random::new(1);
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..300 {
        leases.push(arena.allocate(random.below(200_000) as usize, PLAIN).unwrap());
        if random.below(3) == 0 {
            drop(leases.swap_remove(random.below(leases.len() as u64) as usize));
        }
    }
    leases.push(leases[0].duplicate().unwrap());
    let (statistics, survey) = (arena.statistics().unwrap(), survey(arena));
    let (free, live): (Vec<&Surveyed>, Vec<&Surveyed>) = survey.blocks.iter().partition(|block| block.kind.is_none());
    let warm = free.iter().filter(|block| block.size >= 1 << 16).map(|block| block.pages).sum::<usize>();
    let objects = live.iter().filter(|block| block.kind != Some(LEASE)).count();
    assert!(survey.is_whole && survey.id == arena.id());
    assert_eq!((free.len(), warm), (statistics.free, statistics.warm));
    assert_eq!((objects, live.len() - objects), (statistics.blocks, statistics.leases));
    let me = holder(&survey, arena.me().unwrap());
    assert_eq!((me.leases, me.blocks.len()), (leases.len(), leases.len() - 1), "one block is held twice");
    assert!(me.blocks.iter().all(|&index| survey.blocks[index].holders == 1));
    let pages: usize = survey.blocks.iter().map(|block| block.pages).sum();
    // The tables in front of the heap take less than this, and no block is far from as large as its pages.
    assert!(survey.pages.abs_diff(pages as u64) < 2 << 20, "{} and {pages}", survey.pages);
}

/// Holds what its parent has, and something of its own.
fn hold(mut scene: Scene) {
    let (board, shared) = (scene.board(), scene.handle());
    let _leases = (scene.arena.open(shared, PLAIN).unwrap(), scene.arena.allocate(90_000, PLAIN).unwrap());
    board.set(0, 1);
    board.wait(0, |word| word == 2);
}

#[test]
fn a_block_that_several_hold_is_one_block() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let shared = arena.allocate(1_000_000, PLAIN).unwrap();
    let child = Child::start(arena, "hold", &[&board, &handle(&shared)]);
    board.wait(0, |word| word == 1);
    let survey = survey(arena);
    let is_shared = |block: &&Surveyed| block.pages == 1_000_064;
    let [mine, its] = [arena.me().unwrap(), child.owner()].map(|owner| held(&survey, owner, PLAIN));
    assert_eq!(survey.blocks.iter().filter(is_shared).count(), 1);
    for held in [&mine, &its] {
        assert_eq!(held.iter().find(is_shared).unwrap().holders, 2);
    }
    assert!(its.iter().any(|block| block.pages == 90_064 && block.holders == 1));
    assert!(!mine.iter().any(|block| block.pages == 90_064));
    board.set(0, 2);
    assert_eq!(child.finish(), ExitStatus::Exited(0));
    assert!(!self::survey(arena).blocks.iter().any(|block| block.holders == 2 && is_shared(&block)));
}

#[test]
fn what_another_block_holds_is_no_process_s() {
    let arena = Arena::create(KINDS).unwrap();
    let wrapper = wrap(arena, arena.allocate(70_000, PLAIN).unwrap());
    let survey = survey(arena);
    let inner = survey.blocks.iter().find(|block| block.pages == 70_064).unwrap();
    assert_eq!(inner.holders, 0);
    assert_eq!(held(&survey, arena.me().unwrap(), WRAPPER).len(), 1);
    drop(wrapper);
}

#[test]
fn a_guarded_lease_holds_as_its_count_says() {
    let arena = Arena::create(KINDS).unwrap();
    let me = arena.me().unwrap();
    let counter = arena.allocate(8, PLAIN).unwrap();
    let count_at = counter.block().payload();
    let count = arena.map().u32(count_at).unwrap();
    let holds = |size| held(&survey(arena), me, PLAIN).iter().any(|block| block.pages == size);
    let given = arena.allocate(80_000, PLAIN).unwrap();
    given.give(count_at, 7).unwrap();
    // Somebody else's until it is taken.
    let channels = arena.allocate(90_000, PLAIN).unwrap();
    let taken = Lease::take(arena, channels.block(), count_at, 7).unwrap();
    std::mem::forget(channels.duplicate().unwrap());
    channels.given().unwrap();
    count.store(7, Ordering::Release);
    assert!(holds(80_064));
    count.store(8, Ordering::Release);
    assert!(!holds(80_064) && holds(90_064));
    given.given().unwrap();
    taken.taken().unwrap();
}

/// Keeps every other one of its leases, and changes the others until it is told to stop or killed.
fn churn(mut scene: Scene) {
    let board = scene.board();
    let mut random = Random::new(3);
    let mut size = || random.below(3000) as usize;
    let pairs = (0..500).map(|_| (scene.arena.allocate(70_000, PLAIN).unwrap(), scene.arena.allocate(size(), PLAIN)));
    let (_kept, mut passing): (Vec<Lease>, Vec<_>) = pairs.unzip();
    board.set(0, 1);
    while board.get(0) == 1 {
        for other in &mut passing {
            *other = scene.arena.allocate(size(), PLAIN);
        }
    }
}

#[test]
fn what_stays_is_found_while_the_list_around_it_changes() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let child = Child::start(arena, "churn", &[&board]);
    board.wait(0, |word| word == 1);
    for _ in 0..100 {
        let survey = survey(arena);
        let found = held(&survey, child.owner(), PLAIN).iter().filter(|block| block.pages == 70_064).count();
        assert_eq!((found, survey.is_whole), (500, true));
    }
    child.kill();
    assert_eq!(child.finish_killed(), ExitStatus::Signaled(9));
    assert!(!survey(arena).blocks.iter().any(|block| block.kind == Some(PLAIN) && block.holders == 0));
}

fn allocate(scene: Scene) {
    drop(scene.arena.allocate(70_000, PLAIN).unwrap());
}

/// The points are in debug builds only.
#[cfg(debug_assertions)]
#[test]
fn a_process_that_is_stopped_in_the_middle_of_a_change_keeps_nobody_waiting() {
    for point in ["arena.written", "arena.logged", "arena.applied"] {
        let arena = Arena::create(KINDS).unwrap();
        let mine = arena.allocate(80_000, PLAIN).unwrap();
        let me = arena.me().unwrap();
        let child = Child::start_halting(arena, "allocate", point, 1, &[]);
        child.wait_until_halted();
        // It has the allocator's lock, which everything else waits for.
        let survey = Survey::read(&file(arena), Duration::ZERO).unwrap();
        assert!(held(&survey, me, PLAIN).iter().any(|block| block.pages == 80_064), "{point}");
        child.resume();
        assert_eq!(child.finish(), ExitStatus::Exited(0));
        drop(mine);
    }
}

#[test]
fn what_is_no_arena_is_said_to_be_none() {
    let empty = MemoryFile::create("none", 1 << 20).unwrap();
    assert_eq!(Survey::read(&empty, PATIENCE).unwrap_err(), Error::Corrupt("not an arena"));
    let arena = Arena::create(KINDS).unwrap();
    arena.map().u64(8).unwrap().fetch_add(1, Ordering::Relaxed);
    assert!(matches!(Survey::read(&file(arena), PATIENCE), Err(Error::Stale(_))));
}

thread_local! {
    static DAMAGED: &'static Arena = Arena::create(KINDS).unwrap();
}

/// Writes the bytes over the beginning of the heap, the slots, or the header behind what makes it an arena.
fn damage(bytes: &[u8]) {
    let arena = DAMAGED.with(|arena| *arena);
    let slots = 4096;
    let heap = slots + 4096 * 256;
    for (at, most) in [(heap, bytes.len()), (slots + 64, 192), (40, 24)] {
        assert!(arena.map().write(heap, &[0; 8192]) && arena.map().write(slots, &[0; 512]));
        for (offset, value) in [(40, heap + 4096), (56, 2)] {
            arena.map().u64(offset).unwrap().store(value as u64, Ordering::Relaxed);
        }
        assert!(arena.map().write(at, &bytes[..most.min(bytes.len())]));
        let survey = Survey::read(&file(arena), Duration::ZERO).unwrap();
        assert!(survey.holders.len() < 4096 && survey.blocks.len() < 1 << 20);
    }
}

#[test]
fn damage_is_left_out() {
    let block = |class: u64, kind: u64| (1 << 32 | 1 << 16 | kind << 8 | class).to_ne_bytes();
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.extend(block(5, 255));
        leases.extend([0x20, 0x80, 0, 0, 0x40, 0x80, 0, 0, 0, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    fuzz(1000, &[&leases, &block(16, 254), &block(36, 4), &[0xff; 64], &[0; 64], b""], damage);
}
