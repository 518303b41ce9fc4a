//! Starts two Python programs, which find a lock, an event and a number of this one by name, and counts with them.
//!
//! `cargo run -p forkless --example start_python -- python crates/forkless/examples/start_python.py`
#![allow(clippy::print_stdout)] // it is a program

use forkless::ipc::Memory;
use forkless::process::Command;
use forkless::sync::{Event, Lock};
use forkless::{Error, arena};

const TURNS: u64 = 1000;

fn main() -> Result<(), Error> {
    let (lock, go) = (Lock::create()?, Event::create()?);
    let total = Memory::create(arena()?, 8)?;
    let read = || {
        let mut bytes = [0; 8];
        assert!(total.read(0, &mut bytes), "it has eight bytes");
        u64::from_ne_bytes(bytes)
    };

    let mut words = std::env::args_os().skip(1);
    let mut command = Command::new(words.next().unwrap_or_else(|| "python3".into()));
    command.args(words).pass("lock", &lock).pass("go", &go).pass("total", &total);
    let mut workers = [command.name("worker 1").spawn()?, command.name("worker 2").spawn()?];
    go.set()?;
    for _ in 0..TURNS {
        let _held = lock.lock()?;
        assert!(total.write(0, &(read() + 1).to_ne_bytes()), "it has eight bytes");
    }
    for worker in &mut workers {
        let status = worker.wait()?;
        println!("{} ended: {status}", worker.name());
    }
    println!("together they counted to {}", read());
    Ok(())
}
