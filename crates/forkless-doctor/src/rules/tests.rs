//! Each rule on facts made by hand: a tree that hangs, and one that differs by little and does not.

use super::diagnose;
use crate::facts::{Facts, Frame, Kind, Object, Process, Thread, Wait};
use forkless_sys::process::ExitStatus;

const QUEUES: &str = "/lib/multiprocessing/queues.py";
const POOL: &str = "/lib/multiprocessing/pool.py";
const CONNECTION: &str = "/lib/multiprocessing/connection.py";
const PROGRAM: &str = "/home/me/program.py";

fn frame(file: &str, function: &str) -> Frame {
    Frame { file: file.to_owned(), function: function.to_owned(), line: 7, has_source: true, ..Frame::default() }
}

/// A frame at `with TAKES:`, inside `with HAS:`.
fn locking(takes: &str, has: &[&str]) -> Frame {
    let has = has.iter().map(|&name| name.to_owned()).collect();
    let takes = (!takes.is_empty()).then(|| takes.to_owned());
    Frame { takes, has, ..frame(PROGRAM, "work") }
}

fn thread(tid: u32, wait: Option<Wait>, stack: &[Frame]) -> Thread {
    Thread { tid, wait, stack: stack.to_vec(), is_python: true, ..Thread::default() }
}

/// A process whose parent is 1, or nobody.
fn process(pid: u32, threads: Vec<Thread>) -> Process {
    Process { pid, parent: u32::from(pid != 1), state: 'S', threads, ..Process::default() }
}

fn on(kind: Kind, object: usize) -> Option<Wait> {
    Some(Wait { object: Some(object), ..Wait::new(kind) })
}

fn child(pid: u32) -> Option<Wait> {
    Some(Wait { process: Some(pid), ..Wait::new(Kind::Process) })
}

fn facts(processes: Vec<Process>, objects: Vec<Object>) -> Facts {
    Facts { root: 1, processes, objects, unknown: Vec::new() }
}

fn lock(holders: &[(u32, Option<u32>)]) -> Object {
    let name = "`lock`".to_owned();
    Object { name, holders: holders.to_vec(), is_certain: true, count: Some(0), users: vec![1, 2], ..Object::default() }
}

fn pipe(number: u64) -> Object {
    Object { name: format!("pipe {number}"), pipe: Some(number), ..Object::default() }
}

/// The hazards, and the processes of each.
fn found(facts: &Facts) -> Vec<(&'static str, Vec<u32>)> {
    diagnose(facts).into_iter().map(|finding| (finding.hazard, finding.pids)).collect()
}

#[test]
fn an_empty_tree_is_healthy() {
    assert_eq!(found(&facts(vec![process(1, vec![thread(1, None, &[])])], vec![])), []);
}

#[test]
fn a_lock_that_is_taken_and_that_nobody_has_is_that_of_a_dead_owner() {
    let waiter = || process(1, vec![thread(1, on(Kind::Lock, 0), &[locking("lock", &[])])]);
    let dead = Process { state: 'Z', ended: Some(ExitStatus::Signaled(9)), ..process(2, vec![]) };
    let tree = facts(vec![waiter(), dead], vec![lock(&[])]);
    assert_eq!(found(&tree)[0], ("dead-owner", vec![1]));
    let evidence = diagnose(&tree)[0].evidence.join("\n");
    assert!(evidence.contains("process 2 has ended: SIGKILL"), "{evidence}");
    for healthy in [
        Object { holders: vec![(2, Some(2))], ..lock(&[]) },
        Object { count: Some(1), ..lock(&[]) },
        Object { is_certain: false, ..lock(&[]) },
        // Forkless tells the next owner.
        Object { is_ours: true, ..lock(&[]) },
    ] {
        assert_eq!(found(&facts(vec![waiter()], vec![healthy])), []);
    }
}

#[test]
fn a_wait_with_a_limit_is_nobodys_fault() {
    let wait = on(Kind::Lock, 0).map(|wait| Wait { timed: true, ..wait });
    assert_eq!(found(&facts(vec![process(1, vec![thread(1, wait, &[])])], vec![lock(&[])])), []);
}

#[test]
fn who_waits_for_what_it_has_waits_for_ever() {
    let tree = |holder| facts(vec![process(1, vec![thread(1, on(Kind::Lock, 0), &[])])], vec![lock(&[holder])]);
    assert_eq!(found(&tree((1, Some(1)))), [("reentrant-queue", vec![1])]);
    assert_eq!(found(&tree((1, None))), [("reentrant-queue", vec![1])]);
    assert_eq!(found(&tree((1, Some(5)))), [], "another thread has it");
}

#[test]
fn processes_that_wait_for_each_other_are_a_cycle_and_a_chain_is_none() {
    let waiter = |pid, object| process(pid, vec![thread(pid, on(Kind::Lock, object), &[])]);
    let objects = |second: u32| vec![lock(&[(2, Some(2))]), lock(&[(second, Some(second))])];
    let root = process(1, vec![thread(1, child(2), &[])]);
    let tree = |second| facts(vec![root.clone(), waiter(2, 1), waiter(3, 0)], objects(second));
    assert_eq!(found(&tree(3)), [("lock-cycle", vec![2, 3])]);
    assert_eq!(found(&tree(4)), []);
}

#[test]
fn a_lock_and_a_join_are_a_cycle_too() {
    let parent = process(1, vec![thread(1, child(2), &[locking("", &["lock"])])]);
    let waiter = process(2, vec![thread(2, on(Kind::Lock, 0), &[])]);
    assert_eq!(found(&facts(vec![parent, waiter], vec![lock(&[(1, Some(1))])])), [("lock-cycle", vec![1, 2])]);
}

#[test]
fn threads_that_have_what_another_one_takes_are_a_cycle() {
    let tree = |other: &str| {
        let threads = vec![
            thread(1, Some(Wait::new(Kind::Sleep)), &[]),
            thread(5, on(Kind::ThreadLock, 0), &[locking("b", &["a"])]),
            thread(6, on(Kind::ThreadLock, 1), &[locking("a", &[other])]),
        ];
        facts(vec![process(1, threads)], vec![Object::default(), Object::default()])
    };
    assert_eq!(found(&tree("b")), [("lock-cycle", vec![1])]);
    assert_eq!(found(&tree("c")), []);
}

#[test]
fn a_lock_of_a_thread_that_a_fork_left_behind_is_inherited() {
    let holder = thread(5, Some(Wait::new(Kind::Sleep)), &[locking("", &["lock"])]);
    let parent = process(1, vec![thread(1, child(2), &[]), holder]);
    let waiter = |others: Vec<Thread>| {
        let first = thread(2, on(Kind::ThreadLock, 0), &[locking("lock", &[])]);
        let threads = std::iter::once(first).chain(others).collect();
        Process { is_copy: true, ..process(2, threads) }
    };
    let tree = |others| facts(vec![parent.clone(), waiter(others)], vec![Object::default()]);
    assert_eq!(found(&tree(vec![])), [("inherited-lock", vec![2])]);
    let evidence = diagnose(&tree(vec![]))[0].evidence.join("\n");
    assert!(evidence.contains("in process 1 thread 5 has it"), "{evidence}");
    assert_eq!(found(&tree(vec![thread(3, None, &[])])), [], "another thread of it may have the lock");
    let mut forkless = tree(vec![]);
    forkless.processes[1].role = Some("child");
    assert_eq!(found(&forkless), [("reentrant-queue", vec![2])], "it was forked from what has no lock");
}

#[test]
fn an_event_is_no_lock() {
    let stack = [frame("/lib/threading.py", "wait"), frame(PROGRAM, "main")];
    let waiter = Process { is_copy: true, ..process(1, vec![thread(1, on(Kind::ThreadLock, 0), &stack)]) };
    assert_eq!(found(&facts(vec![waiter], vec![Object::default()])), []);
}

#[test]
fn a_handler_that_comes_where_it_interrupted_is_reentrant() {
    let put = |takes: &str, has: &[&str]| Frame {
        file: QUEUES.to_owned(),
        function: "put".to_owned(),
        ..locking(takes, has)
    };
    let stack = |below: Frame| [put("self._notempty", &[]), frame(PROGRAM, "handler"), below];
    let tree = |below, others: Vec<Thread>| {
        let first = thread(1, on(Kind::ThreadLock, 0), &stack(below));
        let threads = std::iter::once(first).chain(others).collect();
        facts(vec![process(1, threads)], vec![Object::default()])
    };
    assert_eq!(found(&tree(put("", &["self._notempty"]), vec![])), [("reentrant-queue", vec![1])]);
    let other = thread(5, None, &[frame(PROGRAM, "work")]);
    assert_eq!(found(&tree(frame(PROGRAM, "main"), vec![other])), [], "the other thread may have it");
}

#[test]
fn a_join_before_the_queue_is_empty() {
    let feeder = thread(3, on(Kind::PipeWrite, 0), &[frame(CONNECTION, "_send"), frame(QUEUES, "_feed")]);
    let producer = process(2, vec![thread(2, on(Kind::ThreadLock, 1), &[frame("/lib/threading.py", "join")]), feeder]);
    let tree = |wait, more: Vec<Process>| {
        let mut processes = vec![process(1, vec![thread(1, wait, &[])]), producer.clone()];
        processes.extend(more);
        facts(processes, vec![pipe(9), Object::default()])
    };
    assert_eq!(found(&tree(child(2), vec![])), [("queue-join", vec![1, 2])]);
    assert_eq!(found(&tree(None, vec![])), [], "the parent may be about to read");
    let reader = process(4, vec![thread(4, on(Kind::PipeRead, 0), &[])]);
    assert_eq!(found(&tree(child(2), vec![reader])), []);
    let busy = process(4, vec![thread(4, None, &[])]);
    assert_eq!(found(&tree(child(2), vec![busy])), [], "the other process may read soon");
}

#[test]
fn a_reader_whose_writers_all_read_waits_for_ever() {
    let reader = |pid| {
        let reads = thread(pid, on(Kind::PipeRead, 0), &[frame(CONNECTION, "_recv"), frame(QUEUES, "get")]);
        Process { writes_to: vec![9], ..process(pid, vec![reads]) }
    };
    assert_eq!(found(&facts(vec![reader(1)], vec![pipe(9)])), [("lost-worker", vec![1])]);
    let writer = Process { writes_to: vec![9], ..process(2, vec![thread(2, Some(Wait::new(Kind::Input)), &[])]) };
    assert_eq!(found(&facts(vec![reader(1), writer], vec![pipe(9)])), []);
    let nobody = Process { writes_to: vec![], ..reader(1) };
    assert_eq!(found(&facts(vec![nobody], vec![pipe(9)])), [], "then the end of the pipe is read");
    let unknown = Facts { unknown: vec!["much".to_owned()], ..facts(vec![reader(1)], vec![pipe(9)]) };
    assert_eq!(found(&unknown), []);
}

/// A pool that waits for a result, its two workers, and what these do.
fn pool(working: bool) -> Facts {
    let results = thread(11, on(Kind::PipeRead, 0), &[frame(CONNECTION, "_recv"), frame(POOL, "_handle_results")]);
    let waiter = thread(1, on(Kind::ThreadLock, 1), &[frame("/lib/threading.py", "wait"), frame(POOL, "get")]);
    let idle = |pid, started| {
        let stack = [frame(CONNECTION, "_recv"), frame(QUEUES, "get"), frame(POOL, "worker")];
        Process { started, ..process(pid, vec![thread(pid, on(Kind::PipeRead, 2), &stack)]) }
    };
    let busy = process(3, vec![thread(3, None, &[frame(PROGRAM, "work"), frame(POOL, "worker")])]);
    let second = if working { busy } else { idle(3, 90) };
    facts(vec![process(1, vec![waiter, results]), idle(2, 10), second], vec![pipe(8), Object::default(), pipe(9)])
}

#[test]
fn a_result_that_nobody_works_on_is_that_of_a_lost_worker() {
    assert_eq!(found(&pool(false)), [("lost-worker", vec![1, 2, 3])]);
    let evidence = diagnose(&pool(false))[0].evidence.join("\n");
    assert!(evidence.contains("worker 3 started 0.80 s after the first one"), "{evidence}");
    assert_eq!(found(&pool(true)), []);
    let mut sending = pool(false);
    sending.processes[0].threads.push(thread(12, None, &[frame(POOL, "_handle_tasks")]));
    assert_eq!(found(&sending), []);
}

#[test]
fn a_task_that_waits_for_a_task_is_a_pool_in_a_pool() {
    let stack = [frame("/lib/threading.py", "wait"), frame(POOL, "get"), frame(PROGRAM, "work"), frame(POOL, "worker")];
    let worker = process(2, vec![thread(2, on(Kind::ThreadLock, 0), &stack)]);
    let root = process(1, vec![thread(1, Some(Wait::new(Kind::Sleep)), &[])]);
    let tree = |more: Vec<Process>| {
        facts([root.clone(), worker.clone()].into_iter().chain(more).collect(), vec![Object::default()])
    };
    assert_eq!(found(&tree(vec![])), [("pool-in-pool-deadlock", vec![2])]);
    let own = Process { parent: 2, ..process(3, vec![thread(3, None, &[frame(POOL, "worker")])]) };
    assert_eq!(found(&tree(vec![own])), [], "it has a pool of its own");
}

#[test]
fn a_stopped_process_and_who_waits_for_it() {
    let stopped = Process { state: 'T', ..process(2, vec![thread(2, None, &[])]) };
    let waiter = process(1, vec![thread(1, on(Kind::Lock, 0), &[])]);
    let tree = facts(vec![waiter, stopped], vec![lock(&[(2, None)])]);
    assert_eq!(found(&tree), [("stopped-process", vec![1, 2])]);
    assert_eq!(diagnose(&tree)[0].summary, "process 2 is stopped, and process 1 waits for it");
}

#[test]
fn the_dead_who_are_not_reaped_are_zombies_unless_somebody_is_about_to() {
    let dead = |how| Process { state: 'Z', ended: Some(how), ..process(2, vec![]) };
    let parent = |wait| process(1, vec![thread(1, wait, &[])]);
    let tree = |wait, how| facts(vec![parent(wait), dead(how)], vec![]);
    assert_eq!(found(&tree(None, ExitStatus::Exited(0))), [("zombies", vec![1, 2])]);
    assert_eq!(found(&tree(child(2), ExitStatus::Exited(0))), []);
    let killed = facts(vec![Process { memory_kills: 3, ..parent(None) }, dead(ExitStatus::Signaled(9))], vec![]);
    assert_eq!(found(&killed), [("lost-worker", vec![1, 2])]);
    assert!(diagnose(&killed)[0].summary.contains("memory killer"));
}
