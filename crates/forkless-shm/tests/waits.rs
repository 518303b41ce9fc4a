//! Notes of waits: what a stranger reads of them, whatever their writers do meanwhile.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};

use forkless_shm::arena::FILE_NAME;
use forkless_shm::waits::{Noted, Outside};
use forkless_shm::{Arena, Lease, Waited};
use forkless_sys::memory::MemoryFile;
use forkless_sys::{process, time};

const KIND: u8 = 77;

/// One test at a time: the places for notes are the whole process's.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The arena of this process, one for all tests.
fn arena() -> &'static Arena {
    static ARENA: std::sync::OnceLock<&'static Arena> = std::sync::OnceLock::new();
    ARENA.get_or_init(|| Arena::create(&[]).unwrap())
}

fn notes() -> Vec<Noted> {
    let me = std::process::id();
    let id = arena().id();
    for (_, file) in MemoryFile::of_process(me, FILE_NAME, &[]).unwrap() {
        let outside = Outside::new(&file).unwrap();
        if outside.u64(16) == Some(id) {
            return outside
                .processes()
                .into_iter()
                .filter(|(it, _)| it.pid == me)
                .flat_map(|(_, notes)| notes)
                .collect();
        }
    }
    panic!("this process has its arena open");
}

fn mine(waited: Waited) -> Vec<Noted> {
    notes().into_iter().filter(|it| it.thread == process::thread_id() && it.waited == waited).collect()
}

fn object() -> Lease {
    arena().allocate(64, KIND).unwrap()
}

#[test]
fn a_note_is_there_until_it_is_dropped() {
    let _turn = turn();
    let lease = object();
    let before = time::coarse().as_nanos() as u64;
    let note = lease.note_wait(Waited::Lock).unwrap();
    let handle = lease.handle().unwrap();
    let [noted] = mine(Waited::Lock)[..] else { panic!("one note") };
    assert_eq!(noted.block, Some((handle.offset as usize, handle.generation)));
    assert_eq!(noted.pid, None);
    assert!(noted.since >= before && noted.since <= time::coarse().as_nanos() as u64);
    drop(note);
    assert_eq!(mine(Waited::Lock), []);
}

#[test]
fn a_wait_for_a_process_names_it() {
    let _turn = turn();
    let _note = arena().note_wait(Waited::Process, 4711).unwrap();
    let [noted] = mine(Waited::Process)[..] else { panic!("one note") };
    assert_eq!((noted.block, noted.pid), (None, Some(4711)));
}

#[test]
fn a_wait_in_the_middle_of_a_wait_is_noted_too() {
    let _turn = turn();
    let _outer = object().note_wait(Waited::Event);
    {
        let _inner = object().note_wait(Waited::Event).unwrap();
        assert_eq!(mine(Waited::Event).len(), 2);
    }
    assert_eq!(mine(Waited::Event).len(), 1);
}

#[test]
fn what_is_read_is_one_note_and_not_parts_of_two() {
    let _turn = turn();
    let leases: Vec<Lease> = (0..8).map(|_| object()).collect();
    let stop = AtomicBool::new(false);
    let begin = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            begin.wait();
            for index in (0..leases.len()).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Each object is waited for in one way only.
                let waited = if index % 2 == 0 { Waited::Barrier } else { Waited::Condition };
                drop(leases[index].note_wait(waited));
            }
        });
        begin.wait();
        let expected: Vec<_> = leases.iter().map(|it| it.handle().unwrap()).collect();
        let mut seen = HashSet::new();
        while seen.len() < 2 {
            for noted in notes().iter().filter(|it| matches!(it.waited, Waited::Barrier | Waited::Condition)) {
                let (offset, generation) = noted.block.unwrap();
                let index = expected.iter().position(|it| it.offset as usize == offset).unwrap();
                assert_eq!(expected[index].generation, generation);
                assert_eq!(noted.waited == Waited::Barrier, index % 2 == 0);
                seen.insert(index % 2);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn who_finds_no_place_waits_without_a_note() {
    let _turn = turn();
    let lease = object();
    let held: Vec<_> = (0..20).map(|_| lease.note_wait(Waited::Semaphore)).collect();
    assert!(held.iter().any(Option::is_some) && held.iter().any(Option::is_none));
    drop(held);
    assert_eq!(mine(Waited::Semaphore), []);
}

#[test]
fn a_file_that_is_no_arena_is_told_so() {
    let file = MemoryFile::create("nothing", 1 << 16).unwrap();
    assert_eq!(Outside::new(&file).unwrap_err().to_string(), "shared memory is damaged: not an arena");
}
