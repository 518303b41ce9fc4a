//! The parent's side of a child.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::Duration;

use forkless_shm::slot::End;
use forkless_shm::{Arena, Owner, Role};
use forkless_sys::process::{self, Command, ExitStatus};
use forkless_sys::time::Deadline;
use forkless_sys::{AsFd, AsRawFd, OwnedFd, orphan};

use crate::PATIENCE;
use crate::role::{UNARMED, VARIABLE};

const SIGKILL: i32 = 9;

/// A process that plays a role. Killed, reaped and cleaned up after when dropped.
#[derive(Debug)]
pub struct Child {
    arena: &'static Arena,
    owner: Owner,
    pid: u32,
    process: OwnedFd,
    status: Option<ExitStatus>,
    cleaned: bool,
}

/// The pipe whose end kills the children: its write end is closed when this process ends, however that happens.
fn lifeline() -> &'static (OwnedFd, OwnedFd) {
    static LIFELINE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();
    LIFELINE.get_or_init(|| orphan::lifeline().expect("a pipe can be made"))
}

impl Child {
    /// Starts this program once more, in a role that its `roles!` name.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start(arena: &'static Arena, role: &str, arguments: &[&dyn Display]) -> Self {
        Self::launch(arena, role, UNARMED, 0, arguments)
    }

    /// As [`start`](Self::start), but the child dies at the `passes`-th pass through a point of
    /// [`forkless_sys::crash`], counted from before it arrives in its slot.
    ///
    /// # Panics
    /// If the system refuses. In a release build, where there are no such points, the child panics.
    #[must_use]
    pub fn start_doomed(
        arena: &'static Arena,
        role: &str,
        point: &str,
        passes: u32,
        arguments: &[&dyn Display],
    ) -> Self {
        Self::launch(arena, role, point, passes, arguments)
    }

    fn launch(arena: &'static Arena, role: &str, point: &str, passes: u32, arguments: &[&dyn Display]) -> Self {
        let owner = arena.reserve_slot(Role::Child, role).expect("the arena has a free slot");
        let lifeline = lifeline().0.as_fd();
        let kept = [arena.file(), lifeline];
        let numbers = kept.map(|fd| fd.as_raw_fd().to_string()).join(" ");
        let mut value = format!("{role} {point} {passes} {numbers} {}", owner.word());
        for argument in arguments {
            value.push_str(&format!(" {argument}"));
        }
        let program = std::env::current_exe().expect("the test program has a path");
        let program = program.to_str().expect("the test program's path is UTF-8");
        let command = Command::new(program, &[], &[(VARIABLE, value)]).expect("no text has a NUL byte");
        let standard = [0, 1, 2].map(|number| process::standard(number).expect("there are free descriptors"));
        let standard = [standard[0].as_fd(), standard[1].as_fd(), standard[2].as_fd()];
        let pid = process::spawn(&command, standard, &kept).expect("the test program can be started");
        arena.record_pid(owner, pid);
        let process = process::open(pid).expect("a child that was not reaped has a descriptor");
        Self { arena, owner, pid, process, status: None, cleaned: false }
    }

    /// What the arena calls it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Sends it SIGKILL. Does not wait for its end.
    pub fn kill(&self) {
        // Not reaped, so the only failure, no such process, cannot be.
        let _ = process::send_signal(self.process.as_fd(), SIGKILL);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.status.is_some() || process::ended(self.process.as_fd())
    }

    /// Waits for its end and reaps it, but gives back nothing of what it held.
    ///
    /// # Panics
    /// If it runs for longer than [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let deadline = Deadline::after(PATIENCE);
        while !process::readable(&[self.process.as_fd()], Duration::from_secs(1)).is_ok_and(|ready| ready[0]) {
            assert!(!deadline.passed(), "process {} still runs after {PATIENCE:?}: {}", self.pid, self.state());
        }
        let status = process::reap(self.pid).flatten().expect("nobody else reaps children of a test");
        self.status = Some(status);
        status
    }

    /// What the kernel knows of a process that hangs.
    fn state(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.pid)).unwrap_or_default();
        format!("wchan {}, syscall {}, {:?}", read("wchan"), read("syscall").trim(), self.arena.process(self.owner))
    }

    /// Waits for its end and gives back what it held; its slot stays, so that it can be asked what it had claimed.
    ///
    /// # Panics
    /// If it runs for longer than [`PATIENCE`], or cannot be cleaned up after.
    pub fn clean(&mut self) -> ExitStatus {
        let status = self.wait();
        if !self.cleaned {
            self.arena.clean(self.owner, End::Status(status)).expect("what a child held can be given back");
            self.cleaned = true;
        }
        status
    }

    /// Waits for its end and gives back all it had, with its slot.
    pub fn finish(mut self) -> ExitStatus {
        self.clean()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The first failure is the one to be read; the lifeline ends the process.
            self.kill();
            return;
        }
        if self.status.is_none() {
            self.kill();
        }
        self.clean();
        self.arena.return_slot(self.owner).expect("the slot of an ended process can be given back");
    }
}
