//! Processes that share locks, events and messages, and survive each other's death.
//!
//! ```standalone_crate
//! use forkless::process::Command;
//! use forkless::sync::Mutex;
//!
//! fn main() -> Result<(), forkless::Error> {
//!     if std::env::args().any(|argument| argument == "--child") {
//!         let counter: Mutex<u64> = forkless::inherited("counter")?;
//!         *counter.lock()? += 1;
//!         return Ok(());
//!     }
//!     let counter = Mutex::create(0_u64)?;
//!     let mut child = Command::current_exe().arg("--child").pass("counter", &counter).spawn()?;
//!     *counter.lock()? += 1;
//!     assert!(child.wait()?.success());
//!     assert_eq!(*counter.lock()?, 2);
//!     Ok(())
//! }
//! ```
//!
//! Everything lives in an [`Arena`], one piece of shared memory per tree of processes. Nobody has to make it: the first
//! object does. It has no name in any file system, and the kernel frees it with the last process of the tree, however they
//! end.
//!
//! # Locks, and what one waits for
//!
//! [`sync`] has a [`Mutex`](sync::Mutex) around plain data, a [`Lock`](sync::Lock) without data,
//! [`Condvar`](sync::Condvar), [`Semaphore`](sync::Semaphore), [`Event`](sync::Event) and [`Barrier`](sync::Barrier). They are
//! used as those of [`std::sync`] are, between threads or processes:
//!
//! ```
//! use forkless::sync::Semaphore;
//!
//! # fn main() -> Result<(), forkless::Error> {
//! let licences = Semaphore::create(2)?;
//! let licence = licences.acquire()?;
//! assert_eq!(licences.available_permits()?, 1);
//! drop(licence);
//! # Ok(())
//! # }
//! ```
//!
//! # When a process dies
//!
//! Any process may be killed at any instruction, and the others go on:
//!
//! - The value of a [`Mutex`](sync::Mutex) is never half-written: it is what it was when the dead process took it. Whoever
//!   takes the mutex next is told of the death, within 100 ms, and decides.
//! - Permits of a semaphore come back; a barrier breaks; a notification goes to another waiter.
//! - A message is sent whole or not at all, and arrives once. What a dead receiver had taken is lost, and
//!   [named](process::Child::claimed) if it was received with a [`Claim`](ipc::Claim).
//! - What a dead process held is given back: memory, objects, messages that it was about to send.
//!
//! ```
//! use forkless::sync::{LockError, Mutex};
//!
//! # fn main() -> Result<(), forkless::Error> {
//! let balance = Mutex::create(0_i64)?;
//! let mut balance = match balance.lock() {
//!     Err(LockError::OwnerDied(died)) => {
//!         eprintln!("{} died and has booked nothing", died.death());
//!         died.recover()
//!     }
//!     taken => taken?,
//! };
//! *balance += 995;
//! # Ok(())
//! # }
//! ```
//!
//! # Other processes
//!
//! A [`Command`](process::Command) starts a program, as [`std::process::Command`] does, in the same arena. It
//! [passes](process::Command::pass) objects by name, and the child [inherits](inherited) them. The children of a process end
//! with it, and with the [`Child`](process::Child) that stands for them:
//!
//! ```
//! use std::time::Duration;
//!
//! use forkless::process::Command;
//!
//! # fn main() -> Result<(), forkless::Error> {
//! let mut child = Command::new("sleep").arg("60").name("sleeper").spawn()?;
//! assert_eq!(child.wait_timeout(Duration::from_millis(10))?, None);
//! assert_eq!(child.terminate(Duration::from_secs(1))?.to_string(), "SIGTERM");
//! # Ok(())
//! # }
//! ```
//!
//! # Messages
//!
//! [`messages`] has channels, whose ends are used as those of [`std::sync::mpsc`] are, for bytes and for whatever serde
//! serialises. In Python they are a `forkless.Queue`:
//!
//! ```
//! use forkless::messages;
//!
//! # fn main() -> Result<(), forkless::Error> {
//! let (sender, receiver) = messages::bounded::<Vec<f64>>(100)?;
//! sender.send(&vec![0.5, 1.5])?;
//! assert_eq!(receiver.recv()?, [0.5, 1.5]);
//! # Ok(())
//! # }
//! ```
//!
//! They are made of a [`Channel`](ipc::Channel), which carries bytes. A message of one may carry objects, too, and keeps
//! them alive while it is on its way:
//!
//! ```
//! use forkless::ipc::Channel;
//! use forkless::sync::Event;
//! use forkless::{Deadline, arena};
//!
//! # fn main() -> Result<(), forkless::Error> {
//! let channel = Channel::create(arena()?, 0)?;
//! let done = Event::create()?;
//! channel.send(7, done.handle().to_string().as_bytes(), &[done.lease()], Deadline::NEVER)?;
//!
//! let message = channel.receive(Deadline::NEVER)?.expect("a wait without end ends with a message");
//! let handle = String::from_utf8_lossy(&message.bytes()?).parse()?;
//! Event::open(handle)?.set()?;
//! assert!(done.is_set()?);
//! # Ok(())
//! # }
//! ```
//!
//! Data that is written once is a [`Buffer`](ipc::Buffer), which every process maps without permission to write. What
//! Python's `forkless.share` makes of lists and dictionaries are [`columns`] in one, and so can a Rust program read and make
//! them:
//!
//! ```
//! use forkless::arena;
//! use forkless::columns::{Column, Value, encode};
//! use forkless::ipc::Buffer;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let block = encode(&Value::List(vec![Value::Int(5), Value::Int(7)]))?;
//! let buffer = Buffer::create(arena()?, b"", &block)?;
//! assert_eq!(Column::root(buffer.bytes())?.int(1)?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! # Together with Python
//!
//! The objects are those of the Python package forkless: a [`Lock`](sync::Lock) is its `Lock`, and so on; see the table in
//! [`sync`], and that of values in [`messages`]. It works in both directions:
//!
//! - A Rust program that was started by a Python one [joins its tree](join_tree) and opens what it is given handles of.
//!   `examples/with_python.py` and `examples/with_python.rs` count together.
//! - A Python program that was started by a [`Command`](process::Command) finds what was passed to it by name, with
//!   `forkless.inherited(name)`. `examples/start_python.rs` starts two that count with it.
//!
//! # What there is not
//!
//! The template that forks children for Python in microseconds serves Python only; a Rust child is a fresh program. There
//! is no pool of workers. Nobody is told that the last sender of a channel is gone. Linux on 64 bits is the only system.

#![forbid(unsafe_code)]

mod error;
pub mod messages;
pub mod process;
mod shared;
pub mod sync;
mod tree;
mod wait;

/// Bytes, and messages that are bytes: see [`forkless_ipc`].
pub mod ipc {
    pub use forkless_ipc::{Buffer, Channel, Claim, Content, Memory, Message, Parcel, Received, Sent, format};
}

pub use error::{Death, Error};
pub use forkless_columns as columns;
pub use forkless_shm::{Arena, Handle, Lease, Owner};
pub use forkless_sys::time::Deadline;
pub use shared::Shared;
pub use tree::{arena, inherited, join_tree};
pub use zerocopy;
