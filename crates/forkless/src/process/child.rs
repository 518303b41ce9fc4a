//! A child, seen by its parent.

use std::fmt::{Debug, Formatter};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use forkless_ipc::Parcel;
use forkless_shm::arena::close_in_forks;
use forkless_shm::slot::End;
use forkless_shm::{Arena, Owner};
use forkless_sys::process::{self, ExitStatus};
use forkless_sys::time::{Deadline, SLICE};
use forkless_sys::{AsFd, BorrowedFd, Errno, OwnedFd, orphan};

use crate::Error;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// How long a killed child may take to end when nobody waits for it any more.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// The children that have not been dropped.
static CHILDREN: Mutex<Vec<Weak<Process>>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to the children that have ended: reaps them, and gives back what they held.
pub(crate) fn tend() {
    let children: Vec<_> = locked(&CHILDREN).iter().filter_map(Weak::upgrade).collect();
    for child in children {
        // Whoever asks about that child is told of an error.
        let _ = child.settle();
    }
}

/// The read end of the pipe whose write end, closed by the end of this process, kills its children.
pub(super) fn lifeline() -> Result<BorrowedFd<'static>, Error> {
    static LIFELINE: Mutex<Option<&'static (OwnedFd, OwnedFd)>> = Mutex::new(None);
    let mut lifeline = locked(&LIFELINE);
    let ends = match *lifeline {
        Some(ends) => ends,
        None => {
            let ends = orphan::lifeline().map_err(Error::system("make the children's lifeline"))?;
            let ends: &'static (OwnedFd, OwnedFd) = Box::leak(Box::new(ends));
            // A fork of this process by user code is no reason for its children to live on.
            close_in_forks(ends.1.as_fd());
            *lifeline = Some(ends);
            ends
        }
    };
    Ok(ends.0.as_fd())
}

/// This process's ends of a child's standard streams.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// A process that this one started, in the arena it was started from. Killed when this is dropped, or when this process
/// ends.
///
/// What a child held when it ended, locks aside, is given back when this process sees to it: it does so whenever it waits
/// for this child or another, or for anything of [`sync`](crate::sync).
pub struct Child {
    /// The write end of its standard input, if that is [piped](super::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// The read end of its standard output, if that is [piped](super::Stdio::piped).
    pub stdout: Option<ChildStdout>,
    /// The read end of its standard error, if that is [piped](super::Stdio::piped).
    pub stderr: Option<ChildStderr>,
    process: Arc<Process>,
    /// Keeps what was passed to it until it has that.
    _passed: Parcel,
    /// Who started it: a fork by user code has a copy of this object, but not of its duties.
    parent: Owner,
}

/// What is known of a child.
struct Process {
    arena: &'static Arena,
    owner: Owner,
    pid: u32,
    name: String,
    descriptor: OwnedFd,
    end: Mutex<Option<End>>,
}

impl Process {
    /// How it ended, if it did. The first to know reaps it and gives back what it held.
    fn settle(&self) -> Result<Option<ExitStatus>, Error> {
        let mut end = locked(&self.end);
        if end.is_none() && process::ended(self.descriptor.as_fd()) {
            // A debugger may want to see its end first.
            let Some(status) = process::reap(self.pid) else { return Ok(None) };
            let known = status.map_or(End::Unknown, End::Status);
            *end = Some(known);
            self.arena.clean(self.owner, known)?;
        }
        match *end {
            None => Ok(None),
            Some(End::Status(status)) => Ok(Some(status)),
            Some(_) => Err(Error::StatusLost { pid: self.pid, name: self.name.clone() }),
        }
    }

    fn signal(&self, number: i32) -> Result<(), Error> {
        match process::send_signal(self.descriptor.as_fd(), number) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::system("send a signal to a child process")(errno)),
        }
    }

    fn wait(&self, deadline: Deadline) -> Result<Option<ExitStatus>, Error> {
        loop {
            let bound = deadline.remaining(SLICE);
            if let Some(status) = self.settle()? {
                return Ok(Some(status));
            }
            if bound.is_zero() {
                return Ok(None);
            }
            // Interrupted by a signal: looks again. One that a debugger is still to see has ended, and cannot be slept on.
            let _ = if process::ended(self.descriptor.as_fd()) {
                process::readable(&[], bound.min(Duration::from_millis(1)))
            } else {
                process::readable(&[self.descriptor.as_fd()], bound)
            };
            tend();
        }
    }
}

impl Child {
    /// Of a process that was just started for this slot.
    pub(super) fn new(
        arena: &'static Arena,
        owner: Owner,
        pid: u32,
        name: &str,
        passed: Parcel,
        pipes: Pipes,
    ) -> Result<Self, Error> {
        let (parent, descriptor) = match (arena.me(), process::open(pid)) {
            (Ok(parent), Ok(descriptor)) => (parent, descriptor),
            (parent, descriptor) => {
                // Not to be watched, so not to be let loose. It has not been reaped: the number is still its own.
                process::kill_child(pid);
                while process::reap(pid).is_none() {
                    std::thread::yield_now();
                }
                parent?;
                return Err(Error::system("open a descriptor for a child process")(
                    descriptor.err().unwrap_or(Errno::SRCH),
                ));
            }
        };
        arena.record_pid(owner, pid);
        let name = name.to_owned();
        let process = Arc::new(Process { arena, owner, pid, name, descriptor, end: Mutex::new(None) });
        let mut children = locked(&CHILDREN);
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&process));
        let Pipes { stdin, stdout, stderr } = pipes;
        Ok(Self { stdin, stdout, stderr, process, _passed: passed, parent })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.pid
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.process.name
    }

    /// What the arena calls it, for example as [`holder`](crate::sync::Mutex::holder) of a mutex.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.process.owner
    }

    /// Closes its standard input, if that is piped, and waits for its end.
    ///
    /// # Errors
    /// [`Error::StatusLost`] if it ended and somebody else has reaped it.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        let status = self.wait_deadline(Deadline::NEVER)?;
        Ok(status.expect("a wait without end ends with a status"))
    }

    /// Waits for its end, this long; `None` if it still runs.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>, Error> {
        self.wait_deadline(Deadline::after(timeout))
    }

    /// Waits for its end until this moment; `None` if it still runs.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_deadline(&self, deadline: impl Into<Deadline>) -> Result<Option<ExitStatus>, Error> {
        self.process.wait(deadline.into())
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, Error> {
        self.process.settle()
    }

    /// Ends it with SIGKILL. It is over when [`wait`](Self::wait) says so. Does nothing if it has ended.
    ///
    /// # Errors
    /// [`Error::System`] if it may not be signalled, because it has become another user's process.
    pub fn kill(&self) -> Result<(), Error> {
        self.process.signal(SIGKILL)
    }

    /// Asks it to end, with SIGTERM, and waits for its end; if that takes longer than `grace`, kills it.
    ///
    /// # Errors
    /// As [`kill`](Self::kill) and [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// use forkless::process::{Command, ExitStatus};
    ///
    /// # fn main() -> Result<(), forkless::Error> {
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// assert_eq!(child.terminate(Duration::from_secs(1))?, ExitStatus::Signaled(15));
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, Error> {
        self.process.signal(SIGTERM)?;
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        self.kill()?;
        self.wait()
    }

    /// The tag of the message that it had [claimed](crate::ipc::Claim::Tag) and taken when it ended. Known once it has
    /// been waited for.
    #[must_use]
    pub fn claimed(&self) -> Option<u64> {
        locked(&self.process.end).as_ref()?;
        self.process.arena.claimed(self.process.owner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Process { arena, owner, .. } = *self.process;
        if !arena.is_me(self.parent) {
            return;
        }
        if matches!(self.process.settle(), Ok(None)) {
            let _ = self.kill();
            if matches!(self.process.wait(Deadline::after(LAST_BREATH)), Ok(None)) {
                // Whoever waits for something later sees to it, and gives back its slot.
                let _ = arena.disown(owner);
                std::mem::forget(Arc::clone(&self.process));
            }
        }
        let _ = arena.return_slot(owner);
    }
}

impl Debug for Child {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct("Child");
        fields.field("name", &self.name()).field("id", &self.id()).field("end", &*locked(&self.process.end));
        fields.finish_non_exhaustive()
    }
}
