//! What is wrong with a tree of processes: rules over [`Facts`], each of which knows one way to hang.
//!
//! A rule that cannot be sure says nothing: a tree that is busy, idle, or waits for the outside world has no findings. Waits
//! with a limit are nobody's fault. What a rule says is a hazard of the gallery, the processes, a sentence, what it is
//! concluded from, and what to do.

mod locks;
mod pools;
mod queues;
mod states;
#[cfg(test)]
mod tests;
mod threads;

use crate::facts::{Facts, Frame, Process, Thread};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which hazard, by its name in the gallery.
    pub hazard: &'static str,
    /// The processes that it is about.
    pub pids: Vec<u32>,
    /// The threads that it is concluded from: it is true only as long as none of them moves.
    pub threads: Vec<u32>,
    /// What is wrong, in a sentence.
    pub summary: String,
    /// What that is concluded from, one observation each.
    pub evidence: Vec<String>,
    /// What to do about it.
    pub advice: &'static str,
}

/// All that is wrong, the causes before what follows from them.
#[must_use]
pub fn diagnose(facts: &Facts) -> Vec<Finding> {
    let rules: [fn(&Facts) -> Vec<Finding>; 12] = [
        states::stopped,
        locks::dead_owner,
        locks::held_by_itself,
        locks::cycle,
        threads::stuck,
        threads::cycle,
        queues::join_before_drain,
        pools::nested,
        pools::nested_threads,
        pools::lost_worker,
        queues::producer_gone,
        states::zombies,
    ];
    rules.iter().flat_map(|rule| rule(facts)).collect()
}

/// A process for a sentence.
fn named(process: &Process) -> String {
    format!("process {}", process.pid)
}

/// A thread for a sentence: the main one is its process.
fn thread_of(pid: u32, tid: u32) -> String {
    if tid == pid { format!("process {pid}") } else { format!("thread {tid} of process {pid}") }
}

/// Where a thread is in the program: its innermost frame that does not belong to the machinery of locks and queues.
fn place(thread: &Thread) -> String {
    const MACHINERY: [&str; 10] = [
        "multiprocessing/synchronize.py",
        "multiprocessing/connection.py",
        "multiprocessing/popen_fork.py",
        "/threading.py",
        "multiprocessing/queues.py",
        "multiprocessing/process.py",
        "multiprocessing/pool.py",
        "concurrent/futures/_base.py",
        "concurrent/futures/process.py",
        "forkless/queues.py",
    ];
    let is_own = |frame: &&Frame| !MACHINERY.iter().any(|file| frame.file.ends_with(file));
    match thread.stack.iter().find(is_own).or(thread.stack.first()) {
        Some(frame) => format!("{}:{} in {}", frame.file, frame.line, frame.function),
        None => "a place that its stack does not tell".to_owned(),
    }
}

/// What a thread waits for, and where, as an observation.
fn observed(facts: &Facts, process: &Process, thread: &Thread) -> String {
    let who = thread_of(process.pid, thread.tid);
    let Some(wait) = thread.wait else { return format!("{who} runs at {}", place(thread)) };
    let what = match (facts.object(wait), wait.process) {
        (Some(object), _) => object.name.clone(),
        (None, Some(pid)) => format!("the end of process {pid}"),
        (None, None) => wait.kind.name().to_owned(),
    };
    let since = wait.since.map_or_else(String::new, |since| format!(" for {:.1} s", since.as_secs_f64()));
    format!("{who} waits{since} for {what} at {}", place(thread))
}

/// The processes that have ended and were not reaped, as observations.
fn ended(facts: &Facts) -> Vec<String> {
    let dead = facts.processes.iter().filter(|process| process.state == 'Z');
    dead.map(|process| match process.ended {
        Some(status) => format!("{} has ended: {status}", named(process)),
        None => format!("{} has ended", named(process)),
    })
    .collect()
}
