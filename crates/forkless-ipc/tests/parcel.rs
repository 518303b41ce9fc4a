//! Parcels: what is in them, where, and what becomes of it when somebody dies.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::ops::Range;
use std::sync::atomic::Ordering;

use forkless_ipc::{Channel, Content, KINDS, Parcel, Sent};
use forkless_shm::{Arena, Error};
#[cfg(debug_assertions)]
use forkless_sys::process::ExitStatus;
use forkless_sys::time::Deadline;
#[cfg(debug_assertions)]
use forkless_testing::{Child, at_every_pass, handle};
use forkless_testing::{PATIENCE, Scene, roles};

roles!(KINDS => pack);

fn read(parcel: &Parcel, place: &Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(parcel.lease().arena().map().read(place.start, place.len(), &mut bytes));
    bytes
}

#[test]
fn parts_arrive_as_one_and_extents_by_themselves_and_aligned() {
    let arena = Arena::create(KINDS).unwrap();
    // Of a small block and of large ones, whose payloads begin at different places in a cache line.
    for length in [0, 1, 63, 64, 65, 3000, 100_000, 2 << 20] {
        let (first, second) = (vec![1; length], vec![2; 2 * length]);
        let content = Content { parts: &[b"ab", b"", b"c"], extents: &[&first, &[], &second, b"x"], handles: &[] };
        let parcel = Parcel::pack(arena, &content).unwrap();
        assert_eq!((parcel.bytes().unwrap(), parcel.length().unwrap()), (b"abc".to_vec(), 3));
        let extents = parcel.extents().unwrap();
        assert_eq!(extents.iter().map(Range::len).collect::<Vec<_>>(), [length, 0, 2 * length, 1]);
        for (extent, expected) in extents.iter().zip(content.extents) {
            assert_eq!(extent.start % 64, 0);
            assert_eq!(&read(&parcel, extent), expected);
            assert_eq!(parcel.address(extent).unwrap(), arena.map().address(extent.start).unwrap());
        }
    }
}

#[test]
fn a_message_of_few_parts_is_one_piece_and_has_no_parcel() {
    let arena = Arena::create(KINDS).unwrap();
    let channel = Channel::create(arena, 0).unwrap();
    let parts: [&[u8]; 3] = [b"one ", b"", b"message"];
    let mut outbox = channel.pack(1, &Content { parts: &parts, ..Content::default() }).unwrap();
    assert_eq!(outbox.send_within(PATIENCE).unwrap(), Sent::Sent);
    let message = channel.receive(Deadline::after(PATIENCE)).unwrap().unwrap();
    assert_eq!(message.bytes().unwrap(), b"one message");
    assert!(message.parcel().is_none());
}

#[test]
fn extents_live_as_long_as_somebody_has_the_parcel() {
    let arena = Arena::create(KINDS).unwrap();
    let channel = Channel::create(arena, 0).unwrap();
    let before = arena.statistics().unwrap().blocks;
    let content = Content { parts: &[b"p"], extents: &[&[7; 40_000]], handles: &[] };
    assert_eq!(channel.pack(1, &content).unwrap().send_within(PATIENCE).unwrap(), Sent::Sent);
    let message = channel.receive(Deadline::after(PATIENCE)).unwrap().unwrap();
    let parcel = std::sync::Arc::clone(message.parcel().unwrap());
    drop((message, channel));
    assert_eq!(read(&parcel, &parcel.extents().unwrap()[0]), [7; 40_000]);
    drop(parcel);
    // The channel and its chunk are gone too.
    assert_eq!(arena.statistics().unwrap().blocks, before - 2);
}

#[test]
fn a_parcel_packed_before_is_forwarded_or_kept() {
    let [arena, other] = [0, 1].map(|_| Arena::create(KINDS).unwrap());
    let channel = Channel::create(arena, 1).unwrap();
    let pack = |arena| Parcel::pack(arena, &Content { extents: &[b"extent"], ..Content::default() }).unwrap();
    assert!(matches!(channel.forward(1, pack(other)), Err(Error::Stale(_))));
    let mut outbox = channel.forward(1, pack(arena)).unwrap();
    assert_eq!(outbox.send_within(PATIENCE).unwrap(), Sent::Sent);
    assert!(outbox.into_parcel().is_none());
    let mut outbox = channel.forward(2, pack(arena)).unwrap();
    assert_eq!(outbox.send_within(std::time::Duration::ZERO).unwrap(), Sent::Full);
    let kept = outbox.into_parcel().unwrap();
    assert_eq!(read(&kept, &kept.extents().unwrap()[0]), b"extent");
}

#[test]
fn damaged_tables_are_errors() {
    let arena = Arena::create(KINDS).unwrap();
    let parcel =
        Parcel::pack(arena, &Content { parts: &[b"abc"], extents: &[[1; 100].as_slice(); 3], handles: &[] }).unwrap();
    let at = parcel.lease().block().payload();
    for field in [8, 16, 24, 32, 40, 48] {
        for value in
            [u64::MAX, u64::MAX / 8, 1 << 61, 1 << 63, 100_000, arena.size() as u64, (at as u64).wrapping_neg()]
        {
            let word = arena.map().u64(at + field).unwrap();
            let good = word.swap(value, Ordering::SeqCst);
            assert_eq!(parcel.extents(), Err(Error::Corrupt("the size of a parcel")), "{value} at {field}");
            word.store(good, Ordering::SeqCst);
        }
    }
    assert_eq!(parcel.extents().unwrap().len(), 3);
}

#[test]
fn more_than_any_arena_has_is_an_error() {
    let arena = Arena::create(KINDS).unwrap();
    // Not touched: the same gigabyte again and again.
    let gigabyte = vec![0; 1 << 30];
    let extents = vec![gigabyte.as_slice(); 200];
    let content = Content { extents: &extents, ..Content::default() };
    assert!(matches!(Parcel::pack(arena, &content), Err(Error::Full { bytes, .. }) if bytes > 200 << 30));
}

#[cfg_attr(not(debug_assertions), expect(dead_code, reason = "dies in debug builds only"))]
/// Packs and sends, and has a parcel that was received.
fn pack(mut scene: Scene) {
    let named = scene.handle();
    let channel = Channel::open(scene.arena, named).unwrap();
    for _ in 0..2 {
        let content =
            Content { parts: &[&[1; 20_000], b"x"], extents: &[&[2; 3 << 20], &[3; 10]], handles: &[channel.lease()] };
        assert_eq!(channel.pack(1, &content).unwrap().send_within(PATIENCE).unwrap(), Sent::Sent);
        let message = channel.receive(Deadline::after(PATIENCE)).unwrap().unwrap();
        assert_eq!(message.parcel().unwrap().extents().unwrap().len(), 2);
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_death_while_packing_or_holding_leaves_nothing() {
    let arena = Arena::create(KINDS).unwrap();
    let channel = Channel::create(arena, 0).unwrap();
    let before = arena.statistics().unwrap();
    for point in
        ["parcel.extent.copied", "parcel.copied", "channel.send.written", "channel.receive.committed", "arena.logged"]
    {
        let deaths = at_every_pass(|pass| {
            let mut child = Child::start_doomed(arena, "pack", point, pass, &[&handle(channel.lease())]);
            let status = child.clean();
            drop(child);
            // What was on its way is still to be had.
            while channel.receive(Deadline::after(std::time::Duration::ZERO)).unwrap().is_some() {}
            let now = arena.statistics().unwrap();
            assert_eq!((now.blocks, now.leases), (before.blocks, before.leases), "{point}, pass {pass}");
            assert!(matches!(status, ExitStatus::Signaled(9) | ExitStatus::Exited(0)));
            status
        });
        assert!(deaths >= 2, "the role passes {point} only {deaths} times");
    }
}
