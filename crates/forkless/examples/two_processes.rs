//! Two processes share a mutex, an event and a channel; one of them dies with the mutex, and the other goes on.
//!
//! `cargo run -p forkless --example two_processes`
#![allow(clippy::print_stdout)] // it is a program

use forkless::ipc::Channel;
use forkless::sync::{Event, Mutex, lock};
use forkless::{Arena, Child, Deadline, Error, arena};

/// What the two processes share.
struct Shared {
    mutex: Mutex,
    go: Event,
    finale: Event,
    lines: Channel,
}

impl Shared {
    fn create(arena: &'static Arena) -> Result<Self, Error> {
        Ok(Self {
            mutex: Mutex::create(arena)?,
            go: Event::create(arena)?,
            finale: Event::create(arena)?,
            lines: Channel::create(arena, 0)?,
        })
    }

    /// As text, for the child's command line.
    fn handles(&self) -> Result<Vec<String>, Error> {
        let leases = [self.mutex.lease(), self.go.lease(), self.finale.lease(), self.lines.lease()];
        leases.into_iter().map(|lease| Ok(lease.handle()?.to_string())).collect()
    }

    fn open(arena: &'static Arena, handles: &[String]) -> Result<Self, Error> {
        Ok(Self {
            mutex: Mutex::open(arena, handles[0].parse()?)?,
            go: Event::open(arena, handles[1].parse()?)?,
            finale: Event::open(arena, handles[2].parse()?)?,
            lines: Channel::open(arena, handles[3].parse()?)?,
        })
    }

    /// Sends three lines with nobody else's in between.
    fn verse(&self, who: &str) -> Result<(), Error> {
        let _guard = lock(&self.mutex, Deadline::NEVER)?;
        for line in 1..=3 {
            self.lines.send(line, format!("{who}, line {line}").as_bytes(), &[], Deadline::NEVER)?;
        }
        Ok(())
    }
}

fn parent() -> Result<(), Error> {
    let shared = Shared::create(arena()?)?;
    let handles = shared.handles()?;
    let mut child = Child::start("singer", &handles.iter().map(String::as_str).collect::<Vec<_>>())?;
    shared.go.set()?;
    for _ in 0..2 {
        shared.verse("parent")?;
    }
    // Only now may the child keep the mutex: whoever takes it next finds it dead.
    shared.finale.set()?;
    for number in 0..12 {
        if let Some(message) = shared.lines.receive(Deadline::NEVER)? {
            assert_eq!(message.tag, number % 3 + 1, "a verse was interrupted");
            println!("{}", String::from_utf8_lossy(&message.bytes()?));
        }
    }
    // The child has taken the mutex for good and ended.
    if let Some(guard) = lock(&shared.mutex, Deadline::NEVER)? {
        assert_eq!(guard.died(), Some(child.owner()));
        println!("the child died while it held the mutex; the parent has it now");
    }
    println!("the child ended: {:?}", child.wait(Deadline::NEVER)?);
    Ok(())
}

fn child(handles: &[String]) -> Result<(), Error> {
    let shared = Shared::open(arena()?, handles)?;
    shared.go.wait(Deadline::NEVER)?;
    shared.verse("child")?;
    shared.finale.wait(Deadline::NEVER)?;
    let guard = lock(&shared.mutex, Deadline::NEVER)?;
    for line in 1..=3 {
        shared.lines.send(line, format!("child once more, line {line}").as_bytes(), &[], Deadline::NEVER)?;
    }
    std::mem::forget(guard);
    Ok(())
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() { parent() } else { child(&arguments) }
}
