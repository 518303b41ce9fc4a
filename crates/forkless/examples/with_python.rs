//! Shares a lock, three events and a number with the Python program that started it: see `with_python.py`.
#![allow(clippy::print_stdout)] // it is a program

use forkless::ipc::Memory;
use forkless::sync::{Event, Lock};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [turns, lock, ready, go, finale, total] = &arguments[..] else {
        return Err("it is started by with_python.py, with a number and five handles".into());
    };
    let arena = forkless::join_tree()?;
    let lock = Lock::open(lock.parse()?)?;
    let event = |handle: &str| Event::open(handle.parse()?);
    let (ready, go, finale) = (event(ready)?, event(go)?, event(finale)?);
    let total = Memory::open(arena, total.parse()?)?;

    ready.set()?;
    go.wait()?;
    for _ in 0..turns.parse()? {
        let held = lock.lock().map_err(forkless::Error::from)?;
        let mut bytes = [0; 8];
        assert!(total.read(0, &mut bytes) && total.write(0, &(u64::from_ne_bytes(bytes) + 1).to_ne_bytes()));
        drop(held);
    }
    finale.wait()?;
    println!("Rust has counted {turns} times");
    // Ends with the lock, as if it had been killed: whoever takes it next is told.
    std::mem::forget(lock.lock().map_err(forkless::Error::from)?);
    Ok(())
}
