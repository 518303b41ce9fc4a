//! Queues and pipes: a message that nobody fetches, a message that nobody sends.

use super::locks::{pids, processes};
use super::{Finding, ended, observed};
use crate::facts::{Facts, Kind, Process, Thread};

const FEEDER: (&str, &str) = ("multiprocessing/queues.py", "_feed");
const GET: (&str, &str) = ("multiprocessing/queues.py", "get");
const RECEIVE: [(&str, &str); 3] = [
    ("multiprocessing/connection.py", "_recv"),
    ("multiprocessing/connection.py", "recv"),
    ("multiprocessing/connection.py", "recv_bytes"),
];

/// A process waits for the end of a child, which cannot end before somebody has fetched what it put into a queue.
pub(super) fn join_before_drain(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for child in &facts.processes {
        let feeder = child
            .threads
            .iter()
            .find(|thread| thread.is_in(&[FEEDER]) && thread.wait.is_some_and(|wait| wait.kind == Kind::PipeWrite));
        let (Some(feeder), Some(parent)) = (feeder, facts.process(child.parent)) else { continue };
        let Some(joiner) = joiner(parent, child) else { continue };
        if reads_soon(facts, feeder, &[parent.pid, child.pid]) || parent.threads.iter().any(|it| it.is_in(&[GET])) {
            continue;
        }
        findings.push(Finding {
            hazard: "queue-join",
            pids: vec![parent.pid, child.pid],
            threads: vec![joiner.tid, feeder.tid],
            summary: format!(
                "process {} waits for the end of process {}, which cannot end before somebody fetches what it has put into a \
                 queue",
                parent.pid, child.pid
            ),
            evidence: vec![
                observed(facts, parent, joiner),
                observed(facts, child, feeder) + ", which is full: that thread feeds a Queue",
                "nobody reads from that pipe".to_owned(),
            ],
            advice: "get everything from the queue before join, or call cancel_join_thread() in the child if it may be lost; \
                     with forkless, what was put needs no thread and no draining",
        });
    }
    findings
}

/// The thread that waits for the end of a child.
fn joiner<'a>(parent: &'a Process, child: &Process) -> Option<&'a Thread> {
    // A child of a forkserver is waited for by its pipe, which does not say whose it is.
    let by_pipe = |thread: &Thread| thread.is_in(&[("multiprocessing/process.py", "join")]);
    parent.threads.iter().find(|thread| {
        let wait = thread.wait.filter(|wait| !wait.timed);
        wait.is_some_and(|wait| wait.process == Some(child.pid) || wait.kind == Kind::Poll && by_pipe(thread))
    })
}

/// Whether somebody reads from the pipe that this thread writes to, or might after what it does now.
fn reads_soon(facts: &Facts, writer: &Thread, besides: &[u32]) -> bool {
    let pipe = writer.wait.and_then(|wait| facts.object(wait)?.pipe);
    let others = facts.processes.iter().filter(|process| !besides.contains(&process.pid));
    others.flat_map(|process| process.python_threads()).any(|thread| match thread.wait {
        None => true,
        Some(wait) => wait.timed || facts.object(wait).is_some_and(|object| object.pipe == pipe),
    })
}

/// A process waits for a message, and nobody is left who could send one.
pub(super) fn producer_gone(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    if !facts.unknown.is_empty() {
        return findings;
    }
    for (process, thread, wait) in facts.waiting() {
        let object = facts.object(wait).filter(|object| object.outsider.is_none());
        let Some(pipe) = object.and_then(|object| object.pipe) else { continue };
        if wait.kind != Kind::PipeRead || !thread.is_in(&RECEIVE) {
            continue;
        }
        let writers: Vec<&Process> = facts.processes.iter().filter(|it| it.writes_to.contains(&pipe)).collect();
        let is_stuck = |writer: &&Process| cannot_write(facts, writer, pipe, process.pid);
        if writers.is_empty() || !writers.iter().all(is_stuck) {
            continue;
        }
        let mut evidence = vec![
            observed(facts, process, thread),
            format!(
                "only {} can write to that pipe, and none of their threads will before a message comes",
                processes(writers.iter().map(|writer| writer.pid))
            ),
        ];
        evidence.extend(
            writers
                .iter()
                .filter(|it| it.pid != process.pid)
                .flat_map(|writer| writer.python_threads().map(|thread| observed(facts, writer, thread))),
        );
        evidence.extend(ended(facts));
        findings.push(Finding {
            hazard: "lost-worker",
            pids: pids(std::iter::once(process.pid).chain(writers.iter().map(|writer| writer.pid))),
            threads: vec![thread.tid],
            summary: format!("process {} waits for ever for a message: its producer is gone", process.pid),
            evidence,
            advice: "have producers say that they are done, and look at exit codes before waiting; close the ends of pipes \
                     that a process does not use, or the end of the other side is never noticed (get(timeout=…) is a \
                     way out)",
        });
    }
    findings
}

/// Whether nobody in this process will write to the pipe before something is read from it.
fn cannot_write(facts: &Facts, process: &Process, pipe: u64, reader: u32) -> bool {
    let is_stuck = |thread: &Thread| {
        let Some(wait) = thread.wait.filter(|wait| !wait.timed) else { return false };
        let reads = wait.kind == Kind::PipeRead && facts.object(wait).is_some_and(|object| object.pipe == Some(pipe));
        let is_next = matches!(wait.kind, Kind::Lock | Kind::Semaphore) && thread.is_in(&[GET]);
        reads || is_next || thread.is_in(&[FEEDER]) || wait.process == Some(reader)
    };
    process.python_threads().count() > 0 && process.python_threads().all(is_stuck)
}
