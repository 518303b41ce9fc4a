//! Children of a Rust program: the way in, the way out, and the example.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use forkless::ipc::{Channel, Claim, Received};
use forkless::sync::{Event, Mutex, lock};
use forkless::{Child, Deadline, Error, ExitStatus, Handle, arena};

const PATIENCE: Duration = Duration::from_secs(60);

fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

/// Starts this test program again, for its test `role` alone; what to do comes through a channel.
fn start(role: &str, handles: &[Handle]) -> Child {
    let channel = Channel::create(arena().unwrap(), 0).unwrap();
    let mut script = role.to_owned();
    for handle in handles {
        script.push_str(&format!(" {handle}"));
    }
    assert!(channel.send(0, script.as_bytes(), &[], soon()).unwrap());
    let handle = channel.lease().handle().unwrap().to_string();
    // A name to skip is the one argument that the harness takes and that changes nothing.
    let child = Child::start(role, &["--exact", "role", "--nocapture", "--quiet", "--skip", &handle]).unwrap();
    // The child lets the channel go when it has read its script.
    while !channel.is_empty().unwrap() {
        std::thread::yield_now();
    }
    child
}

/// What the children do; in the parent, nothing.
#[test]
fn role() {
    if std::env::var_os("FORKLESS_PARENT").is_none() {
        return;
    }
    let handle = std::env::args().next_back().unwrap().parse().unwrap();
    let script = Channel::open(arena().unwrap(), handle).unwrap().receive(soon()).unwrap().unwrap();
    let script = String::from_utf8(script.bytes().unwrap()).unwrap();
    let (role, handles) = script.split_once(' ').unwrap_or((&script, ""));
    let handles: Vec<Handle> = handles.split_terminator(' ').map(|handle| handle.parse().unwrap()).collect();
    match role {
        "leave" => {}
        "hold" => {
            let mutex = Mutex::open(arena().unwrap(), handles[0]).unwrap();
            std::mem::forget(lock(&mutex, soon()).unwrap());
            Event::open(arena().unwrap(), handles[1]).unwrap().set().unwrap();
            Event::create(arena().unwrap()).unwrap().wait(Deadline::NEVER).unwrap();
        }
        "receive" => {
            let channel = Channel::open(arena().unwrap(), handles[0]).unwrap();
            let received = channel.receive_within(PATIENCE, Claim::Tag, None).unwrap();
            assert!(matches!(received, Received::Message(_)));
            Event::open(arena().unwrap(), handles[1]).unwrap().set().unwrap();
            Event::create(arena().unwrap()).unwrap().wait(Deadline::NEVER).unwrap();
        }
        "parent" => {
            // A grandchild is in the same arena.
            let child = start("hold", &handles);
            assert!(Event::open(arena().unwrap(), handles[1]).unwrap().wait(soon()).unwrap());
            // Ends with this process, although nobody waits for it.
            std::mem::forget(child);
        }
        other => panic!("no such role: {other}"),
    }
    // Before the harness reports a test of its own.
    std::process::exit(0);
}

#[test]
fn a_child_ends_and_its_status_is_known() {
    let mut child = start("leave", &[]);
    assert_eq!(child.wait(soon()).unwrap(), Some(ExitStatus::Exited(0)));
    assert_eq!(child.wait(soon()).unwrap(), Some(ExitStatus::Exited(0)), "asked again");
    assert!(child.kill().is_ok(), "nobody is left to be killed");
}

#[test]
fn a_mutex_is_taken_over_from_a_killed_child() {
    let mutex = Mutex::create(arena().unwrap()).unwrap();
    let held = Event::create(arena().unwrap()).unwrap();
    let handles = [mutex.lease(), held.lease()].map(|lease| lease.handle().unwrap());
    let mut child = start("hold", &handles);
    assert!(held.wait(soon()).unwrap());
    assert!(lock(&mutex, Deadline::after(Duration::ZERO)).unwrap().is_none());
    assert_eq!(child.wait(Deadline::after(Duration::ZERO)).unwrap(), None, "it still runs");
    child.kill().unwrap();
    let guard = lock(&mutex, soon()).unwrap().unwrap();
    assert_eq!(guard.died(), Some(child.owner()));
    drop(guard);
    assert_eq!(lock(&mutex, soon()).unwrap().unwrap().died(), None);
    assert_eq!(child.wait(soon()).unwrap(), Some(ExitStatus::Signaled(9)));
}

#[test]
fn a_child_ends_with_the_value_that_stands_for_it() {
    let mutex = Mutex::create(arena().unwrap()).unwrap();
    let held = Event::create(arena().unwrap()).unwrap();
    let handles = [mutex.lease(), held.lease()].map(|lease| lease.handle().unwrap());
    let child = start("hold", &handles);
    assert!(held.wait(soon()).unwrap());
    let owner = child.owner();
    drop(child);
    assert!(arena().unwrap().process(owner).is_none());
    assert_eq!(lock(&mutex, soon()).unwrap().unwrap().died(), Some(owner));
}

#[test]
fn a_grandchild_ends_with_the_child() {
    let mutex = Mutex::create(arena().unwrap()).unwrap();
    let held = Event::create(arena().unwrap()).unwrap();
    let handles = [mutex.lease(), held.lease()].map(|lease| lease.handle().unwrap());
    let mut child = start("parent", &handles);
    assert_eq!(child.wait(soon()).unwrap(), Some(ExitStatus::Exited(0)));
    let died = lock(&mutex, soon()).unwrap().unwrap().died().unwrap();
    assert_ne!(died, child.owner());
}

#[test]
fn a_message_that_died_with_its_receiver_is_named() {
    let channel = Channel::create(arena().unwrap(), 0).unwrap();
    let taken = Event::create(arena().unwrap()).unwrap();
    channel.send(42, b"", &[], soon()).unwrap();
    let handles = [channel.lease(), taken.lease()].map(|lease| lease.handle().unwrap());
    let mut child = start("receive", &handles);
    assert!(taken.wait(soon()).unwrap());
    assert_eq!(child.claimed(), None, "it lives");
    child.kill().unwrap();
    child.wait(soon()).unwrap();
    assert_eq!(child.claimed(), Some(42));
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let error = Child::start_program(Path::new("/nonexistent/program"), "nobody", &[]).unwrap_err();
    assert!(matches!(error, Error::System { action: "start a child process", .. }), "{error}");
    assert!(!arena().unwrap().processes().iter().any(|process| process.name == "nobody"));
}

#[test]
fn the_example_runs() {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().parent().unwrap().join("examples/two_processes");
    assert!(example.exists(), "`cargo test -p forkless` builds the examples, too");
    let output = Command::new(example).env_remove("FORKLESS_PARENT").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.ends_with("the parent has it now\nthe child ended: Some(Exited(0))\n"), "{text}");
    assert_eq!(text.lines().count(), 14);
}
