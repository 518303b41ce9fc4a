//! What the tests of the other crates have in common: real processes in one arena.
//!
//! A test names the [`roles!`] that its children play and [starts](Child::start) them; a child is the test program
//! itself, run once more. It joins the parent's arena through an inherited descriptor, arrives in a slot that the parent
//! reserved, plays its role on its main thread and exits. Nothing here sleeps to synchronise: parents and
//! children meet at the words of a [`Board`], and every wait gives up with a panic after [`PATIENCE`].
//!
//! ```ignore
//! use forkless_testing::{Board, Child, Scene, roles};
//!
//! roles!(forkless_ipc::KINDS => greeter);
//!
//! fn greeter(mut scene: Scene) {
//!     scene.board().add(0, 1);
//! }
//!
//! #[test]
//! fn a_child_greets() {
//!     let arena = Arena::create(forkless_ipc::KINDS).unwrap();
//!     let board = Board::create(arena, 1);
//!     let child = Child::start(arena, "greeter", &[&board]);
//!     assert_eq!(child.finish(), ExitStatus::Exited(0));
//!     assert_eq!(board.get(0), 1);
//! }
//! ```

mod board;
mod child;
mod fuzz;
mod random;
mod role;

use std::time::Duration;

use forkless_sys::process::ExitStatus;

pub use board::Board;
pub use child::Child;
pub use fuzz::fuzz;
pub use random::Random;
pub use role::{Copy, Role, Scene, enter, handle};

/// How long anything may take before it counts as hanging: far longer than a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a fault test with its child doomed at the first pass through a point, then at the second, and so on, until it
/// lives to the end of its role; returns how often it died. `round` gets the pass and returns how its child ended.
///
/// # Panics
/// If a child ends in any other way, for example because it found something wrong.
pub fn at_every_pass(mut round: impl FnMut(u32) -> ExitStatus) -> u32 {
    for pass in 1.. {
        match round(pass) {
            ExitStatus::Signaled(9) => {}
            ExitStatus::Exited(0) => return pass - 1,
            other => panic!("pass {pass}: the child ended with {other:?}"),
        }
    }
    unreachable!("a role passes a point a finite number of times")
}

/// How many rounds a randomised test runs: `FORKLESS_TEST_ROUNDS`, or what is enough for every day.
#[must_use]
pub fn rounds(everyday: u64) -> u64 {
    from_environment("FORKLESS_TEST_ROUNDS").unwrap_or(everyday)
}

/// Where a randomised test begins: `FORKLESS_TEST_SEED`, or a new seed. Print it.
#[must_use]
pub fn seed() -> u64 {
    from_environment("FORKLESS_TEST_SEED").unwrap_or_else(|| forkless_sys::random_u64().unwrap_or(1))
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
