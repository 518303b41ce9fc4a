//! The way to the template: finding it, starting it, asking it.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use forkless_shm::arena::close_in_forks;
use forkless_shm::slot::End;
use forkless_shm::{Arena, Handle, Owner, Role};
use forkless_sys::crash::point;
use forkless_sys::process::{self, Command};
use forkless_sys::{AsFd, AsRawFd, BorrowedFd, Errno, OwnedFd, liveness, orphan, proc, socket};

use crate::Error;
use crate::invitation::TEMPLATE_VARIABLE;
use crate::protocol::Request;
use crate::template::{DEVICE, THREADS};

/// The program text of a template.
pub(crate) const TEMPLATE_CODE: &str = "from forkless._template import main; main()";

/// A template's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The interpreter's path.
    pub executable: String,
    /// What comes before `-c`.
    pub arguments: Vec<String>,
    /// Program text to run first: it makes sure that forkless is found.
    pub prelude: String,
    /// What comes after the program text: what the template loads before it serves.
    pub preload: Vec<String>,
    /// Whether it has to be a template with this program. Otherwise a child is content with the one it came from.
    pub own: bool,
}

/// This process's connection to a template.
#[derive(Debug)]
pub struct Client {
    /// The process that connected, and its user; a fork by user code, or another user, must connect anew.
    pid: u32,
    user: process::User,
    /// Of the root: what it has started. A child does not know, nor does a copy, for which it only keeps descriptors.
    program: Option<Program>,
    socket: OwnedFd,
    template: OwnedFd,
    template_pid: u32,
    /// The socket's name, for strangers.
    name: String,
    owner: Owner,
    /// Offset and generation of the surroundings that the template was told of last.
    announced: [AtomicU64; 2],
    /// The template gets no more requests: it was told so, or has ended.
    retired: AtomicBool,
    /// The template has ended, and what it left behind is cleaned up.
    buried: AtomicBool,
    next: AtomicPtr<Self>,
}

/// All connections that this process has made, and those it had when it was forked by user code; latest first. They
/// are few and stay allocated, since children and other threads refer to them.
static CLIENTS: AtomicPtr<Client> = AtomicPtr::new(std::ptr::null_mut());

/// What ties children to this process: the read end is theirs, the write end open as long as this process lives, or
/// one of its templates.
struct Lifeline {
    pid: u32,
    reader: OwnedFd,
    writer: OwnedFd,
}

static LIFELINE: AtomicPtr<Lifeline> = AtomicPtr::new(std::ptr::null_mut());

/// Where a child finds the template that started it.
struct Origin {
    name: String,
    owner: Owner,
}

static ORIGIN: AtomicPtr<Origin> = AtomicPtr::new(std::ptr::null_mut());
/// The child; a fork of it by user code did not come from that template.
static OF_ORIGIN: AtomicU32 = AtomicU32::new(0);

/// In a template, and in a spawned child: where this process and those that it forks come from.
pub(crate) fn set_origin(name: &str, owner: Owner) {
    ORIGIN.store(Box::into_raw(Box::new(Origin { name: name.to_owned(), owner })), Ordering::Release);
}

/// In a child of a template.
pub(crate) fn be_of_origin() {
    OF_ORIGIN.store(process::id(), Ordering::Release);
}

/// The only dereferences in this crate: pointers to boxes that are never freed.
#[allow(unsafe_code)]
fn deref<T>(pointer: &AtomicPtr<T>) -> Option<&'static T> {
    // SAFETY: null, or from `Box::into_raw`, and never taken back: old values are kept on purpose, since another thread
    // may be using them.
    unsafe { pointer.load(Ordering::Acquire).as_ref() }
}

fn all_clients() -> impl Iterator<Item = &'static Client> {
    let mut next = deref(&CLIENTS);
    std::iter::from_fn(move || {
        let client = next?;
        next = deref(&client.next);
        Some(client)
    })
}

/// This process's connections.
fn clients() -> impl Iterator<Item = &'static Client> {
    let me = process::id();
    all_clients().filter(move |client| client.pid == me)
}

impl Client {
    /// The connection of this process to a template with this program that lives; starts one if there is none.
    ///
    /// # Errors
    /// [`Error::System`] when the system refuses.
    pub fn get(arena: &'static Arena, program: &Program) -> Result<&'static Self, Error> {
        if let Some(client) = Self::find(program) {
            return Ok(client);
        }
        let inherited = if program.own { None } else { Self::inherited(arena) };
        let fresh = match inherited {
            Some(client) => client,
            None => {
                Self::bury_all(arena)?;
                Self::launch(arena, program)?
            }
        };
        let (client, unused) = fresh.publish(|| Self::find(program));
        // Two threads at once: the first one's is used.
        if let Some(unused) = unused.filter(Self::is_root) {
            unused.end(arena, Duration::from_secs(1));
        }
        Ok(client)
    }

    /// Adds it to this process's connections, unless there is one like it by then.
    fn publish(self, another: impl Fn() -> Option<&'static Self>) -> (&'static Self, Option<Self>) {
        let fresh = Box::new(self);
        loop {
            let head = CLIENTS.load(Ordering::Acquire);
            if let Some(client) = another() {
                return (client, Some(*fresh));
            }
            fresh.next.store(head, Ordering::Relaxed);
            let new = std::ptr::from_ref(&*fresh).cast_mut();
            if CLIENTS.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return (Box::leak(fresh), None);
            }
        }
    }

    /// The connection to the template that is to keep descriptors for this process: one that outlives it, if there is
    /// one, else its own, started with this program if need be.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn keeper(arena: &'static Arena, program: &Program) -> Result<&'static Self, Error> {
        let user = process::user();
        let serves = |client: &&'static Self| {
            !client.retired.load(Ordering::Acquire) && client.user == user && client.is_alive()
        };
        if let Some(elder) = clients().filter(|client| !client.is_root()).find(serves) {
            return Ok(elder);
        }
        match Self::elder(arena) {
            Some(elder) => Ok(elder.publish(|| None).0),
            None => clients().find(serves).map_or_else(|| Self::get(arena, program), Ok),
        }
    }

    /// To the template that started this process; of a copy by user code, to one of those that its original had.
    fn elder(arena: &'static Arena) -> Option<Self> {
        if let Some(origin) = deref(&ORIGIN)
            && let Some(client) = Self::connect(arena, &origin.name, origin.owner)
        {
            return Some(client);
        }
        let me = process::id();
        let mut others = all_clients().filter(|client| client.pid != me);
        others.find_map(|client| Self::connect(arena, &client.name, client.owner))
    }

    fn find(program: &Program) -> Option<&'static Self> {
        let user = process::user();
        clients().find(|client| {
            !client.retired.load(Ordering::Acquire)
                && (client.is_root() || OF_ORIGIN.load(Ordering::Acquire) == client.pid)
                // Whoever has given up privileges must have no children with them.
                && client.user == user
                && client.program.as_ref().map_or(!program.own, |own| own == program)
                && client.is_alive()
        })
    }

    /// The connections to templates that this process has started and that live.
    pub fn roots() -> impl Iterator<Item = &'static Self> {
        clients().filter(|client| client.is_root() && client.is_alive())
    }

    /// Has the templates that this process has started end, once their children have; others are started when they are
    /// needed.
    pub fn retire_all() {
        for client in Self::roots().filter(|client| !client.retired.swap(true, Ordering::AcqRel)) {
            // It may end at this moment.
            let _ = client.send(Request::Retire, &[]);
        }
    }

    /// Reaps and cleans up after templates of this process that have ended. Children of a template that was killed go on,
    /// and end with this process.
    ///
    /// # Errors
    /// [`forkless_shm::Error::Corrupt`] if shared memory is damaged.
    pub fn bury_all(arena: &'static Arena) -> Result<(), Error> {
        clients().filter(|client| client.is_root() && !client.is_alive()).try_for_each(|client| client.bury(arena))
    }

    fn bury(&self, arena: &'static Arena) -> Result<(), Error> {
        self.retired.store(true, Ordering::Release);
        if self.buried.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let Some(status) = process::reap(self.template_pid) else {
            // It lives, or a debugger wants to see its end first.
            self.buried.store(false, Ordering::Release);
            return Ok(());
        };
        arena.clean(self.owner, status.map_or(End::Unknown, End::Status))?;
        point("template.buried");
        // Its standbys have nobody to tell how they end.
        while let Some(standby) = arena.claim_standby(self.owner, "dismissed")? {
            kill(arena, standby);
            arena.disown(standby)?;
            arena.clean(standby, End::Unknown)?;
        }
        Ok(arena.return_slot(self.owner)?)
    }

    /// To the template that started this process.
    fn inherited(arena: &'static Arena) -> Option<Self> {
        let origin = deref(&ORIGIN).filter(|_| OF_ORIGIN.load(Ordering::Acquire) == process::id())?;
        Self::connect(arena, &origin.name, origin.owner)
    }

    /// To a template that this process did not start, if it lives.
    fn connect(arena: &'static Arena, name: &str, owner: Owner) -> Option<Self> {
        let template_pid = arena.process(owner)?.pid;
        let template = process::open(template_pid).ok()?;
        let socket = socket::connect(name).ok()?;
        // The answer to the connection came from a listener that only the template has, so the pid was right.
        (!process::ended(template.as_fd())).then_some(())?;
        Some(Self::new(None, (template_pid, template), socket, name.to_owned(), owner))
    }

    fn launch(arena: &'static Arena, program: &Program) -> Result<Self, Error> {
        let random = forkless_sys::random_u64().map_err(Error::system("name the template's socket"))?;
        let name = format!("forkless-{random:016x}");
        let listener = socket::listen(&name).map_err(Error::system("make the template's socket"))?;
        let lifeline = Lifeline::get()?;
        let null = process::null().map_err(Error::system("open /dev/null"))?;
        let errors = process::standard(2).map_err(Error::system("copy standard error"))?;
        let owner = arena.reserve_slot(Role::Template, "template")?;
        let kept = [arena.file(), listener.as_fd(), lifeline.reader.as_fd(), lifeline.writer.as_fd()];
        let numbers = kept.map(|fd| fd.as_raw_fd().to_string()).join(" ");
        let value = format!("{numbers} {} {} {name}", process::id(), owner.word());
        let mut arguments = program.arguments.clone();
        arguments.extend(["-c".to_owned(), format!("{}{TEMPLATE_CODE}", program.prelude)]);
        arguments.extend(program.preload.iter().cloned());
        let started = Command::new(&program.executable, &arguments, &[(TEMPLATE_VARIABLE, value)])
            .and_then(|command| process::spawn(&command, [null.as_fd(), null.as_fd(), errors.as_fd()], &kept))
            .and_then(|pid| Ok((pid, process::open(pid)?)));
        let template = match started {
            Ok(started) => started,
            Err(errno) => {
                arena.return_slot(owner)?;
                return Err(Error::System { action: "start the template", errno });
            }
        };
        arena.record_pid(owner, template.0);
        point("template.launched");
        let socket = socket::connect(&name).map_err(Error::system("connect to the template"))?;
        Ok(Self::new(Some(program.clone()), template, socket, name, owner))
    }

    fn new(
        program: Option<Program>,
        (template_pid, template): (u32, OwnedFd),
        socket: OwnedFd,
        name: String,
        owner: Owner,
    ) -> Self {
        Self {
            pid: process::id(),
            user: process::user(),
            program,
            socket,
            template,
            template_pid,
            name,
            owner,
            announced: Default::default(),
            retired: AtomicBool::new(false),
            buried: AtomicBool::new(false),
            next: AtomicPtr::default(),
        }
    }

    /// The name under which strangers find the tree: the value of [`TREE_VARIABLE`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The template's place in the tree.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn template_pid(&self) -> u32 {
        self.template_pid
    }

    pub(crate) fn last_pid() -> u32 {
        clients().next().map_or(0, |client| client.template_pid)
    }

    /// Whether this process started the template.
    fn is_root(&self) -> bool {
        self.program.is_some()
    }

    /// Tells a template of this process what its children to come take over.
    pub(crate) fn announce(&self, surroundings: Handle) {
        let news = [surroundings.offset, u64::from(surroundings.generation)];
        let known = self.announced.each_ref().map(|word| word.load(Ordering::Relaxed));
        // Without the news, children take over what they need by themselves.
        if self.is_root() && known != news && self.send(Request::Learn { surroundings }, &[]).is_ok() {
            self.announced.iter().zip(news).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        }
    }

    /// Why a child was not started; `note` is what the template wrote down beside the reason.
    pub(crate) fn refusal(&self, reason: u16, note: String) -> Error {
        if reason == THREADS {
            let threads = proc::other_thread_names(self.template_pid).join(", ");
            return Error::Threads { pid: self.template_pid, threads, modules: note };
        }
        if reason == DEVICE {
            return Error::Device { pid: self.template_pid, modules: note };
        }
        Error::System { action: "start a child process", errno: Errno::from_raw_os_error(i32::from(reason)) }
    }

    /// One request. The template may have dropped our connection to make room for another: then over a new one.
    pub(crate) fn send(&self, request: Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let bytes = request.to_bytes();
        socket::send(self.socket.as_fd(), &bytes, descriptors)
            .or_else(|_| socket::send(socket::connect(&self.name)?.as_fd(), &bytes, descriptors))
    }

    /// Whether the template lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !process::ended(self.template.as_fd())
    }

    /// After a request that could not be sent: whether that is so because nobody reads there any more. Then the template is asked
    /// for nothing again: a process that ends closes its sockets first, and on a busy machine it may be long until its
    /// descriptor says that it has ended.
    ///
    /// # Errors
    /// The error given, if the template reads what it gets.
    pub(crate) fn has_gone(&self, errno: Errno) -> Result<(), Errno> {
        let is_closed = matches!(errno, Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN);
        if !is_closed && self.is_alive() {
            return Err(errno);
        }
        self.retired.store(true, Ordering::Release);
        Ok(())
    }

    /// Waits for the template's end, at most `patience`; whether it came.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        process::readable(&[self.template.as_fd()], patience).is_ok_and(|ready| ready[0])
    }

    /// The word to sleep on beside another one, so as to learn of the template's death.
    pub(crate) fn liveness(&self, arena: &'static Arena) -> Option<(&'static AtomicU32, u32)> {
        let word = arena.liveness(self.owner)?;
        let seen = word.load(Ordering::Acquire);
        (seen != 0 && !liveness::died(seen)).then_some((word, seen))
    }

    /// Ends the templates that this process started, with all children, and waits for them, at most `patience` each.
    pub fn shutdown(arena: &'static Arena, patience: Duration) {
        for client in clients().filter(|client| client.is_root()) {
            client.retired.store(true, Ordering::Release);
            client.end(arena, patience);
        }
    }

    fn end(&self, arena: &'static Arena, patience: Duration) {
        if self.is_alive() {
            let _ = self.send(Request::Shutdown, &[]);
            if !self.ends_within(patience) {
                let _ = process::send_signal(self.template.as_fd(), SIGKILL);
                self.ends_within(Duration::from_secs(1));
            }
        }
        let _ = self.bury(arena);
    }
}

impl Lifeline {
    /// This process's.
    fn get() -> Result<&'static Self, Error> {
        loop {
            let known = deref(&LIFELINE);
            if let Some(lifeline) = known.filter(|lifeline| lifeline.pid == process::id()) {
                return Ok(lifeline);
            }
            let (reader, writer) = orphan::lifeline().map_err(Error::system("make the children's lifeline"))?;
            let fresh = Box::new(Self { pid: process::id(), reader, writer });
            let old = known.map_or(std::ptr::null_mut(), |known| std::ptr::from_ref(known).cast_mut());
            let new = std::ptr::from_ref(&*fresh).cast_mut();
            if LIFELINE.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                let lifeline = Box::leak(fresh);
                close_in_forks(lifeline.writer.as_fd());
                return Ok(lifeline);
            }
        }
    }
}

const SIGKILL: i32 = 9;

/// Kills a process that is not reaped before it is told apart from a later one with its number.
pub(crate) fn kill(arena: &'static Arena, owner: Owner) {
    let pid = arena.pid_word(owner).map_or(0, |pid| pid.load(Ordering::Acquire));
    if let Ok(process) = process::open(pid)
        && arena.end(owner).is_none()
        && arena.has_number(owner, pid)
    {
        let _ = process::send_signal(process.as_fd(), SIGKILL);
    }
}

/// The name by which processes that this one's tree knows nothing of join it; starts a template, which answers them, if
/// there is none.
///
/// # Errors
/// [`Error::System`] when the system refuses.
pub fn tree_name(arena: &'static Arena, program: &Program) -> Result<&'static str, Error> {
    Client::keeper(arena, program).map(Client::name)
}
