//! The channel: a linked list of chunks, two locks, one store to commit.
//!
//! Senders append records to the last chunk under one [robust lock](forkless_shm::robust), receivers read under another.
//! The count of messages sent is a word in the channel's block, and storing it is what commits a message: a
//! record behind the count does not exist. Where message *n* ends is kept in one of two places, chosen by the
//! parity of *n*, so the place that belongs to the present count is never the one being written. Receiving mirrors
//! it with its own count. So a death needs no repair: whoever takes the lock finds count and place in agreement.
//!
//! When a chunk is full, its last record links to the next one. Chunks come from the arena's free list and go back
//! when they have been read, so a channel grows as long as nobody receives, and stays in two warm chunks when somebody
//! does. (The prototype was a ring of fixed size; a list of chunks is as fast, needs no overflow path, and never
//! makes a `put` wait for a reader that does not exist yet.)
//!
//! Large messages, and those that carry handles, travel as a [`Parcel`]; the record names it. Chunks and parcels change
//! hands in the instant of the commit: see [`forkless_shm::lease`].
//!
//! Only the holder of a lock sleeps on the other side's count, so a message wakes at most one process. After its
//! commit a sender looks whether somebody sleeps; before its sleep a receiver says so and looks at the count again
//! (Dekker's pattern, with sequentially consistent fences).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Acquired, Arena, Attempt, Error, Handle, Kind, Lease, Wait};
use forkless_sys::atomic::{AtomicU32, Ordering, fence};
use forkless_sys::crash;
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::{Deadline, SLICE};

use crate::{Content, Parcel};

/// How channels are taken apart: by receiving what is left.
pub(crate) const KIND: Kind = Kind { id: Channel::KIND, drain: Some(drain), private: false };

/// A side of the channel: its lock, its count, whether its holder sleeps, and its two places. The block's payload begins
/// 16 bytes into a cache line; each side has a line of its own.
#[derive(Clone, Copy)]
struct Side(usize);

const SEND: Side = Side(48);
const RECEIVE: Side = Side(112);
const SIZE: usize = 176;

impl Side {
    const LOCK: usize = 0;
    const COUNT: usize = 4;
    const SLEEPS: usize = 8;
    /// Two pairs (chunk, offset in the arena), for even and odd counts.
    const PLACES: usize = 16;
}

/// The most messages that may wait; on the senders' line.
const MAX_SIZE: usize = 48 + 12;

/// The size of a chunk's block. Two of them fit the second-level cache with room to spare.
const CHUNK: usize = 1 << 16;
/// From here on a message travels as a parcel, so that no large copy is made under a lock.
const INLINE_LIMIT: usize = Channel::INLINE_LIMIT;

/// How long an attempt that does not wait for messages or room waits for the holder of a lock, who needs microseconds.
const HOLDER_PATIENCE: Duration = Duration::from_secs(1);

/// A record begins with a word (kind << 32 | length) and the tag; the bytes follow, padded to eight.
mod record {
    pub(super) const HEAD: usize = 16;
    pub(super) const INLINE: u32 = 1;
    pub(super) const PARCEL: u32 = 2;
    pub(super) const LINK: u32 = 3;
}

/// A channel in shared memory.
#[derive(Debug)]
pub struct Channel {
    lease: Lease,
}

/// A message that was received.
#[derive(Debug)]
pub struct Message {
    /// What its sender said it is.
    pub tag: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Inline(Vec<u8>),
    Parcel(Arc<Parcel>),
}

impl Message {
    /// The parcel that it came in, whose extents can be used in place for as long as somebody has it; `None` for a message
    /// that has nothing but a few bytes.
    #[must_use]
    pub fn parcel(&self) -> Option<&Arc<Parcel>> {
        match &self.body {
            Body::Inline(_) => None,
            Body::Parcel(parcel) => Some(parcel),
        }
    }

    /// Copies its bytes out.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its parcel is damaged.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        match &self.body {
            Body::Inline(bytes) => Ok(bytes.clone()),
            Body::Parcel(parcel) => parcel.bytes(),
        }
    }

    /// How many bytes it has.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its parcel is damaged.
    pub fn length(&self) -> Result<usize, Error> {
        match &self.body {
            Body::Inline(bytes) => Ok(bytes.len()),
            Body::Parcel(parcel) => parcel.length(),
        }
    }

    /// Copies its bytes to where they are wanted; `into` has their length.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its parcel is damaged.
    pub fn copy_to(&self, into: &mut [u8]) -> Result<(), Error> {
        match &self.body {
            Body::Inline(bytes) if bytes.len() == into.len() => into.copy_from_slice(bytes),
            Body::Inline(_) => return Err(Error::Corrupt("the length of a message")),
            Body::Parcel(parcel) => parcel.copy_to(into)?,
        }
        Ok(())
    }
}

/// What an attempt to send came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The message is in shared memory.
    Sent,
    /// No room yet.
    Full,
    /// A signal handler ran.
    Interrupted,
}

/// What an attempt to receive came to.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(Message),
    /// No message yet.
    Empty,
    /// A signal handler ran.
    Interrupted,
}

/// Whether the receiver writes down what it takes before it takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The message's tag goes into the receiver's slot: if it dies, everyone can see what it had.
    Tag,
    /// Nothing is written.
    Nothing,
}

/// What is about to be sent: packed before any lock is taken.
enum Outgoing<'a> {
    Inline(Cow<'a, [u8]>),
    Parcel(Lease),
}

impl Channel {
    /// The kind of its block.
    pub const KIND: u8 = 3;
    /// Bytes of the largest message that needs no block of its own.
    pub const INLINE_LIMIT: usize = 16 << 10;

    /// A new channel; at most `max_size` messages wait in it, 0 for no limit.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena, max_size: u32) -> Result<Self, Error> {
        let lease = arena.allocate(SIZE, PLAIN)?;
        let at = lease.block().payload();
        if !arena.map().write(at, &[0; SIZE]) {
            return Err(Error::Corrupt("a new channel"));
        }
        let channel = Self { lease };
        channel.word(MAX_SIZE)?.store(max_size, Ordering::Relaxed);
        let chunk = arena.allocate(CHUNK - 64, PLAIN)?;
        let place = (chunk.block().offset(), chunk.block().payload());
        channel.set_place(SEND, 0, place)?;
        channel.set_place(RECEIVE, 0, place)?;
        chunk.give_to(&channel.lease, Self::KIND)?;
        Ok(channel)
    }

    /// The channel that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        Ok(Self { lease: arena.open(handle, Self::KIND)? })
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    fn core(&self) -> Result<Core, Error> {
        Ok(Core { arena: self.lease.arena(), at: self.lease.payload()? })
    }

    fn word(&self, field: usize) -> Result<&'static AtomicU32, Error> {
        self.core()?.word(field)
    }

    fn set_place(&self, side: Side, count: u32, place: (usize, usize)) -> Result<(), Error> {
        self.core()?.set_place(side, count, place)
    }

    /// Messages waiting, exact at one moment.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn len(&self) -> Result<u32, Error> {
        let core = self.core()?;
        // The receivers' count first: it never overtakes the senders'.
        let received = core.count(RECEIVE)?.load(Ordering::Acquire);
        Ok(core.count(SEND)?.load(Ordering::Acquire).wrapping_sub(received))
    }

    /// Whether no message waits.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// The most messages that may wait, 0 for no limit.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn max_size(&self) -> Result<u32, Error> {
        Ok(self.word(MAX_SIZE)?.load(Ordering::Relaxed))
    }

    /// Packs a message, to be sent by [`Outbox::send_within`]. Large ones are copied into the arena here, before any
    /// lock is taken.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn pack<'a>(&'a self, tag: u64, content: &Content<'a>) -> Result<Outbox<'a>, Error> {
        let is_small = content.length().is_some_and(|length| length <= INLINE_LIMIT);
        let outgoing = match content {
            Content { parts: [bytes], extents: [], handles: [] } if is_small => Outgoing::Inline(Cow::Borrowed(*bytes)),
            Content { parts, extents: [], handles: [] } if is_small => Outgoing::Inline(Cow::Owned(parts.concat())),
            _ => Outgoing::Parcel(Parcel::pack(self.lease.arena(), content)?.into_lease()),
        };
        Ok(Outbox { channel: self, tag, outgoing: Some(outgoing) })
    }

    /// A message packed before, to be sent by [`Outbox::send_within`].
    ///
    /// # Errors
    /// [`Error::Stale`] if it is in another arena.
    pub fn forward(&self, tag: u64, parcel: Parcel) -> Result<Outbox<'_>, Error> {
        if parcel.lease().arena().id() != self.lease.arena().id() {
            return Err(Error::Stale("an object cannot travel to another process tree"));
        }
        Ok(Outbox { channel: self, tag, outgoing: Some(Outgoing::Parcel(parcel.into_lease())) })
    }

    /// Sends a message, waiting for room until the deadline; `false` if there was none.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn send(&self, tag: u64, bytes: &[u8], handles: &[&Lease], deadline: Deadline) -> Result<bool, Error> {
        let parts = [bytes];
        let mut outbox = self.pack(tag, &Content { parts: &parts, handles, ..Content::default() })?;
        loop {
            if outbox.send_within(deadline.remaining(SLICE))? == Sent::Sent {
                return Ok(true);
            }
            if deadline.passed() {
                return Ok(false);
            }
        }
    }

    /// Receives the next message, waiting until the deadline.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if what the channel holds is damaged.
    pub fn receive(&self, deadline: Deadline) -> Result<Option<Message>, Error> {
        loop {
            match self.receive_within(deadline.remaining(SLICE), Claim::Nothing, None)? {
                Received::Message(message) => return Ok(Some(message)),
                Received::Empty | Received::Interrupted if deadline.passed() => return Ok(None),
                Received::Empty | Received::Interrupted => {}
            }
        }
    }

    /// Tries to receive, sleeping at most `bound` (and at most 50 ms). A change of `beside` from the value given ends
    /// the sleep too.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if what the channel holds is damaged.
    pub fn receive_within(
        &self,
        bound: Duration,
        claim: Claim,
        beside: Option<(&AtomicU32, u32)>,
    ) -> Result<Received, Error> {
        let core = self.core()?;
        let until = Deadline::after(bound);
        match core.lock(RECEIVE, bound)? {
            Attempt::Acquired(_) => {}
            Attempt::Again => return Ok(Received::Empty),
            Attempt::Interrupted => return Ok(Received::Interrupted),
        }
        let _unlock = Unlock { core, side: RECEIVE };
        if let Some(message) = core.take(claim)? {
            return Ok(Received::Message(message));
        }
        if bound.is_zero() {
            return Ok(Received::Empty);
        }
        let woken = core.sleep(RECEIVE, core.count(RECEIVE)?.load(Ordering::Relaxed), until, beside)?;
        match core.take(claim)? {
            Some(message) => Ok(Received::Message(message)),
            None if woken == Woken::Interrupted => Ok(Received::Interrupted),
            None => Ok(Received::Empty),
        }
    }
}

/// A packed message on its way into a channel.
pub struct Outbox<'a> {
    channel: &'a Channel,
    tag: u64,
    outgoing: Option<Outgoing<'a>>,
}

impl Outbox<'_> {
    /// The parcel that was not sent, to be kept for another time.
    #[must_use]
    pub fn into_parcel(self) -> Option<Parcel> {
        match self.outgoing {
            Some(Outgoing::Parcel(lease)) => Some(Parcel::from_lease(lease)),
            _ => None,
        }
    }

    /// Tries to send, sleeping at most `bound` (and at most 50 ms). Once sent, further calls do nothing.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn send_within(&mut self, bound: Duration) -> Result<Sent, Error> {
        if self.outgoing.is_none() {
            return Ok(Sent::Sent);
        }
        let core = self.channel.core()?;
        let until = Deadline::after(bound);
        match core.lock(SEND, bound)? {
            Attempt::Acquired(_) => {}
            Attempt::Again => return Ok(Sent::Full),
            Attempt::Interrupted => return Ok(Sent::Interrupted),
        }
        let _unlock = Unlock { core, side: SEND };
        if !core.has_room()? {
            if bound.is_zero() {
                return Ok(Sent::Full);
            }
            let full_at = core.count(SEND)?.load(Ordering::Relaxed).wrapping_sub(self.channel.max_size()?);
            let woken = core.sleep(SEND, full_at, until, None)?;
            if !core.has_room()? {
                return Ok(if woken == Woken::Interrupted { Sent::Interrupted } else { Sent::Full });
            }
        }
        // Still packed should it fail, so that the caller may try again.
        let fresh = match &self.outgoing {
            Some(Outgoing::Inline(bytes)) => core.append(self.tag, record::INLINE, bytes, None)?,
            Some(Outgoing::Parcel(lease)) => {
                core.append(self.tag, record::PARCEL, &lease.block().offset().to_ne_bytes(), Some(lease))?
            }
            None => return Ok(Sent::Sent),
        };
        let parcel = match self.outgoing.take() {
            Some(Outgoing::Parcel(lease)) => Some(lease),
            _ => None,
        };
        [fresh, parcel].into_iter().flatten().try_for_each(Lease::given)?;
        core.wake(SEND)?;
        Ok(Sent::Sent)
    }
}

/// A channel's words, for whoever keeps its block alive.
#[derive(Clone, Copy)]
struct Core {
    arena: &'static Arena,
    at: usize,
}

/// Gives a side's lock back.
struct Unlock {
    core: Core,
    side: Side,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        if let Ok(lock) = self.core.word(self.side.0 + Side::LOCK) {
            self.core.arena.release(lock);
        }
    }
}

impl Core {
    fn word(self, field: usize) -> Result<&'static AtomicU32, Error> {
        self.arena.map().u32(self.at + field).ok_or(Error::Corrupt("a channel"))
    }

    fn count(self, side: Side) -> Result<&'static AtomicU32, Error> {
        self.word(side.0 + Side::COUNT)
    }

    fn count_at(self, side: Side) -> usize {
        self.at + side.0 + Side::COUNT
    }

    fn get(self, at: usize) -> Result<usize, Error> {
        let word = self.arena.map().u64(at).ok_or(Error::Corrupt("a channel"))?;
        Ok(word.load(Ordering::Acquire) as usize)
    }

    fn set(self, at: usize, value: usize) -> Result<(), Error> {
        let word = self.arena.map().u64(at).ok_or(Error::Corrupt("a channel"))?;
        word.store(value as u64, Ordering::Release);
        Ok(())
    }

    fn place(self, side: Side, count: u32) -> Result<(usize, usize), Error> {
        let at = self.at + side.0 + Side::PLACES + 16 * (count & 1) as usize;
        Ok((self.get(at)?, self.get(at + 8)?))
    }

    fn set_place(self, side: Side, count: u32, place: (usize, usize)) -> Result<(), Error> {
        let at = self.at + side.0 + Side::PLACES + 16 * (count & 1) as usize;
        self.set(at, place.0)?;
        self.set(at + 8, place.1)
    }

    /// Takes a side's lock. From a dead owner: first what it was moving is settled, while the counts still tell.
    fn lock(self, side: Side, bound: Duration) -> Result<Attempt, Error> {
        let word = self.word(side.0 + Side::LOCK)?;
        let me = self.arena.me()?;
        let mut wait = Wait::new();
        let mut attempt = match self.arena.acquire_free(word, me) {
            Some(acquired) => Attempt::Acquired(acquired),
            // Not waiting for messages does not mean not waiting for a holder who is about to be done.
            None => self.arena.acquire_within(word, me, &mut wait, bound.max(Duration::from_millis(1))),
        };
        if bound.is_zero() {
            // A holder asleep on an empty channel keeps the lock; then there is nothing to be had anyway. A holder that
            // was stopped, by a debugger or a terminal, must not keep those who do not want to wait.
            let patience = Deadline::after(HOLDER_PATIENCE);
            while attempt == Attempt::Again && self.worth_waiting(side)? && !patience.passed() {
                attempt = self.arena.acquire_within(word, me, &mut wait, SLICE);
            }
        }
        if let Attempt::Acquired(Acquired::FromTheDead(_)) = attempt {
            let unlock = Unlock { core: self, side };
            crash::point("channel.inherited");
            self.arena.settle()?;
            std::mem::forget(unlock);
        }
        Ok(attempt)
    }

    fn worth_waiting(self, side: Side) -> Result<bool, Error> {
        if side.0 == SEND.0 {
            return self.has_room();
        }
        let received = self.count(RECEIVE)?.load(Ordering::Acquire);
        Ok(self.count(SEND)?.load(Ordering::Acquire) != received)
    }

    fn has_room(self) -> Result<bool, Error> {
        let max_size = self.word(MAX_SIZE)?.load(Ordering::Relaxed);
        let received = self.count(RECEIVE)?.load(Ordering::Acquire);
        let waiting = self.count(SEND)?.load(Ordering::Acquire).wrapping_sub(received);
        Ok(max_size == 0 || waiting < max_size)
    }

    /// Sleeps while the other side's count is `seen`. Holds this side's lock.
    fn sleep(self, side: Side, seen: u32, until: Deadline, beside: Option<(&AtomicU32, u32)>) -> Result<Woken, Error> {
        let other = if side.0 == SEND.0 { RECEIVE } else { SEND };
        let word = self.count(other)?;
        let sleeps = self.word(side.0 + Side::SLEEPS)?;
        sleeps.store(1, Ordering::Relaxed);
        // Pairs with the fence in `wake`: either the other side sees us asleep, or we see its count.
        fence(Ordering::SeqCst);
        let bound = until.remaining(SLICE);
        let woken = match beside {
            Some(beside) => futex::wait_either((word, seen), beside, bound),
            None => futex::wait(word, seen, bound),
        };
        sleeps.store(0, Ordering::Relaxed);
        Ok(woken)
    }

    /// Wakes the other side's sleeper, if there is one, after this side's count has moved.
    fn wake(self, side: Side) -> Result<(), Error> {
        let other = if side.0 == SEND.0 { RECEIVE } else { SEND };
        fence(Ordering::SeqCst);
        if self.word(other.0 + Side::SLEEPS)?.load(Ordering::Relaxed) != 0 {
            futex::wake(self.count(side)?, 1);
        }
        Ok(())
    }

    /// Bytes from a place in a chunk to its end.
    fn left(self, (chunk, at): (usize, usize)) -> Result<usize, Error> {
        let block = self.arena.block(chunk)?;
        let end = block.payload() + block.capacity();
        if at < block.payload() {
            return Err(Error::Corrupt("a place in a channel"));
        }
        end.checked_sub(at).ok_or(Error::Corrupt("a place in a channel"))
    }

    /// Writes a record and commits it. Holds the senders' lock. Returns the chunk that had to be added, if any: it and the
    /// parcel belong to the channel now, which is to be noted before the lock is given back.
    fn append(self, tag: u64, kind: u32, bytes: &[u8], parcel: Option<&Lease>) -> Result<Option<Lease>, Error> {
        let count = self.count(SEND)?;
        let sequence = count.load(Ordering::Relaxed);
        let (mut chunk, mut at) = self.place(SEND, sequence)?;
        let size = record::HEAD + bytes.len().next_multiple_of(8);
        let mut fresh = None;
        if size + record::HEAD > self.left((chunk, at))? {
            let lease = self.arena.allocate(CHUNK - 64, PLAIN)?;
            lease.give(self.count_at(SEND), sequence)?;
            self.write_head(at, record::LINK, 0, lease.block().offset() as u64)?;
            (chunk, at) = (lease.block().offset(), lease.block().payload());
            fresh = Some(lease);
        }
        self.write_head(at, kind, bytes.len(), tag)?;
        if !self.arena.map().write(at + record::HEAD, bytes) {
            return Err(Error::Corrupt("the place to send to"));
        }
        if let Some(parcel) = parcel {
            parcel.give(self.count_at(SEND), sequence)?;
        }
        self.set_place(SEND, sequence.wrapping_add(1), (chunk, at + size))?;
        crash::point("channel.send.written");
        // The commit. Release: whoever sees the count sees the record.
        count.store(sequence.wrapping_add(1), Ordering::Release);
        crash::point("channel.send.committed");
        Ok(fresh)
    }

    fn write_head(self, at: usize, kind: u32, length: usize, tag: u64) -> Result<(), Error> {
        self.set(at, (kind as usize) << 32 | length)?;
        self.set(at + 8, tag as usize)
    }

    fn read_head(self, at: usize) -> Result<(u32, usize, u64), Error> {
        let head = self.get(at)?;
        Ok(((head >> 32) as u32, head & 0xffff_ffff, self.get(at + 8)? as u64))
    }

    /// Reads the next record and commits having read it. Holds the receivers' lock.
    fn take(self, claim: Claim) -> Result<Option<Message>, Error> {
        let count = self.count(RECEIVE)?;
        let sequence = count.load(Ordering::Relaxed);
        // Acquire pairs with the commit of `append`.
        if self.count(SEND)?.load(Ordering::Acquire) == sequence {
            return Ok(None);
        }
        let (mut chunk, mut at) = self.place(RECEIVE, sequence)?;
        let (mut kind, mut length, mut tag) = self.read_head(at)?;
        let mut taking = Taking::default();
        if kind == record::LINK {
            taking.spent = Some(self.take_block(chunk, sequence)?);
            chunk = tag as usize;
            at = self.arena.block(chunk)?.payload();
            (kind, length, tag) = self.read_head(at)?;
        }
        if record::HEAD + length > self.left((chunk, at))? {
            return Err(Error::Corrupt("the length of a message"));
        }
        let mut bytes = Vec::new();
        match kind {
            record::INLINE => {
                if !self.arena.map().read(at + record::HEAD, length, &mut bytes) {
                    return Err(Error::Corrupt("the place to receive from"));
                }
            }
            record::PARCEL => taking.parcel = Some(self.take_block(self.get(at + record::HEAD)?, sequence)?),
            _ => return Err(Error::Corrupt("the kind of a message")),
        }
        if claim == Claim::Tag {
            self.arena.claim(self.count_at(RECEIVE), sequence, tag)?;
        }
        let next = at + record::HEAD + length.next_multiple_of(8);
        self.set_place(RECEIVE, sequence.wrapping_add(1), (chunk, next))?;
        crash::point("channel.receive.read");
        // The commit: from here on the message is this process's.
        count.store(sequence.wrapping_add(1), Ordering::Release);
        crash::point("channel.receive.committed");
        let (spent, parcel) = (taking.spent.take(), taking.parcel.take());
        [&spent, &parcel].into_iter().flatten().try_for_each(Lease::taken)?;
        self.wake(RECEIVE)?;
        let body = parcel.map_or(Body::Inline(bytes), |parcel| Body::Parcel(Arc::new(Parcel::from_lease(parcel))));
        Ok(Some(Message { tag, body }))
    }

    /// A lease on a block of the channel that is this process's once message `sequence` has been received.
    fn take_block(self, offset: usize, sequence: u32) -> Result<Lease, Error> {
        Lease::take(self.arena, self.arena.block(offset)?, self.count_at(RECEIVE), sequence)
    }
}

/// What comes along with a message: the channel's still, if receiving it fails.
#[derive(Default)]
struct Taking {
    spent: Option<Lease>,
    parcel: Option<Lease>,
}

impl Drop for Taking {
    fn drop(&mut self) {
        for lease in [self.spent.take(), self.parcel.take()].into_iter().flatten() {
            let _ = lease.not_taken();
        }
    }
}

/// Takes a channel apart that nobody else holds: receives what is left; its last chunk goes with it.
fn drain(arena: &'static Arena, block: Block) -> Result<usize, Error> {
    let core = Core { arena, at: block.payload() };
    // Its holder, if there is one, died with it.
    let patience = Deadline::after(HOLDER_PATIENCE);
    while let Attempt::Again | Attempt::Interrupted = core.lock(RECEIVE, SLICE)? {
        if patience.passed() {
            return Err(Error::Corrupt("a channel that nobody has, and somebody locked"));
        }
    }
    let _unlock = Unlock { core, side: RECEIVE };
    while core.take(Claim::Nothing)?.is_some() {}
    let sequence = core.count(RECEIVE)?.load(Ordering::Relaxed);
    Ok(core.place(RECEIVE, sequence)?.0)
}
