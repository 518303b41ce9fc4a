//! Tasks to whichever worker is free, and answers back.
//!
//! One channel carries tasks to all workers, another carries answers. What a message is stands in its tag: the task's id
//! and, in answers, a [kind](Tag) that workers and owner agree upon.
//!
//! Only a few tasks lie in the channel; the others wait in the [`Schedule`], where they can be cancelled, or overtaken by
//! more urgent ones. How many is measured: as many as the workers finish in [`AHEAD`], so that they have work while
//! their owner is busy with something else, and two for each worker at least. Tasks that take longer than that are thus hardly
//! ever sent before somebody is free.
//!
//! One mutex guards the schedule. What owners attach to a task (in Python, objects whose destructors run anything) is never
//! dropped while it is held: it comes out as a value.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forkless_ipc::{Channel, Claim, Content, Message, Parcel, Sent};
use forkless_shm::{Arena, Error, Lease};
use forkless_sys::atomic::AtomicU32;
use forkless_sys::time::{Patience, SLICE, monotonic_ns};

use super::schedule::{Rank, Schedule, Stage};

/// For how long the tasks in the channel last. A thread that waits for Python's interpreter gets it after 5 ms
/// (`sys.getswitchinterval()`).
const AHEAD: Duration = Duration::from_millis(6);
/// The most tasks in the channel.
const MOST_AHEAD: usize = 4096;
/// Tasks that are sent, and answers that are received, under one lock.
const BATCH: usize = 256;

/// What the tag of a message says: 16 bits of kind, 48 of id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What kind of answer it is; of a task, how often it was sent before.
    pub kind: u16,
    /// The id of its task, or for some kinds something else.
    pub id: u64,
}

impl Tag {
    const ID_BITS: u32 = 48;

    /// As a number.
    #[must_use]
    pub fn pack(self) -> u64 {
        u64::from(self.kind) << Self::ID_BITS | self.id & ((1 << Self::ID_BITS) - 1)
    }

    /// From a number.
    #[must_use]
    pub fn unpack(tag: u64) -> Self {
        Self { kind: (tag >> Self::ID_BITS) as u16, id: tag & ((1 << Self::ID_BITS) - 1) }
    }
}

/// The bytes of a task.
#[derive(Debug)]
pub enum Payload {
    /// A few. They are kept until its outcome.
    Bytes(Box<[u8]>),
    /// Packed in shared memory, sent once.
    Parcel(Box<Parcel>),
    /// What may have to be sent several times: packed each time.
    Kept(Box<Kept>),
    /// The same, packed by somebody else: nobody writes into it.
    Whole(Box<Parcel>),
    /// It was sent.
    Gone,
}

/// Bytes, and what keeps alive the objects that they refer to.
#[derive(Debug)]
pub struct Kept {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The objects.
    pub leases: Vec<Lease>,
}

/// A task to be done, with what its owner attaches to it.
#[derive(Debug)]
pub struct Order<T> {
    /// What the worker gets.
    pub payload: Payload,
    /// The owner's.
    pub token: T,
}

/// What has come back.
#[derive(Debug)]
pub struct Arrived {
    /// What it says.
    pub tag: Tag,
    /// Its bytes.
    pub message: Message,
}

/// The owner's end of a pool.
#[derive(Debug)]
pub struct Dispatch<T> {
    tasks: Channel,
    results: Channel,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    schedule: Schedule<Order<T>>,
    workers: usize,
    /// No more tasks are on their way, or run, than there are workers.
    stepwise: bool,
    pace: Pace,
}

/// How fast tasks are done.
#[derive(Debug, Default)]
struct Pace {
    since: u64,
    count: u64,
    /// Tasks in a second.
    rate: f64,
}

impl Pace {
    const PERIOD_NS: u64 = 2_000_000;

    fn note(&mut self, count: usize, now: u64) {
        self.count += count as u64;
        let passed = now.saturating_sub(self.since);
        if passed >= Self::PERIOD_NS {
            let rate = self.count as f64 * 1e9 / passed as f64;
            // What was an age ago says little; what was just now says much.
            self.rate = if passed > 50 * Self::PERIOD_NS { rate } else { (self.rate + rate) / 2.0 };
            (self.since, self.count) = (now, 0);
        }
    }

    fn ahead(&self, workers: usize) -> usize {
        let by_rate = (self.rate * AHEAD.as_secs_f64()) as usize;
        by_rate.min(MOST_AHEAD).max(workers)
    }
}

/// Tasks that could not be sent, and why.
pub type Refused<T> = Vec<(T, Error)>;

impl<T> Dispatch<T> {
    /// Two new channels, and nothing to do; room for this many workers.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena, workers: usize) -> Result<Self, Error> {
        let state = State { schedule: Schedule::default(), workers, stepwise: false, pace: Pace::default() };
        Ok(Self { tasks: Channel::create(arena, 0)?, results: Channel::create(arena, 0)?, state: Mutex::new(state) })
    }

    /// Where workers take tasks from.
    #[must_use]
    pub fn tasks(&self) -> &Channel {
        &self.tasks
    }

    /// Where workers put answers.
    #[must_use]
    pub fn results(&self) -> &Channel {
        &self.results
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Whatever panicked has left the schedule in order: each of its steps is one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many workers there are to be.
    pub fn set_workers(&self, workers: usize) {
        self.state().workers = workers;
    }

    /// From now on a task is sent when there is a worker for it, not before: it may wait for others, which could not overtake
    /// what lies in the channel.
    pub fn go_stepwise(&self) {
        self.state().stepwise = true;
    }

    /// Whether that is so.
    pub fn is_stepwise(&self) -> bool {
        self.state().stepwise
    }

    /// Accepts a task; its id. It is sent at once if few are on their way.
    pub fn submit(&self, order: Order<T>, rank: impl Into<Rank>) -> (u64, Refused<T>) {
        let mut state = self.state();
        let id = state.schedule.add(order, rank);
        (id, self.feed(&mut state))
    }

    /// Accepts several tasks; the id of the first, the others' follow.
    pub fn submit_all(&self, orders: Vec<Order<T>>, rank: impl Into<Rank>) -> (u64, Refused<T>) {
        let rank = rank.into();
        let mut state = self.state();
        let mut first = 0;
        for order in orders {
            let id = state.schedule.add(order, rank);
            if first == 0 {
                first = id;
            }
        }
        (first, self.feed(&mut state))
    }

    /// Sends pending tasks as long as few are on their way. Call it when workers may have taken some.
    pub fn feed_now(&self) -> Refused<T> {
        self.feed(&mut self.state())
    }

    fn feed(&self, state: &mut State<T>) -> Refused<T> {
        let mut refused = Vec::new();
        if state.schedule.waiting() == 0 {
            return refused;
        }
        let ahead = state.pace.ahead(state.workers);
        if state.stepwise {
            let room = state.workers.saturating_sub(state.schedule.sent());
            self.send_some(state, room, &mut refused);
            return refused;
        }
        // If the channel is damaged, sending says so.
        let waiting = self.tasks.len().unwrap_or(0) as usize;
        // Who takes one wakes nobody, so there is no use in looking again after each.
        if waiting * 2 > ahead.max(2 * state.workers) {
            return refused;
        }
        self.send_some(state, ahead.saturating_sub(waiting), &mut refused);
        refused
    }

    fn send_some(&self, state: &mut State<T>, mut room: usize, refused: &mut Refused<T>) {
        while room > 0 {
            let ids: Vec<_> = std::iter::from_fn(|| state.schedule.send_next()).take(room.min(BATCH)).collect();
            if ids.is_empty() {
                break;
            }
            room -= ids.len();
            self.send(&mut state.schedule, &ids, refused);
        }
    }

    fn send(&self, schedule: &mut Schedule<Order<T>>, ids: &[u64], refused: &mut Refused<T>) {
        let mut rest = ids;
        while let Some(id) = rest.first() {
            let inline = rest.iter().take_while(|id| self.is_inline(schedule, **id)).count();
            let (sent, result) = if inline > 0 {
                (inline, self.send_bytes(schedule, &rest[..inline]))
            } else {
                (1, self.send_large(schedule, *id))
            };
            if let Err(error) = result {
                // They may have been sent: then their answers find nothing.
                for id in &rest[..sent] {
                    let error = error.clone();
                    refused.extend(schedule.take(*id).map(|order| (order.token, error)));
                }
            }
            rest = &rest[sent..];
        }
    }

    fn is_inline(&self, schedule: &Schedule<Order<T>>, id: u64) -> bool {
        matches!(schedule.get(id), Some(Order { payload: Payload::Bytes(_), .. }))
    }

    fn send_bytes(&self, schedule: &Schedule<Order<T>>, ids: &[u64]) -> Result<(), Error> {
        let bytes = |id: &u64| match schedule.get_with_attempt(*id) {
            Some((Order { payload: Payload::Bytes(bytes), .. }, kind)) => {
                Some((Tag { kind, id: *id }.pack(), [&**bytes]))
            }
            _ => None,
        };
        let messages: Vec<_> = ids.iter().filter_map(bytes).collect();
        let contents = messages.iter().map(|(tag, parts)| (*tag, Content { parts, ..Content::default() }));
        let mut outbox = self.tasks.pack_many(contents)?;
        complete(|bound| outbox.send_within(bound))
    }

    fn send_large(&self, schedule: &mut Schedule<Order<T>>, id: u64) -> Result<(), Error> {
        let tag = Tag { kind: schedule.attempt(id).unwrap_or_default(), id }.pack();
        let Some(order) = schedule.get_mut(id) else { return Ok(()) };
        if let Payload::Kept(kept) = &order.payload {
            let (parts, handles): ([&[u8]; 1], Vec<_>) = ([&kept.bytes], kept.leases.iter().collect());
            let mut outbox =
                self.tasks.pack(tag, &Content { parts: &parts, handles: &handles, ..Content::default() })?;
            return complete(|bound| outbox.send_within(bound));
        }
        if let Payload::Whole(parcel) = &order.payload {
            let lease = parcel.lease();
            let mut outbox = self.tasks.forward(id, Parcel::open(lease.arena(), lease.handle()?)?)?;
            return complete(|bound| outbox.send_within(bound));
        }
        let Payload::Parcel(parcel) = std::mem::replace(&mut order.payload, Payload::Gone) else { return Ok(()) };
        let mut outbox = self.tasks.forward(tag, *parcel)?;
        complete(|bound| outbox.send_within(bound))
    }

    /// Has one worker end once it has done what was sent before.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn send_stop(&self) -> Result<(), Error> {
        let _state = self.state();
        let mut outbox = self.tasks.pack(0, &Content { parts: &[&[]], ..Content::default() })?;
        complete(|bound| outbox.send_within(bound))
    }

    /// What has come, `most` at most, waiting at most `bound` (and at most 50 ms) for the first, or until `beside` changes; sends more tasks.
    /// Nothing happens to the tasks yet that it is about.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn receive(
        &self,
        most: usize,
        bound: Duration,
        beside: Option<(&AtomicU32, u32)>,
        is_answer: impl Fn(u16) -> bool,
        refused: &mut Refused<T>,
    ) -> Result<Vec<Arrived>, Error> {
        let mut messages = Vec::new();
        self.results.receive_many_within(most, bound, Claim::Nothing, beside, &mut messages)?;
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let arrived = |message: Message| Arrived { tag: Tag::unpack(message.tag), message };
        let arrived: Vec<_> = messages.into_iter().map(arrived).collect();
        let answers = arrived.iter().filter(|arrived| is_answer(arrived.tag.kind)).count();
        let mut state = self.state();
        state.pace.note(answers, monotonic_ns());
        refused.extend(self.feed(&mut state));
        Ok(arrived)
    }

    /// Takes a task out, whatever its stage.
    pub fn take(&self, id: u64) -> Option<T> {
        self.state().schedule.take(id).map(|order| order.token)
    }

    /// Takes a task out if it has not been sent.
    ///
    /// # Errors
    /// Its stage, if it has; `None` if it is gone.
    pub fn take_pending(&self, id: u64) -> Result<T, Option<Stage>> {
        let mut state = self.state();
        match state.schedule.stage(id) {
            Some(Stage::Sent) => Err(Some(Stage::Sent)),
            Some(_) => state.schedule.take(id).map(|order| order.token).ok_or(None),
            None => Err(None),
        }
    }

    /// Holds a task that was sent, and has failed; `false` if it is not on its way.
    pub fn hold(&self, id: u64) -> bool {
        self.state().schedule.hold(id)
    }

    /// Holds the task of a message that was lost with a worker, and the task's id; `None` if there was an answer to that
    /// message.
    pub fn hold_lost(&self, tag: u64) -> Option<u64> {
        let Tag { kind, id } = Tag::unpack(tag);
        let mut state = self.state();
        let is_unanswered = state.schedule.attempt(id) == Some(kind) && state.schedule.hold(id);
        is_unanswered.then_some(id)
    }

    /// Sends a task that is held once more; `false` if it is gone, or cannot be sent twice.
    pub fn again(&self, id: u64) -> (bool, Refused<T>) {
        let mut state = self.state();
        if matches!(state.schedule.get(id), None | Some(Order { payload: Payload::Gone, .. })) {
            return (false, Vec::new());
        }
        let again = state.schedule.again(id);
        (again, self.feed(&mut state))
    }

    /// How far a task is; `None` if it is gone.
    pub fn stage(&self, id: u64) -> Option<Stage> {
        self.state().schedule.stage(id)
    }

    /// Looks at a task.
    pub fn inspect<R>(&self, id: u64, look: impl FnOnce(&Payload, &T) -> R) -> Option<R> {
        self.state().schedule.get(id).map(|order| look(&order.payload, &order.token))
    }

    /// The ids of the tasks that have not been sent, or of all, first come first.
    pub fn ids(&self, pending_only: bool) -> Vec<u64> {
        self.state().schedule.ids(pending_only.then_some(Stage::Pending))
    }

    /// (tasks that are not gone, of those the ones that wait for their turn, of those the ones that are on their way).
    pub fn counts(&self) -> (usize, usize, usize) {
        let state = self.state();
        (state.schedule.live(), state.schedule.waiting(), state.schedule.sent())
    }

    /// How many tasks may sensibly wait at the moment: enough to keep the workers busy.
    pub fn ahead(&self) -> usize {
        let state = self.state();
        state.pace.ahead(state.workers)
    }
}

/// Sends what is packed; there is always room.
fn complete(mut send: impl FnMut(Duration) -> Result<Sent, Error>) -> Result<(), Error> {
    // Whoever has the lock and was stopped is told to go on; who cannot is dead before this is over.
    let mut patience = Patience::new(Duration::from_secs(30));
    loop {
        match send(SLICE)? {
            Sent::Sent | Sent::Closed => return Ok(()),
            Sent::Full | Sent::Interrupted if patience.is_over() => {
                return Err(Error::Corrupt("a channel that nobody sends to, and somebody locked"));
            }
            Sent::Full | Sent::Interrupted => {}
        }
    }
}
