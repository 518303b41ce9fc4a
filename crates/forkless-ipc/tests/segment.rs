//! Segments: found by their names while somebody has them, and not one moment longer, whoever dies where.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod script;

use std::sync::atomic::{AtomicU32, Ordering};

use forkless_ipc::{KINDS, Segment};
use forkless_shm::{Arena, Error};
use forkless_sys::process::ExitStatus;
use forkless_sys::{named, process};
use forkless_testing::{Child, Scene, roles};
use script::{census, litter};

roles!(KINDS => come_and_go, find, hold);

/// One that no other test has, in this program or in another one.
fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("forkless-test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn bytes(segment: &Segment) -> Vec<u8> {
    let mut bytes = Vec::new();
    let map = segment.lease().arena().map();
    let at = segment.address().unwrap().as_ptr().addr() - map.address(0).unwrap().as_ptr().addr();
    assert!(map.read(at, segment.length(), &mut bytes));
    bytes
}

#[test]
fn a_name_finds_it_while_somebody_has_it() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    litter(arena);
    for length in [1, 100, 5000, 200_000] {
        let name = fresh_name();
        assert!(Segment::find(arena, &name).unwrap().is_none());
        let segment = Segment::create(arena, &name, length).unwrap().unwrap();
        assert_eq!(
            (segment.name().unwrap(), segment.length(), bytes(&segment)),
            (name.clone(), length, vec![0; length])
        );
        assert_eq!(segment.address().unwrap().as_ptr().addr() % 64, 0);
        assert!(segment.is_linked().unwrap() && !segment.is_public());
        assert!(Segment::create(arena, &name, length).unwrap().is_none(), "it has one already");
        let again = Segment::find(arena, &name).unwrap().unwrap();
        assert_eq!((again.address(), again.length()), (segment.address(), length));
        drop(segment);
        assert!(Segment::find(arena, &name).unwrap().is_some());
        drop(again);
        assert!(Segment::find(arena, &name).unwrap().is_none());
    }
    assert_eq!(census(arena), before);
}

#[test]
fn without_its_name_it_lives_on_and_another_gets_the_name() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    let name = fresh_name();
    let first = Segment::create(arena, &name, 10).unwrap().unwrap();
    let handle = first.lease().handle().unwrap();
    assert!(first.unlink().unwrap());
    assert!(!first.unlink().unwrap() && !first.is_linked().unwrap());
    assert!(Segment::find(arena, &name).unwrap().is_none());
    let second = Segment::create(arena, &name, 20).unwrap().unwrap();
    assert_eq!(Segment::open(arena, handle).unwrap().length(), 10);
    drop(first);
    assert!(matches!(Segment::open(arena, handle), Err(Error::Stale(_))));
    assert_eq!(Segment::find(arena, &name).unwrap().unwrap().length(), 20);
    drop(second);
    assert_eq!(census(arena), before);
}

#[test]
fn any_number_of_names_in_any_order() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    let prefix = fresh_name();
    let mut segments: Vec<_> =
        (0..500).map(|n| Segment::create(arena, &format!("{prefix}-{n}"), n + 1).unwrap().unwrap()).collect();
    for round in 0..500 {
        // Each once, from all over.
        drop(segments.swap_remove(round * 7919 % segments.len()));
        for left in segments.iter().step_by(50) {
            assert_eq!(Segment::find(arena, &left.name().unwrap()).unwrap().unwrap().length(), left.length());
        }
    }
    assert_eq!(census(arena), before);
}

#[test]
fn a_public_one_is_a_file_as_long_as_somebody_has_it() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    let name = fresh_name();
    let (segment, file) = Segment::create_public(arena, &name, 5000).unwrap().unwrap();
    drop(file);
    assert!(named::exists(&name) && segment.is_public() && segment.address().is_none());
    assert!(Segment::create_public(arena, &name, 5000).unwrap().is_none());
    assert!(Segment::create(arena, &name, 5000).unwrap().is_none());
    let again = Segment::find(arena, &name).unwrap().unwrap();
    assert_eq!((again.length(), again.file().is_ok()), (5000, true));
    drop(segment);
    assert!(named::exists(&name));
    drop(again);
    assert!(!named::exists(&name));
    assert_eq!(census(arena), before);
}

#[test]
fn the_name_of_a_stranger_is_left_alone() {
    let arena = Arena::create(KINDS).unwrap();
    let name = fresh_name();
    let (segment, _file) = Segment::create_public(arena, &name, 10).unwrap().unwrap();
    // Somebody takes the name away and gives it to a file of their own.
    let path = format!("/dev/shm/{name}");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"a stranger's").unwrap();
    assert!(Segment::create(arena, &fresh_name(), 10).unwrap().is_some());
    assert!(matches!(segment.file(), Err(Error::Stale(_))));
    assert!(!segment.unlink().unwrap());
    drop(segment);
    assert_eq!(std::fs::read(&path).unwrap(), b"a stranger's");
    assert!(Segment::create(arena, &name, 10).unwrap().is_none(), "the name is taken, outside of the tree");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn names_have_a_length() {
    let arena = Arena::create(KINDS).unwrap();
    assert!(Segment::create(arena, &"x".repeat(255), 1).unwrap().is_some());
    assert!(matches!(Segment::create(arena, &"x".repeat(256), 1), Err(Error::Corrupt(_))));
    assert!(matches!(Segment::create(arena, "full", usize::MAX - 8), Err(Error::Full { .. })));
}

/// Makes, finds, unlinks and loses some of both kinds.
fn come_and_go(mut scene: Scene) {
    let name: String = scene.argument();
    for public in [false, true] {
        for unlink in [false, true] {
            let make = || match public {
                true => Segment::create_public(scene.arena, &name, 5000).unwrap().map(|(segment, _)| segment),
                false => Segment::create(scene.arena, &name, 5000).unwrap(),
            };
            let segment = make().unwrap();
            assert!(make().is_none());
            let again = Segment::find(scene.arena, &name).unwrap().unwrap();
            assert!(!unlink || again.unlink().unwrap());
            drop(segment);
        }
    }
}

#[cfg(debug_assertions)] // the points where a process can be made to die are in debug builds only
#[test]
fn a_death_at_any_step_leaves_nothing() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    let points = [
        ("arena.written", 20),
        ("arena.logged", 20),
        ("arena.applied", 20),
        ("segment.written", 3),
        ("segment.created", 7),
        ("segment.entered", 1),
        ("segment.named", 1),
        ("segment.struck", 1),
        ("segment.dying", 7),
    ];
    for (point, least) in points {
        let deaths = forkless_testing::at_every_pass(|pass| {
            let name = fresh_name();
            litter(arena);
            let status = Child::start_doomed(arena, "come_and_go", point, pass, &[&name]).finish();
            assert_eq!(census(arena), before, "{point}, pass {pass}");
            assert!(!named::exists(&name), "{point}, pass {pass}");
            let again = Segment::create(arena, &name, 10).unwrap();
            assert!(again.is_some(), "{point}, pass {pass}: the name is free");
            status
        });
        assert!(deaths > least, "the role passes {point} only {deaths} times");
    }
}

/// Finds a segment, and is found holding it.
fn hold(mut scene: Scene) {
    let board = scene.board();
    let name: String = scene.argument();
    let _segment = Segment::find(scene.arena, &name).unwrap().unwrap();
    board.add(0, 1);
    board.wait(1, |go| go == 1);
}

/// Nothing more.
fn find(mut scene: Scene) {
    let name: String = scene.argument();
    assert!(Segment::find(scene.arena, &name).unwrap().is_some());
}

#[test]
fn the_last_holder_may_be_anybody_and_be_killed() {
    let arena = Arena::create(KINDS).unwrap();
    let board = forkless_testing::Board::create(arena, 2);
    let before = census(arena);
    for public in [false, true] {
        let name = fresh_name();
        let segment = match public {
            true => Segment::create_public(arena, &name, 50).unwrap().unwrap().0,
            false => Segment::create(arena, &name, 50).unwrap().unwrap(),
        };
        board.set(0, 0);
        let holder = Child::start(arena, "hold", &[&board, &name]);
        board.wait(0, |here| here == 1);
        drop(segment);
        assert_eq!(Child::start(arena, "find", &[&name]).finish(), ExitStatus::Exited(0));
        assert_eq!(named::exists(&name), public);
        holder.kill();
        assert_eq!(holder.finish_killed(), ExitStatus::Signaled(9));
        assert!(Segment::find(arena, &name).unwrap().is_none() && !named::exists(&name));
    }
    assert_eq!(census(arena), before);
}
