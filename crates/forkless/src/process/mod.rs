//! Programs as children in the same arena.
//!
//! A [`Command`] starts a program, as [`std::process::Command`] does, and [passes](Command::pass) objects to it by name. The
//! program is mostly a Rust one that uses this crate, perhaps [this very one](Command::current_exe).
//!
//! It takes over no memory and no descriptor but its standard streams and what this crate needs. This process is never
//! forked: the child is started with `posix_spawn`.
//!
//! The children of a process end with it, however it ends: the kernel kills them. And each ends with the [`Child`] that
//! stands for it.

mod child;
mod command;

pub use child::Child;
pub(crate) use child::tend;
pub use command::{Command, Stdio};
pub use forkless_sys::process::ExitStatus;
