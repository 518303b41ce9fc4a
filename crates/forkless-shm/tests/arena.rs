//! Making, joining and finding arenas, and what is refused.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::sync::atomic::Ordering;

use forkless_shm::block::PLAIN;
use forkless_shm::{Arena, Error, Handle};
use forkless_sys::memory::{Mapping, MemoryFile};
use forkless_sys::process::ExitStatus;
use forkless_sys::{AsFd, OwnedFd};
use forkless_testing::{Board, Child, Scene, handle, roles};

roles!(&[] => look_around);

const GONE: Error = Error::Stale("the object no longer exists: its last holder has let it go");

fn copy_of(file: &impl AsFd) -> OwnedFd {
    file.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn an_arena_is_found_by_its_id_and_joined_once() {
    let arena = Arena::create(&[]).unwrap();
    assert_ne!(arena.id(), 0);
    assert!(std::ptr::eq(Arena::find(arena.id()).unwrap(), arena));
    assert!(Arena::find(arena.id().wrapping_add(1)).is_none());
    assert!(std::ptr::eq(Arena::join(copy_of(&arena.file()), &[]).unwrap(), arena));
    assert!(Arena::home().is_some());
    assert_eq!(arena.me().unwrap(), arena.me().unwrap());
}

/// What a child of an arena sees of it.
fn look_around(mut scene: Scene) {
    let board = scene.board();
    assert!(std::ptr::eq(Arena::home().unwrap(), scene.arena));
    assert_eq!(Arena::find(scene.argument()).map(Arena::id), Some(scene.arena.id()));
    let handle = scene.handle();
    let lease = scene.arena.open(handle, PLAIN).unwrap();
    let word = scene.arena.map().u64(lease.block().payload()).unwrap();
    board.set(0, word.swap(8, Ordering::SeqCst));
}

#[test]
fn a_child_sees_the_same_memory() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let lease = arena.allocate(8, PLAIN).unwrap();
    let word = arena.map().u64(lease.block().payload()).unwrap();
    word.store(7, Ordering::SeqCst);
    let child = Child::start(arena, "look_around", &[&board, &arena.id(), &handle(&lease)]);
    assert_eq!(child.finish(), ExitStatus::Exited(0));
    assert_eq!((board.get(0), word.load(Ordering::SeqCst)), (7, 8));
}

#[test]
fn what_is_no_arena_is_not_joined() {
    let open = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(Arena::join(open.into(), &[]), Err(Error::System { .. })), "not a memory file");
    let small = MemoryFile::create("small", 4096).unwrap();
    assert_eq!(Arena::join(copy_of(&small), &[]).unwrap_err(), Error::Corrupt("not an arena"));
    let empty = MemoryFile::create("empty", 4 << 20).unwrap();
    assert_eq!(Arena::join(copy_of(&empty), &[]).unwrap_err(), Error::Corrupt("not an arena"));
}

#[test]
fn an_arena_of_another_version_or_size_is_not_joined() {
    let arena = Arena::create(&[]).unwrap();
    // The header, in a file that nobody has joined yet.
    let mut header = Vec::new();
    assert!(arena.map().read(0, 4096, &mut header));
    let size = 4 << 20;
    for (offset, value, expected) in [
        (0, 0, Some(Error::Corrupt("not an arena"))),
        (8, 99, Some(Error::Stale("the other process runs another version of forkless"))),
        (24, size + 4096, Some(Error::Corrupt("not an arena"))),
        (24, size, None),
    ] {
        let file = MemoryFile::create("header", size as usize).unwrap();
        let map = Mapping::whole(&file).unwrap();
        assert!(map.write(0, &header));
        map.u64(16).unwrap().store(arena.id() ^ 1, Ordering::SeqCst);
        map.u64(24).unwrap().store(size, Ordering::SeqCst);
        map.u64(offset).unwrap().store(value, Ordering::SeqCst);
        assert_eq!(Arena::join(copy_of(&file), &[]).err(), expected);
    }
}

#[test]
fn handles_open_what_they_name_and_nothing_else() {
    let arena = Arena::create(&[]).unwrap();
    let other = Arena::create(&[]).unwrap();
    let lease = arena.allocate(100, 9).unwrap();
    let handle = lease.handle().unwrap();
    assert_eq!(arena.open(handle, 9).unwrap().block(), lease.block());
    let another_type = Error::Stale("the handle belongs to an object of another type");
    assert_eq!(arena.open(handle, 10).unwrap_err(), another_type);
    let another_tree = Error::Stale("the object belongs to another process tree");
    assert_eq!(other.open(handle, 9).unwrap_err(), another_tree);
    for (offset, generation) in [
        (handle.offset, handle.generation + 1),
        (handle.offset + 64, handle.generation),
        (handle.offset + 1, handle.generation),
        (0, 1),
        (4096, 1),
        (u64::MAX, 1),
        (arena.size() as u64 - 64, 1),
    ] {
        let wrong = Handle { arena: arena.id(), offset, generation };
        assert_eq!(arena.open(wrong, 9).unwrap_err(), GONE, "{wrong:?}");
    }
    drop(lease);
    assert_eq!(arena.open(handle, 9).unwrap_err(), GONE);
    let again = arena.allocate(100, 9).unwrap();
    assert_eq!(again.handle().unwrap().offset, handle.offset, "the same memory");
    assert_eq!(arena.open(handle, 9).unwrap_err(), GONE, "is another block");
}

#[test]
fn a_block_lives_as_long_as_any_lease() {
    let arena = Arena::create(&[]).unwrap();
    let first = arena.allocate(100, PLAIN).unwrap();
    let handle = first.handle().unwrap();
    let second = first.duplicate().unwrap();
    let third = arena.open(handle, PLAIN).unwrap();
    drop(first);
    drop(third);
    assert!(arena.open(handle, PLAIN).is_ok());
    drop(second);
    assert_eq!(arena.open(handle, PLAIN).unwrap_err(), GONE);
}

#[test]
fn large_blocks_are_aligned_to_pages_and_their_payload_to_cache_lines() {
    let arena = Arena::create(&[]).unwrap();
    let leases: Vec<_> = (0..22).map(|class| arena.allocate(1 << class, PLAIN).unwrap()).collect();
    for (class, lease) in leases.iter().enumerate() {
        let block = lease.block();
        assert!(block.capacity() >= 1 << class);
        assert!(block.payload().is_multiple_of(if block.capacity() > 4000 { 64 } else { 16 }));
        assert!(block.offset().is_multiple_of(if block.capacity() > 4000 { 4096 } else { 64 }));
    }
}

#[test]
fn the_memory_of_very_large_blocks_goes_back_to_the_system() {
    let arena = Arena::create(&[]).unwrap();
    let resident = || {
        let file = std::fs::File::from(copy_of(&arena.file()));
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512
    };
    let before = resident();
    // More than is kept warm.
    let length = 257 << 20;
    let lease = arena.allocate(length, PLAIN).unwrap();
    assert!(resident() >= before + length as u64, "allocated at once, so that lack of memory is an error here");
    drop(lease);
    assert!(resident() < before + (1 << 20), "{} bytes are still allocated", resident());
    // A warm one is kept, and used again.
    drop(arena.allocate(2 << 20, PLAIN).unwrap());
    let warm = resident();
    assert!(warm >= before + (2 << 20));
    drop(arena.allocate(2 << 20, PLAIN).unwrap());
    assert_eq!(resident(), warm);
}

#[test]
fn errors_say_what_to_do() {
    let message = Error::Full { bytes: 100, size: 1000 }.to_string();
    assert!(message.contains("100 bytes") && message.contains("RLIMIT_AS"), "{message}");
    assert!(Error::NoSlot.to_string().contains("4096"));
}

#[test]
fn a_handle_survives_as_text() {
    let handle = Handle { arena: u64::MAX, offset: 64, generation: 7 };
    assert_eq!(handle.to_string(), "ffffffffffffffff-40-7");
    assert_eq!("ffffffffffffffff-40-7".parse(), Ok(handle));
    for text in ["", "1", "1-2", "1-2-3-4", "1-2-x", "1-2-", "1-2-100000000", "11111111111111111-2-3"] {
        assert_eq!(text.parse::<Handle>(), Err(Error::Stale("the text is no handle")), "{text}");
    }
}
