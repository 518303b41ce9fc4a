//! What the states of processes tell by themselves.

use super::locks::{pids, wait};
use super::pools::memory_killer;
use super::{Finding, named, observed};
use crate::facts::{Facts, Process};
use forkless_sys::process::ExitStatus;

/// Stopped processes, and who waits for them.
pub(super) fn stopped(facts: &Facts) -> Vec<Finding> {
    let stopped: Vec<&Process> = facts.processes.iter().filter(|it| matches!(it.state, 'T' | 't')).collect();
    let finding = |process: &&Process| {
        let waiting = facts.waiting().filter(|(other, _, wait)| {
            let holds = facts.object(*wait).is_some_and(|object| object.holders.iter().any(|it| it.0 == process.pid));
            other.pid != process.pid && (holds || wait.process == Some(process.pid))
        });
        let waiting: Vec<_> = waiting.collect();
        let how = if process.state == 't' { "a debugger" } else { "a signal (SIGSTOP, SIGTSTP)" };
        let mut evidence = vec![format!("{} is in state {}: stopped by {how}", named(process), process.state)];
        evidence.extend(waiting.iter().map(|(other, thread, wait)| {
            let has = if wait.process.is_some() { "" } else { ", which the stopped process has" };
            observed(facts, other, thread) + has
        }));
        let effect = match waiting.as_slice() {
            [] => String::new(),
            _ => format!(", and {} for it", wait(waiting.iter().map(|(other, ..)| other.pid))),
        };
        Finding {
            hazard: "stopped-process",
            pids: pids(std::iter::once(process.pid).chain(waiting.iter().map(|(other, ..)| other.pid))),
            threads: Vec::new(),
            summary: format!("{} is stopped{effect}", named(process)),
            evidence,
            advice: "let it go on (kill -CONT PID, fg in its shell, or detach the debugger), or end it",
        }
    };
    stopped.iter().map(finding).collect()
}

/// Processes that ended and were never reaped.
pub(super) fn zombies(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for parent in &facts.processes {
        let waits_for = |pid: u32| parent.threads.iter().filter_map(|it| it.wait).any(|wait| wait.process == Some(pid));
        let dead = facts.processes.iter().filter(|it| it.parent == parent.pid && it.state == 'Z' && !waits_for(it.pid));
        let dead: Vec<&Process> = dead.collect();
        // The thread of a pool of multiprocessing reaps its workers, from time to time.
        if dead.is_empty()
            || parent.threads.iter().any(|it| it.is_in(&[("multiprocessing/pool.py", "_handle_workers")]))
        {
            continue;
        }
        let mut evidence: Vec<String> = dead
            .iter()
            .map(|it| {
                let how = it.ended.map_or_else(|| "nobody knows how".to_owned(), |status| status.to_string());
                format!("{} has ended ({how}), and process {} has not asked how", named(it), parent.pid)
            })
            .collect();
        let was_killed = dead.iter().any(|it| it.ended == Some(ExitStatus::Signaled(9)));
        let killer = memory_killer(parent).filter(|_| was_killed);
        let hazard = if killer.is_some() { "lost-worker" } else { "zombies" };
        evidence.extend(killer.clone());
        findings.push(Finding {
            hazard,
            pids: pids(std::iter::once(parent.pid).chain(dead.iter().map(|it| it.pid))),
            threads: Vec::new(),
            summary: format!(
                "{} of process {} {}",
                children(dead.len()),
                parent.pid,
                match (killer.is_some(), dead.len()) {
                    (true, 1) => "was killed, perhaps by the memory killer",
                    (true, _) => "were killed, perhaps by the memory killer",
                    (false, 1) => "has ended and was never reaped (a zombie)",
                    (false, _) => "have ended and were never reaped (zombies)",
                }
            ),
            evidence,
            advice: "join() children that have ended, or look at exitcode; one that SIGKILL ended without anybody sending it \
                     was the memory killer's: give the tree more memory, or fewer workers",
        });
    }
    findings
}

fn children(count: usize) -> String {
    if count == 1 { "1 child".to_owned() } else { format!("{count} children") }
}
