//! Two processes share a lock, two events and a channel; one of them dies with the lock, and the other goes on.
//!
//! `cargo run -p forkless --example two_processes`
#![allow(clippy::print_stdout)] // it is a program

use forkless::ipc::Channel;
use forkless::process::Command;
use forkless::sync::{Event, Lock, LockError};
use forkless::{Deadline, Error, arena, inherited};

/// What the two processes share.
struct Stage {
    lock: Lock,
    go: Event,
    finale: Event,
    lines: Channel,
}

impl Stage {
    fn create() -> Result<Self, Error> {
        let lines = Channel::create(arena()?, 0)?;
        Ok(Self { lock: Lock::create()?, go: Event::create()?, finale: Event::create()?, lines })
    }

    fn pass(&self, command: &mut Command) {
        command.pass("lock", &self.lock).pass("go", &self.go).pass("finale", &self.finale).pass("lines", &self.lines);
    }

    fn inherited() -> Result<Self, Error> {
        let lines = inherited("lines")?;
        Ok(Self { lock: inherited("lock")?, go: inherited("go")?, finale: inherited("finale")?, lines })
    }

    /// Sends three lines with nobody else's in between, if the lock is held.
    fn verse(&self, who: &str) -> Result<(), Error> {
        for line in 1..=3 {
            self.lines.send(line, format!("{who}, line {line}").as_bytes(), &[], Deadline::NEVER)?;
        }
        Ok(())
    }
}

fn parent() -> Result<(), Error> {
    let stage = Stage::create()?;
    let mut command = Command::current_exe();
    command.arg("--child").name("singer");
    stage.pass(&mut command);
    let mut child = command.spawn()?;
    stage.go.set()?;
    for _ in 0..2 {
        let _held = stage.lock.lock()?;
        stage.verse("parent")?;
    }
    // Only now may the child keep the lock: whoever takes it next finds it dead.
    stage.finale.set()?;
    for number in 0..12 {
        if let Some(message) = stage.lines.receive(Deadline::NEVER)? {
            assert_eq!(message.tag, number % 3 + 1, "a verse was interrupted");
            println!("{}", String::from_utf8_lossy(&message.bytes()?));
        }
    }
    // The child has taken the lock for good and ended.
    match stage.lock.lock() {
        Err(LockError::OwnerDied(died)) => {
            println!("{} died while it held the lock", died.death().name().unwrap_or("?"));
        }
        taken => drop(taken?),
    };
    println!("the child ended: {}", child.wait()?);
    Ok(())
}

fn child() -> Result<(), Error> {
    let stage = Stage::inherited()?;
    stage.go.wait()?;
    {
        let _held = stage.lock.lock()?;
        stage.verse("child")?;
    }
    stage.finale.wait()?;
    let held = stage.lock.lock()?;
    stage.verse("child once more")?;
    std::mem::forget(held);
    Ok(())
}

fn main() -> Result<(), Error> {
    if std::env::args().len() == 1 { parent() } else { child() }
}
