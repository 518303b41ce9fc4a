//! The child's side: from the first instruction to the end of the role.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use forkless_shm::{Arena, Handle, Kind, Lease, Owner};
use forkless_sys::process::{self, ExitStatus, exit_now, inherited};
use forkless_sys::{AsFd, OwnedFd, crash, orphan};

use crate::Board;

/// The variable that makes a test program play a role: `role fate point passes arena lifeline owner arguments…`,
/// separated by blanks.
pub(crate) const VARIABLE: &str = "FORKLESS_TEST_ROLE";

/// The exit code of a child whose slot was given to another.
pub(crate) const TURNED_AWAY: i32 = 75;

/// What befalls a child at a point of [`forkless_sys::crash`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate<'a> {
    /// Nothing.
    Spared,
    /// It dies there, at this pass.
    Dies(&'a str, u32),
    /// It stops there, at this pass, until it is resumed.
    Halts(&'a str, u32),
}

impl Fate<'_> {
    pub(crate) fn words(self) -> String {
        match self {
            Self::Spared => "spared - 0".to_owned(),
            Self::Dies(point, pass) => format!("dies {point} {pass}"),
            Self::Halts(point, pass) => format!("halts {point} {pass}"),
        }
    }
}

/// The exit code of a role that panicked, as Rust has it.
const PANICKED: i32 = 101;

/// A role: its name, and the function that plays it.
pub type Role = (&'static str, fn(Scene));

/// What a role gets.
#[derive(Debug)]
pub struct Scene {
    /// The parent's arena, which this process has joined.
    pub arena: &'static Arena,
    arguments: std::vec::IntoIter<String>,
}

impl Scene {
    /// The next argument.
    ///
    /// # Panics
    /// If there is none, or not of this type.
    pub fn argument<T: FromStr>(&mut self) -> T {
        let text = self.arguments.next().expect("the parent gave as many arguments as the role takes");
        text.parse().ok().expect("the parent gave an argument of the type that the role takes")
    }

    /// The next argument, a handle.
    ///
    /// # Panics
    /// If it is none.
    pub fn handle(&mut self) -> Handle {
        Handle { arena: self.argument(), offset: self.argument(), generation: self.argument() }
    }

    /// The next argument, a board's handle: the board.
    ///
    /// # Panics
    /// If it is none.
    pub fn board(&mut self) -> Board {
        let handle = self.handle();
        Board::open(self.arena, handle)
    }
}

/// A lease's handle as an argument of [`Child::start`](crate::Child::start), for [`Scene::handle`].
#[must_use]
pub fn handle(lease: &Lease) -> String {
    let Handle { arena, offset, generation } = lease.handle().expect("a live lease has a handle");
    format!("{arena} {offset} {generation}")
}

/// A copy of this process, made as user code may do it, with a fork.
#[derive(Debug)]
#[must_use]
pub struct Copy {
    pid: u32,
}

impl Copy {
    /// The copy plays `part` and exits. In a role only, which has one thread, so that the copy may do anything.
    ///
    /// # Panics
    /// If the system refuses.
    #[allow(unsafe_code)]
    pub fn make(part: impl FnOnce()) -> Self {
        // SAFETY: roles are played before `main`, by a process with one thread.
        let pid = unsafe { process::fork() }.expect("the system has processes left");
        if pid == 0 {
            let played = catch_unwind(AssertUnwindSafe(part));
            exit_now(if played.is_ok() { 0 } else { PANICKED });
        }
        Self { pid }
    }

    /// How it ended.
    ///
    /// # Panics
    /// If somebody else reaps it.
    pub fn finish(self) -> ExitStatus {
        loop {
            if let Some(status) = process::reap(self.pid) {
                return status.expect("nobody else reaps it");
            }
            std::thread::yield_now();
        }
    }
}

/// Has a function, `fn()`, called before `main` in every process that runs the test program.
///
/// Children of tests need the main thread: the kernel marks a process as dead when its *main* thread ends, while the test
/// harness gives each test another thread and would keep the main one to itself.
#[macro_export]
macro_rules! before_main {
    ($function:expr) => {
        // SAFETY: a function pointer of the C calling convention in the table of functions that the C library calls
        // before `main`.
        #[allow(unsafe_code)]
        #[used]
        #[unsafe(link_section = ".init_array")]
        static BEFORE_MAIN: extern "C" fn() = {
            extern "C" fn before_main() {
                $function();
            }
            before_main
        };
    };
}

/// Names the functions, `fn(Scene)`, that a test program's children may play, and the kinds of blocks they know.
#[macro_export]
macro_rules! roles {
    ($kinds:expr => $($role:ident),+ $(,)?) => {
        $crate::before_main!(|| $crate::enter($kinds, &[$((stringify!($role), $role)),+]));
    };
}

/// Plays the role that the environment names, if it names one, and exits. For [`roles!`].
pub fn enter(kinds: &'static [Kind], roles: &[Role]) {
    let Ok(value) = std::env::var(VARIABLE) else { return };
    // A panic must not travel into the C library.
    let played = catch_unwind(AssertUnwindSafe(|| play(&value, kinds, roles)));
    exit_now(if played.is_ok() { 0 } else { PANICKED });
}

fn play(value: &str, kinds: &'static [Kind], roles: &[Role]) {
    let mut words = value.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter();
    let mut word = || words.next().expect("the parent names role, fate, descriptors and slot");
    let (name, fate, point) = (word(), word(), word());
    let pass = word().parse().expect("the parent counts passes");
    let armed = match fate.as_str() {
        "dies" => crash::arm(&point, pass),
        "halts" => crash::arm_halt(&point, pass),
        _ => true,
    };
    assert!(armed, "points where a process can be made to die are in debug builds only");
    let (arena, lifeline) = (descriptor(&word()), descriptor(&word()));
    let owner = word().parse().ok().and_then(Owner::from_word);
    let (_, role) = roles.iter().find(|(role, _)| *role == name).expect("the parent asks for a role in `roles!`");
    // Ends with the test, however that ends.
    std::mem::forget(orphan::die_with(lifeline.as_fd()).expect("the parent lives"));
    let arena = Arena::join(arena, kinds).expect("the parent's arena can be joined");
    if owner.is_some_and(|owner| arena.arrive(owner).is_err()) {
        exit_now(TURNED_AWAY);
    }
    role(Scene { arena, arguments: words });
}

#[allow(unsafe_code)]
fn descriptor(word: &str) -> OwnedFd {
    let number = word.parse().expect("the parent names descriptors by number");
    // SAFETY: kept open for this process by its parent, and nothing here knows it yet.
    unsafe { inherited(number) }.expect("the parent keeps the descriptor open")
}
