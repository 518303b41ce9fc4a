//! The rules: one file for each hazard, one function for each code.

mod big_message;
mod context_mismatch;
mod cpu_count;
mod dead_owner;
mod descriptor_inheritance;
mod exit_with_live_pool;
mod inherited_lock;
mod lost_worker;
mod main_reexecution;
mod native_threads_after_fork;
mod orphans;
mod pool_in_pool_deadlock;
mod queue_join;
mod reentrant_queue;
mod refcount_copy;
mod shared_memory_leak;
mod start_method_twice;
mod unpicklable_error;

use crate::model::{Module, processes::Processes};
use crate::source::Lines;
use crate::syntax::TextRange;

/// What the rules are asked about.
pub struct Facts<'a> {
    pub module: Module<'a>,
    pub processes: Processes<'a>,
    pub lines: &'a Lines,
}

impl Facts<'_> {
    /// The line that something starts in, for messages.
    fn line_of(&self, range: TextRange) -> usize {
        self.lines.position(range.start().to_usize()).line
    }
}

/// Where a rule has found something, and why it breaks.
pub struct Hit {
    pub range: TextRange,
    pub message: String,
}

/// What a rule looks like to the others.
pub struct Rule {
    /// `FL` and three digits.
    pub code: &'static str,
    /// The trap, by its name in the gallery and in the documentation.
    pub hazard: &'static str,
    /// What it finds, in one line.
    pub title: &'static str,
    /// How to mend it, in one line.
    pub help: &'static str,
    /// The whole explanation, in Markdown.
    pub explanation: &'static str,
    /// Advice is only given on request, and never fails a run.
    pub is_advice: bool,
    pub(crate) find: fn(&Facts<'_>) -> Vec<Hit>,
}

macro_rules! rules {
    ($($code:ident $hazard:literal $find:path, $title:literal, $help:literal;)*) => {
        /// All rules, by their codes.
        pub static RULES: &[Rule] = &[$(Rule {
            code: stringify!($code),
            hazard: $hazard,
            title: $title,
            help: $help,
            explanation: include_str!(concat!("../explanations/", stringify!($code), ".md")),
            is_advice: matches!(stringify!($code).as_bytes(), [_, _, b'9', ..]),
            find: $find,
        }),*];
    };
}

rules! {
    FL001 "context-mismatch" context_mismatch::given_to_another_context,
        "a lock, event or queue of one context is given to a child of another",
        "make both with the same context: `context = get_context(...)`, then `context.Lock()` and \
         `context.Process(...)`";
    FL002 "context-mismatch" context_mismatch::sent_with_a_message,
        "a lock, event or queue is sent to a pool's task or through a queue",
        "hand it over when the worker starts (`initializer=`, `initargs=`), or use one of a `Manager()`";
    FL010 "main-reexecution" main_reexecution::started_at_import,
        "a process or pool is started on import, where children import the module again",
        "start it under `if __name__ == \"__main__\":`";
    FL011 "main-reexecution" main_reexecution::target_not_found,
        "a function that a child cannot find by its name is a target or a task",
        "define it with `def` at the top level of a module that can be imported";
    FL012 "main-reexecution" main_reexecution::global_not_set,
        "a global that is set under the guard is read by a child that imports the module again",
        "pass the value to the child as an argument, or set it in the pool's `initializer=`";
    FL013 "main-reexecution" main_reexecution::side_effects,
        "a script that spawns has side effects at module level, which every child repeats",
        "move it under `if __name__ == \"__main__\":`";
    FL020 "inherited-lock" inherited_lock::fork_with_threads,
        "the process forks while a thread that it started is running",
        "start the children before the threads, join the threads first, or use `get_context(\"forkserver\")`";
    FL021 "inherited-lock" inherited_lock::fork_with_lock_held,
        "the process forks while it holds a lock that the child takes",
        "start the child after the lock has been released";
    FL030 "start-method-twice" start_method_twice::set_twice,
        "the start method can be set twice",
        "set it once, under the guard of the program; in a library use a context of its own: `get_context(...)`";
    FL040 "reentrant-queue" reentrant_queue::in_finalizer_method,
        "`__del__` uses a queue, lock or executor",
        "give objects a `close` method that is called in its turn, or append to a `collections.deque` that \
         somebody else empties";
    FL041 "reentrant-queue" reentrant_queue::in_weakref_callback,
        "a callback of a weak reference uses a queue, lock or executor",
        "append to a `collections.deque` in the callback, and do the work elsewhere";
    FL042 "reentrant-queue" reentrant_queue::in_signal_handler,
        "a signal handler uses a queue, lock or executor",
        "set a flag or write to `signal.set_wakeup_fd`, and do the work in the main loop";
    FL050 "refcount-copy" refcount_copy::read_by_forked,
        "a large container of objects is read by forked children, which copies it",
        "keep large data in arrays (`array`, numpy) or shared memory, which have no reference count for each item";
    FL060 "shared-memory-leak" shared_memory_leak::not_unlinked,
        "a segment is not unlinked on every path",
        "unlink it in `finally`, or make it with a `SharedMemoryManager` in `with`";
    FL061 "shared-memory-leak" shared_memory_leak::unlinked_by_a_guest,
        "a segment is unlinked by a process that only attached to it",
        "only `close()` it here; let its creator unlink it when all have finished";
    FL070 "lost-worker" lost_worker::ends_in_a_task,
        "a pool's worker ends in the middle of a task, and the result is waited for",
        "raise an exception in place of ending the process, and wait with a timeout: `.get(timeout)`";
    FL071 "exit-with-live-pool" exit_with_live_pool::awaited_after_end,
        "a result is awaited after the pool's `with` has ended",
        "get the result inside the `with`: leaving it terminates the workers";
    FL075 "dead-owner" dead_owner::killed_with_what_others_need,
        "a process is killed that may hold a lock or queue which others use",
        "ask it to end (an event, a message) and join it; or give each process a pipe of its own";
    FL080 "queue-join" queue_join::join_before_get,
        "a process is joined before what it has put into a queue is taken out",
        "get first, then join";
    FL081 "queue-join" queue_join::unpicklable,
        "something that cannot be pickled is put into a queue, and vanishes there",
        "put plain data";
    FL082 "queue-join" queue_join::exit_after_put,
        "the process ends with `os._exit` after a put, which loses what was put",
        "call `queue.close()` and `queue.join_thread()` first, or end by returning";
    FL090 "unpicklable-error" unpicklable_error::cannot_be_rebuilt,
        "an exception that a task raises cannot be rebuilt in the parent",
        "pass all required arguments to `super().__init__`, or define `__reduce__`";
    FL091 "unpicklable-error" unpicklable_error::returns_unpicklable,
        "a task returns something that cannot be pickled",
        "return plain data: a list in place of a generator, a path in place of a file";
    FL100 "orphans" orphans::children_of_daemons,
        "a daemonic process starts processes, which it may not",
        "use `daemon=False` and join it, or a `ProcessPoolExecutor`, whose workers are not daemonic";
    FL110 "exit-with-live-pool" exit_with_live_pool::never_closed,
        "a pool is never closed",
        "use `with`, or call `close()` and `join()`";
    FL120 "native-threads-after-fork" native_threads_after_fork::used_before_fork,
        "the process forks after a library has started threads or opened devices of its own",
        "use `get_context(\"spawn\")` or `get_context(\"forkserver\")`, or use the library in the children only";
    FL130 "descriptor-inheritance" descriptor_inheritance::listening,
        "a listening socket is open when the process forks",
        "start children first, close the socket in the child, or use `get_context(\"forkserver\")`";
    FL131 "descriptor-inheritance" descriptor_inheritance::own_writing_end,
        "a forked reader waits for the end of a pipe whose writing end it holds itself",
        "close the writing end in the reader, or use `get_context(\"spawn\")`";
    FL140 "pool-in-pool-deadlock" pool_in_pool_deadlock::waits_for_its_own_pool,
        "a task waits for another task of the pool that it runs in",
        "return what is left to do and let the caller submit it, or use one pool for each level";
    FL150 "big-message" big_message::too_big,
        "a very large message, or the same large array with every task",
        "put large arrays into shared memory, or hand them over once with `initializer=`";
    FL900 "cpu-count" cpu_count::as_workers,
        "the number of workers is the number of the machine's processors",
        "use `len(os.sched_getaffinity(0))`, or `os.process_cpu_count()` from Python 3.13 on";
}

/// The rule of a code.
pub fn rule(code: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.code.eq_ignore_ascii_case(code))
}
