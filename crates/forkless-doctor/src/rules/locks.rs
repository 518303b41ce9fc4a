//! Locks between processes, whose holders are known.

use super::{Finding, ended, observed, thread_of};
use crate::facts::{Facts, Kind, Process, Thread, Wait};

/// Who held it has ended, and nobody gives it back.
pub(super) fn dead_owner(facts: &Facts) -> Vec<Finding> {
    let waiting =
        |index: usize| facts.waiting().filter(move |(_, _, wait)| wait.object == Some(index) && wait.kind.is_lock());
    let mut findings = Vec::new();
    for (index, object) in facts.objects.iter().enumerate() {
        let is_dead = object.is_certain && object.holders.is_empty() && object.count == Some(0) && !object.is_ours;
        let is_dead = is_dead && object.outsider.is_none();
        let waiters: Vec<_> = waiting(index).collect();
        if !is_dead || waiters.is_empty() {
            continue;
        }
        let mut evidence: Vec<String> =
            waiters.iter().map(|(process, thread, _)| observed(facts, process, thread)).collect();
        evidence
            .push(format!("it is taken, and none of the living processes that share it has it: {:?}", object.users));
        evidence.extend(object.died.clone());
        evidence.extend(ended(facts));
        findings.push(Finding {
            hazard: "dead-owner",
            pids: pids(waiters.iter().map(|(process, ..)| process.pid)),
            threads: waiters.iter().map(|(_, thread, _)| thread.tid).collect(),
            summary: format!(
                "{} for ever for {}: the process that held it has ended without giving it back",
                wait(waiters.iter().map(|(process, ..)| process.pid)),
                object.name
            ),
            evidence,
            advice: "end these processes and start again: nothing can give it back. Do not terminate or kill processes that \
                     share a lock or a queue; forkless.Lock tells the next owner of such a death (OwnerDied), and its \
                     queues repair themselves",
        });
    }
    findings
}

/// A thread waits for what it has itself.
pub(super) fn held_by_itself(facts: &Facts) -> Vec<Finding> {
    let is_own = |process: &Process, thread: &Thread, wait: Wait| {
        let is_only = process.python_threads().count() == 1;
        let is_it =
            |&(pid, tid): &(u32, Option<u32>)| pid == process.pid && tid.map_or(is_only, |tid| tid == thread.tid);
        wait.kind == Kind::Lock && facts.object(wait).is_some_and(|object| object.holders.iter().any(is_it))
    };
    let stuck = facts.waiting().filter(|&(process, thread, wait)| is_own(process, thread, wait));
    stuck
        .map(|(process, thread, wait)| Finding {
            hazard: "reentrant-queue",
            pids: vec![process.pid],
            threads: vec![thread.tid],
            summary: format!(
                "process {} waits for ever for {}, which it has itself",
                process.pid,
                facts.object(wait).map_or("a lock", |object| &object.name)
            ),
            evidence: vec![observed(facts, process, thread), "the same thread has taken it and not given it back".to_owned()],
            advice: "take it once, or use an RLock; in a signal handler, a weakref callback or __del__ take no lock at all",
        })
        .collect()
}

/// A thread of the tree: process and thread.
type Node = (u32, u32);

/// Processes that each have what the next one waits for.
pub(super) fn cycle(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (process, thread, _) in facts.waiting() {
        let Some(cycle) = find_cycle(facts, (process.pid, thread.tid)) else { continue };
        let pids = pids(cycle.iter().map(|node| node.0));
        if cycle.len() < 2 || findings.iter().any(|finding| finding.pids == pids) {
            continue;
        }
        let who = match pids.as_slice() {
            [pid] => format!("{} threads of process {pid}", cycle.len()),
            _ => processes(pids.iter().copied()),
        };
        let evidence = cycle.iter().filter_map(|&(pid, tid)| {
            let process = facts.process(pid)?;
            let thread = process.threads.iter().find(|thread| thread.tid == tid)?;
            let next = holders(facts, process, thread);
            let has =
                next.first().map_or_else(String::new, |node| format!(", which {} has", thread_of(node.0, node.1)));
            Some(observed(facts, process, thread) + &has)
        });
        findings.push(Finding {
            hazard: "lock-cycle",
            summary: format!("{who} wait for each other for ever: each has what another one wants"),
            evidence: evidence.collect(),
            pids,
            threads: cycle.iter().map(|node| node.1).collect(),
            advice: "take the locks in the same order everywhere, or take the second one with a timeout",
        });
    }
    findings
}

/// The cycle that this thread is part of, following who holds what.
fn find_cycle(facts: &Facts, start: Node) -> Option<Vec<Node>> {
    let mut path = vec![start];
    loop {
        let &(pid, tid) = path.last()?;
        let process = facts.process(pid)?;
        let thread = process.threads.iter().find(|thread| thread.tid == tid)?;
        thread.wait.filter(|wait| !wait.timed)?;
        let next = *holders(facts, process, thread).first()?;
        if next == start {
            return Some(path);
        }
        if path.contains(&next) {
            return None;
        }
        path.push(next);
    }
}

/// The threads that have what this one waits for.
fn holders(facts: &Facts, process: &Process, thread: &Thread) -> Vec<Node> {
    let Some(wait) = thread.wait else { return Vec::new() };
    let Some(object) = facts.object(wait).filter(|_| wait.kind.is_lock()) else {
        let child = wait.process.filter(|pid| *pid != process.pid && facts.process(*pid).is_some());
        return child.map(|pid| (pid, pid)).into_iter().collect();
    };
    object.holders.iter().map(|&(pid, tid)| (pid, tid.unwrap_or_else(|| likely_holder(facts, pid, thread)))).collect()
}

/// Where only the process is known: the thread that has taken what the waiter takes, as far as names tell, or the main one.
fn likely_holder(facts: &Facts, pid: u32, waiter: &Thread) -> u32 {
    let name = waiter.top().and_then(|frame| frame.takes.as_ref());
    let has = |other: &&Thread| {
        other.tid != waiter.tid && name.is_some_and(|name| other.stack.iter().any(|frame| frame.has.contains(name)))
    };
    facts.process(pid).and_then(|process| process.threads.iter().find(has)).map_or(pid, |thread| thread.tid)
}

/// Each once.
pub(super) fn pids(pids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut pids: Vec<u32> = pids.collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// "process 1 waits" or "processes 1 and 2 wait".
pub(super) fn wait(of: impl Iterator<Item = u32>) -> String {
    let pids = pids(of);
    format!("{} {}", processes(pids.iter().copied()), if pids.len() == 1 { "waits" } else { "wait" })
}

/// "process 1" or "processes 1, 2 and 3".
pub(super) fn processes(of: impl Iterator<Item = u32>) -> String {
    let names: Vec<String> = pids(of).iter().map(u32::to_string).collect();
    match names.as_slice() {
        [one] => format!("process {one}"),
        [first @ .., last] => format!("processes {} and {last}", first.join(", ")),
        [] => "nobody".to_owned(),
    }
}
