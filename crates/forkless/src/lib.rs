//! Processes that share locks, events and messages, and survive each other's death.
//!
//! ```
//! use forkless::ipc::Channel;
//! use forkless::{Deadline, arena};
//!
//! # fn main() -> Result<(), forkless::Error> {
//! let channel = Channel::create(arena()?, 0)?;
//! channel.send(7, b"hello", &[], Deadline::NEVER)?;
//! let message = channel.receive(Deadline::NEVER)?.expect("a wait without end ends with a message");
//! assert_eq!((message.tag, message.bytes()?), (7, b"hello".to_vec()));
//! # Ok(())
//! # }
//! ```
//!
//! Everything lives in an [`Arena`], one piece of shared memory per tree of processes. It has no name in any file
//! system: the kernel frees it with the last of them, however they end.
//!
//! # Another process
//!
//! A [`Child`] is a program, mostly this one once more, that gets its parent's arena from [`arena()`]. It finds an object
//! by the object's [`Handle`], which travels as text in an argument, or with a message, which keeps the object alive:
//!
//! ```no_run
//! use forkless::sync::Mutex;
//! use forkless::{Child, Deadline, Handle, arena};
//!
//! # fn main() -> Result<(), forkless::Error> {
//! match std::env::args().nth(1) {
//!     None => {
//!         let mutex = Mutex::create(arena()?)?;
//!         let mut child = Child::start("worker", &[&mutex.lease().handle()?.to_string()])?;
//!         child.wait(Deadline::NEVER)?;
//!     }
//!     Some(handle) => {
//!         let mutex = Mutex::open(arena()?, handle.parse::<Handle>()?)?;
//!         let _guard = forkless::sync::lock(&mutex, Deadline::NEVER)?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The children of a process end with it, and with the [`Child`] that stands for them. `examples/two_processes.rs` is a
//! whole program.
//!
//! # When a process dies
//!
//! Any process may be killed at any instruction, and the others go on:
//!
//! - Whoever waits for a [`Mutex`](sync::Mutex) of a process that died takes it over within 100 ms, and
//!   [is told](sync::Guard::died): what the mutex protects may be half-written.
//! - A message is sent whole or not at all, and arrives once. What a dead receiver had taken is lost, and
//!   [named](Child::claimed) if it was received with a [`Claim`](ipc::Claim).
//! - What a dead process held is given back: memory, objects, messages that it was about to send.
//!
//! ```
//! use forkless::sync::{Mutex, lock};
//! use forkless::{Deadline, arena};
//!
//! # fn main() -> Result<(), forkless::Error> {
//! let mutex = Mutex::create(arena()?)?;
//! if let Some(guard) = lock(&mutex, Deadline::after(std::time::Duration::from_secs(1)))? {
//!     if let Some(owner) = guard.died() {
//!         println!("{owner:?} died while it held the mutex: repair what it left");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What there is, and what there is not yet
//!
//! | module | what |
//! |---|---|
//! | [`sync`] | mutexes, events, semaphores, condition variables, barriers |
//! | [`ipc`] | channels, read-only buffers, memory that everybody writes, parcels |
//! | [`process`] | starting a program again as a child |
//!
//! The template that forks children for Python in microseconds serves Python only; a Rust child is a fresh program. There
//! is no pool of workers, and no serialisation: a message is bytes. Linux on 64 bits is the only system.

pub mod process;
pub mod sync;

/// Messages and bytes: see [`forkless_ipc`].
pub mod ipc {
    pub use forkless_ipc::{Buffer, Channel, Claim, Memory, Message, Parcel, Received, Sent};
}

pub use forkless_process::Error;
pub use forkless_shm::{Arena, Handle, Lease, Owner};
pub use forkless_sys::process::ExitStatus;
pub use forkless_sys::time::Deadline;
pub use process::{Child, arena};
