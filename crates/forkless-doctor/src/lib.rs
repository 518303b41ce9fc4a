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
/// still wrong a moment later, while none of the threads that it is about has moved. So a lock that many want is not
/// taken for one that is lost.
///
/// # Errors
/// [`Refused`] if the process is not there, or not ours to look at.
///
/// # Examples
/// ```
/// let (facts, findings) = forkless_doctor::examine(std::process::id(), None)?;
/// assert_eq!(facts.processes[0].pid, std::process::id());
/// assert!(findings.is_empty());
/// # Ok::<(), forkless_doctor::Refused>(())
/// ```
pub fn examine(root: u32, leave_out: Option<u32>) -> Result<(Facts, Vec<Finding>), Refused> {
    let facts = look(root, leave_out)?;
    let suspected = diagnose(&facts);
    if suspected.is_empty() {
        return Ok((facts, suspected));
    }
    std::thread::sleep(PAUSE);
    let now = look(root, leave_out)?;
    let findings = confirmed(&suspected, diagnose(&now), |tid| activity(&facts, tid) == activity(&now, tid));
    Ok((now, findings))
}

/// Of these findings those that were suspected before, and whose threads have stood still since.
fn confirmed(suspected: &[Finding], found: Vec<Finding>, stood_still: impl Fn(u32) -> bool) -> Vec<Finding> {
    let is_known = |it: &Finding| suspected.iter().any(|other| other.hazard == it.hazard && other.pids == it.pids);
    found.into_iter().filter(|it| is_known(it) && it.threads.iter().all(|&tid| stood_still(tid))).collect()
}

/// What changes when a thread moves. In a wait of forkless it wakes from time to time: there it is when that began.
fn activity(facts: &Facts, tid: u32) -> Option<(u64, u64)> {
    let thread = facts.processes.iter().flat_map(|process| &process.threads).find(|thread| thread.tid == tid)?;
    Some(if thread.noted == 0 { (thread.activity, 0) } else { (0, thread.noted) })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(pids: &[u32], threads: &[u32]) -> Finding {
        let (pids, threads) = (pids.to_vec(), threads.to_vec());
        Finding { hazard: "dead-owner", pids, threads, summary: String::new(), evidence: Vec::new(), advice: "" }
    }

    #[test]
    fn what_was_not_suspected_or_has_moved_is_not_confirmed() {
        let found = || vec![finding(&[1, 2], &[1, 2])];
        assert_eq!(confirmed(&found(), found(), |_| true).len(), 1);
        assert_eq!(confirmed(&found(), found(), |tid| tid != 2).len(), 0);
        assert_eq!(confirmed(&[finding(&[1], &[1])], found(), |_| true).len(), 0);
    }
}
