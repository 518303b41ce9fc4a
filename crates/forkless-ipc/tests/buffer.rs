//! Buffers and parcels: what goes in comes out, in every process, and what does not fit together is an error.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::sync::atomic::Ordering;

use forkless_ipc::{Buffer, Channel, Content, KINDS, Parcel};
use forkless_shm::{Arena, Error};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Child, Random, Scene, handle, roles};

roles!(KINDS => look);

/// Compares a buffer with what its description says it is.
fn look(mut scene: Scene) {
    let handle = scene.handle();
    let buffer = Buffer::open(scene.arena, handle).unwrap();
    let description = String::from_utf8(buffer.description()).unwrap();
    let (seed, length) = description.split_once(' ').unwrap();
    assert_eq!(buffer.length(), length.parse::<usize>().unwrap());
    assert!(content(&buffer) == Random::new(seed.parse().unwrap()).bytes(buffer.length()));
}

/// The bytes as the arena has them, at the place where the buffer says that they are.
fn content(buffer: &Buffer) -> Vec<u8> {
    let arena = buffer.lease().arena();
    let at = buffer.lease().block().payload() + 16 + buffer.description().len();
    let at = at.next_multiple_of(64);
    assert_eq!(buffer.address().as_ptr() as usize % 64, 0, "where vector instructions want arrays to begin");
    let mut bytes = Vec::new();
    assert!(arena.map().read(at, buffer.length(), &mut bytes));
    bytes
}

#[test]
fn a_buffer_is_the_same_in_every_process() {
    let arena = Arena::create(KINDS).unwrap();
    for (seed, length) in [0, 1, 63, 64, 65, 4096, 100_000, 3 << 20].into_iter().enumerate() {
        let bytes = Random::new(seed as u64).bytes(length);
        let buffer = Buffer::create(arena, format!("{seed} {length}").as_bytes(), &bytes).unwrap();
        assert!(content(&buffer) == bytes);
        let child = Child::start(arena, "look", &[&handle(buffer.lease())]);
        assert_eq!(child.finish(), ExitStatus::Exited(0));
    }
}

#[test]
fn a_copy_of_a_buffer_is_written_to_alone() {
    let arena = Arena::create(KINDS).unwrap();
    for length in [0, 1, 4096, 100_000] {
        let bytes = Random::new(9).bytes(length);
        let buffer = Buffer::create(arena, b"some description", &bytes).unwrap();
        let (copy, start) = buffer.map_copy().unwrap();
        let mut found = Vec::new();
        assert!(copy.read(start, length, &mut found) && found == bytes);
        assert!(copy.write(start, &vec![0; length]));
        assert!(content(&buffer) == bytes && buffer.bytes() == bytes);
    }
}

#[test]
fn a_buffer_may_be_without_bytes_or_description() {
    let arena = Arena::create(KINDS).unwrap();
    let buffer = Buffer::create(arena, b"", b"").unwrap();
    assert_eq!((buffer.length(), buffer.description()), (0, vec![]));
    let described = Buffer::create(arena, &[7; 4096], b"x").unwrap();
    assert_eq!((described.length(), described.description()), (1, vec![7; 4096]));
}

#[test]
fn pieces_begin_in_cache_lines() {
    let arena = Arena::create(KINDS).unwrap();
    let lengths = [0, 1, 0, 63, 64, 65, 5000, 0];
    let pieces: Vec<Vec<u8>> = lengths.iter().map(|length| Random::new(5).bytes(*length)).collect();
    let buffer = Buffer::gather(arena, b"pieces", &pieces.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let (places, bytes) = (Buffer::places(lengths).unwrap(), content(&buffer));
    assert_eq!(places.last().unwrap().end, bytes.len());
    let mut end = 0;
    for (piece, place) in pieces.iter().zip(places) {
        assert_eq!((place.start % 64, &bytes[place.clone()]), (0, piece.as_slice()));
        assert!(place.start >= end, "no two in one place");
        end = place.end;
    }
    assert_eq!(Buffer::gather(arena, b"", &[]).unwrap().length(), 0);
    assert_eq!(Buffer::places([usize::MAX - 8, 8]), None);
}

#[test]
fn a_buffer_lives_as_long_as_somebody_holds_it() {
    let arena = Arena::create(KINDS).unwrap();
    let buffer = Buffer::create(arena, b"", b"x").unwrap();
    let handle = buffer.lease().handle().unwrap();
    let again = Buffer::open(arena, handle).unwrap();
    drop(buffer);
    assert_eq!(content(&again), b"x");
    assert!(matches!(Channel::open(arena, handle), Err(Error::Stale(_))));
    drop(again);
    assert!(matches!(Buffer::open(arena, handle), Err(Error::Stale(_))));
}

#[test]
fn sizes_that_do_not_fit_their_block_are_errors() {
    let arena = Arena::create(KINDS).unwrap();
    let buffer = Buffer::create(arena, b"what", &[1; 1000]).unwrap();
    let handle = buffer.lease().handle().unwrap();
    for (field, value) in [(0, 5000), (0, u64::MAX), (8, 2000), (8, u64::MAX), (8, u64::MAX - 100)] {
        let word = arena.map().u64(buffer.lease().block().payload() + field).unwrap();
        let good = word.swap(value, Ordering::SeqCst);
        assert_eq!(Buffer::open(arena, handle).unwrap_err(), Error::Corrupt("the size of a buffer"));
        word.store(good, Ordering::SeqCst);
    }
    assert!(Buffer::open(arena, handle).is_ok());

    let parcel =
        Parcel::pack(arena, &Content { parts: &[&[2; 1000]], handles: &[buffer.lease()], ..Content::default() })
            .unwrap();
    for (field, value) in [(8, 1000), (8, u64::MAX), (8, 1 << 61), (16, 5000), (16, u64::MAX)] {
        let word = arena.map().u64(parcel.lease().block().payload() + field).unwrap();
        let good = word.swap(value, Ordering::SeqCst);
        assert_eq!(parcel.bytes().map(drop), Err(Error::Corrupt("the size of a parcel")));
        word.store(good, Ordering::SeqCst);
    }
    assert_eq!(parcel.bytes().unwrap(), vec![2; 1000]);
}

#[test]
fn a_parcel_has_its_bytes_and_keeps_its_contents() {
    let arena = Arena::create(KINDS).unwrap();
    let buffer = Buffer::create(arena, b"", b"x").unwrap();
    let handle = buffer.lease().handle().unwrap();
    for size in [0, 1, 100, 100_000] {
        let parcel = Parcel::pack(
            arena,
            &Content { parts: &[&vec![3; size]], handles: &[buffer.lease(); 5], ..Content::default() },
        )
        .unwrap();
        assert_eq!((parcel.length().unwrap(), parcel.bytes().unwrap()), (size, vec![3; size]));
        let mut copy = vec![0; size];
        parcel.copy_to(&mut copy).unwrap();
        assert_eq!(copy, vec![3; size]);
        assert!(parcel.copy_to(&mut vec![0; size + 1]).is_err());
        let again = Parcel::open(arena, parcel.lease().handle().unwrap()).unwrap();
        assert_eq!(again.length().unwrap(), size);
    }
    let parcel = Parcel::pack(arena, &Content { handles: &[buffer.lease()], ..Content::default() }).unwrap();
    drop(buffer);
    assert!(Buffer::open(arena, handle).is_ok());
    drop(parcel);
    assert!(matches!(Buffer::open(arena, handle), Err(Error::Stale(_))));
}

#[test]
fn an_object_does_not_travel_to_another_tree() {
    let [arena, other] = [0, 1].map(|_| Arena::create(KINDS).unwrap());
    let buffer = Buffer::create(other, b"", b"x").unwrap();
    let error = Parcel::pack(arena, &Content { handles: &[buffer.lease()], ..Content::default() }).unwrap_err();
    assert_eq!(error, Error::Stale("an object cannot travel to another process tree"));
}
