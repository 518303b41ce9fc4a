//! A child, seen by the process that asked for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use forkless_ipc::Parcel;
use forkless_shm::slot::End;
use forkless_shm::{Arena, Owner};
use forkless_sys::futex::{self, Woken};
use forkless_sys::process::{self, ExitStatus};
use forkless_sys::time::{Deadline, Patience, SLICE, monotonic_ns};
use forkless_sys::{AsFd, AsRawFd, Errno, OwnedFd, RawFd, orphan};

use crate::protocol::Request;
use crate::{Client, Error};

/// A process that this one asked for. It is the template's child; its exit status comes through its slot.
#[derive(Debug)]
pub struct Child {
    arena: &'static Arena,
    owner: Owner,
    /// Who asked for it; a fork by user code has a copy of this object, but not of its duties.
    parent: Owner,
    pid: u32,
    name: String,
    process: OwnedFd,
    client: &'static Client,
    /// Keeps what the job refers to until the child has ended: it may not have read it before.
    job: Mutex<Option<Parcel>>,
    returned: AtomicBool,
    /// When it is to be killed, in nanoseconds of the monotonic clock.
    kill_at: AtomicU64,
    /// How long to wait for the kernel, and for the template, once it has ended and nobody has said how.
    untold: Mutex<Option<(Patience, Patience)>>,
}

/// How long the kernel may take to tell how a process ended that has ended, when the template is gone.
const GRACE: Duration = Duration::from_secs(1);
/// How long the template may take, which knows more: on a busy machine its turn may come late. If it takes longer, what the kernel
/// tells is enough; if that does not tell, the process counts as not ended until the template goes on.
const PATIENCE: Duration = Duration::from_secs(10);

const SIGKILL: i32 = 9;

impl Child {
    pub(crate) fn new(
        arena: &'static Arena,
        owner: Owner,
        pid: u32,
        name: &str,
        client: &'static Client,
        job: Parcel,
    ) -> Result<Self, Error> {
        let process = Self::descriptor(arena, owner, pid)?;
        let name = name.to_owned();
        let parent = arena.me()?;
        let (returned, kill_at) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        let (job, untold) = (Mutex::new(Some(job)), Mutex::new(None));
        Ok(Self { arena, owner, parent, pid, name, process, client, job, returned, kill_at, untold })
    }

    /// A descriptor for the process, or one that is always readable if it has ended already.
    fn descriptor(arena: &'static Arena, owner: Owner, pid: u32) -> Result<OwnedFd, Error> {
        let opened = process::open(pid);
        // If the number is its own now, it was when it was opened.
        match opened {
            Ok(process) if arena.end(owner).is_none() && arena.has_number(owner, pid) => Ok(process),
            Ok(_) | Err(Errno::SRCH) => {
                let (reader, _) = orphan::lifeline().map_err(Error::system("make a sentinel"))?;
                Ok(reader)
            }
            Err(errno) => Err(Error::System { action: "open a descriptor for the child process", errno }),
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor that is readable once the process has ended.
    #[must_use]
    pub fn sentinel(&self) -> RawFd {
        self.process.as_raw_fd()
    }

    /// How it ended, or `None` while it runs. If it has ended and its template has not said so yet, waits for that.
    ///
    /// # Errors
    /// [`Error::StatusLost`] if it ended and nobody knows how.
    pub fn poll(&self) -> Result<Option<ExitStatus>, Error> {
        self.poll_within(PATIENCE)
    }

    /// As [`Self::poll`], but waits for the template for at most `bound`.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn poll_within(&self, bound: Duration) -> Result<Option<ExitStatus>, Error> {
        match self.end_within(bound) {
            None => Ok(None),
            Some(End::Status(status)) => Ok(Some(status)),
            Some(End::Unknown | End::NotStarted(_)) => {
                Err(Error::StatusLost { pid: self.pid, name: self.name.clone() })
            }
        }
    }

    fn end(&self) -> Option<End> {
        self.end_within(PATIENCE)
    }

    fn end_within(&self, bound: Duration) -> Option<End> {
        let end = self.find_end(bound)?;
        // It needs its job no more, and others may wait for what the job refers to. Somebody else who is at it does it.
        if let Ok(mut job) = self.job.try_lock() {
            *job = None;
        }
        Some(end)
    }

    fn find_end(&self, bound: Duration) -> Option<End> {
        if let Some(end) = self.arena.end(self.owner) {
            return Some(end);
        }
        if !process::ended(self.process.as_fd()) {
            if monotonic_ns() >= self.kill_at.load(Ordering::Relaxed) {
                // The template has been told too, but it may be gone.
                let _ = process::send_signal(self.process.as_fd(), SIGKILL);
            }
            return None;
        }
        // Ended, but not written down yet: the template is about to, or is gone.
        let until = Deadline::after(bound);
        loop {
            // Before the end is looked for: what a template has done before its own end is seen.
            let has_template = self.client.is_alive();
            if let Some(end) = self.arena.end(self.owner) {
                return Some(end);
            }
            let is_late = self.is_late(has_template);
            if (is_late || !has_template)
                && let Some(status) = process::exit_status_of_other(self.process.as_fd(), self.pid)
            {
                return Some(self.end_without_template(End::Status(status)));
            }
            match (is_late, has_template) {
                // It was stopped, and will tell when it goes on.
                (true, true) => return None,
                (true, false) => return Some(self.end_without_template(End::Unknown)),
                (false, _) if until.passed() => return None,
                (false, _) => {}
            }
            if let Some(word) = self.arena.end_word(self.owner) {
                futex::wait(word, 0, Duration::from_millis(5));
            }
        }
    }

    /// Counts a look that came to nothing: whether it was the last.
    fn is_late(&self, has_template: bool) -> bool {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let (kernel, template) = untold.get_or_insert_with(|| (Patience::new(GRACE), Patience::new(PATIENCE)));
        if has_template { template.is_over() } else { kernel.is_over() }
    }

    /// Does the template's work when it is gone, or does not come to it: what the child held is given back.
    fn end_without_template(&self, end: End) -> End {
        let _ = self.arena.clean(self.owner, end);
        self.arena.end(self.owner).unwrap_or(end)
    }

    /// Whether it has become another program, by `exec`: it runs, and is none of ours any more. A child that is about to end
    /// looks like that for a moment.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.arena.is_dead(self.owner) && self.arena.end(self.owner).is_none() && !process::ended(self.process.as_fd())
    }

    /// Waits for its end, at most `bound` (and at most 50 ms). Whether a signal handler ran.
    pub fn wait_within(&self, bound: Duration) -> bool {
        let Some(end) = self.arena.end_word(self.owner) else { return false };
        let bound = bound.min(SLICE);
        let woken = match self.client.liveness(self.arena) {
            Some(template) => futex::wait_either((end, 0), template, bound),
            None => match process::readable(&[self.process.as_fd()], bound) {
                Err(Errno::INTR) => Woken::Interrupted,
                _ => Woken::Look,
            },
        };
        woken == Woken::Interrupted
    }

    /// Sends it a signal, unless it has ended.
    ///
    /// # Errors
    /// [`Error::System`] for a number that is no signal.
    pub fn signal(&self, number: i32) -> Result<(), Error> {
        if self.arena.end(self.owner).is_some() {
            return Ok(());
        }
        match process::send_signal(self.process.as_fd(), number) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::System { action: "send a signal", errno }),
        }
    }

    /// Sends it a signal, and SIGKILL after `grace` if it has not ended then; of several such moments the first counts.
    ///
    /// The template keeps the time. Without a template, whoever asks about this child or waits for it does.
    ///
    /// # Errors
    /// As [`Self::signal`].
    pub fn signal_then_kill(&self, number: i32, grace: Duration) -> Result<(), Error> {
        let nanoseconds = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        let at = monotonic_ns().saturating_add(nanoseconds);
        self.signal(number)?;
        if self.kill_at.fetch_min(at, Ordering::Relaxed) > at && self.arena.end(self.owner).is_none() {
            let _ = self.client.send(Request::Kill { owner: self.owner, at }, &[]);
        }
        Ok(())
    }

    /// The tag of the message that it had claimed and taken when it died.
    #[must_use]
    pub fn claimed(&self) -> Option<u64> {
        self.end()?;
        self.arena.claimed(self.owner)
    }

    /// The tag of the message that it has claimed, while it lives.
    #[must_use]
    pub fn claiming(&self) -> Option<u64> {
        self.arena.claiming(self.owner)
    }

    /// What it wrote when a fatal signal ended it, if it did.
    #[must_use]
    pub fn last_words(&self) -> Option<String> {
        match self.end()? {
            End::Status(ExitStatus::Signaled(_)) | End::Unknown if !self.returned.load(Ordering::Acquire) => {
                self.arena.last_words(self.owner)
            }
            _ => None,
        }
    }

    /// The most memory that was resident in it, in bytes, once it has ended: see
    /// [`Reaped::peak_memory`](process::Reaped::peak_memory). `None` if the template was killed before it.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        self.end()?;
        self.arena.peak_memory(self.owner)
    }

    /// Gives back its slot.
    ///
    /// # Errors
    /// [`Error::StillRunning`].
    pub fn close(&self) -> Result<(), Error> {
        if self.end().is_none() {
            return Err(Error::StillRunning { pid: self.pid, name: self.name.clone() });
        }
        if !self.returned.swap(true, Ordering::AcqRel) {
            self.arena.return_slot(self.owner)?;
        }
        Ok(())
    }
}

impl Drop for Child {
    /// A child that still runs is nobody's from now on: whoever cleans up after it frees its slot too.
    fn drop(&mut self) {
        if !self.arena.is_me(self.parent) {
            return;
        }
        let _ = self.arena.disown(self.owner);
        if self.arena.end(self.owner).is_some() {
            let _ = self.close();
        }
    }
}
