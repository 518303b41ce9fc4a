//! The template: a single-threaded process that starts every child of its tree and learns how each ends.
//!
//! One `poll` over its listener, its connections, the processes it watches and SIGCHLD. It dies with its root; before
//! that it kills every child. It is told what to do by requests and answers through the arena, so nobody ever waits
//! for it to read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use forkless_ipc::{Deposit, KINDS, Parcel};
use forkless_shm::slot::End;
use forkless_shm::{Arena, Handle, Owner, Role};
use forkless_sys::crash::point;
use forkless_sys::process::{self, Command, Reaped, StreamsIdentity};
use forkless_sys::time::monotonic_ns;
use forkless_sys::{AsFd, AsRawFd, BorrowedFd, Errno, OwnedFd, orphan, proc, socket};

use crate::invitation::{Invitation, Ticket, own_command};
use crate::keeper::Keeper;
use crate::protocol::{Method, Request, SIZE};
use crate::{Error, client};

/// What a child has to do.
#[derive(Debug)]
pub struct Job {
    parcel: Arc<Parcel>,
    /// How it was started.
    pub method: Method,
    /// Whether the standard streams are those that the template had when it [learned](Runtime::learn).
    pub has_streams: bool,
}

impl Job {
    /// What it came in: whoever uses it in place keeps it.
    #[must_use]
    pub fn parcel(&self) -> &Arc<Parcel> {
        &self.parcel
    }

    /// The bytes that the parent gave.
    ///
    /// # Errors
    /// [`forkless_shm::Error::Corrupt`] if they are damaged.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.parcel.bytes()?)
    }

    /// The job has been loaded: descriptors that came with it are this child's now, and the template's copies go, so that
    /// their other ends see when this child closes them.
    ///
    /// # Errors
    /// [`forkless_shm::Error::Corrupt`] if shared memory is damaged.
    pub fn loaded(&self) -> Result<(), Error> {
        Ok(self.parcel.let_go(Deposit::KIND)?)
    }
}

/// What a template leaves to its language's runtime.
pub trait Runtime {
    /// The tree's socket has this name from now on. Called once, before any fork.
    fn ready(&mut self, name: &str);

    /// Forks the process, as the runtime wants it done.
    ///
    /// # Errors
    /// What the system says if it refuses.
    fn fork(&mut self) -> Result<Fork, Errno>;

    /// Makes the template more like the children to come, so that they have less to do: what they will take over from the
    /// root is in the block that this names, and during the call this process's standard streams are theirs. Called
    /// when there is time; a child may come before.
    fn learn(&mut self, surroundings: Handle);

    /// In a standby, before it is known to anybody: does once what a job will ask of it.
    fn rehearse(&mut self);

    /// Which of the modules that the template has loaded have left threads, by name.
    fn suspects(&mut self) -> String;

    /// Which of them have opened a device that forked processes cannot use, by name; none in most templates.
    fn openers(&mut self) -> String;
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

/// The same when what it has loaded has a device open that its children could not use.
pub(crate) const DEVICE: u16 = u16::MAX - 1;

/// The template, in itself and in what it forks.
static TEMPLATE: AtomicU32 = AtomicU32::new(0);

/// Whether the template had other threads when it was last forked, at the last moment before: libraries that stop their
/// threads for a fork (OpenBLAS for one) have done so by then, as their handlers were registered later than ours.
static HAD_THREADS: AtomicBool = AtomicBool::new(false);

extern "C" fn count_threads() {
    if TEMPLATE.load(Ordering::Relaxed) == process::id() {
        HAD_THREADS.store(proc::thread_count().is_none_or(|count| count > 1), Ordering::Relaxed);
    }
}

/// A child that may have inherited locks held by threads that it does not have does nothing at all.
extern "C" fn give_up_with_threads() {
    if HAD_THREADS.swap(false, Ordering::Relaxed) {
        process::exit_now(1);
    }
}

/// How many standbys wait once somebody has asked for a child.
const STANDBYS: usize = 2;

/// How long it must have been quiet before a standby is forked, with one processor: a child that was just started has
/// it first.
const QUIET: Duration = Duration::from_millis(2);

/// How often to look for what announces itself to nobody: lost SIGCHLDs, other standard streams of the root.
const TICK: Duration = Duration::from_secs(1);

/// How often to look whether what is kept is still wanted, should a wake-up be lost.
const LOOK: Duration = Duration::from_millis(50);

/// What no three streams are.
const NO_STREAMS: StreamsIdentity = u64::MAX;

/// How long the children may take to be gone once they were killed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The program text that a spawned interpreter runs in place of the template's.
pub(crate) const SPAWNED_CODE: &str = "from forkless._spawned import main; main()";

struct Template {
    arena: &'static Arena,
    listener: OwnedFd,
    signals: OwnedFd,
    root: OwnedFd,
    root_pid: u32,
    lifeline: OwnedFd,
    /// Held open for its life; see [`orphan`].
    _lifeline_held: OwnedFd,
    name: String,
    pid: u32,
    me: Owner,
    connections: Vec<OwnedFd>,
    children: HashMap<u32, Owner>,
    standbys: Vec<Owner>,
    /// No more standbys; the end comes with the last child.
    retired: bool,
    /// Children to be killed, and when, in nanoseconds of the monotonic clock.
    doomed: Vec<(Owner, u64)>,
    /// The root's standard streams, which standbys have as theirs; none before the first child, and none while the root
    /// has others: a pipe must not be kept open by a process that nobody knows.
    streams: Option<[OwnedFd; 3]>,
    /// Standbys that are wanted and not there.
    missing: usize,
    /// How long to wait before forking those.
    quiet: Duration,
    /// What children take over, and under which streams that has been learned.
    surroundings: Option<Handle>,
    learned: Option<StreamsIdentity>,
    /// Processes of the tree that are nobody's child here: the root, forks by user code, strangers.
    watched: Vec<(OwnedFd, u32)>,
    /// Descriptors on their way.
    keeper: Keeper,
    ticked: Instant,
}

/// Serves until the root ends. Returns in each child, with its job.
///
/// # Errors
/// [`Error::Protocol`] when not started by a [`Client`](crate::Client).
pub fn serve(runtime: &mut impl Runtime) -> Result<Job, Error> {
    let invitation = Invitation::from_environment()?;
    let mut template = Template::enter(invitation)?;
    runtime.ready(&template.name);
    loop {
        if let Some(birth) = template.turn(runtime)? {
            let arena = template.arena;
            let parent = (template.pid, template.me);
            // The template's descriptors go before anything of the child's happens.
            drop(template);
            return birth.run(arena, parent, runtime);
        }
    }
}

/// The start of a spawned child: joins the arena it was given and returns its job.
///
/// # Errors
/// [`Error::Protocol`] when not started by a template.
pub fn adopt() -> Result<Job, Error> {
    let ticket = Ticket::from_environment()?;
    process::close_all_but(&[ticket.arena.as_raw_fd(), ticket.lifeline.as_raw_fd()]);
    die_with(ticket.lifeline.as_fd());
    let arena = Arena::join(ticket.arena, KINDS)?;
    client::set_origin(&ticket.name, ticket.template);
    client::be_of_origin();
    or_turn_round(arena.arrive(ticket.owner))?;
    point("child.arrived");
    let parcel = Arc::new(or_turn_round(Parcel::open(arena, ticket.job))?);
    Ok(Job { parcel, method: Method::Spawn, has_streams: false })
}

/// Ends this process, which nobody waits for, if whoever asked for it has given up: no error, and nothing to tell.
fn or_turn_round<T>(result: Result<T, forkless_shm::Error>) -> Result<T, Error> {
    match result {
        Err(forkless_shm::Error::Stale(_)) => process::exit_now(1),
        other => Ok(other?),
    }
}

/// Ties this child's life to its tree's. There is no sense in going on without.
fn die_with(lifeline: BorrowedFd<'_>) {
    match orphan::die_with(lifeline) {
        // Open for the rest of this process's life.
        Ok(own) => std::mem::forget(own),
        Err(_) => process::exit_now(1),
    }
}

/// A forked child that is about to leave the template's code.
enum Birth {
    /// With a job, and perhaps with the streams that the template has learned.
    Child(Owner, Handle, bool),
    /// To wait for one, and perhaps with those streams.
    Standby(Owner, bool),
}

impl Birth {
    fn run(self, arena: &'static Arena, template: (u32, Owner), runtime: &mut impl Runtime) -> Result<Job, Error> {
        let (job, has_streams) = match self {
            Self::Child(owner, job, has_streams) => {
                or_turn_round(arena.arrive(owner))?;
                point("child.arrived");
                (job, has_streams)
            }
            Self::Standby(owner, has_streams) => {
                arena.arrive(owner)?;
                runtime.rehearse();
                point("standby.rehearsed");
                (Self::wait(arena, template)?, has_streams)
            }
        };
        let parcel = Arc::new(or_turn_round(Parcel::open(arena, job))?);
        Ok(Job { parcel, method: Method::Forkserver, has_streams })
    }

    fn wait(arena: &'static Arena, (template, origin): (u32, Owner)) -> Result<Handle, Error> {
        let me = arena.offer_standby(origin)?;
        point("standby.offered");
        loop {
            if let Some(job) = arena.assignment_within(me, TICK)? {
                point("standby.assigned");
                return Ok(job);
            }
            // A claimed one has its job in a moment, whoever reaps it afterwards.
            if process::parent_id() != template && arena.withdraw_standby(me)? {
                process::exit_now(0);
            }
        }
    }
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
        client::set_origin(&name, owner);
        TEMPLATE.store(process::id(), Ordering::Relaxed);
        process::at_fork(Some(count_threads), give_up_with_threads);
        Ok(Self {
            arena,
            listener,
            signals,
            root,
            root_pid,
            lifeline,
            _lifeline_held: lifeline_held,
            name,
            me: owner,
            connections: Vec::new(),
            children: HashMap::new(),
            standbys: Vec::new(),
            retired: false,
            doomed: Vec::new(),
            streams: None,
            missing: 0,
            quiet: if process::processors() > 1 { Duration::ZERO } else { QUIET },
            surroundings: None,
            learned: None,
            pid: process::id(),
            watched: Vec::new(),
            keeper: Keeper::new(arena),
            ticked: Instant::now(),
        })
    }

    /// Waits for something to happen and sees to it. `Some` in a new child.
    fn turn(&mut self, runtime: &mut impl Runtime) -> Result<Option<Birth>, Error> {
        self.keeper.sweep();
        if self.retired && self.children.is_empty() && self.keeper.is_empty() {
            self.end();
        }
        let next_kill = self.kill_doomed();
        let fixed = [self.root.as_fd(), self.signals.as_fd(), self.listener.as_fd()];
        let connections = self.connections.iter().map(AsFd::as_fd);
        let watched = self.watched.iter().map(|(process, _)| process.as_fd());
        let all: Vec<_> = fixed.into_iter().chain(connections).chain(watched).collect();
        let look = if self.keeper.is_empty() { TICK } else { LOOK };
        let patience = if self.missing > 0 { self.quiet } else { look }.min(next_kill);
        let Ok(ready) = process::readable(&all, patience) else { return Ok(None) };
        if !ready.contains(&true) {
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                // Copies that user code has made of processes of the tree.
                self.arena.clean_up_after_guests()?;
            }
            return self.idle(runtime);
        }
        let (root, signals, listener) = (ready[0], ready[1], ready[2]);
        let connections = ready[3..3 + self.connections.len()].to_vec();
        let watched = ready[3 + self.connections.len()..].to_vec();

        if signals {
            process::drain(self.signals.as_fd());
        }
        self.reap()?;
        if root {
            // It may have been a guest in an arena that lives on.
            self.clean_up_after(self.root_pid)?;
            self.end();
        }
        for index in (0..watched.len()).rev().filter(|&index| watched[index]) {
            let (_, pid) = self.watched.swap_remove(index);
            self.clean_up_after(pid)?;
        }
        for index in (0..connections.len()).rev().filter(|&index| connections[index]) {
            if let Some(birth) = self.answer(index, runtime)? {
                return Ok(Some(birth));
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
    fn answer(&mut self, index: usize, runtime: &mut impl Runtime) -> Result<Option<Birth>, Error> {
        let mut bytes = [0; SIZE];
        let received = socket::receive(self.connections[index].as_fd(), &mut bytes);
        let request = match received {
            Ok((length, descriptors)) if length > 0 => {
                Request::from_bytes(&bytes[..length]).map(|request| (request, descriptors))
            }
            // There was no room for the descriptors.
            Err(Errno::MSGSIZE) => Request::from_bytes(&bytes).map(|request| (request, Vec::new())),
            // Closed, broken, or nonsense: that connection ends, the others are served.
            _ => Err(Error::Protocol("closed")),
        };
        match request {
            Ok((Request::Start { method, owner, job }, descriptors)) => {
                self.start(method, owner, job, descriptors, runtime)
            }
            Ok((Request::Refill, _)) => {
                self.count_missing();
                Ok(None)
            }
            Ok((Request::Attach, _)) => {
                let file = self.arena.file();
                if socket::send(self.connections[index].as_fd(), &[0], &[file]).is_err() {
                    self.connections.swap_remove(index);
                }
                Ok(None)
            }
            Ok((Request::Retire, _)) => {
                self.retired = true;
                self.dismiss_standbys()?;
                point("template.retired");
                self.count_missing();
                Ok(None)
            }
            Ok((Request::Shutdown, _)) => self.end(),
            Ok((Request::Kill { owner, at }, _)) => {
                self.doomed.push((owner, at));
                Ok(None)
            }
            Ok((Request::Learn { surroundings }, _)) => {
                (self.surroundings, self.learned) = (Some(surroundings), None);
                Ok(None)
            }
            Ok((Request::Keep { deposit }, mut descriptors)) => {
                self.keeper.keep(deposit, descriptors.pop(), self.connections.len() + self.watched.len());
                Ok(None)
            }
            Ok((Request::Redeem { deposit }, _)) => {
                if self.keeper.redeem(deposit, self.connections[index].as_fd()).is_err() {
                    self.connections.swap_remove(index);
                }
                Ok(None)
            }
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
        standard: Vec<OwnedFd>,
        runtime: &mut impl Runtime,
    ) -> Result<Option<Birth>, Error> {
        let Ok(owned) = <[OwnedFd; 3]>::try_from(standard) else {
            self.refuse(owner, Errno::INVAL.raw_os_error() as u16);
            return Ok(None);
        };
        point("start.received");
        if self.streams.is_none() && method == Method::Forkserver {
            // Now rather than later: what a template writes to is no longer shared with children it has.
            let [Ok(stdin), Ok(stdout), Ok(stderr)] = owned.each_ref().map(OwnedFd::try_clone) else {
                self.refuse(owner, Errno::MFILE.raw_os_error() as u16);
                return Ok(None);
            };
            self.keep_streams([stdin, stdout, stderr])?;
            self.learn(runtime)?;
        }
        if method == Method::Forkserver && !runtime.openers().is_empty() {
            self.arena.record_refusal(owner, DEVICE, &runtime.openers())?;
            return Ok(None);
        }
        let standard = owned.each_ref().map(AsFd::as_fd);
        let has_streams = self.learned == Some(process::streams_identity(standard));
        let started = match method {
            Method::Forkserver => runtime.fork(),
            Method::Spawn => self.spawn(owner, job, standard).map(Fork::Parent),
        };
        match started {
            Ok(Fork::Child) => {
                self.leave(standard)?;
                Ok(Some(Birth::Child(owner, job, has_streams)))
            }
            Ok(Fork::Parent(pid)) if HAD_THREADS.swap(false, Ordering::Relaxed) => {
                process::await_end(pid);
                self.arena.record_refusal(owner, THREADS, &runtime.suspects())?;
                Ok(None)
            }
            Ok(Fork::Parent(pid)) => {
                point("start.forked");
                self.children.insert(pid, owner);
                self.arena.assign(owner, job)?;
                self.arena.record_pid(owner, pid);
                point("start.recorded");
                self.keep_streams(owned)?;
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
        let ticket = Ticket::variable(file.as_raw_fd(), self.lifeline.as_raw_fd(), self.me, owner, job, &self.name);
        let mut command = own_command().ok_or(Errno::NOENT)?;
        let code = command.iter_mut().position(|word| word.ends_with(client::TEMPLATE_CODE)).ok_or(Errno::NOENT)?;
        command[code] = command[code].replace(client::TEMPLATE_CODE, SPAWNED_CODE);
        // Behind it is what the template has loaded.
        command.truncate(code + 1);
        let Some((program, arguments)) = command.split_first() else { return Err(Errno::NOENT) };
        let command = Command::new(program, arguments, &[ticket])?;
        process::spawn(&command, standard, &[file, self.lifeline.as_fd()])
    }

    /// In the forked child: becomes a process of its own.
    fn leave(&self, standard: [BorrowedFd<'_>; 3]) -> Result<(), Error> {
        client::be_of_origin();
        process::unblock_child_signals();
        process::set_streams(standard).map_err(Error::system("set up standard input and output"))?;
        die_with(self.lifeline.as_fd());
        point("child.left");
        Ok(())
    }

    /// Takes the streams of a request for the standbys to come, if they are the root's and not those it has.
    fn keep_streams(&mut self, streams: [OwnedFd; 3]) -> Result<(), Error> {
        let identity = process::streams_identity(streams.each_ref().map(AsFd::as_fd));
        if identity != self.arena.streams(self.me)? && identity == process::streams_of(self.root_pid) {
            self.dismiss_standbys()?;
            self.streams = Some(streams);
            self.arena.set_streams(self.me, identity)?;
        }
        self.count_missing();
        Ok(())
    }

    fn count_missing(&mut self) {
        let arena = self.arena;
        let waits = |owner: &Owner| {
            let process = arena.process(*owner);
            process.is_some_and(|process| process.role == Role::Standby && process.parent.is_none())
        };
        self.standbys.retain(waits);
        let wanted = if self.streams.is_some() && !self.retired { STANDBYS } else { 0 };
        self.missing = wanted.saturating_sub(self.standbys.len());
    }

    /// Nothing happened for a while: time for what can wait. `Some` in a new standby.
    fn idle(&mut self, runtime: &mut impl Runtime) -> Result<Option<Birth>, Error> {
        // SIGCHLD can be lost to a signal handler of a preloaded module.
        self.reap()?;
        if self.streams.is_some() && self.arena.streams(self.me)? != process::streams_of(self.root_pid) {
            self.dismiss_standbys()?;
            self.streams = None;
            self.arena.set_streams(self.me, NO_STREAMS)?;
        }
        self.count_missing();
        self.learn(runtime)?;
        let Some(streams) = self.streams.as_ref().filter(|_| self.missing > 0 && runtime.openers().is_empty()) else {
            return Ok(None);
        };
        let owner = self.arena.reserve_slot(Role::Standby, "standby")?;
        match runtime.fork() {
            Ok(Fork::Child) => {
                self.leave(streams.each_ref().map(AsFd::as_fd))?;
                return Ok(Some(Birth::Standby(owner, self.learned.is_some())));
            }
            Ok(Fork::Parent(pid)) if HAD_THREADS.swap(false, Ordering::Relaxed) => {
                process::await_end(pid);
                self.arena.return_slot(owner)?;
                self.missing = 0;
            }
            Ok(Fork::Parent(pid)) => {
                point("standby.forked");
                self.children.insert(pid, owner);
                self.standbys.push(owner);
                self.arena.record_pid(owner, pid);
                self.missing -= 1;
            }
            Err(_) => {
                // Out of processes: not for a standby to say. The next tick tries again.
                self.arena.return_slot(owner)?;
                self.missing = 0;
            }
        }
        Ok(None)
    }

    /// Has the runtime learn what children to come take over, if there is news of it.
    fn learn(&mut self, runtime: &mut impl Runtime) -> Result<(), Error> {
        let (Some(streams), Some(surroundings)) = (&self.streams, self.surroundings) else { return Ok(()) };
        let identity = self.arena.streams(self.me)?;
        if self.learned == Some(identity) {
            return Ok(());
        }
        let failed = Error::system("set up standard input and output");
        let own = [0, 1, 2].map(process::standard);
        let [Ok(stdin), Ok(stdout), Ok(stderr)] = &own else { return Ok(()) };
        process::set_streams(streams.each_ref().map(AsFd::as_fd)).map_err(failed)?;
        runtime.learn(surroundings);
        process::set_streams([stdin, stdout, stderr].map(AsFd::as_fd))
            .map_err(Error::system("restore standard input and output"))?;
        self.learned = Some(identity);
        point("template.learned");
        Ok(())
    }

    /// Ends the standbys that nobody has claimed.
    fn dismiss_standbys(&mut self) -> Result<(), Error> {
        for standby in std::mem::take(&mut self.standbys) {
            let pid = self.children.iter().find(|(_, owner)| **owner == standby).map(|(pid, _)| *pid);
            if let Some(pid) = pid
                && self.arena.withdraw_standby(standby)?
            {
                process::kill_child(pid);
            }
        }
        Ok(())
    }

    /// Writes down how each ended child ended, and with what memory, and gives back what it held.
    fn reap(&mut self) -> Result<(), Error> {
        while let Some(Reaped { pid, status, peak_memory }) = process::reap_any() {
            if let Some(owner) = self.children.remove(&pid) {
                point("template.reaped");
                self.kill_children_of(owner);
                self.give_up_job(owner);
                self.arena.record_peak_memory(owner, peak_memory);
                self.arena.clean(owner, End::Status(status))?;
            }
        }
        Ok(())
    }

    /// Of a child that has ended, perhaps before it had loaded its job, which its parent keeps: nobody else will take the
    /// descriptors that came with it, and their other ends are to see that.
    fn give_up_job(&mut self, owner: Owner) {
        if self.keeper.is_empty() {
            return;
        }
        if let Ok(Some(job)) = self.arena.assignment(owner)
            // Gone: then they are too.
            && let Ok(parcel) = Parcel::open(self.arena, job)
        {
            let _ = parcel.let_go(Deposit::KIND);
        }
    }

    /// Kills the children whose time has come; returns how long the next one has.
    fn kill_doomed(&mut self) -> Duration {
        let now = monotonic_ns();
        let children = &self.children;
        self.doomed.retain(|&(owner, at)| {
            // An owner names one process for ever: one that has ended is not here any more.
            let Some((pid, _)) = children.iter().find(|(_, child)| **child == owner) else { return false };
            if at <= now {
                process::kill_child(*pid);
            }
            at > now
        });
        let next = self.doomed.iter().map(|(_, at)| at - now).min();
        next.map_or(Duration::MAX, Duration::from_nanos)
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
            // If this one was stopped meanwhile, the number may be that of another process of the tree by now.
            if process.pid == pid && process.live && self.arena.is_dead(process.owner) {
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
        let _ = self.arena.clean(self.me, End::Status(process::ExitStatus::Exited(0)));
        process::exit_now(0)
    }
}
