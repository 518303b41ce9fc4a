//! Models of the protocols over shared words, for the model checker [loom].
//!
//! What runs here is the code that is shipped, with loom's atomics behind `forkless_sys::atomic` and a model of shared
//! memory, futexes and death behind the rest (`forkless_sys::model`). Each model in `tests/` is two or three processes
//! and one suspicion; loom runs it in every order of steps and with every value that a load may give, up to three
//! preemptions. Empty unless built with `--cfg loom`:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p forkless-models --target-dir target/models
//! ```
//!
//! [loom]: https://docs.rs/loom
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::cell::Cell;
use std::sync::atomic::AtomicBool;

use forkless_shm::slot::End;
use forkless_shm::{Arena, Block, Error, Handle, Lease, Owner, Role};
use forkless_sys::atomic::{AtomicU64, Ordering};
use forkless_sys::{liveness, model};

/// The kind of blocks that belong to the models.
const KIND: u8 = 200;

/// Where the lock of all that transactions change is.
const ARENA_LOCK: usize = 32;

/// As a thread that is registered has it in its liveness word.
const REGISTERED: u32 = 0x8000_0001;

thread_local! {
    /// How many orders there have been. Loom runs them all on one thread of the operating system.
    static ORDERS: Cell<u64> = const { Cell::new(0) };
    /// Whether what is checked is part of something larger, which will tell.
    static PART: Cell<bool> = const { Cell::new(false) };
}

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
        let mut world = Self { arena, children: Vec::new(), watched: Vec::new(), preemptions: 3 };
        for _ in 0..children {
            world.add(Role::Child);
        }
        world
    }

    /// One process more, and its view of the arena.
    pub fn add(&mut self, role: Role) -> &'static Arena {
        let owner = self.arena.reserve_slot(role, role.name()).unwrap();
        let view = self.arena.view(owner).unwrap();
        register(self.arena, owner);
        self.children.push(view);
        view
    }

    /// Explores who changes the arena, by the lock that they do it under: each change is a step then.
    pub fn watch_transactions(&mut self) {
        self.watch_range(ARENA_LOCK, 4);
    }

    /// How often, at most, a process that could go on is overtaken: three times if nothing is said.
    pub fn preemptions(mut self, most: usize) -> Self {
        self.preemptions = most;
        self
    }

    /// Shares an object: the parent's, and each child's view of the arena with what it opens by the object's handle.
    pub fn share<T: 'static, const CHILDREN: usize>(
        &self,
        object: T,
        lease: impl Fn(&T) -> &Lease,
        open: impl Fn(&'static Arena, Handle) -> Result<T, Error>,
    ) -> (&'static T, [(&'static Arena, &'static T); CHILDREN]) {
        assert_eq!(self.children.len(), CHILDREN);
        let handle = lease(&object).handle().unwrap();
        let view = |child| (child, keep(open(child, handle).unwrap()));
        (keep(object), std::array::from_fn(|index| view(self.children[index])))
    }

    /// A word of the processes' own, zero, which is explored. In what order they see it is up to the protocol.
    pub fn word(&mut self) -> &'static AtomicU64 {
        let lease = keep(self.arena.allocate(8, KIND).unwrap());
        self.watch_range(lease.block().payload(), 8);
        self.arena.map().u64(lease.block().payload()).unwrap()
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
        let before = ORDERS.get();
        builder.check(move || {
            ORDERS.set(ORDERS.get() + 1);
            let _running = model::begin(memory);
            watched.iter().for_each(|(offset, length)| memory.watch(*offset, *length));
            live.iter().for_each(|at| {
                memory.watch(*at, 8);
                // The slot's state, behind it: the other word that says who is dead.
                memory.watch(*at + liveness::SIZE, 8);
            });
            play();
        });
        if !PART.get() {
            println!("{} orders", ORDERS.get() - before);
        }
    }
}

/// A death to come.
#[derive(Clone, Copy)]
pub struct Doom {
    dies_before: u32,
    struck: &'static AtomicBool,
}

/// Checks a model with a death before the first step of the doomed process, its second and so on, until it lives to the
/// end in every order.
pub fn at_every_step(check: impl Fn(Doom)) {
    let strikes = |dies_before| {
        let doom = Doom { dies_before, struck: keep(AtomicBool::new(false)) };
        check(doom);
        doom.struck.load(Ordering::Relaxed)
    };
    let (before, part) = (ORDERS.get(), PART.replace(true));
    let deaths = (0..).map(strikes).take_while(|struck| *struck).count();
    assert!(deaths > 0, "the doomed process takes no step");
    PART.set(part);
    if !part {
        println!("{} orders, of {deaths} deaths and none", ORDERS.get() - before);
    }
}

/// Adds one to a word, in a way that is right for one process at a time.
pub fn count(word: &AtomicU64) {
    word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Lets the others get as far as they do before the caller goes on, in the first of all orders: what takes several of
/// them asleep takes no preemption then.
pub fn let_others_go_first() {
    loom::thread::yield_now();
}

/// The block of this size that a process with this view allocates next: the way to one that its object keeps to itself.
/// What was freed last is given out first.
pub fn next_block(view: &'static Arena, size: usize) -> Block {
    view.allocate(size, KIND).unwrap().block()
}

/// Has an object outlive the model, also one that fails.
fn keep<T>(object: T) -> &'static T {
    Box::leak(Box::new(object))
}

fn register(arena: &'static Arena, owner: Owner) {
    arena.liveness(owner).unwrap().store(REGISTERED, Ordering::Relaxed);
}

fn liveness_at(child: &'static Arena) -> usize {
    child.liveness(child.me().unwrap()).unwrap().offset()
}

/// A process on its way.
pub struct Process<T>(model::Running<Option<T>>);

impl<T: Send + 'static> Process<T> {
    /// Has the child with this view do something.
    pub fn start(view: &'static Arena, play: impl FnOnce() -> T + Send + 'static) -> Self {
        let live = view.liveness(view.me().unwrap()).unwrap();
        Self(model::start(move || model::live(live, None, play)))
    }

    /// As [`start`](Self::start), but it dies on the way, if it gets that far.
    pub fn start_doomed(view: &'static Arena, doom: Doom, play: impl FnOnce() -> T + Send + 'static) -> Self {
        let live = view.liveness(view.me().unwrap()).unwrap();
        Self(model::start(move || {
            let end = model::live(live, Some(doom.dies_before), play);
            doom.struck.fetch_or(end.is_none(), Ordering::Relaxed);
            end
        }))
    }

    /// Waits for its end; `None` if it died.
    pub fn join(self) -> Option<T> {
        self.0.join()
    }
}

/// Does something of the parent's that needs more stack than its thread has.
pub fn with_stack<T: Send + 'static>(play: impl FnOnce() -> T + Send + 'static) -> T {
    model::start(play).join()
}

/// Has a process with this view give back what dead children held, one after the other.
pub fn clean<const DEAD: usize>(view: &'static Arena, dead: [&'static Arena; DEAD]) {
    with_stack(move || dead.iter().try_for_each(|dead| view.clean(dead.me()?, End::Unknown))).unwrap();
}
