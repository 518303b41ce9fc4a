//! Four processes count together, one of them is killed, and the count is right.
//!
//! `cargo run -p forkless --example counter`
#![allow(clippy::print_stdout)] // it is a program

use forkless::process::{Child, Command};
use forkless::sync::{Event, LockError, Mutex};
use forkless::zerocopy::{FromBytes, Immutable, IntoBytes};
use forkless::{Error, inherited};

const CHILDREN: usize = 4;
const EACH: u64 = 10_000;

/// How far each child has come, and the sum. Both change together, or neither.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[zerocopy(crate = "forkless::zerocopy")]
#[repr(C)]
struct Count {
    sum: u64,
    of: [u64; CHILDREN],
}

fn count(index: usize) -> Result<(), Error> {
    let count: Mutex<Count> = inherited("count")?;
    let half: Event = inherited("half")?;
    for step in 1..=EACH {
        // Whoever died has left the value whole: there is nothing to repair.
        let mut guard = count.lock().or_else(LockError::recover)?;
        guard.sum += 1;
        guard.of[index] += 1;
        drop(guard);
        if step == EACH / 2 {
            half.set()?;
        }
    }
    Ok(())
}

fn parent() -> Result<(), Error> {
    let count = Mutex::create(Count { sum: 0, of: [0; CHILDREN] })?;
    let half = Event::create()?;
    let start = |index: usize| {
        let mut command = Command::current_exe();
        command.arg(index.to_string()).name(format!("counter {index}"));
        command.pass("count", &count).pass("half", &half).spawn()
    };
    let mut children: Vec<Child> = (0..CHILDREN).map(start).collect::<Result<_, _>>()?;
    // One of them is half-way. Which of them is killed, where, and whether it holds the mutex, is chance.
    half.wait()?;
    children[0].kill()?;
    for child in &mut children {
        let status = child.wait()?;
        println!("{} ended: {status}", child.name());
    }
    let guard = match count.lock() {
        Err(LockError::OwnerDied(died)) => {
            println!("{} died while it held the mutex", died.death());
            died.recover()
        }
        taken => taken?,
    };
    println!("together they counted to {}", guard.sum);
    assert_eq!(guard.of[1..], [EACH; CHILDREN - 1]);
    assert_eq!(guard.sum, guard.of.iter().sum::<u64>());
    Ok(())
}

fn main() -> Result<(), Error> {
    match std::env::args().nth(1).and_then(|index| index.parse().ok()) {
        None => parent(),
        Some(index) => count(index),
    }
}
