//! Turns what threads do in the kernel into what they wait for, and who has that.

use std::collections::HashMap;

use forkless_sys::inspect::{self, Call};
use forkless_sys::space::{self, Mapped};

use crate::collect::Insight;
use crate::facts::{Facts, Kind, Object, Thread, Wait};
use crate::semaphores::{self, Identity};
use crate::source::Sources;
use crate::stacks;

/// Completes the facts with all that is known of these processes.
pub(crate) fn explain(facts: &mut Facts, known: &[Insight]) {
    Builder { facts, objects: HashMap::new() }.explain(known);
}

/// What all frames take and have, if a thread somewhere waits for a lock without a limit.
fn read_sources(facts: &mut Facts) {
    let is_lock = |kind: Kind| kind.is_lock() || matches!(kind, Kind::ThreadLock | Kind::Semaphore);
    if facts.waiting().any(|(_, _, wait)| is_lock(wait.kind)) {
        let mut sources = Sources::default();
        for process in &mut facts.processes {
            let frames = process.threads.iter_mut().flat_map(|thread| thread.stack.iter_mut());
            frames.for_each(|frame| sources.annotate(process.pid, frame));
        }
    }
}

/// Names an object.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Semaphore(Identity),
    Thread(u32, u64),
    Pipe(u64),
}

/// Turns what threads do in the kernel into what they wait for.
struct Builder<'a> {
    facts: &'a mut Facts,
    objects: HashMap<Key, usize>,
}

impl Builder<'_> {
    fn explain(&mut self, known: &[Insight]) {
        let mut semaphores: HashMap<Identity, Vec<(u32, u64)>> = HashMap::new();
        for insight in known {
            for (address, identity) in semaphores::mapped(&insight.mappings) {
                semaphores.entry(identity).or_default().push((insight.pid, address));
            }
        }
        for insight in known {
            let mapped = semaphores::mapped(&insight.mappings);
            for (&tid, &call) in &insight.calls {
                let wait = self.wait(insight, &mapped, call);
                // What a process has noted itself says more.
                if let Some(thread) = self.thread(insight.pid, tid).filter(|thread| thread.noted == 0) {
                    thread.wait = wait;
                }
            }
        }
        read_sources(self.facts);
        self.name_objects();
        let is_wanted = |(key, &index): (&Key, &usize)| match key {
            Key::Semaphore(identity) if self.facts.waiting().any(|(_, _, wait)| wait.object == Some(index)) => {
                Some((identity.clone(), index))
            }
            _ => None,
        };
        let wanted: HashMap<Identity, usize> = self.objects.iter().filter_map(is_wanted).collect();
        if !wanted.is_empty() {
            self.find_holders(known, &wanted, &semaphores);
        }
        self.look_outside(&wanted);
    }

    /// Those that the tree descends from may share with it what it waits for, and their other children too.
    fn look_outside(&mut self, wanted: &HashMap<Identity, usize>) {
        let mut ancestor = self.facts.process(self.facts.root).map_or(0, |process| process.parent);
        while ancestor > 1 {
            let pipes = inspect::pipes(ancestor);
            for object in self.facts.objects.iter_mut().filter(|object| object.pipe.is_some()) {
                if pipes.iter().any(|pipe| pipe.writes && Some(pipe.inode) == object.pipe) {
                    object.outsider = Some(ancestor);
                }
            }
            let semaphores = semaphores::mapped(&space::mappings(ancestor));
            for index in semaphores.values().filter_map(|identity| wanted.get(identity)) {
                let object = &mut self.facts.objects[*index];
                object.outsider = Some(ancestor);
                if object.holders.is_empty() {
                    self.facts.unknown.push(format!(
                        "who has {}: process {ancestor}, which this tree descends from, shares it (look at that one)",
                        object.name
                    ));
                }
            }
            ancestor = inspect::status(ancestor).map_or(0, |status| status.parent);
        }
    }

    fn thread(&mut self, pid: u32, tid: u32) -> Option<&mut Thread> {
        let process = self.facts.processes.iter_mut().find(|process| process.pid == pid)?;
        process.threads.iter_mut().find(|thread| thread.tid == tid)
    }

    fn wait(&mut self, insight: &Insight, semaphores: &HashMap<u64, Identity>, call: Call) -> Option<Wait> {
        let pipe = |descriptor| insight.pipes.iter().find(|pipe| pipe.descriptor == descriptor).map(|pipe| pipe.inode);
        Some(match call {
            Call::Runs => return None,
            Call::Futex { address, timed } => {
                let page = address / 4096 * 4096;
                let is_there = |mapped: &&Mapped| (mapped.start..mapped.end).contains(&address);
                let (kind, key) = match semaphores.get(&page) {
                    Some(identity) => (Kind::Semaphore, Key::Semaphore(identity.clone())),
                    // Of forkless, or of another library: who shares it with whom is not known.
                    None if insight.mappings.iter().find(is_there).is_some_and(|mapped| mapped.shared) => {
                        return Some(Wait { timed, ..Wait::new(Kind::Other) });
                    }
                    None => (Kind::ThreadLock, Key::Thread(insight.pid, address)),
                };
                Wait { timed, object: Some(self.object(key, insight.pid)), ..Wait::new(kind) }
            }
            Call::Read(descriptor) => match pipe(descriptor) {
                Some(inode) => self.pipe(Kind::PipeRead, inode, insight.pid),
                None => Wait::new(Kind::Input),
            },
            Call::Write(descriptor) => match pipe(descriptor) {
                Some(inode) => self.pipe(Kind::PipeWrite, inode, insight.pid),
                None => Wait::new(Kind::Other),
            },
            Call::Child(child) => Wait { process: u32::try_from(child).ok(), ..Wait::new(Kind::Process) },
            Call::Poll { timed } => Wait { timed, ..Wait::new(Kind::Poll) },
            Call::Sleep => Wait { timed: true, ..Wait::new(Kind::Sleep) },
            Call::Other(_) => Wait { timed: true, ..Wait::new(Kind::Other) },
        })
    }

    fn pipe(&mut self, kind: Kind, inode: u64, pid: u32) -> Wait {
        let index = self.object(Key::Pipe(inode), pid);
        Wait { object: Some(index), ..Wait::new(kind) }
    }

    fn object(&mut self, key: Key, pid: u32) -> usize {
        let objects = &mut self.facts.objects;
        let (name, pipe) = match &key {
            Key::Semaphore((_, inode)) => (format!("semaphore {inode} of multiprocessing"), None),
            Key::Thread(pid, address) => (format!("lock {address:#x} inside process {pid}"), None),
            Key::Pipe(inode) => (format!("pipe {inode}"), Some(*inode)),
        };
        let index = *self.objects.entry(key).or_insert_with(|| {
            objects.push(Object { name, pipe, ..Object::default() });
            objects.len() - 1
        });
        let users = &mut objects[index].users;
        if !users.contains(&pid) {
            users.push(pid);
        }
        index
    }

    /// After what their waiters call them.
    fn name_objects(&mut self) {
        let waits: Vec<(usize, String)> = self
            .facts
            .waiting()
            .filter_map(|(_, thread, wait)| {
                let outside = thread.stack.iter().find(|frame| !frame.file.ends_with("multiprocessing/synchronize.py"));
                Some((wait.object?, outside?.takes.clone()?))
            })
            .collect();
        for (index, name) in waits {
            if let Some(object) = self.facts.objects.get_mut(index)
                && !object.name.contains('`')
            {
                object.name = format!("`{name}` ({})", object.name);
            }
        }
    }

    fn find_holders(
        &mut self,
        known: &[Insight],
        wanted: &HashMap<Identity, usize>,
        users: &HashMap<Identity, Vec<(u32, u64)>>,
    ) {
        let mut kinds: HashMap<usize, Kind> = HashMap::new();
        for insight in known {
            for (identity, semaphore) in semaphores::find(&insight.memory, &insight.mappings) {
                let Some(&index) = wanted.get(&identity) else { continue };
                kinds.insert(index, semaphore.kind);
                if semaphore.is_held {
                    let tids: Vec<u32> = insight.calls.keys().copied().collect();
                    let tid = stacks::tid_of(&insight.memory, semaphore.thread, &tids);
                    self.facts.objects[index].holders.push((insight.pid, tid));
                }
            }
        }
        for (identity, &index) in wanted {
            let pids = users.get(identity).into_iter().flatten();
            let object = &mut self.facts.objects[index];
            object.users = pids.clone().map(|(pid, _)| *pid).collect();
            object.is_certain = kinds.contains_key(&index);
            object.count = pids.clone().find_map(|(pid, address)| {
                let insight = known.iter().find(|insight| insight.pid == *pid)?;
                semaphores::value(&insight.memory, *address).map(u64::from)
            });
        }
        for process in &mut self.facts.processes {
            for wait in process.threads.iter_mut().filter_map(|thread| thread.wait.as_mut()) {
                if let Some(kind) = wait.object.and_then(|index| kinds.get(&index)) {
                    wait.kind = *kind;
                }
            }
        }
    }
}
