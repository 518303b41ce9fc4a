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
use crate::role::{Fate, TURNED_AWAY, VARIABLE};

const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;

fn reserve(arena: &'static Arena, role: &str) -> Owner {
    arena.reserve_slot(Role::Child, role).expect("the arena has a free slot")
}

/// A process that plays a role. Killed, reaped and cleaned up after when dropped.
#[derive(Debug)]
pub struct Child {
    arena: &'static Arena,
    /// `None` for a guest.
    reserved: Option<Owner>,
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
    /// How a child ends whose slot was given to another before it arrived.
    pub const TURNED_AWAY: ExitStatus = ExitStatus::Exited(TURNED_AWAY as u8);

    /// Starts this program once more, in a role that its `roles!` name.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start(arena: &'static Arena, role: &str, arguments: &[&dyn Display]) -> Self {
        Self::launch(arena, role, Some(reserve(arena, role)), Fate::Spared, arguments)
    }

    /// As [`start`](Self::start), but the child has no slot at first: it gets itself one as a stranger does, when it
    /// first needs one.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start_guest(arena: &'static Arena, role: &str, arguments: &[&dyn Display]) -> Self {
        Self::launch(arena, role, None, Fate::Spared, arguments)
    }

    /// As [`start`](Self::start), but the child dies at the `pass`-th pass through a point of
    /// [`forkless_sys::crash`], counted from before it arrives in its slot.
    ///
    /// # Panics
    /// If the system refuses. In a release build, where there are no such points, the child panics.
    #[must_use]
    pub fn start_doomed(arena: &'static Arena, role: &str, point: &str, pass: u32, arguments: &[&dyn Display]) -> Self {
        Self::launch(arena, role, Some(reserve(arena, role)), Fate::Dies(point, pass), arguments)
    }

    /// [`start_guest`](Self::start_guest) and [`start_doomed`](Self::start_doomed) in one.
    ///
    /// # Panics
    /// If the system refuses. In a release build, where there are no such points, the child panics.
    #[must_use]
    pub fn start_doomed_guest(
        arena: &'static Arena,
        role: &str,
        point: &str,
        pass: u32,
        arguments: &[&dyn Display],
    ) -> Self {
        Self::launch(arena, role, None, Fate::Dies(point, pass), arguments)
    }

    /// As [`start_doomed`](Self::start_doomed), but the child halts there until it is [resumed](Self::resume).
    ///
    /// # Panics
    /// If the system refuses. In a release build, where there are no such points, the child panics.
    #[must_use]
    pub fn start_halting(
        arena: &'static Arena,
        role: &str,
        point: &str,
        pass: u32,
        arguments: &[&dyn Display],
    ) -> Self {
        Self::launch(arena, role, Some(reserve(arena, role)), Fate::Halts(point, pass), arguments)
    }

    fn launch(
        arena: &'static Arena,
        role: &str,
        reserved: Option<Owner>,
        fate: Fate<'_>,
        arguments: &[&dyn Display],
    ) -> Self {
        let lifeline = lifeline().0.as_fd();
        let kept = [arena.file(), lifeline];
        let numbers = kept.map(|fd| fd.as_raw_fd().to_string()).join(" ");
        let mut value = format!("{role} {} {numbers} {}", fate.words(), reserved.map_or(0, Owner::word));
        for argument in arguments {
            value.push_str(&format!(" {argument}"));
        }
        let program = std::env::current_exe().expect("the test program has a path");
        let program = program.to_str().expect("the test program's path is UTF-8");
        let command = Command::new(program, &[], &[(VARIABLE, value)]).expect("no text has a NUL byte");
        let standard = [0, 1, 2].map(|number| process::standard(number).expect("there are free descriptors"));
        let standard = [standard[0].as_fd(), standard[1].as_fd(), standard[2].as_fd()];
        let pid = process::spawn(&command, standard, &kept).expect("the test program can be started");
        if let Some(owner) = reserved {
            arena.record_pid(owner, pid);
        }
        let process = process::open(pid).expect("a child that was not reaped has a descriptor");
        Self { arena, reserved, pid, process, status: None, cleaned: false }
    }

    /// What the arena calls it; `None` for a guest that has no slot yet, or no longer.
    #[must_use]
    pub fn slot(&self) -> Option<Owner> {
        let of_guest = || self.arena.processes().into_iter().find(|process| process.pid == self.pid);
        self.reserved.or_else(|| of_guest().map(|process| process.owner))
    }

    /// What the arena calls it.
    ///
    /// # Panics
    /// If that is nothing: see [`slot`](Self::slot).
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.slot().expect("the child has a slot")
    }

    /// Sends it SIGKILL. Does not wait for its end.
    pub fn kill(&self) {
        // Not reaped, so the only failure, no such process, cannot be.
        let _ = process::send_signal(self.process.as_fd(), SIGKILL);
    }

    /// Waits until it halts, or has ended.
    ///
    /// # Panics
    /// If it does neither within [`PATIENCE`].
    pub fn wait_until_halted(&self) {
        let deadline = Deadline::after(PATIENCE);
        let halted = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
        };
        while !halted() && !self.has_ended() {
            assert!(!deadline.passed(), "process {} has not halted after {PATIENCE:?}: {}", self.pid, self.state());
            std::thread::yield_now();
        }
    }

    /// Lets it go on after it halted.
    pub fn resume(&self) {
        let _ = process::send_signal(self.process.as_fd(), SIGCONT);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Whether it has ended or does so within this time.
    #[must_use]
    pub fn ends_within(&self, bound: Duration) -> bool {
        self.status.is_some() || process::readable(&[self.process.as_fd()], bound).is_ok_and(|ready| ready[0])
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
        while !self.ends_within(Duration::from_secs(1)) {
            assert!(!deadline.passed(), "process {} still runs after {PATIENCE:?}: {}", self.pid, self.state());
        }
        let status = process::reap(self.pid).flatten().expect("nobody else reaps children of a test");
        self.status = Some(status);
        status
    }

    /// What the kernel knows of a process that hangs.
    fn state(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.pid)).unwrap_or_default();
        format!(
            "wchan {}, syscall {}, {:?}",
            read("wchan"),
            read("syscall").trim(),
            self.slot().and_then(|owner| self.arena.process(owner))
        )
    }

    /// Waits for its end and gives back what it held; its slot stays, so that it can be asked what it had claimed.
    ///
    /// # Panics
    /// If it runs for longer than [`PATIENCE`], or cannot be cleaned up after.
    pub fn clean(&mut self) -> ExitStatus {
        let status = self.wait();
        if let (false, Some(owner)) = (self.cleaned, self.slot()) {
            self.arena.clean(owner, End::Status(status)).expect("what a child held can be given back");
            self.cleaned = true;
        }
        status
    }

    /// Leaves what it held to others.
    pub fn abandon(mut self) {
        self.wait();
        self.cleaned = true;
        self.reserved = None;
    }

    /// Waits for its end and gives back all it had, with its slot.
    #[must_use]
    pub fn finish(mut self) -> ExitStatus {
        self.clean()
    }

    /// As [`finish`](Self::finish), after SIGKILL.
    #[must_use]
    pub fn finish_killed(self) -> ExitStatus {
        self.kill();
        self.finish()
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
        if let Some(owner) = self.reserved {
            self.arena.return_slot(owner).expect("the slot of an ended process can be given back");
        }
    }
}
