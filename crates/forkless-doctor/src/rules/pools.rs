//! Pools: a task that is lost, a task that waits for its own pool.

use super::locks::pids;
use super::{Finding, ended, observed};
use crate::facts::{Facts, Frame, Kind, Process, Thread};

const WORKERS: [(&str, &str); 2] =
    [("multiprocessing/pool.py", "worker"), ("concurrent/futures/process.py", "_process_worker")];
const SUBMIT: (&str, &str) = ("concurrent/futures/process.py", "submit");
const RESULTS: [(&str, &str); 3] = [
    ("multiprocessing/pool.py", "get"),
    ("multiprocessing/pool.py", "next"),
    ("concurrent/futures/_base.py", "result"),
];

fn is_worker(process: &Process) -> bool {
    process.threads.iter().any(|thread| thread.is_in(&WORKERS))
}

/// What waits until a pool's tasks are done.
const AWAITED: [(&str, &str); 3] =
    [("multiprocessing/pool.py", "get"), ("multiprocessing/pool.py", "next"), ("multiprocessing/pool.py", "join")];

/// Whether a worker's task has asked for another task, and waits: for its result, or, where the pool is a copy that came
/// with a fork, already for the pool's lock.
pub(super) fn is_nested(thread: &Thread) -> bool {
    let is_loop = |frame: &&Frame| WORKERS.iter().any(|(file, function)| frame.is(file, function));
    // Below the worker's loop is what its parent did when it forked.
    let task = thread.stack.iter().take_while(|frame| !is_loop(frame));
    let asks = |frame: &Frame| RESULTS.iter().chain([&SUBMIT]).any(|(file, function)| frame.is(file, function));
    waits(thread) && thread.is_in(&WORKERS) && task.into_iter().any(asks)
}

fn waits(thread: &Thread) -> bool {
    thread.wait.is_some_and(|wait| !wait.timed)
}

/// A task of a worker waits for another task of the pool that the worker belongs to.
pub(super) fn nested(facts: &Facts) -> Vec<Finding> {
    let stuck: Vec<(&Process, &Thread)> = facts
        .processes
        .iter()
        .filter_map(|process| {
            let thread = process.threads.iter().find(|it| is_nested(it))?;
            // A pool of the worker's own has workers, which are its children.
            let has_own = facts.processes.iter().any(|child| child.parent == process.pid && is_worker(child));
            (!has_own).then_some((process, thread))
        })
        .collect();
    if stuck.is_empty() {
        return Vec::new();
    }
    let pids = pids(stuck.iter().map(|(process, _)| process.pid));
    vec![Finding {
        hazard: "pool-in-pool-deadlock",
        summary: format!("tasks in {} of the pool's workers wait for other tasks, which nobody will run", pids.len()),
        evidence: stuck.iter().map(|(process, thread)| observed(facts, process, thread)).collect(),
        pids,
        threads: stuck.iter().map(|(_, thread)| thread.tid).collect(),
        advice: "do not wait for a pool's results inside its tasks: return what is to be done next, or give nested work a \
                 pool of its own; in forkless the waiting worker helps",
    }]
}

/// The same with a pool of threads: all of its threads wait for results.
pub(super) fn nested_threads(facts: &Facts) -> Vec<Finding> {
    const WORKER: (&str, &str) = ("concurrent/futures/thread.py", "_worker");
    let mut findings = Vec::new();
    for process in &facts.processes {
        let workers: Vec<&Thread> = process.threads.iter().filter(|thread| thread.is_in(&[WORKER])).collect();
        let has_pool = facts.processes.iter().any(|child| child.parent == process.pid && is_worker(child));
        if workers.is_empty() || has_pool || !workers.iter().all(|it| waits(it) && it.is_in(&RESULTS)) {
            continue;
        }
        findings.push(Finding {
            hazard: "pool-in-pool-deadlock",
            pids: vec![process.pid],
            threads: workers.iter().map(|thread| thread.tid).collect(),
            summary: format!("all {} threads of a pool in process {} wait for tasks of a pool", workers.len(), process.pid),
            evidence: workers.iter().map(|thread| observed(facts, process, thread)).collect(),
            advice: "do not wait for a pool's results inside its tasks: return what is to be done next, or give nested work \
                     a pool of its own",
        });
    }
    findings
}

/// A result is awaited that nobody works on: the worker that had the task has ended, and another has its place.
pub(super) fn lost_worker(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for process in &facts.processes {
        let waiter = process.threads.iter().find(|it| waits(it) && it.is_in(&AWAITED) && !it.is_in(&WORKERS));
        let workers: Vec<&Process> =
            facts.processes.iter().filter(|child| child.parent == process.pid && is_worker(child)).collect();
        let Some(waiter) = waiter.filter(|_| !workers.is_empty() && workers.iter().all(|it| is_idle(facts, it))) else {
            continue;
        };
        // Somebody may be about to send a task.
        if process.threads.iter().any(|it| it.is_in(&[("multiprocessing/pool.py", "_handle_tasks")]) && !waits(it)) {
            continue;
        }
        let is_reading = |thread: &Thread| thread.wait.is_some_and(|wait| wait.kind == Kind::PipeRead);
        let collects = |thread: &&Thread| thread.is_in(&[("multiprocessing/pool.py", "_handle_results")]);
        if !process.threads.iter().find(collects).is_some_and(is_reading) {
            continue;
        }
        let mut evidence = vec![
            observed(facts, process, waiter),
            format!("all {} workers wait for a task, and the pool's thread for a result", workers.len()),
        ];
        let oldest = workers.iter().map(|worker| worker.started).min().unwrap_or(0);
        // Hundredths of a second: forking all of them takes some, too.
        let late = workers.iter().filter(|worker| worker.started > oldest + 2 + workers.len() as u64);
        evidence.extend(late.map(|worker| {
            let age = (worker.started - oldest) as f64 / 100.0;
            format!(
                "worker {} started {age:.2} s after the first one: it took the place of one that has ended",
                worker.pid
            )
        }));
        evidence.extend(memory_killer(process));
        evidence.extend(ended(facts));
        findings.push(Finding {
            hazard: "lost-worker",
            pids: pids(std::iter::once(process.pid).chain(workers.iter().map(|worker| worker.pid))),
            threads: std::iter::once(waiter.tid).chain(workers.iter().map(|worker| worker.pid)).collect(),
            summary: format!(
                "process {} waits for ever for a result: the worker that had the task has ended, and the pool does not \
                 do it again",
                process.pid
            ),
            evidence,
            advice: "find out what ended the worker (a signal, the memory killer, os._exit: dmesg, exit codes); use a \
                     timeout, concurrent.futures (which notices), or forkless.Pool, which fails that task alone",
        });
    }
    findings
}

/// Whether all that this worker does is to wait for a task.
fn is_idle(facts: &Facts, process: &Process) -> bool {
    let is_loop = |frame: &Frame| WORKERS.iter().any(|(file, function)| frame.is(file, function));
    process.threads.iter().filter(|thread| thread.is_in(&WORKERS)).all(|thread| {
        let inside = thread.stack.iter().position(is_loop).and_then(|index| thread.stack.get(index.checked_sub(1)?));
        let fetches = inside.is_some_and(|frame| frame.is("multiprocessing/queues.py", "get"));
        // Whoever waits for a lock that is not to be had is another rule's.
        let is_dead =
            thread.wait.and_then(|wait| facts.object(wait)).is_some_and(|it| it.is_certain && it.holders.is_empty());
        fetches && waits(thread) && !is_dead
    })
}

pub(super) fn memory_killer(process: &Process) -> Option<String> {
    let kills = process.memory_kills;
    (kills > 0).then(|| {
        format!("the memory killer has ended {kills} processes in the control group of process {}", process.pid)
    })
}
