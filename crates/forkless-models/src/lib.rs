//! Models of the protocols over shared words, for the model checker [loom].
//!
//! What runs here is the code that is shipped, with loom's atomics behind `forkless_sys::atomic` and a model of shared
//! memory, futexes and death behind the rest (`forkless_sys::model`). Each model in `tests/` is two or three processes
//! and one suspicion; loom runs it in every order of steps and with every value that a load may give, up to two
//! preemptions. Empty unless built with `--cfg loom`:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p forkless-models --target-dir target/models
//! ```
//!
//! [loom]: https://docs.rs/loom
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::atomic::AtomicU64;

use forkless_shm::slot::End;
use forkless_shm::{Arena, Lease, Owner, Role};
use forkless_sys::atomic::Ordering;
use forkless_sys::model;

/// As a thread that is registered has it in its liveness word.
const REGISTERED: u32 = 0x8000_0001;

/// A parent and its children, before they begin.
pub struct World {
    /// The parent's view of the arena: in it, everything is set up.
    pub arena: &'static Arena,
    children: Vec<&'static Arena>,
    watched: Vec<(usize, usize)>,
    preemptions: usize,
}

impl World {
    /// A parent with this many children.
    pub fn new(children: usize) -> Self {
        let arena = Arena::create(forkless_ipc::KINDS).unwrap();
        register(arena, arena.me().unwrap());
        let child = |_| {
            let owner = arena.reserve_slot(Role::Child, "child").unwrap();
            let view = arena.view(owner).unwrap();
            register(arena, owner);
            view
        };
        let children = (0..children).map(child).collect();
        Self { arena, children, watched: Vec::new(), preemptions: 2 }
    }

    /// How often, at most, a process that could go on is overtaken: 2 if nothing is said.
    pub fn preemptions(mut self, most: usize) -> Self {
        self.preemptions = most;
        self
    }

    /// A child's view of the arena, to open objects with.
    pub fn child(&self, index: usize) -> &'static Arena {
        self.children[index]
    }

    /// Explores what happens to the words of a block. All of them that are narrow have been accessed by now.
    pub fn watch(&mut self, lease: &Lease) {
        self.watched.push((lease.block().payload(), lease.block().capacity()));
    }

    /// As [`watch`](Self::watch), for bytes anywhere.
    pub fn watch_range(&mut self, offset: usize, length: usize) {
        self.watched.push((offset, length));
    }

    /// Runs the model in every order. `play` starts at the same shared memory each time; what it keeps in private memory
    /// it resets itself.
    pub fn check(self, play: impl Fn() + Send + Sync + 'static) {
        let memory = self.arena.map().memory();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(self.preemptions);
        builder.max_branches = 20_000;
        let watched = self.watched;
        let live: Vec<usize> = self.children.iter().map(|child| liveness_at(child)).collect();
        memory.keep();
        let orders = keep(AtomicU64::new(0));
        builder.check(move || {
            orders.fetch_add(1, Ordering::Relaxed);
            let _running = model::begin(memory);
            watched.iter().for_each(|(offset, length)| memory.watch(*offset, *length));
            live.iter().for_each(|at| memory.watch(*at, 8));
            play();
        });
        println!("{} orders", orders.load(Ordering::Relaxed));
    }
}

/// Has an object outlive the model, also one that fails.
pub fn keep<T>(object: T) -> &'static T {
    Box::leak(Box::new(object))
}

fn register(arena: &'static Arena, owner: Owner) {
    arena.liveness(owner).unwrap().store(REGISTERED, Ordering::Relaxed);
}

fn liveness_at(child: &'static Arena) -> usize {
    child.liveness(child.me().unwrap()).unwrap().offset()
}

/// A process on its way.
pub struct Process<T>(loom::thread::JoinHandle<Option<T>>);

impl<T: 'static> Process<T> {
    /// Has the child with this view do something.
    pub fn start(view: &'static Arena, play: impl FnOnce() -> T + 'static) -> Self {
        Self::start_doomed(view, None, play)
    }

    /// As [`start`](Self::start), but it dies before its step of this number, from 0, if it gets that far.
    pub fn start_doomed(view: &'static Arena, dies_before: Option<u32>, play: impl FnOnce() -> T + 'static) -> Self {
        let live = view.liveness(view.me().unwrap()).unwrap();
        Self(loom::thread::spawn(move || model::live(live, dies_before, play)))
    }

    /// Waits for its end; `None` if it died.
    pub fn join(self) -> Option<T> {
        self.0.join().unwrap()
    }
}

/// Gives back what a dead child held.
pub fn clean(arena: &'static Arena, child: &'static Arena) {
    arena.clean(child.me().unwrap(), End::Unknown).unwrap();
}
