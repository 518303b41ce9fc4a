//! What processes of forkless wait for, as their slots say: no right to trace them is needed for that.

use std::time::Duration;

use forkless_ipc::Channel;
use forkless_shm::arena::FILE_NAME;
use forkless_shm::waits::{Noted, Outside, Waited};
use forkless_sync::outside::{Seen, look};
use forkless_sys::memory::MemoryFile;
use forkless_sys::time;

use crate::facts::{Facts, Kind, Object, Wait};

/// Completes the facts with what the arenas of these processes say.
pub(crate) fn complete(facts: &mut Facts) {
    let mut known = Vec::new();
    let pids: Vec<u32> = facts.processes.iter().map(|process| process.pid).collect();
    for pid in pids {
        for (identity, file) in MemoryFile::of_process(pid, FILE_NAME, &known).unwrap_or_default() {
            known.push(identity);
            match Outside::new(&file) {
                Ok(arena) => Reader { facts, arena: &arena, objects: Vec::new() }.read(),
                Err(error) => facts.unknown.push(format!("the shared memory of process {pid} cannot be read: {error}")),
            }
        }
    }
}

/// Reads one arena.
struct Reader<'a> {
    facts: &'a mut Facts,
    arena: &'a Outside<'a>,
    /// Blocks that were met, and which of the facts' objects each is.
    objects: Vec<((usize, u32), usize)>,
}

impl Reader<'_> {
    fn read(mut self) {
        for (process, notes) in self.arena.processes() {
            let Some(known) = self.facts.processes.iter_mut().find(|it| process.live && it.pid == process.pid) else {
                continue;
            };
            known.role = Some(process.role.name());
            known.name.clone_from(&process.name);
            for noted in notes {
                self.note(process.pid, &noted);
            }
        }
    }

    fn note(&mut self, pid: u32, noted: &Noted) {
        let object = noted.block.map(|block| self.object(block, noted.waited));
        let wait = Wait {
            kind: kind(noted.waited),
            object,
            timed: false,
            since: Some(time::coarse().saturating_sub(Duration::from_nanos(noted.since))),
            process: noted.pid,
        };
        if let Some(object) = object.and_then(|index| self.facts.objects.get_mut(index))
            && !object.users.contains(&pid)
        {
            object.users.push(pid);
        }
        let process = self.facts.processes.iter_mut().find(|it| it.pid == pid);
        let thread = process.and_then(|it| it.threads.iter_mut().find(|thread| thread.tid == noted.thread));
        // A signal handler may wait in the middle of a wait: then the later one counts.
        if let Some(thread) = thread
            && thread.noted <= noted.since
        {
            (thread.wait, thread.noted) = (Some(wait), noted.since);
        }
    }

    fn object(&mut self, block: (usize, u32), waited: Waited) -> usize {
        if let Some((_, index)) = self.objects.iter().find(|(other, _)| *other == block) {
            return *index;
        }
        let seen = look(self.arena, block.0, block.1).unwrap_or_default();
        let index = self.facts.objects.len();
        self.facts.objects.push(self.describe(block, waited, &seen));
        self.objects.push((block, index));
        index
    }

    fn describe(&self, block: (usize, u32), waited: Waited, seen: &Seen) -> Object {
        let owner = seen.owner.and_then(|owner| self.arena.process(owner));
        let name = kind(waited).object();
        let made = if seen.origin.is_empty() { String::new() } else { format!(", made at {}", seen.origin) };
        let held = seen.held_for.map_or_else(String::new, |held| format!(", held for {:.1} s", held.as_secs_f64()));
        Object {
            name: format!("{name} {:#x}{made}{held}", block.0),
            holders: owner.iter().filter(|it| it.live).map(|it| (it.pid, None)).collect(),
            is_certain: true,
            died: owner
                .filter(|it| !it.live)
                .map(|it| format!("process {} ({}) had it and has ended", it.pid, it.name)),
            count: seen.tokens.or_else(|| Channel::pending_from_outside(self.arena, block.0, block.1)).map(u64::from),
            is_ours: true,
            ..Object::default()
        }
    }
}

fn kind(waited: Waited) -> Kind {
    match waited {
        Waited::Lock => Kind::Lock,
        Waited::RLock => Kind::RLock,
        Waited::Semaphore => Kind::Semaphore,
        Waited::Event => Kind::Event,
        Waited::Condition => Kind::Condition,
        Waited::Barrier => Kind::Barrier,
        Waited::QueuePut => Kind::QueuePut,
        Waited::QueueGet => Kind::QueueGet,
        Waited::QueueJoin => Kind::QueueJoin,
        Waited::Process => Kind::Process,
        Waited::Result => Kind::Result,
        Waited::Task => Kind::Task,
    }
}
