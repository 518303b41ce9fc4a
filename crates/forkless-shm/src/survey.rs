//! What an arena holds and for whom, seen from outside: by a process that may have no place in it, through a descriptor
//! that can only read.
//!
//! Nobody is kept waiting for it: no lock is taken, so what is read may change between one word and the next. Three things
//! make that good enough. Blocks are never split, merged or moved, so their headers stay where they are. Every value
//! is checked, as it may be half of one. And a list of leases is followed like a chain of which each link names both its
//! neighbours: where two of them disagree, somebody has just changed the list, and both are read again, one link
//! further back each time.
//!
//! The file is read and not mapped, because a mapping would change the numbers of the processes that are looked at (PSS divides
//! by users), and reading a hole in a mapping allocates a page.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use forkless_sys::memory::{MemoryFile, PAGE};

use crate::block::{COUNTED, LEASE, State, TOUCHED, UNIT, parse_header};
use crate::layout::{HEAP, MAGIC, SLOTS, SLOTS_AT, VERSION, header, slot};
use crate::lease::{TAKES, field};
use crate::slot::{Owner, Process};
use crate::{Error, last_words};

/// What was found.
#[derive(Debug)]
pub struct Survey {
    /// Names the arena.
    pub id: u64,
    /// Bytes of pages that it has in all, its tables included.
    pub pages: u64,
    /// Its blocks, free ones too.
    pub blocks: Vec<Surveyed>,
    /// The processes that have a place in it, also those that have ended and were not cleaned up after yet.
    pub holders: Vec<Holder>,
    /// How many of the blocks are leases.
    pub leases: usize,
    /// Whether all of it could be read. Else it is damaged, or changed faster than it was read, and there is more.
    pub is_whole: bool,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Its kind; `None` of a free one.
    pub kind: Option<u8>,
    /// Bytes from its header to the next.
    pub size: usize,
    /// Bytes of it that have pages, its header included; for blocks of less than 64 KiB, its size.
    pub pages: usize,
    /// How many processes have a lease on it. Blocks that messages and other blocks hold alone have none.
    pub holders: u32,
}

/// A process and what it holds.
#[derive(Debug)]
pub struct Holder {
    /// Who it is.
    pub process: Process,
    /// How many leases it has.
    pub leases: usize,
    /// On which of [`Survey::blocks`], each once.
    pub blocks: Vec<usize>,
}

impl Survey {
    /// Looks through an arena. Where it finds a change half made, it looks again, for as long as its `patience` lasts: a
    /// process may be stopped in the middle of one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the file is no arena, [`Error::Stale`] if it is one of another version of forkless;
    /// [`Error::System`] if the system refuses.
    pub fn read(file: &MemoryFile, patience: Duration) -> Result<Self, Error> {
        let mut reader = Reader { file, line: None, patience: Patience::new(patience) };
        let [magic, version, id, size] =
            [header::MAGIC, header::VERSION, header::ID, header::SIZE].map(|at| reader.word(at).unwrap_or(0));
        if magic != MAGIC || size != file.size() as u64 || file.size() < HEAP {
            return Err(Error::Corrupt("not an arena"));
        }
        if version != VERSION {
            return Err(Error::Stale("it belongs to another version of forkless"));
        }
        let pages = file.allocated().map_err(Error::system("ask for the size of the shared arena"))?;
        let mut survey = Self { id, pages, blocks: Vec::new(), holders: Vec::new(), leases: 0, is_whole: true };
        let mut places = HashMap::new();
        survey.is_whole &= survey.walk_heap(&mut reader, &mut places);
        let used = reader.word(header::SLOTS_USED).unwrap_or(0) as usize;
        for index in 0..used.min(SLOTS) {
            if let Some(process) = reader.process(index) {
                survey.add_holder(&mut reader, &places, process);
            }
        }
        Ok(survey)
    }

    /// Visits the blocks, which lie one behind the other with gaps of zeros, shorter than a page, in front of those that
    /// begin on one. Notes which block is where. Whether that went well to the end.
    fn walk_heap(&mut self, reader: &mut Reader<'_>, places: &mut HashMap<usize, usize>) -> bool {
        let end = (reader.word(header::FRESH).unwrap_or(0) as usize).min(last_words::begin(reader.file.size()));
        let (mut at, mut last_end) = (HEAP, HEAP);
        while at < end {
            let Some(word) = reader.word_in_line(at) else { return false };
            if word == 0 && at - last_end < PAGE {
                at += UNIT;
                continue;
            }
            let Some((size, kind, state)) = parse_header(word) else {
                // The end of the heap moves before the header behind it is written.
                if !reader.patience.spend() {
                    return false;
                }
                reader.line = None;
                at = last_end;
                continue;
            };
            let touched = if size >= COUNTED { reader.word_in_line(at + TOUCHED).unwrap_or(0) as usize } else { size };
            let kind = (state != State::Free).then_some(kind);
            if kind == Some(LEASE) {
                self.leases += 1;
            } else {
                places.insert(at, self.blocks.len());
            }
            self.blocks.push(Surveyed { kind, size, pages: touched.min(size), holders: 0 });
            at += size;
            last_end = at;
        }
        true
    }

    fn add_holder(&mut self, reader: &mut Reader<'_>, places: &HashMap<usize, usize>, process: Process) {
        // There may be more by now.
        let most = 2 * self.leases + 1000;
        let (leases, is_whole) = reader.leases(process.owner, most);
        // What was read is another's if the slot changed hands meanwhile.
        if reader.process(process.owner.index()).is_none_or(|now| now.owner != process.owner) {
            return;
        }
        self.is_whole &= is_whole;
        let held = leases.iter().filter(|lease| reader.holds(lease));
        // One on a block that is newer than the walk through the heap is left out.
        let mut blocks: Vec<usize> = held.filter_map(|lease| places.get(&lease.target).copied()).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.retain(|&index| self.blocks[index].kind.is_some());
        blocks.iter().for_each(|&index| self.blocks[index].holders += 1);
        self.holders.push(Holder { process, leases: leases.len(), blocks });
    }
}

/// A lease as it stands in a list.
#[derive(Clone, Copy)]
struct Link {
    at: usize,
    previous: usize,
    next: usize,
    target: usize,
    /// The count that decides whether it holds, 0 for none; with [`TAKES`].
    guard: u64,
    sequence: u32,
}

/// For how long to look again.
struct Patience {
    until: Instant,
    tries: u32,
}

impl Patience {
    /// Changes take less than a microsecond, but for a process that loses its processor in the middle of one.
    const TRIES_AT_ONCE: u32 = 100;
    const PAUSE: Duration = Duration::from_micros(500);

    fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, tries: 0 }
    }

    /// Whether to look again.
    fn spend(&mut self) -> bool {
        self.tries += 1;
        if !self.tries.is_multiple_of(Self::TRIES_AT_ONCE) {
            return true;
        }
        let is_left = Instant::now() < self.until;
        if is_left {
            std::thread::sleep(Self::PAUSE);
        }
        is_left
    }
}

/// The arena's words.
struct Reader<'a> {
    file: &'a MemoryFile,
    /// Where the line that was read last begins, and what is in it.
    line: Option<(usize, [u8; LINE])>,
    patience: Patience,
}

/// Bytes of the heap that are read at once: small blocks lie side by side.
const LINE: usize = PAGE;

impl Reader<'_> {
    /// Bytes as they are now; `None` past the end.
    fn read<const LENGTH: usize>(&self, at: usize) -> Option<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        (self.file.read_at(at, &mut bytes) == Ok(LENGTH)).then_some(bytes)
    }

    /// The double word at an offset, as it is now.
    fn word(&self, at: usize) -> Option<u64> {
        if at.is_multiple_of(8) { self.read(at).map(u64::from_ne_bytes) } else { None }
    }

    /// As [`Self::word`], or as it was when its line was read.
    fn word_in_line(&mut self, at: usize) -> Option<u64> {
        let start = at / LINE * LINE;
        let line = match &self.line {
            Some((known, line)) if *known == start => line,
            _ => &self.line.insert((start, self.read(start)?)).1,
        };
        word_of(line, at - start)
    }

    /// The process that a slot belongs to.
    fn process(&self, index: usize) -> Option<Process> {
        Process::parse(index, &self.read::<{ slot::SIZE }>(SLOTS_AT + index * slot::SIZE)?)
    }

    fn link(&mut self, at: usize) -> Option<Link> {
        let (_, kind, state) = parse_header(self.word_in_line(at)?)?;
        if at < HEAP || kind != LEASE || state != State::Live {
            return None;
        }
        let mut field = |field| self.word_in_line(at + field);
        let (links, target, guard) = (field(field::LINKS)?, field(field::TARGET)?, field(field::COUNT_AT)?);
        let half = |word: u64| (word & u64::from(u32::MAX)) as usize * UNIT;
        Some(Link {
            at,
            previous: half(links >> 32),
            next: half(links),
            target: half(target),
            guard,
            sequence: (target >> 32) as u32,
        })
    }

    /// The list of a process, and whether that is all of it. What was read at different moments might lead round in
    /// circles: a list is not longer than `most`.
    fn leases(&mut self, owner: Owner, most: usize) -> (Vec<Link>, bool) {
        let mut path: Vec<Link> = Vec::new();
        self.line = None;
        loop {
            let (before, at) = match path.last() {
                None => (0, self.word(owner.field(slot::LEASES)).map_or(0, |word| word as usize)),
                Some(last) => (last.at, last.next),
            };
            if at == 0 {
                return (path, true);
            }
            match self.link(at).filter(|link| link.previous == before) {
                Some(link) if path.len() < most => {
                    path.push(link);
                    continue;
                }
                Some(_) => path.clear(),
                None => drop(path.pop()),
            }
            self.line = None;
            if !self.patience.spend() {
                return (path, false);
            }
        }
    }

    /// Whether a lease holds: one with a guard does from when its count has moved past it, or until then.
    fn holds(&self, link: &Link) -> bool {
        let at = (link.guard & !TAKES) as usize;
        if at == 0 {
            return true;
        }
        let Some(count) = self.read(at).map(u32::from_ne_bytes) else { return false };
        let has_passed = count.wrapping_sub(link.sequence).cast_signed() > 0;
        has_passed == (link.guard & TAKES != 0)
    }
}

fn word_of(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
