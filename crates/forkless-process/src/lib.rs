//! A process from birth to exit status.
//!
//! The *template* is a program that is exec'ed once per tree, stays single-threaded, and forks (or execs) every child; the
//! user's process is never forked. This crate has both ends: [`template`] is the template's event loop,
//! [`Client`] and [`Child`] are what the others see. What a child has to run travels as a
//! [`Parcel`](forkless_ipc::Parcel); how it ended comes back through its slot in the arena.
//!
//! A child that is a program of its own needs no template: it finds in its environment what it [inherits](Inheritance).

mod child;
mod client;
#[cfg(test)]
mod fuzz;
mod inheritance;
mod invitation;
mod joining;
mod keeper;
mod pending;
pub mod pool;
mod protocol;
pub mod template;

pub use child::Child;
pub use client::{Client, Program, tree_name};
pub use inheritance::{Inheritance, PARENT_VARIABLE, Passed, parent_variable, pass};
pub use joining::Joining;
pub use keeper::{Deposition, Redemption};
pub use pending::{Order, Pending};
pub use protocol::Method;
pub use template::{Fork, Job, Runtime};

use forkless_sys::Errno;

/// The variable in which a tree tells strangers the name of its socket.
pub const TREE_VARIABLE: &str = "FORKLESS_TREE";

/// What can go wrong with processes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arena refused.
    #[error(transparent)]
    Arena(#[from] forkless_shm::Error),
    /// The system refused.
    #[error("cannot {action}: {errno}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// The template has threads, so that a fork would copy locks in unknown states.
    #[error(
        "the template (pid {pid}) has other threads ({threads}), left by what was preloaded there ({modules}); forking \
         it could deadlock the child. Use the \"spawn\" start method, or do not preload that"
    )]
    Threads {
        /// The template.
        pid: u32,
        /// Their names.
        threads: String,
        /// The modules that left them.
        modules: String,
    },
    /// The template has a device open that does not work in forked processes.
    #[error(
        "the template (pid {pid}) has a device open that no forked process can use, by what was preloaded there: {modules}. \
         Preload only what does not touch the device, and have each worker open it, or use the \"spawn\" start method"
    )]
    Device {
        /// The template.
        pid: u32,
        /// The modules that have opened one, and which.
        modules: String,
    },
    /// The template ended while a child was being started, twice.
    #[error("the template (pid {pid}) ended while it was starting {name}; its standard error may say why")]
    TemplateDied {
        /// The template.
        pid: u32,
        /// The child's name.
        name: String,
    },
    /// Nobody could reap the process, and the kernel does not tell how it ended.
    #[error("process {name} (pid {pid}) has ended, but its exit status is lost: its template was killed before it")]
    StatusLost {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// It was asked to be closed while it runs.
    #[error("process {name} (pid {pid}) is still running; join() or terminate() it before close()")]
    StillRunning {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// The template keeps as many descriptors as it can.
    #[error(
        "the template (pid {pid}) keeps as many descriptors on their way as its limit of open files allows \
         (RLIMIT_NOFILE); have some of them received first, or raise the limit before the first process is started"
    )]
    TooManyKept {
        /// The template.
        pid: u32,
    },
    /// The template that kept a descriptor has ended before it was taken.
    #[error(
        "the descriptor is lost: the template (pid {pid}) that kept it on its way has ended: it was killed, or \
         the process that it belonged to is gone. Send it again"
    )]
    KeeperDied {
        /// The template.
        pid: u32,
    },
    /// The template does not have the descriptor any more.
    #[error(
        "the descriptor is not on its way any more: whoever the pickle was made for has taken it (template: {pid})"
    )]
    Taken {
        /// The template.
        pid: u32,
    },
    /// A variable or a message from another process is not one that forkless wrote.
    #[error("a start message is damaged: {0}")]
    Protocol(&'static str),
}

impl Error {
    pub(crate) fn system(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { action, errno }
    }
}
