//! Locks, and what one waits for, between processes that may die at any instruction.
//!
//! | type | what it is | in Python |
//! |---|---|---|
//! | [`Mutex`] | a mutex around plain data | |
//! | [`Lock`] | a mutex without data | `forkless.Lock` |
//! | [`ReentrantLock`] | the same, for code that calls itself | `forkless.RLock` |
//! | [`Condvar`] | waits, with a lock given back meanwhile, for a change | `forkless.Condition`, beside its lock |
//! | [`Semaphore`] | a number of permits | `forkless.Semaphore` |
//! | [`Event`] | set once, seen by all | `forkless.Event` |
//! | [`Barrier`] | nobody passes before all have arrived | `forkless.Barrier` |
//!
//! Where there is a name in the last column, a handle of the one opens the other.
//!
//! All are made with `create`, in this process's [`arena`](crate::arena()); they live as long as any process has them, and
//! need no descriptor and no name in a file system. Another process gets one by [name](crate::inherited), by
//! [handle](crate::Handle), or with a [message](crate::ipc::Channel::send). They keep threads of one process apart
//! as well.
//!
//! # Waiting
//!
//! A plain method waits for as long as it takes, `try_…` not at all, `…_timeout` for a
//! [`Duration`](std::time::Duration), and `…_deadline` until a [`Deadline`](crate::Deadline) or an
//! [`Instant`](std::time::Instant). That the time is up is no error, but `None`, or `false`. Signals do not end a wait.
//! Whoever waits for a lock whose owner dies knows within 100 ms.

mod barrier;
mod condvar;
mod event;
mod guard;
mod lock;
mod mutex;
mod plain;
mod reentrant;
mod semaphore;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use guard::{Guard, LockError, LockResult, OwnerDied};
pub use lock::{Lock, LockGuard};
pub use mutex::{Mutex, MutexGuard};
pub use plain::Plain;
pub(crate) use plain::name;
pub use reentrant::{ReentrantGuard, ReentrantLock};
pub use semaphore::{Semaphore, SemaphorePermit};
