//! What other processes say to the template and to children, changed at will.

use forkless_ipc::KINDS;
use forkless_shm::Arena;
use forkless_testing::fuzz;

use crate::inheritance::{parse, unpack};
use crate::invitation::{Invitation, Ticket};
use crate::protocol::Request;
use crate::protocol::tests::examples;

/// Whatever is taken for a request means the same when it is said again.
fn request(bytes: &[u8]) {
    if let Ok(request) = Request::from_bytes(bytes) {
        assert_eq!(Request::from_bytes(&request.to_bytes()).unwrap(), request);
    }
}

#[test]
fn requests() {
    fuzz(50_000, &examples().map(Request::to_bytes).each_ref().map(|bytes| &bytes[..]), request);
}

/// The variables with which programs are started. No descriptor is taken up.
fn variable(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (Invitation::parse(&text), parse(&text, 3));
    if let Ok(([arena, lifeline], [template, owner], job, name)) = Ticket::parse(&text) {
        let (_, again) = Ticket::variable(arena, lifeline, template, owner, job, &name);
        assert!(Ticket::parse(&again).is_ok());
    }
}

#[test]
fn variables() {
    let good: [&[u8]; 4] = [
        b"3 4 5 6 4711 65537 forkless",
        b"3 4 65537 65538 1 64 2 forkless",
        b"3 4 5 65537 1-40-2",
        b"-1 99999999999 0 x  ",
    ];
    fuzz(30_000, &good, variable);
}

/// The list of objects that a parent passes.
fn passed(bytes: &[u8]) {
    thread_local! {
        static ARENA: &'static Arena = Arena::create(KINDS).unwrap();
    }
    let arena = ARENA.with(|arena| *arena);
    for object in unpack(arena, bytes).unwrap_or_default() {
        assert!(object.handle.arena == arena.id() && !object.name.contains('\0'));
    }
}

#[test]
fn objects() {
    fuzz(30_000, &[b"3 40 1 a name\x004 80 2 ", b"255 ffffffffffffffff ffffffff x", b"0 0 0 \xff"], passed);
}
