//! Children that a `Command` starts, for tests: the test program once more, which plays a role before its `main`.
#![allow(dead_code, clippy::unwrap_used)] // no test program uses everything

use std::panic::catch_unwind;
use std::time::Duration;

use forkless::process::Command;

/// How long anything may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A waiter learns of a death within 100 ms. Machines under test are busy.
pub const SOON: Duration = Duration::from_secs(30);

const VARIABLE: &str = "FORKLESS_TEST_PLAY";

/// A child that is to play this role.
pub fn command(role: &str) -> Command {
    let mut command = Command::current_exe();
    command.env(VARIABLE, role).name(role);
    command
}

/// Plays the role that the environment names, if it names one, and exits.
pub fn play(roles: &[(&str, fn())]) {
    let Ok(name) = std::env::var(VARIABLE) else { return };
    let (_, role) = roles.iter().find(|(role, _)| *role == name).unwrap();
    // A panic must not travel into the C library.
    let played = catch_unwind(role);
    std::process::exit(if played.is_ok() { 0 } else { 101 });
}

/// Names the functions, `fn()`, that children may play.
macro_rules! plays {
    ($($role:ident),+ $(,)?) => {
        forkless_testing::before_main!(|| support::play(&[$((stringify!($role), $role as fn())),+]));
    };
}

pub(crate) use plays;
