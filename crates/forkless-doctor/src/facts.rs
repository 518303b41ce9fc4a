//! What was seen of a tree of processes: the input of the [rules](crate::rules), which add nothing to it.
//!
//! It says who sleeps on what, and who has it, in one vocabulary for objects of forkless, of `multiprocessing` and of
//! `threading`, so that a rule need not ask where a lock comes from.

use std::time::Duration;

use forkless_sys::process::ExitStatus;

/// A tree of processes, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The process asked about.
    pub root: u32,
    /// It and all that descend from it, parents before their children.
    pub processes: Vec<Process>,
    /// What they wait for.
    pub objects: Vec<Object>,
    /// What could not be learned, in sentences.
    pub unknown: Vec<String>,
}

/// A process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Of its parent.
    pub parent: u32,
    /// The command line, shortened.
    pub command: String,
    /// A letter, as in [`Status`](forkless_sys::inspect::Status).
    pub state: char,
    /// When it started, in hundredths of a second since boot.
    pub started: u64,
    /// Whether it was forked and has run no program of its own since.
    pub is_copy: bool,
    /// How it ended, if it waits to be reaped.
    pub ended: Option<ExitStatus>,
    /// What it is to its tree, if that is one of forkless.
    pub role: Option<&'static str>,
    /// Its name there; empty for others.
    pub name: String,
    /// Bytes that would come back if it ended; unknown if it is not ours to measure.
    pub unique: Option<u64>,
    /// Processes that the memory killer has ended in its control group.
    pub memory_kills: u64,
    /// Its threads, the main one first.
    pub threads: Vec<Thread>,
    /// Pipes that it can write to, by number.
    pub writes_to: Vec<u64>,
}

/// A thread.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// Its id.
    pub tid: u32,
    /// Whether it is in the interpreter: only such have a stack.
    pub is_python: bool,
    /// The Python stack, innermost first.
    pub stack: Vec<Frame>,
    /// What it waits for; nothing if it runs.
    pub wait: Option<Wait>,
    /// Since when, in nanoseconds of the monotonic clock, if it has noted that; else 0.
    pub noted: u64,
    /// A number that grows with what it does, see [`activity`](forkless_sys::inspect::activity).
    pub activity: u64,
}

/// What [`Frame::takes`] is where something is printed or written: a stream's buffer has a lock, without a name.
pub const STREAM: &str = "the buffer of a stream";

/// A function that is being called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its name.
    pub function: String,
    /// The path of its source.
    pub file: String,
    /// Which line of that it is at.
    pub line: u32,
    /// Whether the source could be read.
    pub has_source: bool,
    /// What the line takes, if it reads `with NAME:` or `NAME.acquire()`.
    pub takes: Option<String>,
    /// What it has taken: names in `with` around the line, and those acquired before it.
    pub has: Vec<String>,
}

impl Frame {
    /// Whether it is this function, in a file with this end of its path.
    #[must_use]
    pub fn is(&self, file: &str, function: &str) -> bool {
        self.function == function && self.file.ends_with(file)
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A lock between processes.
    Lock,
    /// A lock between processes that its owner may take again.
    RLock,
    /// A semaphore between processes.
    Semaphore,
    /// An event between processes.
    Event,
    /// A condition between processes.
    Condition,
    /// A barrier between processes.
    Barrier,
    /// Room in a queue.
    QueuePut,
    /// A message in a queue.
    QueueGet,
    /// That all tasks of a queue are done.
    QueueJoin,
    /// The end of a process.
    Process,
    /// The result of a task.
    Result,
    /// A task to do, in a worker.
    Task,
    /// A lock, or what is built on one, between threads of one process.
    ThreadLock,
    /// Something to read from a pipe.
    PipeRead,
    /// Room in a pipe.
    PipeWrite,
    /// Any of several descriptors.
    Poll,
    /// Input from a descriptor that is no pipe.
    Input,
    /// That some time has passed.
    Sleep,
    /// Something that the kernel knows.
    Other,
}

impl Kind {
    /// Every kind, and its name.
    pub const NAMES: [(Self, &str); 19] = [
        (Self::Lock, "lock"),
        (Self::RLock, "rlock"),
        (Self::Semaphore, "semaphore"),
        (Self::Event, "event"),
        (Self::Condition, "condition"),
        (Self::Barrier, "barrier"),
        (Self::QueuePut, "queue put"),
        (Self::QueueGet, "queue get"),
        (Self::QueueJoin, "queue join"),
        (Self::Process, "process"),
        (Self::Result, "result"),
        (Self::Task, "task"),
        (Self::ThreadLock, "thread lock"),
        (Self::PipeRead, "pipe read"),
        (Self::PipeWrite, "pipe write"),
        (Self::Poll, "poll"),
        (Self::Input, "input"),
        (Self::Sleep, "sleep"),
        (Self::Other, "other"),
    ];

    /// In lower-case words.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }

    /// What to call the object.
    #[must_use]
    pub fn object(self) -> &'static str {
        match self {
            Self::QueuePut | Self::QueueGet | Self::QueueJoin => "queue",
            other => other.name(),
        }
    }

    /// Whether one thread at a time has it.
    #[must_use]
    pub fn is_lock(self) -> bool {
        matches!(self, Self::Lock | Self::RLock)
    }
}

/// A wait of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For what.
    pub kind: Kind,
    /// Which of [`Facts::objects`].
    pub object: Option<usize>,
    /// Whether it gives up some time. Waits of forkless do, too, but begin again: there it is false.
    pub timed: bool,
    /// For how long, if that is known.
    pub since: Option<Duration>,
    /// The process whose end is waited for.
    pub process: Option<u32>,
}

impl Wait {
    /// A wait for this, of which no more is known.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, object: None, timed: false, since: None, process: None }
    }
}

/// Something that is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// What to call it, with where it was made if that is known.
    pub name: String,
    /// Who has it: process, and thread if that is known.
    pub holders: Vec<(u32, Option<u32>)>,
    /// The processes that know it.
    pub users: Vec<u32>,
    /// Whether `holders` is all there is to know about who has it.
    pub is_certain: bool,
    /// The process that had it and has ended, if that is known.
    pub died: Option<String>,
    /// The value of a semaphore, the messages in a queue.
    pub count: Option<u64>,
    /// Of a pipe, its number.
    pub pipe: Option<u64>,
    /// A process outside the tree that has it too.
    pub outsider: Option<u32>,
    /// Whether it belongs to forkless.
    pub is_ours: bool,
}

impl Facts {
    /// The process with this id.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// Every thread that waits without a limit, with its process and what for.
    pub fn waiting(&self) -> impl Iterator<Item = (&Process, &Thread, Wait)> {
        let threads = self.processes.iter().flat_map(|process| process.threads.iter().map(move |it| (process, it)));
        threads.filter_map(|(process, thread)| Some((process, thread, thread.wait.filter(|wait| !wait.timed)?)))
    }

    /// The object of a wait.
    #[must_use]
    pub fn object(&self, wait: Wait) -> Option<&Object> {
        self.objects.get(wait.object?)
    }
}

impl Process {
    /// The threads that run Python code.
    pub fn python_threads(&self) -> impl Iterator<Item = &Thread> {
        self.threads.iter().filter(|thread| thread.is_python)
    }
}

impl Thread {
    /// The innermost frame.
    #[must_use]
    pub fn top(&self) -> Option<&Frame> {
        self.stack.first()
    }

    /// Whether one of these functions is being called: `(end of the file's path, name)`.
    #[must_use]
    pub fn is_in(&self, functions: &[(&str, &str)]) -> bool {
        self.stack.iter().any(|frame| functions.iter().any(|(file, function)| frame.is(file, function)))
    }
}
