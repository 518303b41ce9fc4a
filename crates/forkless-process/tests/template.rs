//! The template and what it starts, without Python: this program stands in for the interpreter.
//!
//! It cannot fork, so children are spawned; the forks are tested from Python.
#![allow(clippy::unwrap_used)] // in a child, too, unwrapping is how a test fails

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use forkless_ipc::{Channel, Claim, Content, Deposit, KINDS, Received};
use forkless_process::template::{adopt, serve};
use forkless_process::{Child, Client, Deposition, Error, Fork, Method, Order, Pending, Program, Redemption, Runtime};
use forkless_shm::{Acquired, Arena, Handle, Lease, Role, Statistics};
use forkless_sync::{Deadline, Event};
use forkless_sys::process::{ExitStatus, exit_now};
use forkless_sys::{AsFd, Errno, OwnedFd, crash, process};
use forkless_testing::{PATIENCE, before_main};

before_main!(stand_in);

const KILLED: ExitStatus = ExitStatus::Signaled(9);

/// In a template or a child: plays the interpreter.
fn stand_in() {
    if std::env::var_os("FORKLESS_SPAWNED").is_some() {
        arm("child dies at ");
        let played = std::panic::catch_unwind(|| {
            let job = adopt().unwrap();
            let code = work(&String::from_utf8(job.bytes().unwrap()).unwrap());
            job.loaded().unwrap();
            code
        });
        exit_now(played.unwrap_or(101));
    }
    if std::env::var_os("FORKLESS_TEMPLATE").is_some() {
        arm("dies at ");
        let _ = serve(&mut NoInterpreter);
        exit_now(0);
    }
}

/// Has this process die where an argument with this prefix says: `POINT PASS`.
fn arm(prefix: &str) {
    if let Some(fate) = std::env::args().find_map(|argument| Some(argument.strip_prefix(prefix)?.to_owned())) {
        let (point, pass) = fate.split_once(' ').unwrap();
        assert!(crash::arm(point, pass.parse().unwrap()));
    }
}

struct NoInterpreter;

impl Runtime for NoInterpreter {
    fn ready(&mut self, _: &str) {}

    fn fork(&mut self) -> Result<Fork, Errno> {
        Err(Errno::NOSYS)
    }

    fn learn(&mut self, _: Handle) {}

    fn rehearse(&mut self) {}

    fn suspects(&mut self) -> String {
        String::new()
    }

    fn openers(&mut self) -> String {
        String::new()
    }
}

/// A child's job: what to do, and with which objects.
fn work(job: &str) -> i32 {
    let arena = Arena::home().unwrap();
    let mut words = job.split(' ');
    let what = words.next().unwrap();
    let handles: Vec<Handle> = words.clone().filter_map(|word| word.parse().ok()).collect();
    match what {
        "exit" => return words.next().unwrap().parse().unwrap(),
        "write" => {
            let mut writer = File::from(redeem(&Deposit::open(arena, handles[0]).unwrap()).unwrap());
            writer.write_all(b"from a child").unwrap();
            return 0;
        }
        "deposit" => {
            let channel = Channel::open(arena, handles[0]).unwrap();
            let (_reader, writer) = std::io::pipe().unwrap();
            let deposit = deposit(arena, &program(&[]), writer.into()).unwrap();
            channel.send(0, b"", &[deposit.lease()], Deadline::NEVER).unwrap();
            return 0;
        }
        "hold" => {
            let mutex = forkless_sync::Mutex::open(arena, handles[0]).unwrap();
            assert_eq!(mutex.try_acquire().unwrap(), Some(Acquired::Clean));
        }
        "receive" => {
            let channel = Channel::open(arena, handles[0]).unwrap();
            let received = channel.receive_within(PATIENCE, Claim::Tag, None).unwrap();
            assert!(matches!(received, Received::Message(_)));
        }
        _ => {}
    }
    Event::open(arena, *handles.last().unwrap()).unwrap().set().unwrap();
    Event::create(arena).unwrap().wait(Deadline::NEVER).unwrap();
    0
}

fn program(arguments: &[&str]) -> Program {
    Program {
        executable: std::env::current_exe().unwrap().to_str().unwrap().to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        prelude: String::new(),
        preload: Vec::new(),
        own: false,
    }
}

fn deposit(arena: &'static Arena, program: &Program, descriptor: OwnedFd) -> Result<Deposit, Error> {
    let mut deposition = Deposition::begin(arena, program, descriptor)?;
    let deadline = Deadline::after(PATIENCE);
    loop {
        if let Some(deposit) = deposition.wait_within(Duration::from_millis(50))? {
            return Ok(deposit);
        }
        assert!(!deadline.passed(), "not kept after {PATIENCE:?}");
    }
}

fn redeem(deposit: &Deposit) -> Result<OwnedFd, Error> {
    let mut redemption = Redemption::new(deposit);
    let deadline = Deadline::after(PATIENCE);
    loop {
        if let Some(descriptor) = redemption.wait_within(Duration::from_millis(50))? {
            return Ok(descriptor);
        }
        assert!(!deadline.passed(), "not redeemed after {PATIENCE:?}");
    }
}

/// One test at a time: a process has one template. Ended when dropped.
struct Tree {
    arena: &'static Arena,
    program: Program,
    before: (Statistics, usize),
    _alone: MutexGuard<'static, ()>,
}

impl Tree {
    fn new(arguments: &[&str]) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        static ARENA: OnceLock<&Arena> = OnceLock::new();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = *ARENA.get_or_init(|| Arena::create(KINDS).unwrap());
        Self { arena, program: program(arguments), before: Self::census(arena), _alone: alone }
    }

    fn census(arena: &'static Arena) -> (Statistics, usize) {
        let Statistics { blocks, dying, leases, .. } = arena.statistics().unwrap();
        (Statistics { blocks, dying, leases, ..Statistics::default() }, arena.processes().len())
    }

    fn start(&self, method: Method, job: &str) -> Result<Child, Error> {
        self.start_with(method, job, &[])
    }

    fn start_with(&self, method: Method, job: &str, handles: &[&Lease]) -> Result<Child, Error> {
        let order = Order {
            method,
            name: "a child",
            job: Content { parts: &[job.as_bytes()], handles, ..Content::default() },
            surroundings: None,
        };
        let mut pending = Pending::ask_for(self.arena, &self.program, &order)?;
        let deadline = Deadline::after(PATIENCE);
        loop {
            if let Some(child) = pending.wait_within(Duration::from_millis(50))? {
                return Ok(child);
            }
            assert!(!deadline.passed(), "no child after {PATIENCE:?}");
        }
    }

    fn spawn(&self, job: &str) -> Child {
        self.start(Method::Spawn, job).unwrap()
    }

    /// What the template has open.
    fn descriptors_of_template(&self) -> usize {
        let template =
            self.arena.processes().into_iter().find(|process| process.role == Role::Template && process.live);
        template.map_or(0, |template| std::fs::read_dir(format!("/proc/{}/fd", template.pid)).unwrap().count())
    }

    fn end(self) {
        Client::shutdown(self.arena, PATIENCE);
        assert_eq!(Self::census(self.arena), self.before, "{:?}", self.arena.processes());
    }
}

fn wait(child: &Child) -> ExitStatus {
    try_wait(child).unwrap()
}

fn try_wait(child: &Child) -> Result<ExitStatus, Error> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        if let Some(status) = child.poll()? {
            return Ok(status);
        }
        assert!(!deadline.passed(), "process {} still runs after {PATIENCE:?}", child.pid());
        child.wait_within(Duration::from_millis(50));
    }
}

#[test]
fn a_child_gets_its_job_and_its_exit_code_comes_home() {
    let tree = Tree::new(&[]);
    for code in [0, 7, 255] {
        let child = tree.spawn(&format!("exit {code}"));
        assert_eq!(wait(&child), ExitStatus::Exited(code));
        assert_eq!(child.poll().unwrap(), Some(ExitStatus::Exited(code)), "asked again");
        assert!(child.peak_memory().is_some_and(|bytes| bytes > 256 << 10), "{:?}", child.peak_memory());
        child.close().unwrap();
        child.close().unwrap();
        assert_eq!(child.peak_memory(), None, "given back");
    }
    tree.end();
}

#[test]
fn what_a_killed_child_had_is_given_back_and_named() {
    let tree = Tree::new(&[]);
    let mutex = forkless_sync::Mutex::create(tree.arena).unwrap();
    let channel = Channel::create(tree.arena, 0).unwrap();
    channel.send(42, b"", &[], Deadline::NEVER).unwrap();
    for (job, handle) in [("hold", mutex.lease()), ("receive", channel.lease())] {
        let ready = Event::create(tree.arena).unwrap();
        let child = tree.spawn(&format!("{job} {} {}", handle.handle().unwrap(), ready.lease().handle().unwrap()));
        assert!(ready.wait(Deadline::after(PATIENCE)).unwrap());
        assert!(matches!(child.close(), Err(Error::StillRunning { .. })));
        assert_eq!((child.poll().unwrap(), child.claimed(), child.peak_memory()), (None, None, None));
        child.signal(9).unwrap();
        assert_eq!(wait(&child), KILLED);
        child.signal(9).unwrap();
        assert_eq!(child.claimed(), (job == "receive").then_some(42));
    }
    assert!(matches!(mutex.try_acquire().unwrap(), Some(Acquired::FromTheDead(_))));
    drop((mutex, channel));
    tree.end();
}

#[test]
fn children_end_with_their_tree() {
    let tree = Tree::new(&[]);
    let ready = Event::create(tree.arena).unwrap();
    let child = tree.spawn(&format!("stay {}", ready.lease().handle().unwrap()));
    assert!(ready.wait(Deadline::after(PATIENCE)).unwrap());
    Client::shutdown(tree.arena, PATIENCE);
    assert_eq!(wait(&child), KILLED);
    drop((ready, child));
    tree.end();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_start_survives_the_death_of_the_template() {
    let tree = Tree::new(&["dies at start.received 2"]);
    let ready = Event::create(tree.arena).unwrap();
    let first = tree.spawn(&format!("stay {}", ready.lease().handle().unwrap()));
    assert!(ready.wait(Deadline::after(PATIENCE)).unwrap());
    let second = tree.spawn("exit 3");
    assert_eq!(wait(&second), ExitStatus::Exited(3));
    assert_eq!(first.poll().unwrap(), None, "children outlive their template");
    first.signal(9).unwrap();
    let death = Instant::now();
    assert!(matches!(try_wait(&first), Ok(KILLED) | Err(Error::StatusLost { .. })), "as far as can be known");
    assert!(death.elapsed() < Duration::from_secs(30));
    assert!(first.peak_memory().is_none() && second.peak_memory().is_some(), "whose template has told it");
    drop((ready, first, second));
    tree.end();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_template_that_dies_at_every_start_is_an_error() {
    let tree = Tree::new(&["dies at start.received 1"]);
    let error = tree.start(Method::Spawn, "exit 0").unwrap_err();
    assert!(matches!(error, Error::TemplateDied { .. }), "{error}");
    tree.end();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_spawned_child_that_dies_on_its_way_has_died() {
    for point in ["slot.entered", "slot.registered", "child.arrived"] {
        let tree = Tree::new(&[&format!("child dies at {point} 1")]);
        assert_eq!(wait(&tree.spawn("exit 0")), KILLED, "{point}");
        tree.end();
    }
}

#[test]
fn a_refusal_of_the_system_is_told() {
    let tree = Tree::new(&[]);
    let error = tree.start(Method::Forkserver, "exit 0").unwrap_err();
    assert!(matches!(error, Error::System { errno: Errno::NOSYS, .. }), "{error}");
    assert_eq!(wait(&tree.spawn("exit 0")), ExitStatus::Exited(0), "the template goes on");
    tree.end();
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let mut tree = Tree::new(&[]);
    tree.program.executable = "/nonexistent/python".to_owned();
    let error = tree.start(Method::Spawn, "exit 0").unwrap_err();
    assert!(matches!(error, Error::System { action: "start the template", errno: Errno::NOENT }), "{error}");
    tree.end();
}

/// Whether the other ends of a pipe are all closed, in time.
fn ends(reader: &impl AsFd) -> bool {
    process::readable(&[reader.as_fd()], PATIENCE).unwrap()[0]
}

#[test]
fn a_descriptor_is_kept_until_nobody_holds_the_deposit() {
    let tree = Tree::new(&[]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let deposit = deposit(tree.arena, &tree.program, writer.into()).unwrap();
    for word in ["one", "two"] {
        File::from(redeem(&deposit).unwrap()).write_all(word.as_bytes()).unwrap();
    }
    let handle = deposit.lease().handle().unwrap();
    let child = tree.start_with(Method::Spawn, &format!("write {handle}"), &[deposit.lease()]).unwrap();
    assert_eq!(wait(&child), ExitStatus::Exited(0));
    drop(deposit);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "onetwofrom a child");
    drop(child);
    tree.end();
}

#[test]
fn a_descriptor_for_one_is_given_once() {
    let tree = Tree::new(&[]);
    let (reader, writer) = std::io::pipe().unwrap();
    let deposit = deposit(tree.arena, &tree.program, writer.into()).unwrap();
    deposit.set_for_one().unwrap();
    let writer = redeem(&deposit).unwrap();
    assert!(matches!(redeem(&deposit), Err(Error::Taken { .. })));
    drop(writer);
    assert!(ends(&reader), "the template has it no more, although the deposit lives");
    drop(deposit);
    tree.end();
}

#[test]
fn a_child_that_never_loads_its_job_keeps_no_descriptor() {
    let tree = Tree::new(&[]);
    let (reader, writer) = std::io::pipe().unwrap();
    let deposit = deposit(tree.arena, &tree.program, writer.into()).unwrap();
    let child = tree.start_with(Method::Spawn, "exit 0", &[deposit.lease()]).unwrap();
    drop(deposit);
    assert!(ends(&reader), "while the parent keeps the child, and so its job");
    assert_eq!(wait(&child), ExitStatus::Exited(0));
    drop(child);
    tree.end();
}

#[test]
fn a_killed_keeper_is_named() {
    let tree = Tree::new(&[]);
    let (_reader, writer) = std::io::pipe().unwrap();
    let lost = deposit(tree.arena, &tree.program, writer.try_clone().unwrap().into()).unwrap();
    let (_, template) = lost.keeper().unwrap();
    let killed = process::open(template).unwrap();
    process::send_signal(killed.as_fd(), 9).unwrap();
    assert!(process::readable(&[killed.as_fd()], PATIENCE).unwrap()[0]);
    assert!(matches!(redeem(&lost), Err(Error::KeeperDied { pid }) if pid == template));
    // The next one goes to a new template.
    let kept = deposit(tree.arena, &tree.program, writer.into()).unwrap();
    assert_ne!(kept.keeper().unwrap().1, template);
    redeem(&kept).unwrap();
    drop((lost, kept));
    tree.end();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_deposit_survives_the_death_of_the_template() {
    for point in ["keeper.kept", "keeper.told"] {
        // Pass 1 is for a first deposit that must not go wrong; the new template has one pass to go.
        let tree = Tree::new(&[&format!("dies at {point} 2")]);
        let (reader, writer) = std::io::pipe().unwrap();
        let first = deposit(tree.arena, &tree.program, writer.try_clone().unwrap().into()).unwrap();
        let second = deposit(tree.arena, &tree.program, writer.into()).unwrap();
        match point {
            "keeper.kept" => drop(redeem(&second).unwrap()),
            // Told, and dead: whoever asks is told that.
            _ => assert!(matches!(redeem(&second), Err(Error::KeeperDied { .. }))),
        }
        drop((first, second));
        assert!(ends(&reader), "{point}");
        tree.end();
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_depositor_that_dies_leaves_nothing() {
    for point in ["deposit.created", "deposit.sent", "channel.send.committed", "deposit.dying"] {
        let tree = Tree::new(&[&format!("child dies at {point} 1")]);
        let channel = Channel::create(tree.arena, 0).unwrap();
        wait(&tree.spawn("exit 0"));
        let before = tree.descriptors_of_template();
        let child = tree.spawn(&format!("deposit {}", channel.lease().handle().unwrap()));
        wait(&child);
        drop(channel);
        let deadline = Deadline::after(PATIENCE);
        while tree.descriptors_of_template() > before {
            assert!(!deadline.passed(), "{point}: the template keeps what nobody can ask for");
            process::readable(&[], Duration::from_millis(5)).unwrap();
        }
        drop(child);
        tree.end();
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_receiver_that_dies_takes_nothing_from_the_next() {
    let tree = Tree::new(&["child dies at deposit.claimed 1"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let deposit = deposit(tree.arena, &tree.program, writer.into()).unwrap();
    let job = format!("write {}", deposit.lease().handle().unwrap());
    assert_eq!(wait(&tree.start_with(Method::Spawn, &job, &[]).unwrap()), KILLED);
    drop(redeem(&deposit).unwrap());
    drop(deposit);
    assert!(ends(&reader));
    tree.end();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn what_a_keeper_gave_before_it_died_has_arrived() {
    let tree = Tree::new(&["dies at keeper.given 1"]);
    let (_reader, writer) = std::io::pipe().unwrap();
    let deposit = deposit(tree.arena, &tree.program, writer.into()).unwrap();
    File::from(redeem(&deposit).unwrap()).write_all(b"arrived").unwrap();
    assert!(matches!(redeem(&deposit), Err(Error::KeeperDied { .. })));
    drop(deposit);
    tree.end();
}
