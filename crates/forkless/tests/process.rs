//! Programs as children: how they start, what they get, how they end.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use forkless::ipc::{Buffer, Channel, Claim, Memory, Received};
use forkless::process::{Child, Command, ExitStatus, Stdio};
use forkless::sync::{Barrier, Condvar, Event, Lock, LockError, Mutex, ReentrantLock, Semaphore};
use forkless::{Deadline, Error, arena, inherited};
use support::{PATIENCE, SOON, command};

support::plays!(leave, fail, hold, receive, parent, open_everything, open_badly, open_late);

fn leave() {}

fn fail() {
    std::process::exit(3);
}

/// Holds the mutex until killed.
fn hold() {
    let mutex: Mutex<u8> = inherited("mutex").unwrap();
    std::mem::forget(mutex.lock().unwrap());
    inherited::<Event>("held").unwrap().set().unwrap();
    Event::create().unwrap().wait().unwrap();
}

fn receive() {
    let channel: Channel = inherited("channel").unwrap();
    let received = channel.receive_within(PATIENCE, Claim::Tag, None).unwrap();
    assert!(matches!(received, Received::Message(_)));
    inherited::<Event>("taken").unwrap().set().unwrap();
    Event::create().unwrap().wait().unwrap();
}

/// A grandchild is in the same arena, and ends with its parent although nobody waits for it.
fn parent() {
    let (mutex, held): (Mutex<u8>, Event) = (inherited("mutex").unwrap(), inherited("held").unwrap());
    let child = command("hold").pass("mutex", &mutex).pass("held", &held).spawn().unwrap();
    assert!(held.wait_timeout(PATIENCE).unwrap());
    std::mem::forget(child);
}

fn open_everything() {
    assert_eq!(*inherited::<Mutex<[u32; 2]>>("mutex").unwrap().lock().unwrap(), [1, 2]);
    let _ = inherited::<Lock>("lock").unwrap().lock().unwrap();
    let _ = inherited::<ReentrantLock>("reentrant lock").unwrap().lock().unwrap();
    let _ = inherited::<Semaphore>("semaphore").unwrap().acquire().unwrap();
    assert!(!inherited::<Condvar>("condvar").unwrap().notify_one().unwrap());
    assert!(inherited::<Barrier>("barrier").unwrap().wait().unwrap().is_leader());
    assert_eq!(inherited::<Memory>("memory").unwrap().length(), 16);
    inherited::<Buffer>("buffer").unwrap();
    assert!(inherited::<Channel>("channel").unwrap().send(7, b"seven", &[], Deadline::NEVER).unwrap());
    // Any number of times.
    inherited::<Event>("").unwrap().set().unwrap();
    assert!(inherited::<Event>("").unwrap().is_set().unwrap());
}

fn open_badly() {
    assert!(matches!(inherited::<Event>("nothing"), Err(Error::NotPassed { name }) if name == "nothing"));
    assert!(matches!(inherited::<Lock>("event"), Err(Error::Arena(forkless_shm::Error::Stale(_)))));
    assert!(matches!(inherited::<Mutex<u8>>("mutex"), Err(Error::WrongType { .. })));
    // Of two with one name the last counts.
    assert!(inherited::<Event>("event").unwrap().is_set().unwrap());
}

/// Opens an object that its parent has dropped.
fn open_late() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    assert_eq!(line, "go\n");
    assert_eq!(*inherited::<Mutex<u64>>("mutex").unwrap().lock().unwrap(), 42);
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// What a command prints.
fn output(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

fn holder(mutex: &Mutex<u8>, role: &str) -> Child {
    let held = Event::create().unwrap();
    let child = command(role).pass("mutex", mutex).pass("held", &held).spawn().unwrap();
    assert!(held.wait_timeout(PATIENCE).unwrap());
    child
}

#[test]
fn a_child_ends_and_its_status_is_known() {
    let mut child = command("leave").spawn().unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0));
    assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0), "asked again");
    assert_eq!(child.try_wait().unwrap(), Some(ExitStatus::Exited(0)));
    child.kill().unwrap();
    assert_eq!(child.terminate(Duration::ZERO).unwrap(), ExitStatus::Exited(0), "nobody is left to be killed");
    let mut child = command("fail").spawn().unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Exited(3));
}

#[test]
fn a_wait_has_a_timeout() {
    let child = Command::new("sleep").arg("60").name("sleeper").spawn().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    let start = Instant::now();
    assert_eq!(child.wait_timeout(Duration::from_millis(70)).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(70) && start.elapsed() < SOON);
    assert_eq!(child.wait_deadline(Instant::now()).unwrap(), None);
    assert_eq!((child.name(), child.claimed()), ("sleeper", None));
    assert!(format!("{child:?}").contains("sleeper"));
    assert_eq!(arena().unwrap().process(child.owner()).unwrap().pid, child.id());
    child.kill().unwrap();
    assert_eq!(child.wait_timeout(PATIENCE).unwrap(), Some(ExitStatus::Signaled(9)));
}

#[test]
fn a_child_is_asked_to_end_and_killed_if_it_does_not() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    assert_eq!(child.terminate(PATIENCE).unwrap(), ExitStatus::Signaled(15));
    let mut deaf = shell("trap '' TERM; echo ready; exec sleep 60").stdout(Stdio::piped()).spawn().unwrap();
    deaf.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let start = Instant::now();
    assert_eq!(deaf.terminate(Duration::from_millis(50)).unwrap(), ExitStatus::Signaled(9));
    assert!(start.elapsed() >= Duration::from_millis(50) && start.elapsed() < SOON);
}

#[test]
fn a_child_ends_with_the_value_that_stands_for_it() {
    let mutex = Mutex::create(0).unwrap();
    let child = holder(&mutex, "hold");
    let owner = child.owner();
    drop(child);
    assert!(arena().unwrap().process(owner).is_none());
    assert!(matches!(mutex.lock(), Err(LockError::OwnerDied(died)) if died.death().owner() == owner));
}

#[test]
fn a_grandchild_ends_with_the_child() {
    let mutex = Mutex::create(0).unwrap();
    let mut child = holder(&mutex, "parent");
    assert_eq!(child.wait().unwrap(), ExitStatus::Exited(0));
    let Err(LockError::OwnerDied(died)) = mutex.lock() else { panic!("nobody was told") };
    assert_ne!(died.death().owner(), child.owner());
    assert_eq!(died.death().name(), Some("hold"));
}

#[test]
fn a_status_that_somebody_else_took_is_lost() {
    let mut child = command("leave").name("lost one").spawn().unwrap();
    while forkless_sys::process::reap(child.id()).is_none() {
        std::thread::yield_now();
    }
    let error = child.wait().unwrap_err();
    assert!(matches!(&error, Error::StatusLost { name, .. } if name == "lost one"), "{error}");
}

#[test]
fn everything_can_be_passed() {
    let arena = arena().unwrap();
    let (event, channel) = (Event::create().unwrap(), Channel::create(arena, 0).unwrap());
    let mut command = command("open_everything");
    command.pass("mutex", &Mutex::create([1_u32, 2]).unwrap());
    command.pass("lock", &Lock::create().unwrap());
    command.pass("reentrant lock", &ReentrantLock::create().unwrap());
    command.pass("semaphore", &Semaphore::create(1).unwrap());
    command.pass("condvar", &Condvar::create().unwrap());
    command.pass("barrier", &Barrier::create(1).unwrap());
    command.pass("memory", &Memory::create(arena, 16).unwrap());
    command.pass("buffer", &Buffer::create(arena, b"", b"bytes").unwrap());
    command.pass("channel", &channel).pass("", &event);
    assert!(format!("{command:?}").contains("reentrant lock"));
    // More than one child may be started from it.
    for _ in 0..2 {
        event.clear().unwrap();
        assert!(command.spawn().unwrap().wait().unwrap().success());
        assert!(event.is_set().unwrap());
        assert_eq!(channel.receive(Deadline::after(PATIENCE)).unwrap().unwrap().tag, 7);
    }
}

#[test]
fn what_was_not_passed_is_an_error() {
    let (event, set) = (Event::create().unwrap(), Event::create().unwrap());
    set.set().unwrap();
    let mut command = command("open_badly");
    command.pass("event", &event).pass("mutex", &Mutex::create(1_u64).unwrap()).pass("event", &set);
    assert!(command.spawn().unwrap().wait().unwrap().success());
    let error = inherited::<Event>("event").unwrap_err();
    assert_eq!(error.to_string(), "no object named \"event\" was passed to this process by its parent");
    assert!(matches!(command.pass("nul\0byte", &event).spawn(), Err(Error::Start { .. })));
}

#[test]
fn an_object_lives_until_the_child_has_it() {
    let mutex = Mutex::create(42_u64).unwrap();
    let mut command = command("open_late");
    let mut child = command.pass("mutex", &mutex).stdin(Stdio::piped()).spawn().unwrap();
    drop((mutex, command));
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn nothing_is_left_of_a_child() {
    // In a process of its own, where no other test opens anything.
    if std::env::var_os("FORKLESS_TEST_ALONE").is_none() {
        let mut alone = Command::current_exe();
        alone.args(["--exact", "nothing_is_left_of_a_child"]).env("FORKLESS_TEST_ALONE", "1").stdout(Stdio::null());
        assert!(alone.spawn().unwrap().wait().unwrap().success());
        return;
    }
    // And in an arena of its own, in place of its parent's.
    let arena = forkless::Arena::create(forkless_ipc::KINDS).unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mutex = Mutex::create(0_u8).unwrap();
    let census = || {
        let statistics = arena.statistics().unwrap();
        (statistics.blocks, statistics.leases, arena.processes().len(), descriptors())
    };
    let _ = command("leave").pass("mutex", &mutex).spawn().unwrap().wait().unwrap();
    let before = census();
    for role in ["leave", "fail"] {
        let mut child = command(role).pass("mutex", &mutex).stdout(Stdio::piped()).spawn().unwrap();
        child.wait().unwrap();
    }
    drop(command("leave").pass("mutex", &mutex).spawn().unwrap());
    assert!(Command::new("/nonexistent/program").pass("mutex", &mutex).spawn().is_err());
    assert_eq!(census(), before);
}

#[test]
fn a_message_that_died_with_its_receiver_is_named() {
    let channel = Channel::create(arena().unwrap(), 0).unwrap();
    let taken = Event::create().unwrap();
    channel.send(42, b"", &[], Deadline::NEVER).unwrap();
    let mut child = command("receive").pass("channel", &channel).pass("taken", &taken).spawn().unwrap();
    assert!(taken.wait_timeout(PATIENCE).unwrap());
    assert_eq!(child.claimed(), None, "it lives");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(child.claimed(), Some(42));
}

#[test]
fn arguments_and_environment_are_as_told() {
    let mut command = shell("echo $0 $1 $FORKLESS_TEST_ONE $FORKLESS_TEST_TWO");
    command.args(["zero"]).arg("first").env("FORKLESS_TEST_ONE", "one").env("FORKLESS_TEST_TWO", "two");
    assert_eq!(output(command.env_remove("FORKLESS_TEST_TWO")), "zero first one\n");
    // Found by the PATH of this process; the child has none.
    let mut command = Command::new("env");
    let text = output(command.env("FORKLESS_TEST_ONE", "one").env_clear().env("FORKLESS_TEST_TWO", "two"));
    let names: Vec<_> = text.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names, ["FORKLESS_PARENT", "FORKLESS_TEST_TWO"]);
}

#[test]
fn it_begins_in_its_directory_and_is_found_from_this_one() {
    assert_eq!(output(Command::new("pwd").current_dir("/proc")), "/proc\n");
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    let relative = format!("{up}{}", shell.strip_prefix("/").unwrap().display());
    assert_eq!(output(Command::new(relative).args(["-c", "pwd"]).current_dir("/proc")), "/proc\n");
    assert!(matches!(Command::new("pwd").current_dir("/nonexistent").spawn(), Err(Error::Start { .. })));
}

#[test]
fn standard_streams_are_as_told() {
    let directory = std::env::temp_dir().join(format!("forkless-streams-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("out");
    let mut command = shell("cat; echo error >&2");
    command.stdin(Stdio::piped()).stdout(File::create(&path).unwrap()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"input\n").unwrap();
    // Closes the pipe, which ends `cat`.
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "input\n");
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(error, "error\n");
    assert!(child.stdout.is_none());
    assert_eq!(output(shell("cat").stdin(Stdio::null())), "");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_program_that_cannot_be_started_is_an_error() {
    let directory = std::env::temp_dir().join(format!("forkless-start-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("program");
    std::fs::write(&file, "no program").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = |command: &Command, kind: std::io::ErrorKind| {
        let error = command.spawn().unwrap_err();
        assert!(matches!(&error, Error::Start { source, .. } if source.kind() == kind), "{error}");
        error.to_string()
    };
    let text = refused(&Command::new("/nonexistent/program"), std::io::ErrorKind::NotFound);
    assert!(text.starts_with("cannot start /nonexistent/program: "), "{text}");
    refused(&Command::new(&file), std::io::ErrorKind::PermissionDenied);
    refused(Command::new("program").env("PATH", &directory), std::io::ErrorKind::NotFound);
    refused(&Command::new("/no\0program"), std::io::ErrorKind::InvalidInput);
    refused(Command::new("true").arg("nul\0byte"), std::io::ErrorKind::InvalidInput);
    refused(Command::new("true").env("NAME", "nul\0byte"), std::io::ErrorKind::InvalidInput);
    assert!(!arena().unwrap().processes().iter().any(|process| process.name == "program"));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn there_is_no_tree_to_join() {
    assert!(std::env::var_os("FORKLESS_TREE").is_none());
    assert!(matches!(forkless::join_tree(), Err(Error::NoTree)));
}
