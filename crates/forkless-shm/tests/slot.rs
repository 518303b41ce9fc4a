//! Slots: who is who, who lives, how each ended, and what happens when several processes disagree about it.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::fs::File;
use std::sync::atomic::Ordering;
use std::thread;

use forkless_shm::block::PLAIN;
use forkless_shm::slot::End;
use forkless_shm::{Arena, Error, Owner, Role};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, Random, Scene, roles};

roles!(&[] => stay, stay_off_the_main_thread, poor, come_and_hold, leave, clean_up);

const KILLED: ExitStatus = ExitStatus::Signaled(9);
const GIVEN_UP: Error = Error::Stale("the process that asked for this one has given up");

/// Arrives, says so, stays until killed.
fn stay(mut scene: Scene) {
    let board = scene.board();
    scene.arena.me().unwrap();
    board.add(0, 1);
    board.wait(0, |_| false);
}

/// The same, with a place that the kernel does not mark.
fn stay_off_the_main_thread(scene: Scene) {
    thread::spawn(move || stay(scene)).join().unwrap();
}

#[test]
fn a_slot_says_who_its_process_is_and_how_it_ended() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let me = arena.me().unwrap();
    let mut child = Child::start(arena, "stay", &[&board]);
    board.wait(0, |arrived| arrived == 1);
    let owner = child.owner();
    let process = arena.process(owner).unwrap();
    assert_eq!((process.name.as_str(), process.role, process.parent), ("stay", Role::Child, Some(me)));
    assert!(process.live && !arena.is_dead(owner));
    assert_eq!(arena.end(owner), None);
    let events = arena.child_events(me).unwrap().load(Ordering::SeqCst);
    child.kill();
    child.wait();
    assert!(arena.is_dead(owner), "dead before anybody has cleaned up");
    child.clean();
    assert_eq!(arena.end(owner), Some(End::Status(KILLED)));
    assert_eq!(arena.child_events(me).unwrap().load(Ordering::SeqCst), events + 1);
    drop(child);
    assert_eq!(arena.process(owner), None);
    assert!(arena.is_dead(owner), "for ever");
}

#[test]
fn the_main_process_is_the_first_and_names_are_cut_to_fit() {
    let arena = Arena::create(&[]).unwrap();
    let me = arena.process(arena.me().unwrap()).unwrap();
    assert_eq!((me.role, me.pid, me.parent, me.live), (Role::Main, std::process::id(), None, true));
    let long = "ä".repeat(100);
    let owner = arena.reserve_slot(Role::Child, &long).unwrap();
    let name = arena.process(owner).unwrap().name;
    assert!(long.starts_with(&name) && name.len() >= 60, "{name}");
    arena.return_slot(owner).unwrap();
}

#[test]
fn a_slot_has_a_new_owner_each_time() {
    let arena = Arena::create(&[]).unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let owner = arena.reserve_slot(Role::Child, "").unwrap();
        assert!(seen.insert(owner));
        assert_eq!(Owner::from_word(owner.word()), Some(owner));
        assert!(!arena.is_dead(owner), "a process that was asked for may still come");
        arena.return_slot(owner).unwrap();
        assert!(arena.is_dead(owner));
    }
    assert_eq!(arena.processes().len(), 1);
}

#[test]
fn a_full_table_is_an_error() {
    let arena = Arena::create(&[]).unwrap();
    let mut owners = Vec::new();
    let error = loop {
        match arena.reserve_slot(Role::Child, "") {
            Ok(owner) => owners.push(owner),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::NoSlot);
    assert!(owners.len() > 4000);
    arena.return_slot(owners[1000]).unwrap();
    assert!(arena.reserve_slot(Role::Child, "").is_ok());
}

#[test]
fn words_that_name_nobody() {
    for word in [0, 1, 0x1_0000, 0xffff_ffff, 0x8001_0001, 0x1_ffff] {
        assert_eq!(Owner::from_word(word), None, "{word:#x}");
    }
}

#[test]
fn who_arrives_too_late_touches_nothing() {
    let arena = Arena::create(&[]).unwrap();
    let me = arena.me().unwrap();
    let late = arena.reserve_slot(Role::Child, "late").unwrap();
    arena.return_slot(late).unwrap();
    assert_eq!(arena.arrive(late).unwrap_err(), GIVEN_UP);
    let other = arena.reserve_slot(Role::Child, "other").unwrap();
    let liveness = arena.liveness(late).unwrap();
    assert!(std::ptr::eq(liveness, arena.liveness(other).unwrap()), "the slot was given to another");
    assert_eq!(arena.arrive(late).unwrap_err(), GIVEN_UP);
    assert_eq!(arena.process(other).unwrap().pid, 0);
    assert_eq!(liveness.load(Ordering::SeqCst), 0);
    assert_eq!(arena.me().unwrap(), me);
    arena.return_slot(other).unwrap();
}

#[test]
fn an_end_is_written_once_and_only_for_the_process_it_is_about() {
    let arena = Arena::create(&[]).unwrap();
    let first = arena.reserve_slot(Role::Child, "first").unwrap();
    arena.record_end(first, End::NotStarted(2));
    arena.record_end(first, End::Unknown);
    assert_eq!(arena.end(first), Some(End::NotStarted(2)));
    arena.return_slot(first).unwrap();
    let second = arena.reserve_slot(Role::Child, "second").unwrap();
    arena.record_end(first, End::Unknown);
    arena.clean(first, End::Unknown).unwrap();
    assert_eq!(arena.end(second), None);
    assert!(arena.process(second).is_some());
    arena.return_slot(second).unwrap();
}

#[test]
fn a_peak_of_memory_is_that_of_one_process() {
    let arena = Arena::create(&[]).unwrap();
    let first = arena.reserve_slot(Role::Child, "first").unwrap();
    assert_eq!(arena.peak_memory(first), None);
    arena.record_peak_memory(first, 1 << 40);
    assert_eq!(arena.peak_memory(first), Some(1 << 40));
    arena.clean(first, End::Unknown).unwrap();
    assert_eq!(arena.peak_memory(first), Some(1 << 40), "the cleaner leaves it");
    arena.return_slot(first).unwrap();
    assert_eq!(arena.peak_memory(first), None);
    let second = arena.reserve_slot(Role::Child, "second").unwrap();
    assert!(std::ptr::eq(arena.end_word(first).unwrap(), arena.end_word(second).unwrap()), "the same slot");
    arena.record_peak_memory(first, 7);
    assert_eq!((arena.peak_memory(first), arena.peak_memory(second)), (None, None));
    arena.return_slot(second).unwrap();
}

#[test]
fn what_nobody_will_ask_about_is_freed_with_its_process() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let mut child = Child::start(arena, "stay", &[&board]);
    board.wait(0, |arrived| arrived == 1);
    arena.disown(child.owner()).unwrap();
    child.kill();
    child.clean();
    assert_eq!(arena.process(child.owner()), None);
}

/// Has no descriptor left to read `/proc` with, and looks whether another process lives.
fn poor(mut scene: Scene) {
    let board = scene.board();
    let owner = Owner::from_word(scene.argument()).unwrap();
    let mut files = Vec::new();
    let error = loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    assert!(!scene.arena.is_dead(owner), "{error}, so it counts as dead");
    board.add(0, 1);
    board.wait(0, |value| value == 3);
    assert!(scene.arena.is_dead(owner));
}

#[test]
fn a_process_without_descriptors_takes_nobody_for_dead() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let mut holder = Child::start_guest(arena, "stay_off_the_main_thread", &[&board]);
    board.wait(0, |arrived| arrived == 1);
    let poor = Child::start(arena, "poor", &[&board, &holder.owner().word()]);
    while board.get(0) != 2 && !poor.has_ended() {
        thread::yield_now();
    }
    holder.kill();
    holder.wait();
    board.add(0, 1);
    assert_eq!(poor.finish(), ExitStatus::Exited(0));
    drop(holder);
}

/// Registers by itself, checks that what it holds stays its own, and is killed, or leaves.
fn come_and_hold(mut scene: Scene) {
    let board = scene.board();
    let arena = scene.arena;
    let seed: u64 = scene.argument();
    let leases: Vec<_> = (0..20).map(|_| arena.allocate(100, PLAIN).unwrap()).collect();
    let pattern = |index: usize| Random::new(seed + index as u64).bytes(100);
    for (index, lease) in leases.iter().enumerate() {
        assert!(arena.map().write(lease.block().payload(), &pattern(index)));
    }
    board.add(0, 1);
    board.wait(1, |leave| leave > seed);
    for (index, lease) in leases.iter().enumerate() {
        let mut bytes = Vec::new();
        assert!(arena.map().read(lease.block().payload(), 100, &mut bytes));
        assert!(bytes == pattern(index), "a cleaner took what a living process holds");
    }
    assert_eq!(arena.end(arena.me().unwrap()), None, "somebody wrote down the end of a living process");
}

/// Writes into whatever is free.
fn litter(arena: &'static Arena) {
    let leases: Vec<_> = (0..50).map(|_| arena.allocate(100, PLAIN).unwrap()).collect();
    assert!(leases.iter().all(|lease| arena.map().write(lease.block().payload(), &[0xa5; 100])));
}

#[test]
fn several_cleaners_of_one_process_leave_its_successors_alone() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 2);
    let kept = arena.statistics().unwrap().leases;
    let mut previous: Option<Child> = None;
    for round in 1..40 {
        board.set(0, 0);
        let mut guest = Child::start_guest(arena, "come_and_hold", &[&board, &(round * 100)]);
        // Cleaners of the one before race with each other and with this one, which may well get the same slot.
        thread::scope(|scope| {
            let dead = previous.as_ref().and_then(Child::slot);
            for _ in 0..3 {
                scope.spawn(move || dead.map(|dead| arena.clean(dead, End::Unknown).unwrap()));
            }
        });
        while board.get(0) == 0 && !guest.has_ended() {
            thread::yield_now();
        }
        litter(arena);
        if round % 2 == 0 {
            guest.kill();
        }
        board.set(1, round * 100 + 1);
        let status = guest.wait();
        assert_eq!(status, if round % 2 == 0 { KILLED } else { ExitStatus::Exited(0) });
        previous = Some(guest);
    }
    drop(previous);
    assert_eq!(arena.statistics().unwrap().leases, kept);
    assert_eq!(arena.processes().len(), 1);
}

/// Registers by itself, and may die while it does.
fn leave(scene: Scene) {
    scene.arena.me().unwrap();
    let _kept = scene.arena.allocate(10, PLAIN).unwrap();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn guests_clean_up_after_guests_however_far_those_came() {
    let arena = Arena::create(&[]).unwrap();
    let kept = arena.statistics().unwrap();
    for point in ["arena.written", "arena.logged", "arena.applied", "slot.reserved", "slot.entered", "slot.registered"]
    {
        let deaths = forkless_testing::at_every_pass(|pass| {
            let mut guest = Child::start_doomed_guest(arena, "leave", point, pass, &[]);
            let status = guest.wait();
            guest.abandon();
            let next = Child::start_guest(arena, "leave", &[]);
            assert_eq!(next.finish(), ExitStatus::Exited(0));
            let now = arena.statistics().unwrap();
            assert_eq!((now.blocks, now.leases), (kept.blocks, kept.leases), "{point}, pass {pass}");
            assert_eq!(arena.processes().len(), 1, "{point}, pass {pass}: {:?}", arena.processes());
            status
        });
        assert!(deaths >= 1);
    }
}

/// Cleans up after a guest that has died.
fn clean_up(mut scene: Scene) {
    let dead = Owner::from_word(scene.argument()).unwrap();
    scene.arena.clean(dead, End::Unknown).unwrap();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_slow_cleaner_that_was_overtaken_leaves_the_next_owner_alone() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 2);
    for point in ["clean.marked", "clean.done"] {
        (0..2).for_each(|word| board.set(word, 0));
        let mut first = Child::start_guest(arena, "come_and_hold", &[&board, &100]);
        board.wait(0, |arrived| arrived == 1);
        let dead = first.owner();
        first.kill();
        first.wait();
        let slow = Child::start_halting(arena, "clean_up", point, 1, &[&dead.word()]);
        slow.wait_until_halted();
        arena.clean(dead, End::Unknown).unwrap();
        // Gets the slot that is free again.
        let mut second = Child::start_guest(arena, "come_and_hold", &[&board, &100]);
        board.wait(0, |arrived| arrived == 2);
        assert!(std::ptr::eq(arena.liveness(dead).unwrap(), arena.liveness(second.owner()).unwrap()));
        slow.resume();
        assert_eq!(slow.finish(), ExitStatus::Exited(0));
        litter(arena);
        board.set(1, 101);
        assert_eq!(second.wait(), ExitStatus::Exited(0), "{point}");
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_process_that_arrives_keeps_its_slot() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    for (arrived, point) in (1..).zip(["slot.entered", "slot.registered"]) {
        let mut slow = Child::start_halting(arena, "stay", point, 1, &[&board]);
        slow.wait_until_halted();
        let slot = slow.owner();
        arena.return_slot(slot).unwrap();
        slow.resume();
        board.wait(0, |value| value == arrived);
        assert!(arena.process(slot).unwrap().live && !arena.is_dead(slot), "{point}");
        slow.kill();
        slow.clean();
    }
}

#[test]
fn nothing_is_written_to_a_slot_that_was_given_back() {
    let arena = Arena::create(&[]).unwrap();
    let first = arena.reserve_slot(Role::Child, "first").unwrap();
    arena.return_slot(first).unwrap();
    let second = arena.reserve_slot(Role::Child, "second").unwrap();
    arena.record_pid(first, 1);
    arena.record_refusal(first, 2, "a note").unwrap();
    arena.record_end(first, End::Unknown);
    let process = arena.process(second).unwrap();
    assert_eq!((process.pid, process.name.as_str(), arena.end(second)), (0, "second", None));
    assert!(std::ptr::eq(arena.liveness(first).unwrap(), arena.liveness(second).unwrap()), "it is the same slot");
    assert_eq!(arena.arrive(first).unwrap_err(), GIVEN_UP);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_process_overtaken_on_arrival_gives_up() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let slow = Child::start_halting(arena, "stay", "slot.registered", 1, &[&board]);
    slow.wait_until_halted();
    let late = slow.owner();
    arena.clean(late, End::Unknown).unwrap();
    arena.return_slot(late).unwrap();
    let other = Child::start(arena, "stay", &[&board]);
    board.wait(0, |arrived| arrived == 1);
    let liveness = arena.liveness(other.owner()).unwrap();
    assert!(std::ptr::eq(arena.liveness(late).unwrap(), liveness), "the slot was given to another");
    let process = arena.process(other.owner());
    slow.resume();
    assert_eq!(slow.finish(), Child::TURNED_AWAY);
    assert_eq!(board.get(0), 1);
    assert!(!arena.is_dead(other.owner()), "the end of one is not the end of the other");
    assert_eq!(arena.process(other.owner()), process);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn who_is_turned_away_on_arrival_does_not_disturb_anybody_however_late_it_goes_on() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    for (arrived, point) in (1..).zip(["slot.entered", "slot.registered"]) {
        let slow = Child::start_halting(arena, "stay", point, 1, &[&board]);
        slow.wait_until_halted();
        let late = slow.owner();
        assert!(arena.turn_away(late).unwrap());
        assert!(!arena.turn_away(late).unwrap() && arena.is_dead(late), "{point}");
        // Whatever else is done about it.
        arena.disown(late).unwrap();
        arena.clean(late, End::Unknown).unwrap();
        arena.return_slot(late).unwrap();
        let mut other = Child::start(arena, "stay", &[&board]);
        board.wait(0, |value| value == arrived);
        assert!(!std::ptr::eq(arena.liveness(late).unwrap(), arena.liveness(other.owner()).unwrap()), "{point}");
        let process = arena.process(other.owner());
        slow.resume();
        assert_eq!(slow.finish(), Child::TURNED_AWAY);
        assert!(!arena.is_dead(other.owner()));
        assert_eq!(arena.process(other.owner()), process);
        assert_eq!(board.get(0), arrived);
        other.kill();
        other.clean();
    }
}

#[test]
fn who_is_there_or_has_not_come_is_not_turned_away() {
    let arena = Arena::create(&[]).unwrap();
    let board = Board::create(arena, 1);
    let to_come = arena.reserve_slot(Role::Child, "").unwrap();
    assert!(!arena.turn_away(to_come).unwrap());
    let mut there = Child::start(arena, "stay", &[&board]);
    board.wait(0, |arrived| arrived == 1);
    let (owner, pid) = (there.owner(), arena.process(there.owner()).unwrap().pid);
    assert!(!arena.turn_away(owner).unwrap() && !arena.is_dead(owner));
    assert!(arena.has_number(owner, pid));
    there.kill();
    while !arena.is_dead(owner) {
        thread::yield_now();
    }
    assert!(arena.has_number(owner, pid), "it is not reaped");
    assert!(!arena.has_number(owner, std::process::id()), "another process");
    there.wait();
    assert!(!arena.has_number(owner, pid));
    there.clean();
}
