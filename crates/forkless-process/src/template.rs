//! The template: a single-threaded process that starts every child of its tree and learns how each ends.
//!
//! One `poll` over its listener, its connections, the processes it watches and SIGCHLD. It dies with its root; before
//! that it kills every child. It is told what to do by requests and answers through the arena, so nobody ever waits
//! for it to read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use forkless_ipc::{KINDS, Parcel};
use forkless_shm::slot::End;
use forkless_shm::{Arena, Handle, Owner};
use forkless_sys::process::{self, Command};
use forkless_sys::{AsFd, AsRawFd, BorrowedFd, Errno, OwnedFd, crash, orphan, proc, socket};

use crate::client::Invitation;
use crate::protocol::{Method, Request, SIZE};
use crate::{Error, client};

/// What a child has to do.
#[derive(Debug)]
pub struct Job {
    parcel: Parcel,
    /// How it was started.
    pub method: Method,
}

impl Job {
    /// The bytes that the parent gave.
    ///
    /// # Errors
    /// [`forkless_shm::Error::Corrupt`] if they are damaged.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.parcel.bytes()?)
    }
}

/// The two returns of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// In the template: the child's pid.
    Parent(u32),
    /// In the child.
    Child,
}

/// The reason given in a slot when the template has threads; no error number is as large.
pub(crate) const THREADS: u16 = u16::MAX;

/// How long the children may take to be gone once they were killed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The program text that a spawned interpreter runs in place of the template's.
pub(crate) const SPAWNED_CODE: &str = "from forkless._spawned import main; main()";

struct Template {
    arena: &'static Arena,
    listener: OwnedFd,
    signals: OwnedFd,
    root: OwnedFd,
    lifeline: OwnedFd,
    /// Held open for its life; see [`orphan`].
    _lifeline_held: OwnedFd,
    name: String,
    me: Owner,
    connections: Vec<OwnedFd>,
    children: HashMap<u32, Owner>,
    /// Processes of the tree that are nobody's child here: the root, forks by user code, strangers.
    watched: Vec<(OwnedFd, u32)>,
}

/// Serves until the root ends. Returns in each child, with its job. `ready` gets the name of the tree's socket once;
/// `fork` forks the process as its language runtime wants it done.
///
/// # Errors
/// [`Error::Protocol`] when not started by a [`Client`](crate::Client).
pub fn serve(ready: impl FnOnce(&str), mut fork: impl FnMut() -> Result<Fork, Errno>) -> Result<Job, Error> {
    let invitation = Invitation::from_environment()?;
    let mut template = Template::enter(invitation)?;
    ready(&template.name);
    loop {
        if let Some(job) = template.turn(&mut fork)? {
            return Ok(job);
        }
    }
}

/// The start of a spawned child: joins the arena it was given and returns its job.
///
/// # Errors
/// [`Error::Protocol`] when not started by a template.
pub fn adopt() -> Result<Job, Error> {
    let ticket = client::Ticket::from_environment()?;
    process::close_all_but(&[ticket.arena.as_raw_fd(), ticket.lifeline.as_raw_fd()]);
    let arena = Arena::join(ticket.arena, KINDS)?;
    client::set_template(&ticket.name, ticket.template);
    process::unblock_interrupts();
    begin(arena, ticket.owner, ticket.lifeline.as_fd(), ticket.job, Method::Spawn)
}

/// In a new child: takes its slot and its job. Exits where there is no sense in going on.
fn begin(
    arena: &'static Arena,
    owner: Owner,
    lifeline: BorrowedFd<'_>,
    job: Handle,
    method: Method,
) -> Result<Job, Error> {
    match orphan::die_with(lifeline) {
        // Open for the rest of this process's life.
        Ok(own) => std::mem::forget(own),
        Err(_) => process::exit_now(1),
    }
    arena.arrive(owner)?;
    Ok(Job { parcel: Parcel::open(arena, job)?, method })
}

impl Template {
    fn enter(invitation: Invitation) -> Result<Self, Error> {
        let Invitation { arena, listener, lifeline, lifeline_held, root_pid, owner, name } = invitation;
        let keep = [&arena, &listener, &lifeline, &lifeline_held].map(AsRawFd::as_raw_fd);
        process::close_all_but(&keep);
        let root = process::open(root_pid).map_err(Error::system("watch the main process"))?;
        if process::parent_id() != root_pid {
            process::exit_now(0);
        }
        let signals = process::child_signals().map_err(Error::system("watch children"))?;
        let arena = Arena::join(arena, KINDS)?;
        arena.arrive(owner)?;
        client::set_template(&name, owner);
        process::unblock_interrupts();
        Ok(Self {
            arena,
            listener,
            signals,
            root,
            lifeline,
            _lifeline_held: lifeline_held,
            name,
            me: owner,
            connections: Vec::new(),
            children: HashMap::new(),
            watched: Vec::new(),
        })
    }

    /// Waits for something to happen and sees to it. `Some` in a new child.
    fn turn(&mut self, fork: &mut impl FnMut() -> Result<Fork, Errno>) -> Result<Option<Job>, Error> {
        let fixed = [self.root.as_fd(), self.signals.as_fd(), self.listener.as_fd()];
        let connections = self.connections.iter().map(AsFd::as_fd);
        let watched = self.watched.iter().map(|(process, _)| process.as_fd());
        let all: Vec<_> = fixed.into_iter().chain(connections).chain(watched).collect();
        // SIGCHLD can be lost to a signal handler of a preloaded module; look for ended children now and then.
        let Ok(ready) = process::readable(&all, Duration::from_secs(1)) else { return Ok(None) };
        let (root, signals, listener) = (ready[0], ready[1], ready[2]);
        let connections = ready[3..3 + self.connections.len()].to_vec();
        let watched = ready[3 + self.connections.len()..].to_vec();

        if signals {
            process::drain(self.signals.as_fd());
        }
        self.reap()?;
        if root {
            self.end();
        }
        for index in (0..watched.len()).rev().filter(|&index| watched[index]) {
            let (_, pid) = self.watched.swap_remove(index);
            self.clean_up_after(pid)?;
        }
        for index in (0..connections.len()).rev().filter(|&index| connections[index]) {
            if let Some(job) = self.answer(index, fork)? {
                return Ok(Some(job));
            }
        }
        if listener {
            self.accept();
        }
        Ok(None)
    }

    fn accept(&mut self) {
        let connection = match socket::accept(self.listener.as_fd()) {
            Ok(Some(connection)) => connection,
            Ok(None) => return,
            Err(_) => {
                // Out of descriptors, most likely: the oldest connection makes room, its owner will connect anew.
                if !self.connections.is_empty() {
                    self.connections.remove(0);
                }
                return;
            }
        };
        if let Ok(pid) = socket::peer_pid(connection.as_fd()) {
            let known = self.children.contains_key(&pid) || self.watched.iter().any(|(_, watched)| *watched == pid);
            if !known && let Ok(process) = process::open(pid) {
                self.watched.push((process, pid));
            }
        }
        self.connections.push(connection);
    }

    /// Reads one request and does it.
    fn answer(&mut self, index: usize, fork: &mut impl FnMut() -> Result<Fork, Errno>) -> Result<Option<Job>, Error> {
        let mut bytes = [0; SIZE];
        let received = socket::receive(self.connections[index].as_fd(), &mut bytes);
        let request = match received {
            Ok((length, descriptors)) if length > 0 => {
                Request::from_bytes(&bytes[..length]).map(|request| (request, descriptors))
            }
            // Closed, broken, or nonsense: that connection ends, the others are served.
            _ => Err(Error::Protocol("closed")),
        };
        match request {
            Ok((Request::Start { method, owner, job }, descriptors)) => {
                self.start(method, owner, job, &descriptors, fork)
            }
            Ok((Request::Attach, _)) => {
                let file = self.arena.file();
                if socket::send(self.connections[index].as_fd(), &[0], &[file]).is_err() {
                    self.connections.swap_remove(index);
                }
                Ok(None)
            }
            Ok((Request::Shutdown, _)) => self.end(),
            Err(_) => {
                self.connections.swap_remove(index);
                Ok(None)
            }
        }
    }

    fn start(
        &mut self,
        method: Method,
        owner: Owner,
        job: Handle,
        standard: &[OwnedFd],
        fork: &mut impl FnMut() -> Result<Fork, Errno>,
    ) -> Result<Option<Job>, Error> {
        let [stdin, stdout, stderr] = standard else {
            self.refuse(owner, Errno::INVAL.raw_os_error() as u16);
            return Ok(None);
        };
        let standard = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        crash::point("template.start");
        let started = match method {
            Method::Forkserver if proc::thread_count().is_some_and(|count| count > 1) => {
                self.refuse(owner, THREADS);
                return Ok(None);
            }
            Method::Forkserver => fork(),
            Method::Spawn => self.spawn(owner, job, standard).map(Fork::Parent),
        };
        match started {
            Ok(Fork::Child) => self.become_child(owner, job, standard).map(Some),
            Ok(Fork::Parent(pid)) => {
                self.children.insert(pid, owner);
                self.arena.record_pid(owner, pid);
                Ok(None)
            }
            Err(errno) => {
                self.refuse(owner, errno.raw_os_error() as u16);
                Ok(None)
            }
        }
    }

    fn refuse(&self, owner: Owner, reason: u16) {
        self.arena.record_end(owner, End::NotStarted(reason));
    }

    fn spawn(&self, owner: Owner, job: Handle, standard: [BorrowedFd<'_>; 3]) -> Result<u32, Errno> {
        let file = self.arena.file();
        let ticket =
            client::Ticket::variable(file.as_raw_fd(), self.lifeline.as_raw_fd(), self.me, owner, job, &self.name);
        let mut command = client::own_command().ok_or(Errno::NOENT)?;
        if let Some(code) = command.last_mut() {
            *code = code.replace(client::TEMPLATE_CODE, SPAWNED_CODE);
        }
        let Some((program, arguments)) = command.split_first() else { return Err(Errno::NOENT) };
        let command = Command::new(program, arguments, &[ticket])?;
        process::spawn(&command, standard, &[file, self.lifeline.as_fd()])
    }

    /// In the forked child, which drops the template's descriptors when it leaves [`serve`].
    fn become_child(&mut self, owner: Owner, job: Handle, standard: [BorrowedFd<'_>; 3]) -> Result<Job, Error> {
        process::unblock_child_signals();
        for (target, source) in (0..).zip(standard) {
            process::set_standard(source, target).map_err(Error::system("set up standard input and output"))?;
        }
        begin(self.arena, owner, self.lifeline.as_fd(), job, Method::Forkserver)
    }

    /// Writes down how each ended child ended and gives back what it held.
    fn reap(&mut self) -> Result<(), Error> {
        while let Some((pid, status)) = process::reap_any() {
            if let Some(owner) = self.children.remove(&pid) {
                self.kill_children_of(owner);
                self.arena.clean(owner, End::Status(status))?;
            }
        }
        Ok(())
    }

    /// Children end with their parent.
    fn kill_children_of(&self, owner: Owner) {
        for (pid, child) in &self.children {
            if self.arena.process(*child).and_then(|child| child.parent) == Some(owner) {
                process::kill_child(*pid);
            }
        }
    }

    fn clean_up_after(&mut self, pid: u32) -> Result<(), Error> {
        for process in self.arena.processes() {
            if process.pid == pid && process.live {
                self.kill_children_of(process.owner);
                self.arena.clean(process.owner, End::Unknown)?;
            }
        }
        Ok(())
    }

    /// Ends this process and every child.
    fn end(&mut self) -> ! {
        let until = Instant::now() + LAST_WORDS;
        for pid in self.children.keys() {
            process::kill_child(*pid);
        }
        while !self.children.is_empty() && Instant::now() < until {
            let _ = process::readable(&[self.signals.as_fd()], Duration::from_millis(50));
            process::drain(self.signals.as_fd());
            if self.reap().is_err() {
                break;
            }
        }
        process::exit_now(0)
    }
}
