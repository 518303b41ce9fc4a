//! Which task is next: a pure state machine.
//!
//! ```text
//! add ──▶ Pending ── send_next ──▶ Sent ── take ──▶ gone
//!            ▲                 │
//!            └──── again ──── Held ◀── hold     (failed, and its owner decides what becomes of it)
//! ```
//!
//! Tasks are in pages of [`PAGE`] in the order of their ids, which are numbers in a row: a task takes no more room than
//! itself, and a page goes when its last task does. (A hash table that has just grown takes twice as much.)
//!
//! Of the pending ones the highest [`Rank`] is first, and among equals who came first. A task can be taken out in any
//! stage. Its id is never given again, so an answer that comes too late finds nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its turn.
    Pending,
    /// It is on its way to a worker, or runs there.
    Sent,
    /// It has failed, and may be tried again.
    Held,
}

/// Tasks of a page.
const PAGE: u64 = 128;

/// What is first: the highest priority, and within that the task that is deepest in others, which wait for it. So what was
/// begun is finished before something else is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// As users give it.
    pub priority: i32,
    /// How many tasks it is within.
    pub depth: u32,
}

impl From<i32> for Rank {
    fn from(priority: i32) -> Self {
        Self { priority, depth: 0 }
    }
}

/// Tasks from their submission to their outcome.
#[derive(Debug)]
pub struct Schedule<T> {
    pages: HashMap<u64, Page<T>, BuildHasherDefault<Spread>>,
    /// May name tasks that have been taken out, or are not pending any more.
    pending: BTreeMap<Reverse<Rank>, VecDeque<u64>>,
    live: usize,
    waiting: usize,
    sent: usize,
    last: u64,
}

#[derive(Debug)]
struct Page<T> {
    entries: Box<[Option<Entry<T>>]>,
    live: usize,
}

#[derive(Debug)]
struct Entry<T> {
    task: T,
    rank: Rank,
    stage: Stage,
    /// How often it was sent again.
    attempt: u16,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { entries: (0..PAGE).map(|_| None).collect(), live: 0 }
    }
}

/// Numbers in a row, for a table that wants them spread. The multiplier is 2^64 divided by the golden ratio (Knuth, The Art
/// of Computer Programming, volume 3, 6.4).
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A queue or a table that has room for so many, and more than it needs by far, gives memory back.
const ROOMY: usize = 1 << 12;

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { pages: HashMap::default(), pending: BTreeMap::new(), live: 0, waiting: 0, sent: 0, last: 0 }
    }
}

impl<T> Schedule<T> {
    /// Adds a task; its id.
    pub fn add(&mut self, task: T, rank: impl Into<Rank>) -> u64 {
        let rank = rank.into();
        self.last += 1;
        let id = self.last;
        let page = self.pages.entry(id / PAGE).or_default();
        page.live += 1;
        self.live += 1;
        // There was nothing in its place: no id is given twice.
        page.entries[(id % PAGE) as usize] = Some(Entry { task, rank, stage: Stage::Pending, attempt: 0 });
        self.line_up(id, rank);
        id
    }

    /// The pending task that is next, now on its way.
    pub fn send_next(&mut self) -> Option<u64> {
        while let Some(mut line) = self.pending.first_entry() {
            let Some(id) = line.get_mut().pop_front() else {
                line.remove();
                continue;
            };
            shrink(line.get_mut());
            let entry = entry_mut(&mut self.pages, id).filter(|entry| entry.stage == Stage::Pending);
            if let Some(entry) = entry {
                entry.stage = Stage::Sent;
                self.waiting -= 1;
                self.sent += 1;
                return Some(id);
            }
        }
        None
    }

    /// A task.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&T> {
        self.entry(id).map(|entry| &entry.task)
    }

    /// A task, and how often it was sent again.
    #[must_use]
    pub fn get_with_attempt(&self, id: u64) -> Option<(&T, u16)> {
        self.entry(id).map(|entry| (&entry.task, entry.attempt))
    }

    /// A task.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        entry_mut(&mut self.pages, id).map(|entry| &mut entry.task)
    }

    /// How far a task is; `None` if it is gone.
    #[must_use]
    pub fn stage(&self, id: u64) -> Option<Stage> {
        self.entry(id).map(|entry| entry.stage)
    }

    /// Takes a task out, for good.
    pub fn take(&mut self, id: u64) -> Option<T> {
        let page = self.pages.get_mut(&(id / PAGE))?;
        let entry = page.entries[(id % PAGE) as usize].take()?;
        page.live -= 1;
        if page.live == 0 {
            self.pages.remove(&(id / PAGE));
            if self.pages.capacity() > ROOMY && self.pages.len() < self.pages.capacity() / 8 {
                self.pages.shrink_to(self.pages.len() * 2);
            }
        }
        self.live -= 1;
        self.leave(entry.stage);
        if self.live == 0 {
            self.pending.clear();
        }
        Some(entry.task)
    }

    /// How often a task was sent again. Counts wrap.
    #[must_use]
    pub fn attempt(&self, id: u64) -> Option<u16> {
        self.entry(id).map(|entry| entry.attempt)
    }

    /// A task that was sent has failed, and is not sent again before [`Self::again`] says so; `false` if it is not on its
    /// way.
    pub fn hold(&mut self, id: u64) -> bool {
        self.stage(id) == Some(Stage::Sent) && self.change(id, Stage::Held)
    }

    /// Has a task that is held wait for its turn again.
    pub fn again(&mut self, id: u64) -> bool {
        if self.stage(id) != Some(Stage::Held) || !self.change(id, Stage::Pending) {
            return false;
        }
        let Some(entry) = entry_mut(&mut self.pages, id) else { return false };
        entry.attempt = entry.attempt.wrapping_add(1);
        let rank = entry.rank;
        self.line_up(id, rank);
        true
    }

    /// The ids of the tasks in a stage, or of all, first come first.
    #[must_use]
    pub fn ids(&self, stage: Option<Stage>) -> Vec<u64> {
        let entries = self.pages.iter().flat_map(|(number, page)| {
            let ids = (number * PAGE..).zip(&page.entries);
            ids.filter_map(|(id, entry)| entry.as_ref().map(|entry| (id, entry.stage)))
        });
        let mut ids: Vec<_> =
            entries.filter(|(_, of)| stage.is_none_or(|wanted| wanted == *of)).map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Tasks that are not gone.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live
    }

    /// Tasks that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Tasks on their way, and running.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent
    }

    fn entry(&self, id: u64) -> Option<&Entry<T>> {
        self.pages.get(&(id / PAGE))?.entries[(id % PAGE) as usize].as_ref()
    }

    fn line_up(&mut self, id: u64, rank: Rank) {
        self.waiting += 1;
        self.pending.entry(Reverse(rank)).or_default().push_back(id);
    }

    fn change(&mut self, id: u64, stage: Stage) -> bool {
        let Some(entry) = entry_mut(&mut self.pages, id) else { return false };
        let before = std::mem::replace(&mut entry.stage, stage);
        self.leave(before);
        true
    }

    fn leave(&mut self, stage: Stage) {
        match stage {
            Stage::Pending => self.waiting -= 1,
            Stage::Sent => self.sent -= 1,
            Stage::Held => {}
        }
    }
}

/// In a function of its own, so that the queues can be borrowed beside it.
fn entry_mut<T>(pages: &mut HashMap<u64, Page<T>, BuildHasherDefault<Spread>>, id: u64) -> Option<&mut Entry<T>> {
    pages.get_mut(&(id / PAGE))?.entries[(id % PAGE) as usize].as_mut()
}

fn shrink(line: &mut VecDeque<u64>) {
    if line.capacity() > ROOMY && line.len() < line.capacity() / 8 {
        line.shrink_to(line.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(priority: i32, depth: u32) -> Rank {
        Rank { priority, depth }
    }

    fn order(schedule: &mut Schedule<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| {
            let id = schedule.send_next()?;
            schedule.take(id)
        })
        .collect()
    }

    #[test]
    fn first_come_first_served_within_a_priority() {
        let mut schedule = Schedule::default();
        for (task, priority) in [("c", 0), ("a", 5), ("d", 0), ("b", 5), ("e", -1)] {
            schedule.add(task, priority);
        }
        assert_eq!(order(&mut schedule), ["a", "b", "c", "d", "e"]);
        assert_eq!((schedule.live(), schedule.waiting(), schedule.sent()), (0, 0, 0));
    }

    #[test]
    fn what_others_wait_for_is_before_them() {
        let mut schedule = Schedule::default();
        for (task, priority, depth) in [("d", 0, 0), ("c", 0, 1), ("b", 0, 2), ("a", 1, 0)] {
            schedule.add(task, rank(priority, depth));
        }
        assert_eq!(order(&mut schedule), ["a", "b", "c", "d"]);
    }

    #[test]
    fn what_is_taken_out_is_not_next() {
        let mut schedule = Schedule::default();
        let ids: Vec<_> = ["a", "b", "c"].map(|task| schedule.add(task, 0)).into();
        assert_eq!(schedule.take(ids[1]), Some("b"));
        assert_eq!(schedule.take(ids[1]), None);
        assert_eq!(schedule.waiting(), 2);
        assert_eq!(order(&mut schedule), ["a", "c"]);
    }

    #[test]
    fn what_failed_is_tried_again_behind_the_others() {
        let mut schedule = Schedule::default();
        let a = schedule.add("a", 0);
        schedule.add("b", 0);
        assert!(!schedule.again(a), "it has not failed");
        assert_eq!(schedule.send_next(), Some(a));
        assert!(schedule.hold(a));
        assert_eq!((schedule.stage(a), schedule.sent(), schedule.waiting()), (Some(Stage::Held), 0, 1));
        assert!(schedule.again(a));
        assert_eq!(order(&mut schedule), ["b", "a"]);
    }

    #[test]
    fn an_id_is_not_given_twice() {
        let mut schedule = Schedule::default();
        let first = schedule.add((), 0);
        schedule.take(first);
        assert_ne!(schedule.add((), 0), first);
        assert_eq!(schedule.stage(first), None);
    }

    #[test]
    fn a_million_tasks_leave_no_table_behind() {
        let mut schedule = Schedule::default();
        let ids: Vec<_> = (0..100_000).map(|task| schedule.add(task, 0)).collect();
        for id in ids {
            schedule.take(id);
        }
        assert!(schedule.pages.is_empty() && schedule.pages.capacity() <= ROOMY);
        assert!(schedule.pending.is_empty());
    }
}
