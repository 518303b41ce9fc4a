//! Looks at a tree of processes, and writes down the [`Facts`].

use std::collections::HashMap;

use forkless_sys::Errno;
use forkless_sys::inspect::{self, Call};
use forkless_sys::space::{self, Mapped, Memory};
use forkless_sys::{footprint, process};

use crate::explain::explain;
use crate::facts::{Facts, Process, Thread};
use crate::stacks::{Codes, Interpreter};
use crate::{Refused, arena};

/// Looks at a process and all that descend from it, but for the family of `leave_out`.
///
/// # Errors
/// [`Refused`] if the process is not there, or not ours to look at.
pub fn look(root: u32, leave_out: Option<u32>) -> Result<Facts, Refused> {
    let hidden =
        leave_out.map_or_else(Vec::new, |pid| if pid == root { Vec::new() } else { footprint::families(&[pid]) });
    let pids: Vec<u32> = footprint::families(&[root]).into_iter().filter(|pid| !hidden.contains(pid)).collect();
    if pids.is_empty() {
        return Err(Refused::Gone(root));
    }
    let (mut known, mut processes, mut denied, mut silent) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pid in pids {
        let Some((process, insight)) = one(pid) else { continue };
        match insight {
            Err(Errno::ACCESS | Errno::PERM) => denied.push(pid),
            Err(Errno::NOSYS) => silent.push(pid),
            Err(_) => {}
            Ok(insight) => known.push(insight),
        }
        processes.push(process);
    }
    if !processes.iter().any(|process| process.pid == root) {
        return Err(Refused::Gone(root));
    }
    let mut facts = Facts { root, processes, ..Facts::default() };
    if !denied.is_empty() {
        facts.unknown.push(format!(
            "what these processes wait for, and their stacks: {denied:?} are not ours to trace (be root, or allow it: \
             sysctl kernel.yama.ptrace_scope=0)"
        ));
    }
    if !silent.is_empty() {
        facts
            .unknown
            .push(format!("what these processes wait for: {silent:?}; the kernel does not tell (/proc/PID/syscall)"));
    }
    arena::complete(&mut facts);
    if denied.contains(&root) && facts.process(root).is_some_and(|process| process.role.is_none()) {
        return Err(Refused::Denied(root));
    }
    explain(&mut facts, &known);
    Ok(facts)
}

/// What only those may know who may trace a process.
pub(crate) struct Insight {
    pub(crate) pid: u32,
    pub(crate) memory: Memory,
    pub(crate) mappings: Vec<Mapped>,
    pub(crate) pipes: Vec<inspect::Pipe>,
    pub(crate) calls: HashMap<u32, Call>,
}

/// A process, and why there is no more to know about it.
fn one(pid: u32) -> Option<(Process, Result<Insight, Errno>)> {
    let status = inspect::status(pid)?;
    let mut seen = Process {
        pid,
        parent: status.parent,
        command: footprint::title(pid).unwrap_or_default(),
        state: status.state,
        started: status.started,
        is_copy: status.is_copy,
        ended: status.ended,
        memory_kills: inspect::memory_kills(pid).unwrap_or(0),
        ..Process::default()
    };
    if status.state == 'Z' {
        return Some((seen, Err(Errno::SRCH)));
    }
    seen.unique = footprint::measure(pid).ok().map(|it| it.uss);
    let mut tids = inspect::threads(pid);
    // A thread that only looks has no part in what it sees.
    tids.retain(|&tid| tid == pid || pid != process::id() || tid != process::thread_id());
    let thread = |&tid| Thread { tid, activity: inspect::activity(pid, tid).unwrap_or(0), ..Thread::default() };
    seen.threads = tids.iter().map(thread).collect();
    let insight = insight(pid, &tids);
    if let Ok(insight) = &insight {
        seen.writes_to = insight.pipes.iter().filter(|pipe| pipe.writes).map(|pipe| pipe.inode).collect();
        if let Some(interpreter) = Interpreter::find(&insight.memory, &insight.mappings, pid) {
            for stack in interpreter.stacks(&tids, &mut Codes::default()) {
                if let Some(thread) = seen.threads.iter_mut().find(|thread| thread.tid == stack.tid) {
                    (thread.is_python, thread.stack) = (true, stack.frames);
                }
            }
        }
    }
    Some((seen, insight))
}

fn insight(pid: u32, tids: &[u32]) -> Result<Insight, Errno> {
    let memory = Memory::open(pid)?;
    let calls = tids.iter().map(|&tid| Ok((tid, inspect::call(pid, tid)?)));
    // A thread may have ended meanwhile.
    let calls = calls.filter(|call| !matches!(call, Err(Errno::SRCH | Errno::NOENT)));
    let calls: HashMap<u32, Call> = calls.collect::<Result<_, Errno>>()?;
    if calls.is_empty() {
        return Err(Errno::NOSYS);
    }
    Ok(Insight { pid, memory, mappings: space::mappings(pid), pipes: inspect::pipes(pid), calls })
}
