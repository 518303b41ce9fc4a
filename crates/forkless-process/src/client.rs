//! The way to the template: finding it, starting it, asking it.

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use forkless_ipc::{KINDS, Parcel};
use forkless_shm::arena::close_in_forks;
use forkless_shm::slot::End;
use forkless_shm::{Arena, Handle, Lease, Owner, Role};
use forkless_sys::process::{self, Command};
use forkless_sys::time::SLICE;
use forkless_sys::{AsFd, AsRawFd, BorrowedFd, Errno, OwnedFd, RawFd, futex, liveness, orphan, proc, socket};

use crate::protocol::{Method, Request};
use crate::template::THREADS;
use crate::{Child, Error, TREE_VARIABLE};

/// The variable that tells a template what it was started for.
const TEMPLATE_VARIABLE: &str = "FORKLESS_TEMPLATE";
/// The variable that tells a spawned child.
const SPAWNED_VARIABLE: &str = "FORKLESS_SPAWNED";
/// The program text of a template.
pub(crate) const TEMPLATE_CODE: &str = "from forkless._template import main; main()";

/// How to start an interpreter.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable's path.
    pub executable: String,
    /// What comes before `-c`.
    pub arguments: Vec<String>,
    /// Program text to run first: it makes sure that forkless is found.
    pub prelude: String,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// How the child begins.
    pub method: Method,
    /// Its name.
    pub name: &'a str,
    /// What it has to do.
    pub job: &'a [u8],
    /// What the job refers to.
    pub handles: &'a [&'a Lease],
    /// A block with what the child takes over from this process, if the template shall learn that beforehand: see
    /// [`Runtime::learn`](crate::Runtime::learn). It lives until there is another one.
    pub surroundings: Option<&'a Lease>,
}

/// This process's connection to its template.
#[derive(Debug)]
pub struct Client {
    /// The process that connected; a fork by user code must connect anew.
    pid: u32,
    socket: OwnedFd,
    template: OwnedFd,
    template_pid: u32,
    /// The socket's name, for strangers.
    name: String,
    owner: Owner,
    /// Of the root only: while it is open, children may live. Closed by the end of the process.
    lifeline: Option<OwnedFd>,
    /// Offset and generation of the surroundings that the template was told of last.
    announced: [AtomicU64; 2],
}

/// The present connection. Replaced when the template ends; old ones are few and stay allocated.
static CLIENT: AtomicPtr<Client> = AtomicPtr::new(std::ptr::null_mut());

/// Where a child finds the template that started it.
static INHERITED_NAME: AtomicPtr<String> = AtomicPtr::new(std::ptr::null_mut());
static INHERITED_OWNER: AtomicU32 = AtomicU32::new(0);

/// In a template and its children: where requests go.
pub(crate) fn set_template(name: &str, owner: Owner) {
    INHERITED_NAME.store(Box::into_raw(Box::new(name.to_owned())), Ordering::Release);
    INHERITED_OWNER.store(owner.word(), Ordering::Release);
}

/// The only dereferences in this crate: pointers to boxes that are never freed.
#[allow(unsafe_code)]
fn deref<T>(pointer: &AtomicPtr<T>) -> Option<&'static T> {
    // SAFETY: null, or from `Box::into_raw`, and never taken back: old values are kept on purpose, since another thread
    // may be using them.
    unsafe { pointer.load(Ordering::Acquire).as_ref() }
}

impl Client {
    /// The connection of this process, to a template that lives; starts one with `program` if there is none.
    ///
    /// # Errors
    /// [`Error::System`] when the system refuses.
    pub fn get(arena: &'static Arena, program: &Program) -> Result<&'static Self, Error> {
        if let Some(client) = Self::existing() {
            return Ok(client);
        }
        let fresh = match Self::inherited(arena) {
            Some(client) => client,
            None => {
                Self::bury(arena)?;
                Self::launch(arena, program)?
            }
        };
        let fresh = Box::into_raw(Box::new(fresh));
        let old = CLIENT.load(Ordering::Acquire);
        // Two threads at once: the first one's is used, the other's template ends with its lifeline and connection.
        if Self::existing().is_some()
            || CLIENT.compare_exchange(old, fresh, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            discard(fresh, arena);
        }
        Self::existing().ok_or(Error::System { action: "keep a template", errno: Errno::CHILD })
    }

    /// The connection there is, if it is this process's and its template lives.
    #[must_use]
    pub fn existing() -> Option<&'static Self> {
        let client = deref(&CLIENT)?;
        (client.pid == process::id() && !process::ended(client.template.as_fd())).then_some(client)
    }

    /// Reaps and cleans up after a template of this process that has ended. Its connection stays, and with it the
    /// lifeline: children of that template go on, and end with this process.
    fn bury(arena: &'static Arena) -> Result<(), Error> {
        let mine = deref(&CLIENT).filter(|client| client.pid == process::id() && client.lifeline.is_some());
        if let Some(client) = mine {
            let status = process::reap(client.template_pid).flatten();
            arena.clean(client.owner, status.map_or(End::Unknown, End::Status))?;
            arena.return_slot(client.owner)?;
            // Its standbys have nobody to tell how they end.
            while let Some(standby) = arena.claim_standby("dismissed")? {
                kill(arena, standby);
                arena.disown(standby)?;
                arena.clean(standby, End::Unknown)?;
            }
        }
        Ok(())
    }

    /// To the template that started this process, or this process's parent before a fork by user code.
    fn inherited(arena: &'static Arena) -> Option<Self> {
        let before_fork = deref(&CLIENT).filter(|client| client.pid != process::id());
        let (name, owner) = match before_fork {
            Some(client) => (client.name.clone(), client.owner),
            None => (deref(&INHERITED_NAME)?.clone(), Owner::from_word(INHERITED_OWNER.load(Ordering::Acquire))?),
        };
        let template_pid = arena.process(owner)?.pid;
        let template = process::open(template_pid).ok()?;
        let socket = socket::connect(&name).ok()?;
        // The answer to the connection came from a listener that only the template has, so the pid was right.
        (!process::ended(template.as_fd())).then_some(())?;
        Some(Self {
            pid: process::id(),
            socket,
            template,
            template_pid,
            name,
            owner,
            lifeline: None,
            announced: Default::default(),
        })
    }

    fn launch(arena: &'static Arena, program: &Program) -> Result<Self, Error> {
        let random = forkless_sys::random_u64().map_err(Error::system("name the template's socket"))?;
        let name = format!("forkless-{random:016x}");
        let listener = socket::listen(&name).map_err(Error::system("make the template's socket"))?;
        let (lifeline, held) = orphan::lifeline().map_err(Error::system("make the children's lifeline"))?;
        let null = process::null().map_err(Error::system("open /dev/null"))?;
        let errors = process::standard(2).map_err(Error::system("copy standard error"))?;
        let owner = arena.reserve_slot(Role::Template, "template")?;
        let kept = [arena.file(), listener.as_fd(), lifeline.as_fd(), held.as_fd()];
        let numbers = kept.map(|fd| fd.as_raw_fd().to_string()).join(" ");
        let value = format!("{numbers} {} {} {name}", process::id(), owner.word());
        let mut arguments = program.arguments.clone();
        arguments.extend(["-c".to_owned(), format!("{}{TEMPLATE_CODE}", program.prelude)]);
        let started = Command::new(&program.executable, &arguments, &[(TEMPLATE_VARIABLE, value)])
            .and_then(|command| process::spawn(&command, [null.as_fd(), null.as_fd(), errors.as_fd()], &kept))
            .and_then(|pid| Ok((pid, process::open(pid)?)));
        let (template_pid, template) = match started {
            Ok(started) => started,
            Err(errno) => {
                arena.return_slot(owner)?;
                return Err(Error::System { action: "start the template", errno });
            }
        };
        arena.record_pid(owner, template_pid);
        let socket = socket::connect(&name).map_err(Error::system("connect to the template"))?;
        close_in_forks(held.as_fd());
        let lifeline = Some(held);
        let announced = Default::default();
        Ok(Self { pid: process::id(), socket, template, template_pid, name, owner, lifeline, announced })
    }

    /// The name under which strangers find the tree: the value of [`TREE_VARIABLE`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn last_pid() -> u32 {
        deref(&CLIENT).map_or(0, |client| client.template_pid)
    }

    /// Whether this process started the template.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.lifeline.is_some()
    }

    /// Asks for a child; [`Pending::wait_within`] then tells when it is there.
    ///
    /// # Errors
    /// [`Error::System`] when the system refuses.
    pub fn request(arena: &'static Arena, program: &Program, order: &Order<'_>) -> Result<Pending, Error> {
        let job = Parcel::pack(arena, order.job, order.handles)?;
        let mut pending = Pending {
            arena,
            program: program.clone(),
            method: order.method,
            name: order.name.to_owned(),
            surroundings: order.surroundings.map(Lease::handle).transpose()?,
            job: Some(job),
            asked: None,
            tries: 0,
        };
        pending.ask()?;
        Ok(pending)
    }

    /// Tells a template of this process what its children to come take over.
    fn announce(&self, surroundings: Handle) {
        let news = [surroundings.offset, u64::from(surroundings.generation)];
        let known = self.announced.each_ref().map(|word| word.load(Ordering::Relaxed));
        // Without the news, children take over what they need by themselves.
        if self.is_root() && known != news && self.send(Request::Learn { surroundings }, &[]).is_ok() {
            self.announced.iter().zip(news).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        }
    }

    fn refusal(&self, reason: u16) -> Error {
        if reason == THREADS {
            let threads = proc::other_thread_names(self.template_pid).join(", ");
            return Error::Threads { pid: self.template_pid, threads };
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

    /// The word to sleep on beside another one, so as to learn of the template's death.
    pub(crate) fn liveness(&self, arena: &'static Arena) -> Option<(&'static AtomicU32, u32)> {
        let word = arena.liveness(self.owner)?;
        let seen = word.load(Ordering::Acquire);
        (seen != 0 && !liveness::died(seen)).then_some((word, seen))
    }

    /// Ends the template that this process started, with all children, and waits for it, at most `patience`.
    pub fn shutdown(arena: &'static Arena, patience: Duration) {
        let Some(client) = deref(&CLIENT).filter(|client| client.pid == process::id()) else { return };
        if client.lifeline.is_none() || CLIENT.swap(std::ptr::null_mut(), Ordering::AcqRel).is_null() {
            return;
        }
        client.end(arena, patience);
    }

    fn end(&self, arena: &'static Arena, patience: Duration) {
        let _ = self.send(Request::Shutdown, &[]);
        let done = process::readable(&[self.template.as_fd()], patience).is_ok_and(|ready| ready[0]);
        if !done {
            let _ = process::send_signal(self.template.as_fd(), SIGKILL);
            let _ = process::readable(&[self.template.as_fd()], Duration::from_secs(1));
        }
        let status = process::reap(self.template_pid).flatten();
        let _ = arena.clean(self.owner, status.map_or(End::Unknown, End::Status));
        let _ = arena.return_slot(self.owner);
    }
}

const SIGKILL: i32 = 9;

/// Ends the template of a connection that lost the race to be the one.
#[allow(unsafe_code)]
fn discard(client: *mut Client, arena: &'static Arena) {
    // SAFETY: made by `Box::into_raw` in the caller and not published.
    let client = unsafe { Box::from_raw(client) };
    if client.lifeline.is_some() {
        client.end(arena, Duration::from_secs(1));
    }
}

/// Kills a process that is not reaped before it is told apart from a later one with its number.
fn kill(arena: &'static Arena, owner: Owner) {
    let pid = arena.pid_word(owner).map_or(0, |pid| pid.load(Ordering::Acquire));
    if let Ok(process) = process::open(pid)
        && arena.end(owner).is_none()
    {
        let _ = process::send_signal(process.as_fd(), SIGKILL);
    }
}

/// A child that was asked for and is not there yet. Dropped before it is, it never runs its job, or is killed.
#[derive(Debug)]
pub struct Pending {
    arena: &'static Arena,
    program: Program,
    method: Method,
    name: String,
    surroundings: Option<Handle>,
    job: Option<Parcel>,
    asked: Option<(&'static Client, Owner)>,
    tries: u32,
}

/// How long a template may take to end that has closed its sockets.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// A template may be found dead only when it is asked: how often to go on with a new one.
const TRIES: u32 = 2;

impl Pending {
    fn ask(&mut self) -> Result<(), Error> {
        let job = self.job.as_ref().ok_or(Error::Protocol("asked after the answer"))?.lease().handle()?;
        while self.tries < TRIES {
            self.tries += 1;
            let client = Client::get(self.arena, &self.program)?;
            if let Some(surroundings) = self.surroundings {
                client.announce(surroundings);
            }
            if let Some(standby) = self.claim_standby()? {
                self.asked = Some((client, standby));
                self.arena.assign(standby, job)?;
                // Should the template be gone, there is nothing to refill.
                let _ = client.send(Request::Refill, &[]);
                return Ok(());
            }
            let [Ok(stdin), Ok(stdout), Ok(stderr)] = [0, 1, 2].map(process::standard) else {
                return Err(Error::System { action: "copy the standard streams for the child", errno: Errno::MFILE });
            };
            let owner = self.arena.reserve_slot(Role::Child, &self.name)?;
            self.asked = Some((client, owner));
            let request = Request::Start { method: self.method, owner, job };
            let descriptors = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
            if client.send(request, &descriptors).is_ok() {
                return Ok(());
            }
            self.give_up();
            // A process that ends closes its sockets before its descriptor says that it has ended: on a busy machine the
            // next try would find the same template alive, and be the last.
            let _ = process::readable(&[client.template.as_fd()], LAST_BREATH);
        }
        let pid = Client::last_pid();
        Err(Error::TemplateDied { pid, name: self.name.clone() })
    }

    /// A process that waits for a job, if there is one that would be like a fresh one.
    fn claim_standby(&self) -> Result<Option<Owner>, Error> {
        let fits = self.method == Method::Forkserver && self.arena.streams()? == process::own_streams();
        Ok(if fits { self.arena.claim_standby(&self.name)? } else { None })
    }

    /// Waits for the child, at most `bound` (and at most 50 ms); `None` if it is not there yet.
    ///
    /// # Errors
    /// [`Error::Threads`], [`Error::TemplateDied`], or [`Error::System`] when the system refuses.
    pub fn wait_within(&mut self, bound: Duration) -> Result<Option<Child>, Error> {
        let Some((client, owner)) = self.asked else { return Err(Error::Protocol("nothing was asked for")) };
        let words = (self.arena.pid_word(owner), self.arena.end_word(owner));
        let (Some(pid), Some(end)) = words else { return Err(Error::Protocol("a slot outside the arena")) };
        if let Some(End::NotStarted(reason)) = self.arena.end(owner) {
            self.give_up();
            return Err(client.refusal(reason));
        }
        let started = pid.load(Ordering::Acquire);
        if started != 0 {
            let Some(job) = self.job.take() else { return Err(Error::Protocol("asked after the answer")) };
            // On failure to watch it, dropping this kills it.
            let child = Child::new(self.arena, owner, started, &self.name, client, job)?;
            self.asked = None;
            return Ok(Some(child));
        }
        if !client.is_alive() {
            self.give_up();
            self.ask()?;
        }
        futex::wait_either((pid, 0), (end, 0), bound.min(SLICE));
        Ok(None)
    }

    fn give_up(&mut self) {
        let Some((_, owner)) = self.asked.take() else { return };
        // A slot given back makes a child that comes late turn round; one that is there already is killed.
        kill(self.arena, owner);
        let _ = self.arena.disown(owner);
        let _ = self.arena.return_slot(owner);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// What a template is started with.
pub(crate) struct Invitation {
    pub(crate) arena: OwnedFd,
    pub(crate) listener: OwnedFd,
    pub(crate) lifeline: OwnedFd,
    pub(crate) lifeline_held: OwnedFd,
    pub(crate) root_pid: u32,
    pub(crate) owner: Owner,
    pub(crate) name: String,
}

impl Invitation {
    pub(crate) fn from_environment() -> Result<Self, Error> {
        let mut fields = Fields::of(TEMPLATE_VARIABLE)?;
        Ok(Self {
            arena: fields.descriptor()?,
            listener: fields.descriptor()?,
            lifeline: fields.descriptor()?,
            lifeline_held: fields.descriptor()?,
            root_pid: fields.number()?,
            owner: fields.owner()?,
            name: fields.text()?,
        })
    }
}

/// What a spawned child is started with.
pub(crate) struct Ticket {
    pub(crate) arena: OwnedFd,
    pub(crate) lifeline: OwnedFd,
    pub(crate) template: Owner,
    pub(crate) owner: Owner,
    pub(crate) job: Handle,
    pub(crate) name: String,
}

impl Ticket {
    pub(crate) fn variable(
        arena: RawFd,
        lifeline: RawFd,
        template: Owner,
        owner: Owner,
        job: Handle,
        name: &str,
    ) -> (&'static str, String) {
        let Handle { arena: id, offset, generation } = job;
        let (template, owner) = (template.word(), owner.word());
        (SPAWNED_VARIABLE, format!("{arena} {lifeline} {template} {owner} {id} {offset} {generation} {name}"))
    }

    pub(crate) fn from_environment() -> Result<Self, Error> {
        let mut fields = Fields::of(SPAWNED_VARIABLE)?;
        Ok(Self {
            arena: fields.descriptor()?,
            lifeline: fields.descriptor()?,
            template: fields.owner()?,
            owner: fields.owner()?,
            job: Handle { arena: fields.number()?, offset: fields.number()?, generation: fields.number()? },
            name: fields.text()?,
        })
    }
}

/// The words of a variable, each checked.
struct Fields {
    words: std::vec::IntoIter<String>,
}

impl Fields {
    fn of(variable: &str) -> Result<Self, Error> {
        let value =
            std::env::var(variable).map_err(|_| Error::Protocol("this program is started by forkless, not by hand"))?;
        let words: Vec<String> = value.split(' ').map(str::to_owned).collect();
        Ok(Self { words: words.into_iter() })
    }

    fn text(&mut self) -> Result<String, Error> {
        self.words.next().ok_or(Error::Protocol("a variable with too few fields"))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, Error> {
        self.text()?.parse().map_err(|_| Error::Protocol("a variable with a damaged number"))
    }

    fn owner(&mut self) -> Result<Owner, Error> {
        Owner::from_word(self.number()?).ok_or(Error::Protocol("a variable with a damaged slot"))
    }

    #[allow(unsafe_code)]
    fn descriptor(&mut self) -> Result<OwnedFd, Error> {
        let number: RawFd = self.number()?;
        // SAFETY: passed on to this process by whoever set the variable, for this use; nothing here knows it yet.
        unsafe { process::inherited(number) }.map_err(Error::system("take up an inherited descriptor"))
    }
}

/// The command line of this process.
pub(crate) fn own_command() -> Option<Vec<String>> {
    let line = std::fs::read("/proc/self/cmdline").ok()?;
    let words = line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words: Vec<String> = words.collect();
    words.pop();
    Some(words)
}

/// Joins the tree whose name is in the environment: the way in for programs that a process of the tree started by
/// other means.
///
/// # Errors
/// [`Error::System`] if nobody listens under that name any more, or only another user.
pub fn attach_by_environment() -> Result<Option<&'static Arena>, Error> {
    let Ok(name) = std::env::var(TREE_VARIABLE) else { return Ok(None) };
    attach(&name).map(Some)
}

fn attach(name: &str) -> Result<&'static Arena, Error> {
    let action = "join the process tree named by FORKLESS_TREE";
    let socket = socket::connect(name).map_err(Error::system(action))?;
    socket::send(socket.as_fd(), &Request::Attach.to_bytes(), &[]).map_err(Error::system(action))?;
    // The template answers at once, or is gone.
    let ready = process::readable(&[socket.as_fd()], Duration::from_secs(5)).map_err(Error::system(action))?;
    if !ready[0] {
        return Err(Error::System { action, errno: Errno::TIMEDOUT });
    }
    let (_, mut descriptors) = socket::receive(socket.as_fd(), &mut [0; 8]).map_err(Error::system(action))?;
    let file = descriptors.pop().ok_or(Error::Protocol("an answer without the arena"))?;
    Ok(Arena::join(file, KINDS)?)
}
