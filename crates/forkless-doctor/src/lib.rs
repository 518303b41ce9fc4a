//! What the processes of a tree wait for, and what is wrong with that.
//!
//! [`look`] collects [`Facts`](facts::Facts) about a process and all that descend from it: from `/proc`, from the memory of
//! interpreters, from the arenas of forkless. [`diagnose`] draws conclusions, and only from those: it is a function of the
//! facts, and its [rules] are tested without processes. Nothing that is looked at is stopped, changed, or asked.

mod arena;
mod collect;
mod explain;
pub mod facts;
mod pulse;
pub mod rules;
mod semaphores;
mod source;
mod stacks;

use std::time::Duration;

pub use collect::look;
use facts::Facts;
pub use pulse::pulse;
pub use rules::{Finding, diagnose};

/// Between two looks: what passes by itself has passed then, and what has not is wrong.
const PAUSE: Duration = Duration::from_millis(120);

/// Looks at a process and all that descend from it, but for the family of `leave_out`, and says what is wrong: what is
/// still wrong a moment later.
///
/// # Errors
/// [`Refused`] if the process is not there, or not ours to look at.
pub fn examine(root: u32, leave_out: Option<u32>) -> Result<(Facts, Vec<Finding>), Refused> {
    let facts = look(root, leave_out)?;
    let suspected = diagnose(&facts);
    if suspected.is_empty() {
        return Ok((facts, suspected));
    }
    std::thread::sleep(PAUSE);
    let facts = look(root, leave_out)?;
    let mut findings = diagnose(&facts);
    findings.retain(|it| suspected.iter().any(|other| other.hazard == it.hazard && other.pids == it.pids));
    Ok((facts, findings))
}

/// Why a process cannot be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none with this number.
    #[error("there is no process {0}, or it has ended")]
    Gone(u32),
    /// It belongs to another user, or must not be traced, and has noted nothing in shared memory.
    #[error("process {0} is not ours to look at")]
    Denied(u32),
}
