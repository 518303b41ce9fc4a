//! What a stranger sees of locks and semaphores, through a descriptor that can only read.
#![allow(clippy::unwrap_used)] // helpers of tests

use forkless_shm::arena::FILE_NAME;
use forkless_shm::waits::Outside;
use forkless_shm::{Arena, Lease};
use forkless_sync::outside::{Seen, look};
use forkless_sync::{Event, KINDS, Mutex, ReentrantMutex, Semaphore};
use forkless_sys::memory::MemoryFile;

fn arena() -> &'static Arena {
    static ARENA: std::sync::OnceLock<&'static Arena> = std::sync::OnceLock::new();
    ARENA.get_or_init(|| Arena::create(&KINDS).unwrap())
}

fn seen(lease: &Lease) -> Option<Seen> {
    let handle = lease.handle().unwrap();
    let files = MemoryFile::of_process(std::process::id(), FILE_NAME, &[]).unwrap();
    let (_, file) = files.first().unwrap();
    look(&Outside::new(file).unwrap(), handle.offset as usize, handle.generation)
}

#[test]
fn a_lock_has_an_owner_an_origin_and_a_time() {
    let mutex = Mutex::create_at(arena(), "program.py:7").unwrap();
    let free = seen(mutex.lease()).unwrap();
    assert_eq!((free.owner, free.held_for, free.origin.as_str()), (None, None, "program.py:7"));
    mutex.try_acquire().unwrap().unwrap();
    let held = seen(mutex.lease()).unwrap();
    assert_eq!(held.owner, Some(arena().me().unwrap()));
    assert!(held.held_for.unwrap().as_secs() < 60);
    assert!(mutex.release().unwrap());
    assert_eq!(seen(mutex.lease()), Some(free));
}

#[test]
fn a_reentrant_lock_has_them_too() {
    let mutex = ReentrantMutex::create_at(arena(), "program.py:8").unwrap();
    mutex.try_acquire().unwrap().unwrap();
    let held = seen(mutex.lease()).unwrap();
    assert_eq!((held.owner, held.origin.as_str()), (Some(arena().me().unwrap()), "program.py:8"));
}

#[test]
fn a_semaphore_has_tokens_and_an_event_has_nothing() {
    let semaphore = Semaphore::create(arena(), 3, 5).unwrap();
    assert_eq!(seen(semaphore.lease()).unwrap().tokens, Some(3));
    assert_eq!(seen(Event::create(arena()).unwrap().lease()), Some(Seen::default()));
}

#[test]
fn what_is_gone_is_not_seen() {
    let semaphore = Semaphore::create(arena(), 3, 5).unwrap();
    let handle = semaphore.lease().handle().unwrap();
    drop(semaphore);
    let files = MemoryFile::of_process(std::process::id(), FILE_NAME, &[]).unwrap();
    let outside = Outside::new(&files[0].1).unwrap();
    assert_eq!(look(&outside, handle.offset as usize, handle.generation), None);
    assert_eq!(look(&outside, 1 << 20, 1), None);
}
