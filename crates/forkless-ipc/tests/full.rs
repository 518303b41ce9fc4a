//! An arena without room: errors that say so, and everything works again once something was let go.
#![allow(clippy::unwrap_used)] // in helpers, too, unwrapping is how a test fails

mod script;

use std::process::Command;
use std::time::Duration;

use forkless_ipc::{Buffer, Channel, Content, KINDS, Parcel, Sent};
use forkless_shm::block::PLAIN;
use forkless_shm::{Arena, Error, Lease};
use forkless_sys::time::Deadline;
use script::{SCRIPT, check, receive, send, try_receive};

/// Set in the process that may have little memory.
const POOR: &str = "FORKLESS_TEST_POOR";

/// Runs this program's test of that name again where 700 MB of address space is all there is.
fn run_poor(test: &str) {
    let program = std::env::current_exe().unwrap();
    let script = format!("ulimit -v 700000 && exec \"$0\" --exact {test} --nocapture");
    let output = Command::new("/bin/sh").args(["-c", &script]).arg(program).env(POOR, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Takes all the room there is, in pieces small enough that untouched ones cost nothing.
fn fill(arena: &'static Arena) -> Vec<Lease> {
    let mut leases = Vec::new();
    for size in [500_000, 60_000, 4000, 1000, 48, 0] {
        loop {
            match arena.allocate(size, PLAIN) {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    assert_eq!(error, Error::Full { bytes: size, size: arena.size() });
                    break;
                }
            }
        }
    }
    leases
}

#[test]
fn a_full_arena_can_be_emptied() {
    if std::env::var_os(POOR).is_none() {
        return run_poor("a_full_arena_can_be_emptied");
    }
    let arena = Arena::create(KINDS).unwrap();
    assert_eq!(arena.size(), 256 << 20, "as much as the limit leaves");
    let channel = Channel::create(arena, 0).unwrap();
    for (number, shape) in SCRIPT.into_iter().enumerate() {
        send(&channel, number as u64, shape);
    }
    let mut filling = fill(arena);
    let full = |bytes: usize| Error::Full { bytes, size: arena.size() };
    assert_eq!(arena.allocate(usize::MAX / 2, PLAIN).unwrap_err(), full(usize::MAX / 2));
    assert!(matches!(Buffer::create(arena, b"", &[0; 100]), Err(Error::Full { .. })));
    assert!(matches!(
        Parcel::pack(arena, &Content { handles: &[filling[0].duplicate().as_ref().unwrap()], ..Content::default() }),
        Err(Error::Full { .. })
    ));
    assert!(matches!(Channel::create(arena, 0), Err(Error::Full { .. })));

    // Small messages fit until the chunk is full; then nothing is lost.
    let bytes = [7; 10_000];
    let parts = [bytes.as_slice()];
    let content = Content { parts: &parts, ..Content::default() };
    let (mut count, mut outbox) = (0, channel.pack(0, &content).unwrap());
    let error = loop {
        match outbox.send_within(Duration::ZERO) {
            Ok(sent) => assert_eq!(sent, Sent::Sent),
            Err(error) => break error,
        }
        count += 1;
        outbox = channel.pack(count, &content).unwrap();
    };
    assert!(matches!(error, Error::Full { .. }) && count < 10, "{count} messages, then {error}");
    assert!(outbox.send_within(Duration::ZERO).is_err(), "still not sent");
    filling.truncate(filling.len() / 2);
    filling.remove(0);
    assert_eq!(outbox.send_within(Duration::ZERO).unwrap(), Sent::Sent);
    drop(outbox);
    filling.extend(fill(arena));

    for (number, shape) in SCRIPT.into_iter().enumerate() {
        let message = receive(&channel);
        assert_eq!(message.tag, number as u64);
        let content = message.bytes().unwrap();
        assert_eq!(content.len(), shape.0 + 20 * shape.1);
    }
    for number in 0..=count {
        let message = receive(&channel);
        assert_eq!((message.tag, message.bytes().unwrap()), (number, bytes.to_vec()));
    }
    assert!(try_receive(&channel).is_none());
    drop(filling);
    send(&channel, 5, (100_000, 2));
    check(arena, &receive(&channel), (100_000, 2));
    assert!(channel.send(0, b"", &[], Deadline::NEVER).unwrap());
}

#[test]
fn no_room_for_an_arena_is_an_error() {
    if std::env::var_os(POOR).is_none() {
        return run_poor("no_room_for_an_arena_is_an_error");
    }
    let arenas: Vec<_> = std::iter::from_fn(|| Arena::create(KINDS).ok()).collect();
    assert!(arenas.len() < 3, "each takes 256 of 700 MB");
    let message = Arena::create(KINDS).unwrap_err().to_string();
    assert!(message.contains("RLIMIT_AS"), "{message}");
}
