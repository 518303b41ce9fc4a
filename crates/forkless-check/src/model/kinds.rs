//! Which names of the standard library make what.

/// What an object is, as far as processes are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Process,
    Pool,
    Executor,
    Queue,
    SimpleQueue,
    Lock,
    RLock,
    Semaphore,
    Condition,
    Event,
    Barrier,
    SharedValue,
    Connection,
    PipeEnd,
    Manager,
    Proxy,
    SharedMemory,
    AsyncResult,
    LazyResult,
    Future,
    Thread,
    ThreadPool,
    ThreadLock,
    ThreadRLock,
    ThreadSemaphore,
    ThreadCondition,
    ThreadQueue,
    QueueListener,
    Socket,
    File,
}

impl Kind {
    /// Built upon semaphores of a context: can be inherited by a child of that context and sent in no other way.
    pub fn is_bound_to_context(self) -> bool {
        use Kind::{Barrier, Condition, Event, Lock, Queue, RLock, Semaphore, SharedValue, SimpleQueue};
        matches!(self, Lock | RLock | Semaphore | Condition | Event | Barrier | Queue | SimpleQueue | SharedValue)
    }

    /// Broken for all others by the death of a process that uses it.
    pub fn is_lost_with_its_user(self) -> bool {
        use Kind::{Condition, Lock, Queue, RLock, Semaphore, SimpleQueue};
        matches!(self, Lock | RLock | Semaphore | Condition | Queue | SimpleQueue)
    }

    /// Something of threads that cannot be pickled.
    pub fn is_unpicklable(self) -> bool {
        use Kind::{File, ThreadCondition, ThreadLock, ThreadQueue, ThreadRLock, ThreadSemaphore};
        matches!(self, File | ThreadLock | ThreadRLock | ThreadSemaphore | ThreadCondition | ThreadQueue)
    }

    /// Its noun with an article.
    pub fn a_noun(self) -> String {
        let noun = self.noun();
        let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{article} {noun}")
    }

    /// What to call it in a message.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Process => "process",
            Kind::Pool => "pool",
            Kind::Executor => "executor",
            Kind::Queue | Kind::SimpleQueue => "queue",
            Kind::Lock | Kind::RLock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Condition => "condition",
            Kind::Event => "event",
            Kind::Barrier => "barrier",
            Kind::SharedValue => "shared value",
            Kind::Connection | Kind::PipeEnd => "connection",
            Kind::Manager => "manager",
            Kind::Proxy => "proxy",
            Kind::SharedMemory => "segment",
            Kind::AsyncResult | Kind::LazyResult | Kind::Future => "result",
            Kind::Thread => "thread",
            Kind::ThreadPool => "thread pool",
            Kind::ThreadLock | Kind::ThreadRLock => "lock of threads",
            Kind::ThreadSemaphore => "semaphore of threads",
            Kind::ThreadCondition => "condition of threads",
            Kind::ThreadQueue => "queue of threads",
            Kind::QueueListener => "queue listener",
            Kind::Socket => "socket",
            Kind::File => "open file",
        }
    }
}

/// What a name of `multiprocessing`, or of one of its contexts, makes.
pub fn of_multiprocessing(name: &str) -> Option<Kind> {
    Some(match name {
        "Process" => Kind::Process,
        "Pool" => Kind::Pool,
        "Queue" | "JoinableQueue" => Kind::Queue,
        "SimpleQueue" => Kind::SimpleQueue,
        "Lock" => Kind::Lock,
        "RLock" => Kind::RLock,
        "Semaphore" | "BoundedSemaphore" => Kind::Semaphore,
        "Condition" => Kind::Condition,
        "Event" => Kind::Event,
        "Barrier" => Kind::Barrier,
        "Value" | "Array" => Kind::SharedValue,
        "Manager" => Kind::Manager,
        _ => return None,
    })
}

/// What a function or class elsewhere in the standard library makes.
pub fn of_library(path: &str) -> Option<Kind> {
    Some(match path {
        "concurrent.futures.ProcessPoolExecutor" | "concurrent.futures.process.ProcessPoolExecutor" => Kind::Executor,
        "concurrent.futures.ThreadPoolExecutor"
        | "concurrent.futures.thread.ThreadPoolExecutor"
        | "multiprocessing.pool.ThreadPool" => Kind::ThreadPool,
        "multiprocessing.pool.Pool" => Kind::Pool,
        "multiprocessing.process.Process" | "multiprocessing.process.BaseProcess" => Kind::Process,
        "multiprocessing.queues.Queue" | "multiprocessing.queues.JoinableQueue" => Kind::Queue,
        "multiprocessing.queues.SimpleQueue" => Kind::SimpleQueue,
        "multiprocessing.shared_memory.SharedMemory" => Kind::SharedMemory,
        "multiprocessing.managers.SyncManager" | "multiprocessing.managers.SharedMemoryManager" => Kind::Manager,
        "threading.Thread" | "threading.Timer" => Kind::Thread,
        "threading.Lock" | "_thread.allocate_lock" => Kind::ThreadLock,
        "threading.RLock" => Kind::ThreadRLock,
        "threading.Semaphore" | "threading.BoundedSemaphore" => Kind::ThreadSemaphore,
        "threading.Condition" => Kind::ThreadCondition,
        "queue.Queue" | "queue.LifoQueue" | "queue.PriorityQueue" => Kind::ThreadQueue,
        "logging.handlers.QueueListener" => Kind::QueueListener,
        "socket.socket" | "socket.create_server" => Kind::Socket,
        "builtins.open" | "io.open" => Kind::File,
        _ => return None,
    })
}
