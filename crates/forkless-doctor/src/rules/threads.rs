//! Locks inside one process: only its own threads can give them back, and a fork takes one of those along.

use super::{Finding, observed, place};
use crate::facts::{Facts, Frame, Kind, Process, STREAM, Thread};

const MACHINERY: &str = "/threading.py";
/// Of `threading.py`: waits for what others say, not for a lock.
const WAITS: [&str; 4] = ["wait", "join", "_wait_for_tstate_lock", "_wait"];

/// The frame that takes the lock a thread waits for; `None` if it waits for something else.
fn taker(thread: &Thread) -> Option<&Frame> {
    let wait = thread.wait.filter(|wait| wait.kind == Kind::ThreadLock && !wait.timed);
    let top = wait.and_then(|_| thread.top())?;
    if top.file.ends_with(MACHINERY) && WAITS.contains(&top.function.as_str()) {
        return None;
    }
    thread.stack.iter().find(|frame| !frame.file.ends_with(MACHINERY))
}

/// Whether a frame has what another one takes, as far as names tell.
fn has(frame: &Frame, taker: &Frame) -> bool {
    taker.takes.as_ref().is_some_and(|name| frame.file == taker.file && frame.has.contains(name))
}

/// The thread of this process that has what the taker takes.
fn holder<'a>(process: &'a Process, thread: &Thread, taker: &Frame) -> Option<&'a Thread> {
    let others = process.python_threads().filter(|other| other.tid != thread.tid);
    others.into_iter().find(|other| other.stack.iter().any(|frame| has(frame, taker)))
}

/// A thread waits for a lock that nobody in its process can give back.
pub(super) fn stuck(facts: &Facts) -> Vec<Finding> {
    let threads =
        facts.processes.iter().flat_map(|process| process.threads.iter().map(move |thread| (process, thread)));
    threads.filter_map(|(process, thread)| stuck_thread(facts, process, thread)).collect()
}

fn stuck_thread(facts: &Facts, process: &Process, thread: &Thread) -> Option<Finding> {
    let taker = taker(thread).filter(|_| !super::pools::is_nested(thread))?;
    // A fork copies the stack: what is below it was done by the parent.
    let is_fork = |frame: &&Frame| frame.is("multiprocessing/popen_fork.py", "_launch");
    let own = thread.stack.iter().take_while(|frame| !is_fork(frame));
    let below = own.skip_while(|frame| !std::ptr::eq(*frame, taker)).skip(1);
    if let Some(first) = below.clone().find(|frame| has(frame, taker)) {
        return Some(reentrant(facts, process, thread, first));
    }
    // A native thread may be what is waited for. The thread that feeds a queue takes nothing else.
    let is_feeder = |other: &Thread| other.is_in(&[("multiprocessing/queues.py", "_feed")]);
    let is_alone = process.python_threads().all(|other| other.tid == thread.tid || is_feeder(other))
        && process.threads.len() == process.python_threads().count();
    if !is_alone {
        return None;
    }
    if let Some(first) = below.clone().find(|frame| frame.file == taker.file && !frame.has.is_empty()) {
        return Some(reentrant(facts, process, thread, first));
    }
    // What forkless forks from has one thread and holds no lock.
    let is_copy = process.is_copy && process.role.is_none();
    let is_known = taker.takes.is_some() || !taker.has_source || is_logging(thread);
    if is_copy && is_known {
        return Some(inherited(facts, process, thread, taker));
    }
    taker.takes.is_some().then(|| taken_twice(facts, process, thread))
}

fn taken_twice(facts: &Facts, process: &Process, thread: &Thread) -> Finding {
    Finding {
        hazard: "reentrant-queue",
        pids: vec![process.pid],
        threads: vec![thread.tid],
        summary: format!("process {} waits for ever for a lock that only this thread itself can have", process.pid),
        evidence: vec![
            observed(facts, process, thread),
            "there is no other thread in that process that could give it back".to_owned(),
        ],
        advice: ADVICE,
    }
}

const ADVICE: &str = "do not use queues, locks, events or logging in signal handlers, __del__ and weakref callbacks: set a \
                      flag there, or use queue.SimpleQueue; forkless's queues may be used there. A lock that its owner takes \
                      again is an RLock";

fn reentrant(facts: &Facts, process: &Process, thread: &Thread, first: &Frame) -> Finding {
    Finding {
        hazard: "reentrant-queue",
        pids: vec![process.pid],
        threads: vec![thread.tid],
        summary: format!(
            "process {} waits for ever for a lock that the same thread has: it was interrupted in {} and came there again",
            process.pid, first.function
        ),
        evidence: vec![
            observed(facts, process, thread),
            format!("further down the same stack has it: {}:{} in {}", first.file, first.line, first.function),
        ],
        advice: ADVICE,
    }
}

fn is_logging(thread: &Thread) -> bool {
    thread.stack.iter().any(|frame| frame.file.ends_with("logging/__init__.py"))
}

fn inherited(facts: &Facts, process: &Process, thread: &Thread, taker: &Frame) -> Finding {
    let is_import = taker.file.contains("importlib");
    let what = match &taker.takes {
        _ if is_logging(thread) => "a lock of logging".to_owned(),
        _ if is_import => "the lock of a module that is being imported".to_owned(),
        Some(name) if name == STREAM => name.clone(),
        Some(name) => format!("the lock `{name}`"),
        None => "a lock".to_owned(),
    };
    let parent = facts.process(process.parent);
    let mut evidence = vec![
        observed(facts, process, thread),
        format!(
            "process {} was forked from process {} and runs no program of its own; this is its only thread, so nobody can \
             give the lock back",
            process.pid, process.parent
        ),
    ];
    let owner = parent.and_then(|parent| holder(parent, thread, taker).map(|other| (parent, other)));
    evidence.extend(
        owner.map(|(parent, other)| format!("in process {} thread {} has it: {}", parent.pid, other.tid, place(other))),
    );
    Finding {
        hazard: "inherited-lock",
        pids: vec![process.pid],
        threads: vec![thread.tid],
        summary: format!(
            "process {} waits for ever for {what}: another thread held it when this process was forked, and that thread \
             does not exist here",
            process.pid
        ),
        evidence,
        advice: "start processes before threads, or with the start method spawn or forkserver, or with forkless, which \
                 never forks a program",
    }
}

/// Threads of one process that each have what the next one waits for.
pub(super) fn cycle(facts: &Facts) -> Vec<Finding> {
    facts.processes.iter().filter_map(|process| cycle_in(facts, process)).collect()
}

fn cycle_in(facts: &Facts, process: &Process) -> Option<Finding> {
    let next = |thread: &'_ Thread| {
        let taker = taker(thread)?;
        holder(process, thread, taker)
    };
    let path = process.threads.iter().find_map(|start| {
        let mut path = vec![start];
        while let Some(other) = next(path.last()?) {
            if other.tid == start.tid {
                return (path.len() > 1).then_some(path);
            }
            if path.iter().any(|thread| thread.tid == other.tid) {
                return None;
            }
            path.push(other);
        }
        None
    })?;
    let evidence = path.iter().filter_map(|thread| {
        let (name, other) = (taker(thread)?.takes.clone()?, next(thread)?);
        Some(format!(
            "{}; by its source, thread {} has `{name}`: {}",
            observed(facts, process, thread),
            other.tid,
            place(other)
        ))
    });
    let tids: Vec<String> = path.iter().map(|thread| thread.tid.to_string()).collect();
    Some(Finding {
        hazard: "lock-cycle",
        pids: vec![process.pid],
        threads: path.iter().map(|thread| thread.tid).collect(),
        summary: format!(
            "threads {} of process {} wait for each other for ever: each has a lock that another one wants",
            tids.join(" and "),
            process.pid
        ),
        evidence: evidence.collect(),
        advice: "take the locks in the same order everywhere, or take the second one with a timeout",
    })
}
