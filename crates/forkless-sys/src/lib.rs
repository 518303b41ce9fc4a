//! The operating system, as the rest of forkless needs it.
//!
//! Every other crate reaches the kernel through this one, so a port is a new version of these modules and
//! nothing else. Each wrapper names its system call, retries what the manual page says to retry, and hands back
//! an [`Errno`] as a value.
//!
//! | module | what |
//! |---|---|
//! | [`atomic`] | the atomics of shared words |
//! | [`attributes`] | what a fork would have copied: masks, niceness, limits |
//! | [`bell`] | a descriptor that other processes make readable |
//! | [`crash`] | points where fault tests kill |
//! | [`footprint`] | what processes cost, and who descends from whom |
//! | [`futex`] | sleeping on one or two shared words |
//! | [`inspect`] | what another process does |
//! | [`memory`] | sealed memory files, mappings, shared words |
//! | [`liveness`] | a word that the kernel marks when its process dies |
//! | [`named`] | memory under a name that strangers know |
//! | [`process`] | process descriptors, fork, exec, wait, signals |
//! | [`socket`] | abstract sockets with descriptor passing |
//! | [`space`] | the address space of another process |
//! | [`orphan`] | dying with the last holder of a pipe |
//! | [`proc`] | the few files of `/proc` that are read in-process |
//! | [`time`] | deadlines on the monotonic clock |

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("forkless runs on 64-bit Linux for now: a port is a new version of the modules in forkless-sys");

pub mod atomic;
pub mod attributes;
pub mod bell;
pub mod crash;
pub mod footprint;
pub mod futex;
pub mod heap;
pub mod inspect;
pub mod liveness;
#[cfg(not(loom))]
mod mapping;
pub mod memory;
#[cfg(loom)]
pub mod model;
pub mod named;
pub mod orphan;
pub mod proc;
pub mod process;
pub mod socket;
pub mod space;
pub mod time;

/// Of what is each thread's own. A model has many processes on one thread.
#[cfg(not(loom))]
pub use std::thread_local;

pub use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
pub use rustix::io::Errno;

/// The same descriptor, or a copy above 2 in its place: a program may run with its standard streams closed, and what we
/// open must not become one of them.
pub(crate) fn above_standard(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { rustix::io::fcntl_dupfd_cloexec(&fd, 3) }
}

/// The error of the system call that has just failed.
pub(crate) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// 64 bits from the kernel's random source, never zero; names and identities are made of them.
///
/// # Errors
/// Whatever `getrandom(2)` reports.
pub fn random_u64() -> Result<u64, Errno> {
    let mut bytes = [0u8; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(u64::from_ne_bytes(bytes).max(1))
}
