//! Dying with the last holder of a pipe.
//!
//! A child that must not outlive its tree holds the read end of a pipe whose write ends only the tree's root and its
//! template have. When the last writer is gone the kernel signals the readers that asked for it (`O_ASYNC`), with
//! the signal they asked for (`F_SETSIG`): SIGKILL here. No thread watches, nothing has to be scheduled in the
//! child, and it works while the child is in C code with the interpreter locked.
//!
//! `PR_SET_PDEATHSIG` is no substitute: it fires when the *thread* that created the child ends, and it would end
//! children whose template died while the root lives.
//!
//! Source: [`fcntl(2)`], "File descriptor-based signals"; seen on Linux 6.18: the signal comes when the last of two
//! writers closes, not before.
//!
//! [`fcntl(2)`]: https://man7.org/linux/man-pages/man2/fcntl.2.html
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// `asm-generic/fcntl.h`.
const F_SETSIG: libc::c_int = 10;

/// A new pipe, close-on-exec: (read end for the children, write end for those whose life matters).
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn lifeline() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((crate::above_standard(reader)?, crate::above_standard(writer)?))
}

/// Arranges for SIGKILL to this process when the last write end of `lifeline` is closed. The descriptor returned
/// must stay open; the arrangement is its own, so `lifeline` may be shared with other processes.
///
/// # Errors
/// `ESRCH` if no writer is left already; whatever opening `/proc/self/fd` or `fcntl` reports.
pub fn die_with(lifeline: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // Owner and signal belong to the open file description, which fork shares: reopen to get one of our own.
    let path = format!("/proc/self/fd/{}", lifeline.as_raw_fd());
    let own = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: plain integer requests on a descriptor that we own.
    unsafe {
        check(libc::fcntl(own.as_raw_fd(), F_SETSIG, libc::SIGKILL))?;
        check(libc::fcntl(own.as_raw_fd(), libc::F_SETOWN, libc::getpid()))?;
    }
    rustix::fs::fcntl_setfl(&own, OFlags::ASYNC | OFlags::NONBLOCK)?;
    // The last writer may have gone before the arrangement stood.
    let mut poll = [rustix::event::PollFd::new(&own, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if poll[0].revents().contains(rustix::event::PollFlags::HUP) {
        return Err(Errno::SRCH);
    }
    Ok(own)
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    Ok(())
}
