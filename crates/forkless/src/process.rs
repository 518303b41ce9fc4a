//! Starting a program again as a child in the same arena.
//!
//! The child inherits the arena's memory file and a pipe through the environment variable `FORKLESS_PARENT`. The
//! pipe's other end is this process's alone, so that the kernel kills the child when this process is gone, however it
//! went.
#![allow(unsafe_code)]

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use forkless_ipc::KINDS;
use forkless_shm::slot::End;
use forkless_shm::{Arena, Owner, Role};
use forkless_sys::process::{self, Command, ExitStatus};
use forkless_sys::time::{Deadline, SLICE};
use forkless_sys::{AsFd, AsRawFd, Errno, OwnedFd, RawFd, orphan};

use crate::Error;

/// What a child is told: the descriptors of arena and pipe, and its slot.
const VARIABLE: &str = "FORKLESS_PARENT";

const SIGKILL: i32 = 9;

/// This process's arena once it is known, and the pipe whose end kills its children.
static HERE: Mutex<Option<&'static Here>> = Mutex::new(None);

struct Here {
    arena: &'static Arena,
    lifeline: OwnedFd,
    /// Open as long as this process lives.
    _held: OwnedFd,
}

fn system(action: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::System { action, errno }
}

/// This process's arena: its parent's if it was started as a [`Child`], else a new one.
///
/// A child calls this first on its main thread: it is that thread whose end the kernel tells the others.
///
/// # Errors
/// [`Error::System`] without memory, address space or descriptors; [`Error::Protocol`] if `FORKLESS_PARENT` was set by
/// somebody else; [`forkless_shm::Error::Stale`] if the parent has given up.
pub fn arena() -> Result<&'static Arena, Error> {
    Ok(here()?.arena)
}

fn here() -> Result<&'static Here, Error> {
    let mut here = HERE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(here) = *here {
        return Ok(here);
    }
    let arena = match std::env::var(VARIABLE) {
        Ok(value) => join(&value)?,
        Err(_) => Arena::create(KINDS)?,
    };
    let (lifeline, held) = orphan::lifeline().map_err(system("make the children's lifeline"))?;
    let known: &'static Here = Box::leak(Box::new(Here { arena, lifeline, _held: held }));
    *here = Some(known);
    Ok(known)
}

/// Takes the place in the parent's arena that was kept for this process.
fn join(value: &str) -> Result<&'static Arena, Error> {
    const DAMAGED: Error = Error::Protocol("FORKLESS_PARENT was not set by forkless");
    let numbers: Vec<u32> = value.split(' ').map_while(|word| word.parse().ok()).collect();
    let [pid, arena, lifeline, owner] = numbers[..] else { return Err(DAMAGED) };
    if pid != process::parent_id() {
        // Inherited from a parent that is a child itself, past its own descriptors.
        return Ok(Arena::create(KINDS)?);
    }
    let owner = Owner::from_word(owner).ok_or(DAMAGED)?;
    let (arena, lifeline) = (inherit(arena)?, inherit(lifeline)?);
    let own = orphan::die_with(lifeline.as_fd()).map_err(system("watch the parent"))?;
    // Open for the rest of this process's life.
    std::mem::forget(own);
    let arena = Arena::join(arena, KINDS)?;
    arena.arrive(owner)?;
    process::unblock_interrupts();
    Ok(arena)
}

fn inherit(number: u32) -> Result<OwnedFd, Error> {
    let number = RawFd::try_from(number).map_err(|_| Error::Protocol("no such descriptor"))?;
    // SAFETY: the parent, whose id the variable has, opened it for this process and this use; `here` runs once.
    unsafe { process::inherited(number) }.map_err(system("take up an inherited descriptor"))
}

/// A process that this one started. Killed when this is dropped, or when this process ends.
#[derive(Debug)]
pub struct Child {
    arena: &'static Arena,
    owner: Owner,
    pid: u32,
    process: OwnedFd,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts this program once more with these arguments, under a name for messages.
    ///
    /// # Errors
    /// [`Error::System`] if the system refuses, [`Error::Arena`] if the arena is full.
    pub fn start(name: &str, arguments: &[&str]) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(|_| system("find this program")(Errno::NOENT))?;
        Self::start_program(&program, name, arguments)
    }

    /// Starts another program, which should use forkless too.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn start_program(program: &Path, name: &str, arguments: &[&str]) -> Result<Self, Error> {
        let here = here()?;
        let arena = here.arena;
        let program =
            program.to_str().ok_or_else(|| system("start a program whose path is not UTF-8")(Errno::INVAL))?;
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let standard = [0, 1, 2].map(process::standard);
        let [Ok(stdin), Ok(stdout), Ok(stderr)] = standard else {
            return Err(system("copy standard input and output for the child")(Errno::MFILE));
        };
        let owner = arena.reserve_slot(Role::Child, name)?;
        let kept = [arena.file(), here.lifeline.as_fd()];
        let [file, lifeline] = kept.map(|fd| fd.as_raw_fd());
        let value = format!("{} {file} {lifeline} {}", process::id(), owner.word());
        let started = Command::new(program, &arguments, &[(VARIABLE, value)])
            .and_then(|command| process::spawn(&command, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], &kept))
            .and_then(|pid| Ok((pid, process::open(pid)?)));
        match started {
            Ok((pid, process)) => {
                arena.record_pid(owner, pid);
                Ok(Self { arena, owner, pid, process, status: None })
            }
            Err(errno) => {
                arena.return_slot(owner)?;
                Err(system("start a child process")(errno))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// What locks and messages call it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Waits for its end until the deadline, and gives back what it held; `None` if the deadline passed.
    ///
    /// # Errors
    /// [`Error::StatusLost`] if somebody else has reaped it.
    pub fn wait(&mut self, deadline: Deadline) -> Result<Option<ExitStatus>, Error> {
        while self.status.is_none() {
            // Interrupted by a signal: looks again.
            let ended =
                process::readable(&[self.process.as_fd()], deadline.remaining(SLICE)).is_ok_and(|ready| ready[0]);
            if ended {
                self.status = process::reap(self.pid).flatten();
                let end = self.status.map_or(End::Unknown, End::Status);
                self.arena.clean(self.owner, end)?;
                self.status.ok_or_else(|| self.status_lost())?;
            } else if deadline.passed() {
                return Ok(None);
            }
        }
        Ok(self.status)
    }

    fn status_lost(&self) -> Error {
        let name = self.arena.process(self.owner).map_or_else(String::new, |process| process.name);
        Error::StatusLost { pid: self.pid, name }
    }

    /// Ends it with SIGKILL. [`wait`](Self::wait) for it next.
    ///
    /// # Errors
    /// None that is expected: it is this process's child.
    pub fn kill(&self) -> Result<(), Error> {
        match process::send_signal(self.process.as_fd(), SIGKILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(system("kill a child process")(errno)),
        }
    }

    /// The tag of the message that it had [claimed](crate::ipc::Claim::Tag) and taken when it ended. Known once
    /// [`wait`](Self::wait) has seen its end.
    #[must_use]
    pub fn claimed(&self) -> Option<u64> {
        self.status?;
        self.arena.claimed(self.owner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.kill();
            let _ = self.wait(Deadline::after(Duration::from_secs(5)));
        }
        let _ = self.arena.return_slot(self.owner);
    }
}
