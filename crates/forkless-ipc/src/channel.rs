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

mod account;
mod core;
mod outside;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Arena, Attempt, Error, Handle, Kind, Lease};
use forkless_sys::atomic::{AtomicU32, Ordering};
use forkless_sys::crash;
use forkless_sys::futex::{self, Woken};
use forkless_sys::time::{Deadline, Patience, SLICE};

pub use self::account::Loss;
use self::account::{Account, CHANNEL_SIZE};
use self::core::{Core, HOLDER_PATIENCE, Place, RECEIVE, SEND, Side, Unlock, field};
use crate::{Content, Parcel};

/// How channels are taken apart: by receiving what is left.
pub(crate) const KIND: Kind = Kind { id: Channel::KIND, drain: Some(drain), settle: None, private: false };
/// The accounts of those who receive.
pub(crate) const ACCOUNT: Kind = account::KIND;

/// The size of a chunk's block. Two of them fit the second-level cache with room to spare.
const CHUNK: usize = 1 << 16;
/// From here on a message travels as a parcel, so that no large copy is made under a lock.
const INLINE_LIMIT: usize = Channel::INLINE_LIMIT;

/// The most messages that are moved before the lock is given back: others wait for it.
const MOST_AT_ONCE: usize = 256;

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
    account: OnceLock<Account>,
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

    /// Its bytes, if it is a small one.
    #[must_use]
    pub fn inline(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Inline(bytes) => Some(bytes),
            Body::Parcel(_) => None,
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
    /// The messages are in shared memory.
    Sent,
    /// No room yet, for one of them at least.
    Full,
    /// A signal handler ran.
    Interrupted,
    /// The channel was closed: nothing is sent any more.
    Closed,
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
    /// The channel was closed, and no message is left.
    Closed,
}

/// Whether the receiver writes down what it takes before it takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The message's tag goes into the receiver's slot: if it dies, everyone can see what it had.
    Tag,
    /// It is counted in the receiver's account until [`Channel::finished`] or [`Channel::task_done`] says that it is done
    /// with: if it dies before that, the message is among the [lost](Statistics::lost).
    Owed,
    /// Nothing is written.
    Nothing,
}

/// How a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// What was sent can still be received.
    Graceful,
    /// What was sent is thrown away.
    Immediate,
}

impl Closing {
    const GRACEFUL: u32 = 1;
    const IMMEDIATE: u32 = 2;
}

/// What [`Channel::join_within`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// All tasks are done.
    Done,
    /// Not yet.
    Waiting,
    /// A signal handler ran.
    Interrupted,
    /// The tasks that are not done died with those who had taken them, so many. They count as done from now on.
    Lost(u32),
}

/// What has passed through a channel, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Messages sent.
    pub sent: u64,
    /// Messages received, those lost included.
    pub received: u64,
    /// Bytes in the messages that wait.
    pub bytes_waiting: u64,
    /// Messages that processes had taken and not done with when they died.
    pub lost: u64,
    /// The last of those processes, latest first; eight at most.
    pub lost_by: Vec<Loss>,
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
        Self::create_limited(arena, max_size, 0)
    }

    /// As [`Self::create`]; at most `max_bytes` bytes of messages wait in it, 0 for no limit.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create_limited(arena: &'static Arena, max_size: u32, max_bytes: u64) -> Result<Self, Error> {
        let lease = arena.allocate(CHANNEL_SIZE, PLAIN)?;
        let core = Core { arena, at: lease.block().payload() };
        if !arena.map().write(core.at, &[0; CHANNEL_SIZE]) {
            return Err(Error::Corrupt("a new channel"));
        }
        core.word(field::MAX_SIZE)?.store(max_size, Ordering::Relaxed);
        core.double(field::MAX_BYTES)?.store(max_bytes, Ordering::Relaxed);
        let chunk = arena.allocate(CHUNK - 64, PLAIN)?;
        let place = Place { chunk: chunk.block().offset(), at: chunk.block().payload(), messages: 0, bytes: 0 };
        core.set_place(SEND, 0, place)?;
        core.set_place(RECEIVE, 0, place)?;
        chunk.give_to(&lease, Self::KIND)?;
        Ok(Self { lease, account: OnceLock::new() })
    }

    /// The channel that a handle names.
    ///
    /// # Errors
    /// See [`Arena::open`].
    pub fn open(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        let channel = Self { lease: arena.open(handle, Self::KIND)?, account: OnceLock::new() };
        let shared = channel.core()?.word(field::SHARED)?;
        if shared.load(Ordering::Relaxed) == 0 {
            shared.store(1, Ordering::Relaxed);
        }
        Ok(channel)
    }

    /// What keeps it alive.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    fn core(&self) -> Result<Core, Error> {
        Ok(Core { arena: self.lease.arena(), at: self.lease.payload()? })
    }

    /// Messages waiting, exact at one moment.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn len(&self) -> Result<u32, Error> {
        self.core()?.waiting()
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
        Ok(self.core()?.word(field::MAX_SIZE)?.load(Ordering::Relaxed))
    }

    /// The most bytes of messages that may wait, 0 for no limit.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn max_bytes(&self) -> Result<u64, Error> {
        Ok(self.core()?.double(field::MAX_BYTES)?.load(Ordering::Relaxed))
    }

    /// What has passed through it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let core = self.core()?;
        // The receivers' place first: it never overtakes the senders'.
        let received = core.settled_place(RECEIVE)?;
        let sent = core.settled_place(SEND)?;
        Ok(Statistics {
            sent: sent.messages,
            received: received.messages,
            bytes_waiting: sent.bytes.wrapping_sub(received.bytes),
            lost: core.double(field::LOST)?.load(Ordering::Acquire),
            lost_by: account::losses(core)?,
        })
    }

    /// Packs a message, to be sent by [`Outbox::send_within`]. Large ones are copied into the arena here, before any
    /// lock is taken.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it can never have room; see [`Arena::allocate`].
    pub fn pack<'a>(&'a self, tag: u64, content: &Content<'a>) -> Result<Outbox<'a>, Error> {
        Ok(Outbox { channel: self, packed: [self.packed(tag, content)?], sent: 0 })
    }

    /// As [`Self::pack`], for several messages that are sent under one lock.
    ///
    /// # Errors
    /// As [`Self::pack`].
    pub fn pack_many<'a>(
        &'a self,
        messages: impl IntoIterator<Item = (u64, Content<'a>)>,
    ) -> Result<Outbox<'a, Vec<Packed<'a>>>, Error> {
        let packed = messages.into_iter().map(|(tag, content)| self.packed(tag, &content)).collect::<Result<_, _>>()?;
        Ok(Outbox { channel: self, packed, sent: 0 })
    }

    fn packed<'a>(&self, tag: u64, content: &Content<'a>) -> Result<Packed<'a>, Error> {
        let length = content.size().unwrap_or(usize::MAX) as u64;
        self.check_size(length)?;
        let is_small = length <= INLINE_LIMIT as u64;
        let body = match content {
            Content { parts: [bytes], extents: [], handles: [] } if is_small => {
                PackedBody::Inline(Cow::Borrowed(*bytes))
            }
            Content { parts, extents: [], handles: [] } if is_small => PackedBody::Inline(Cow::Owned(parts.concat())),
            _ => PackedBody::Parcel(Parcel::pack(self.lease.arena(), content)?.into_lease()),
        };
        Ok(Packed { tag, length, body: Some(body) })
    }

    fn check_size(&self, bytes: u64) -> Result<(), Error> {
        let limit = self.max_bytes()?;
        if limit != 0 && bytes > limit { Err(Error::TooLarge { bytes, limit }) } else { Ok(()) }
    }

    /// A message packed before, to be sent by [`Outbox::send_within`].
    ///
    /// # Errors
    /// [`Error::Stale`] if it is in another arena, [`Error::TooLarge`] if it can never have room.
    pub fn forward(&self, tag: u64, parcel: Parcel) -> Result<Outbox<'_>, Error> {
        if parcel.lease().arena().id() != self.lease.arena().id() {
            return Err(Error::Stale("an object cannot travel to another process tree"));
        }
        let length = parcel.size()?;
        self.check_size(length)?;
        let packed = Packed { tag, length, body: Some(PackedBody::Parcel(parcel.into_lease())) };
        Ok(Outbox { channel: self, packed: [packed], sent: 0 })
    }

    /// Sends a message, waiting for room until the deadline; `false` if there was none, or the channel was closed.
    ///
    /// # Errors
    /// As [`Self::pack`].
    pub fn send(&self, tag: u64, bytes: &[u8], handles: &[&Lease], deadline: Deadline) -> Result<bool, Error> {
        let parts = [bytes];
        let mut outbox = self.pack(tag, &Content { parts: &parts, handles, ..Content::default() })?;
        loop {
            let bound = deadline.remaining(SLICE);
            match outbox.send_within(bound)? {
                Sent::Sent => return Ok(true),
                Sent::Closed => return Ok(false),
                Sent::Full | Sent::Interrupted if bound.is_zero() => return Ok(false),
                Sent::Full | Sent::Interrupted => {}
            }
        }
    }

    /// Receives the next message, waiting until the deadline; `None` if there was none, or the channel was closed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if what the channel holds is damaged.
    pub fn receive(&self, deadline: Deadline) -> Result<Option<Message>, Error> {
        loop {
            let bound = deadline.remaining(SLICE);
            match self.receive_within(bound, Claim::Nothing, None)? {
                Received::Message(message) => return Ok(Some(message)),
                Received::Closed => return Ok(None),
                Received::Empty | Received::Interrupted if bound.is_zero() => return Ok(None),
                Received::Empty | Received::Interrupted => {}
            }
        }
    }

    /// Tries to receive, sleeping at most `bound` (and at most 50 ms). A change of `beside` from the value given ends
    /// the sleep too.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if what the channel holds is damaged.
    #[inline]
    pub fn receive_within(
        &self,
        bound: Duration,
        claim: Claim,
        beside: Option<(&AtomicU32, u32)>,
    ) -> Result<Received, Error> {
        let mut received = None;
        let end = self.receive_each(1, Some(bound), claim, beside, |message| received = Some(message))?;
        Ok(received.map_or(end, Received::Message))
    }

    /// The next message, if there is one and nobody else is receiving at this moment: for those who go on to wait.
    ///
    /// # Errors
    /// As [`Self::receive_within`].
    #[inline]
    pub fn receive_free(&self, claim: Claim) -> Result<Received, Error> {
        let mut received = None;
        let end = self.receive_each(1, None, claim, None, |message| received = Some(message))?;
        Ok(received.map_or(end, Received::Message))
    }

    /// As [`Self::receive_within`], for as many messages as there are, `most` at most, all under one lock; they are added
    /// to `into`. `Empty` means that nothing more is to be had just now, some messages or none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if what the channel holds is damaged.
    pub fn receive_many_within(
        &self,
        most: usize,
        bound: Duration,
        claim: Claim,
        beside: Option<(&AtomicU32, u32)>,
        into: &mut Vec<Message>,
    ) -> Result<Received, Error> {
        self.receive_each(most.min(MOST_AT_ONCE), Some(bound), claim, beside, |message| into.push(message))
    }

    fn receive_each(
        &self,
        most: usize,
        bound: Option<Duration>,
        claim: Claim,
        beside: Option<(&AtomicU32, u32)>,
        mut receive: impl FnMut(Message),
    ) -> Result<Received, Error> {
        let core = self.core()?;
        let account = if claim == Claim::Owed { self.account()? } else { None };
        let until = bound.filter(|bound| !bound.is_zero()).map(Deadline::after);
        let _unlock = match core.lock(RECEIVE, bound)? {
            Ok(unlock) => unlock,
            Err(Attempt::Interrupted) => return Ok(Received::Interrupted),
            Err(_) => return Ok(Received::Empty),
        };
        let before = core.count(RECEIVE)?.load(Ordering::Relaxed);
        let mut woken = Woken::Look;
        for sleeps in [true, false] {
            let closed = core.closed()?;
            if closed == Closing::IMMEDIATE {
                return discard(core).map(|()| Received::Closed);
            }
            if take(core, most, claim, account, &mut receive)? > 0 {
                return Ok(Received::Empty);
            }
            if closed != 0 {
                return end(core);
            }
            if let Some(until) = until.filter(|_| sleeps) {
                woken = core.sleep(RECEIVE, before, until, beside)?;
            }
        }
        Ok(if woken == Woken::Interrupted { Received::Interrupted } else { Received::Empty })
    }

    /// This process's account, opened when first needed. `None` in a copy of this process that user code made: what
    /// that receives by this object is not counted.
    fn account(&self) -> Result<Option<&Account>, Error> {
        if self.account.get().is_none() {
            // Of two threads that get here, one drops its account, which owes nothing yet.
            let _ = self.account.set(Account::open(&self.lease)?);
        }
        Ok(self.account.get().filter(|account| account.is_mine(self.lease.arena())))
    }

    /// So many messages that this process received with [`Claim::Owed`] are in good hands.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its account is damaged.
    #[inline]
    pub fn finished(&self, count: u32) -> Result<(), Error> {
        match self.account.get().filter(|account| account.is_mine(self.lease.arena())) {
            Some(account) => account.finished(self.lease.arena(), count),
            None => Ok(()),
        }
    }

    /// Messages sent of which nobody has said that they are [done](Self::task_done).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn unfinished(&self) -> Result<u32, Error> {
        let core = self.core()?;
        let done = core.double(field::DONE)?.load(Ordering::Acquire) as u32;
        Ok(core.count(SEND)?.load(Ordering::Acquire).wrapping_sub(done))
    }

    /// One message that somebody received is done with; `false` if all were already.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn task_done(&self) -> Result<bool, Error> {
        let core = self.core()?;
        // Another object for the same channel may have taken it, with the same account.
        core.count_done(1, self.account()?)
    }

    /// Waits until all messages that were sent are done with, at most `bound` (and at most 50 ms).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn join_within(&self, bound: Duration) -> Result<Joined, Error> {
        let core = self.core()?;
        let joiners = core.word(field::JOINERS)?;
        joiners.store(1, Ordering::SeqCst);
        let done = core.double(field::DONE)?.load(Ordering::SeqCst);
        let open = core.count(SEND)?.load(Ordering::SeqCst).wrapping_sub(done as u32);
        if open == 0 {
            return Ok(Joined::Done);
        }
        let lost = (core.double(field::LOST)?.load(Ordering::Acquire) as u32).wrapping_sub((done >> 32) as u32);
        if open <= lost {
            return core.forgive();
        }
        let word = core.word(field::DONE)?;
        Ok(match futex::wait(word, done as u32, bound.min(SLICE)) {
            Woken::Interrupted => Joined::Interrupted,
            Woken::Look | Woken::TimedOut => Joined::Waiting,
        })
    }

    /// Lets nobody send any more, and those that wait know. After that, receivers come to an end: with [`Closing::Graceful`]
    /// once all messages have been received, with [`Closing::Immediate`] at once; what waits is thrown away, and
    /// counts as [done](Self::task_done).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn close(&self, closing: Closing) -> Result<(), Error> {
        let core = self.core()?;
        let how = if closing == Closing::Immediate { Closing::IMMEDIATE } else { Closing::GRACEFUL };
        let closed = core.word(field::CLOSED)?;
        if closed.compare_exchange(0, how, Ordering::AcqRel, Ordering::Acquire).is_err()
            && closing == Closing::Immediate
        {
            closed.store(how, Ordering::Release);
        }
        crash::point("channel.closed");
        core.wake_all()?;
        if closing == Closing::Immediate {
            // Or, if a receiver was stopped in the middle, whoever receives next does it.
            if let Ok(_unlock) = lock_patiently(core) {
                discard(core)?;
            }
        }
        Ok(())
    }

    /// Whether it was closed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn is_closed(&self) -> Result<bool, Error> {
        Ok(self.core()?.closed()? != 0)
    }

    /// Whether others had this channel and nobody but this process holds it any more, nor is it on its way to anybody: what
    /// comes now comes from this process.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn is_left_alone(&self) -> Result<bool, Error> {
        if self.core()?.word(field::SHARED)?.load(Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        // An account has a lease of its own.
        let accounts = u64::from(self.account()?.is_some());
        let (mine, all) = self.lease.arena().leases_on(&self.lease)?;
        Ok(all == mine + accounts)
    }

    /// Has the bell of that number rung whenever there may be what is waited for, until [`Self::take_down`] undoes it; look
    /// once more after this. `false`: too many bells hang there already.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn hang(&self, awaited: Awaited, bell: u64) -> Result<bool, Error> {
        self.core()?.hang(awaited.side(), bell)
    }

    /// Has the bell rung no more.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn take_down(&self, awaited: Awaited, bell: u64) -> Result<(), Error> {
        self.core()?.take_down(awaited.side(), bell)
    }
}

/// What an event loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// A message.
    Message,
    /// Room for one.
    Room,
}

impl Awaited {
    fn side(self) -> Side {
        match self {
            Self::Message => RECEIVE,
            Self::Room => SEND,
        }
    }
}

/// A packed message.
#[derive(Debug)]
pub struct Packed<'a> {
    tag: u64,
    length: u64,
    /// `None` once it was sent.
    body: Option<PackedBody<'a>>,
}

#[derive(Debug)]
enum PackedBody<'a> {
    Inline(Cow<'a, [u8]>),
    Parcel(Lease),
}

/// Packed messages on their way into a channel, in order.
#[derive(Debug)]
pub struct Outbox<'a, M: AsMut<[Packed<'a>]> = [Packed<'a>; 1]> {
    channel: &'a Channel,
    packed: M,
    sent: usize,
}

impl Outbox<'_> {
    /// The parcel that was not sent, to be kept for another time.
    #[must_use]
    pub fn into_parcel(self) -> Option<Parcel> {
        let [packed] = self.packed;
        match packed.body {
            Some(PackedBody::Parcel(lease)) => Some(Parcel::from_lease(lease)),
            _ => None,
        }
    }
}

impl<'a, M: AsMut<[Packed<'a>]>> Outbox<'a, M> {
    /// How many of them have been sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Tries to send what has not been sent, sleeping at most `bound` (and at most 50 ms).
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn send_within(&mut self, bound: Duration) -> Result<Sent, Error> {
        self.send_all(Some(bound))
    }

    /// As much as there is room for, if nobody else is sending at this moment: for those who go on to wait.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn send_free(&mut self) -> Result<Sent, Error> {
        self.send_all(None)
    }

    fn send_all(&mut self, mut bound: Option<Duration>) -> Result<Sent, Error> {
        let core = self.channel.core()?;
        loop {
            match self.send_some(core, bound)? {
                Sent::Sent if self.sent < self.packed.as_mut().len() => bound = bound.map(|_| Duration::ZERO),
                other => return Ok(other),
            }
        }
    }

    /// As much as may be moved under one lock.
    fn send_some(&mut self, core: Core, bound: Option<Duration>) -> Result<Sent, Error> {
        let Some(first) = self.packed.as_mut().get(self.sent) else { return Ok(Sent::Sent) };
        let length = first.length;
        if core.closed()? != 0 {
            return Ok(Sent::Closed);
        }
        let until = bound.filter(|bound| !bound.is_zero()).map(Deadline::after);
        let _unlock = match core.lock(SEND, bound)? {
            Ok(unlock) => unlock,
            Err(Attempt::Interrupted) => return Ok(Sent::Interrupted),
            Err(_) => return Ok(Sent::Full),
        };
        if !core.has_room_for(length)? {
            let Some(until) = until else { return Ok(Sent::Full) };
            let received = core.count(RECEIVE)?.load(Ordering::Acquire);
            // What was received up to here made no room: looked at before it was noted, and so once more.
            let woken = if core.has_room_for(length)? { Woken::Look } else { core.sleep(SEND, received, until, None)? };
            if !core.has_room_for(length)? {
                return Ok(if woken == Woken::Interrupted { Sent::Interrupted } else { Sent::Full });
            }
        }
        let (packed, sent) = (self.packed.as_mut(), &mut self.sent);
        let end = packed.len().min(*sent + MOST_AT_ONCE);
        let before = *sent;
        let mut outcome = Ok(Sent::Sent);
        while *sent < end && outcome == Ok(Sent::Sent) {
            let mut sending = Sending::new(core)?;
            outcome = sending.append_all(&packed[*sent..end]);
            let (count, is_one_left) = sending.commit()?;
            if is_one_left {
                outcome = Ok(Sent::Sent);
            }
            // Nothing is to be sent twice.
            let owned: Vec<_> = packed[*sent..*sent + count].iter_mut().filter_map(Packed::release).collect();
            owned.into_iter().try_for_each(Lease::given)?;
            *sent += count;
        }
        if *sent > before {
            if packed[before..*sent].iter().any(Packed::is_large) {
                core.note_processor(SEND)?;
            }
            core.wake(SEND)?;
        }
        // What comes after a failure was not sent, and the caller may try again.
        if *sent > before { outcome.or(Ok(Sent::Full)) } else { outcome }
    }
}

impl Packed<'_> {
    fn is_large(&self) -> bool {
        self.length > INLINE_LIMIT as u64
    }

    /// After it was sent: what belongs to the channel now.
    fn release(&mut self) -> Option<Lease> {
        match self.body.take() {
            Some(PackedBody::Parcel(lease)) => Some(lease),
            _ => None,
        }
    }
}

/// The most messages that one store commits. Each costs the other side's processor a fetch of the line with the count,
/// if it is looking; and those who wait should not wait for all of a long list.
const MOST_IN_A_COMMIT: usize = 15;

/// As many of so many, at least one, as one commit may move: an odd number.
fn in_a_commit(messages: usize) -> usize {
    (messages.min(MOST_IN_A_COMMIT) - 1) | 1
}

/// Messages that are being sent by one commit. Their number is odd, because the place before them and the place behind
/// them must not be the same of two: of an even number, the last is left for the next commit.
struct Sending {
    core: Core,
    sequence: u32,
    /// Behind the last message.
    place: Place,
    /// Before it.
    last: Place,
    count: u32,
    /// Chunks that had to be added, each with the message that is the first in it.
    fresh: Vec<(u32, Lease)>,
}

impl Sending {
    /// Holds the senders' lock.
    fn new(core: Core) -> Result<Self, Error> {
        let sequence = core.count(SEND)?.load(Ordering::Relaxed);
        let place = core.place(SEND, sequence)?;
        Ok(Self { core, sequence, place, last: place, count: 0, fresh: Vec::new() })
    }

    /// As many as there is room for.
    fn append_all(&mut self, packed: &[Packed<'_>]) -> Result<Sent, Error> {
        for packed in packed.iter().take(in_a_commit(packed.len())) {
            // Under the lock, so that a receiver who finds the channel closed and empty has missed nothing.
            if self.core.closed()? != 0 {
                return Ok(Sent::Closed);
            }
            if !self.core.has_room(self.sequence.wrapping_add(self.count), self.place.bytes, packed.length)? {
                return Ok(Sent::Full);
            }
            match &packed.body {
                Some(PackedBody::Inline(bytes)) => self.append(packed, record::INLINE, bytes)?,
                Some(PackedBody::Parcel(lease)) => {
                    let mut body = [0; 16];
                    body[..8].copy_from_slice(&lease.block().offset().to_le_bytes());
                    body[8..].copy_from_slice(&packed.length.to_le_bytes());
                    // Its own, not the first one's: it may be the one that is left.
                    lease.give(self.core.count_at(SEND), self.sequence.wrapping_add(self.count))?;
                    self.append(packed, record::PARCEL, &body)?;
                }
                None => {}
            }
        }
        Ok(Sent::Sent)
    }

    /// Writes a record behind the last one.
    fn append(&mut self, packed: &Packed<'_>, kind: u32, bytes: &[u8]) -> Result<(), Error> {
        let core = self.core;
        let mut place = self.place;
        let size = record::HEAD + bytes.len().next_multiple_of(8);
        if size + record::HEAD > core.left(place)? {
            let lease = core.arena.allocate(CHUNK - 64, PLAIN)?;
            lease.give(core.count_at(SEND), self.sequence.wrapping_add(self.count))?;
            write_head(core, place.at, record::LINK, 0, lease.block().offset() as u64)?;
            place = Place { chunk: lease.block().offset(), at: lease.block().payload(), ..place };
            self.fresh.push((self.count, lease));
        }
        write_head(core, place.at, kind, bytes.len(), packed.tag)?;
        if !core.arena.map().write(place.at + record::HEAD, bytes) {
            return Err(Error::Corrupt("the place to send to"));
        }
        self.last = self.place;
        self.place = Place {
            at: place.at + size,
            messages: place.messages.wrapping_add(1),
            bytes: place.bytes.wrapping_add(packed.length),
            ..place
        };
        self.count += 1;
        Ok(())
    }

    /// By one store; how many messages, and whether the last was left.
    fn commit(mut self) -> Result<(usize, bool), Error> {
        let is_one_left = self.count > 0 && self.count.is_multiple_of(2);
        if is_one_left {
            self.count -= 1;
            self.place = self.last;
        }
        if self.count == 0 {
            return Ok((0, false));
        }
        let next = self.sequence.wrapping_add(self.count);
        self.core.set_place(SEND, next, self.place)?;
        crash::point("channel.send.written");
        // The commit. Release: whoever sees the count sees the records.
        self.core.count(SEND)?.store(next, Ordering::Release);
        crash::point("channel.send.committed");
        // A chunk of the message that was left is the sender's still, and goes.
        let (count, fresh) = (self.count, self.fresh);
        fresh.into_iter().filter(|(first, _)| *first < count).try_for_each(|(_, lease)| lease.given())?;
        Ok((count as usize, is_one_left))
    }
}

fn write_head(core: Core, at: usize, kind: u32, length: usize, tag: u64) -> Result<(), Error> {
    core.set(at, u64::from(kind) << 32 | length as u64)?;
    core.set(at + 8, tag)
}

fn read_head(core: Core, at: usize) -> Result<(u32, usize, u64), Error> {
    let head = core.get(at)?;
    Ok(((head >> 32) as u32, (head & 0xffff_ffff) as usize, core.get(at + 8)?))
}

/// Messages that are being received by one commit; an odd number, see [`Sending`].
struct Receiving {
    core: Core,
    sequence: u32,
    place: Place,
    last: Place,
    taken: Vec<Taking>,
}

impl Receiving {
    /// Holds the receivers' lock.
    fn new(core: Core) -> Result<Self, Error> {
        let sequence = core.count(RECEIVE)?.load(Ordering::Relaxed);
        let place = core.place(RECEIVE, sequence)?;
        Ok(Self { core, sequence, place, last: place, taken: Vec::new() })
    }

    /// Reads the next record, if there is one.
    fn read(&mut self) -> Result<bool, Error> {
        let core = self.core;
        let sequence = self.sequence.wrapping_add(self.taken.len() as u32);
        if !core.has_message(sequence)? {
            return Ok(false);
        }
        let mut place = self.place;
        let (mut kind, mut length, mut tag) = read_head(core, place.at)?;
        let mut spent = None;
        if kind == record::LINK {
            spent = Some(self.block(place.chunk)?);
            let chunk = core.arena.block(tag as usize)?;
            place = Place { chunk: chunk.offset(), at: chunk.payload(), ..place };
            (kind, length, tag) = read_head(core, place.at)?;
        }
        let mut taking = Taking { tag, body: None, spent };
        if record::HEAD + length > core.left(place)? {
            return Err(Error::Corrupt("the length of a message"));
        }
        let total = match kind {
            record::INLINE => {
                let mut bytes = Vec::new();
                if !core.arena.map().read(place.at + record::HEAD, length, &mut bytes) {
                    return Err(Error::Corrupt("the place to receive from"));
                }
                taking.body = Some(TakenBody::Inline(bytes));
                length as u64
            }
            record::PARCEL => {
                let parcel = core.get(place.at + record::HEAD)? as usize;
                taking.body = Some(TakenBody::Parcel(self.block(parcel)?));
                core.get(place.at + record::HEAD + 8)?
            }
            _ => return Err(Error::Corrupt("the kind of a message")),
        };
        self.last = self.place;
        self.place = Place {
            at: place.at + record::HEAD + length.next_multiple_of(8),
            messages: place.messages.wrapping_add(1),
            bytes: place.bytes.wrapping_add(total),
            ..place
        };
        self.taken.push(taking);
        Ok(true)
    }

    /// A lease on a block of the channel that is this process's once the messages have been received.
    fn block(&self, offset: usize) -> Result<Lease, Error> {
        let sequence = self.sequence.wrapping_add(self.taken.len() as u32);
        Lease::take(self.core.arena, self.core.arena.block(offset)?, self.core.count_at(RECEIVE), sequence)
    }

    /// By one store.
    fn commit(mut self, claim: Claim, account: Option<&Account>) -> Result<Vec<Taking>, Error> {
        let core = self.core;
        if !self.taken.is_empty() && self.taken.len().is_multiple_of(2) {
            self.taken.pop();
            self.place = self.last;
        }
        let Some(first) = self.taken.first() else { return Ok(self.taken) };
        if claim == Claim::Tag {
            core.arena.claim(core.count_at(RECEIVE), self.sequence, first.tag)?;
        }
        let next = self.sequence.wrapping_add(self.taken.len() as u32);
        core.set_place(RECEIVE, next, self.place)?;
        account.map_or(Ok(()), |account| account.takes(core.arena, self.sequence))?;
        crash::point("channel.receive.read");
        // The commit: from here on the messages are this process's.
        core.count(RECEIVE)?.store(next, Ordering::Release);
        crash::point("channel.receive.committed");
        account.map_or(Ok(()), |account| account.took(core.arena, self.taken.len() as u32))?;
        for taking in &mut self.taken {
            if let Some(TakenBody::Parcel(lease)) = &taking.body {
                lease.taken()?;
            }
            if let Some(spent) = taking.spent.take() {
                spent.taken()?;
            }
        }
        Ok(self.taken)
    }
}

/// A message that is being received, and what comes along with it: the channel's still, if receiving it fails.
struct Taking {
    tag: u64,
    body: Option<TakenBody>,
    /// The chunk that it was the first message behind.
    spent: Option<Lease>,
}

enum TakenBody {
    Inline(Vec<u8>),
    Parcel(Lease),
}

impl Taking {
    /// Once it is this process's.
    fn into_message(mut self) -> Option<Message> {
        let body = match self.body.take()? {
            TakenBody::Inline(bytes) => Body::Inline(bytes),
            TakenBody::Parcel(lease) => Body::Parcel(Arc::new(Parcel::from_lease(lease))),
        };
        Some(Message { tag: self.tag, body })
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let parcel = match self.body.take() {
            Some(TakenBody::Parcel(lease)) => Some(lease),
            _ => None,
        };
        for lease in [self.spent.take(), parcel].into_iter().flatten() {
            let _ = lease.not_taken();
        }
    }
}

/// Receives what there is, `most` at most, by as few commits as may be. Holds the receivers' lock.
fn take(
    core: Core,
    most: usize,
    claim: Claim,
    account: Option<&Account>,
    mut receive: impl FnMut(Message),
) -> Result<usize, Error> {
    let (mut taken, mut is_large) = (0, false);
    while taken < most {
        let mut receiving = Receiving::new(core)?;
        let mut outcome = Ok(true);
        while outcome == Ok(true) && receiving.taken.len() < in_a_commit(most - taken) {
            outcome = receiving.read();
        }
        let messages = receiving.commit(claim, account)?;
        taken += messages.len();
        let none = messages.is_empty();
        is_large |= messages.iter().any(|taking| matches!(taking.body, Some(TakenBody::Parcel(_))));
        messages.into_iter().filter_map(Taking::into_message).for_each(&mut receive);
        match outcome {
            // What was taken before the damage is not lost by it.
            Err(error) if taken == 0 => return Err(error),
            Ok(true) if !none => {}
            _ => break,
        }
    }
    if taken > 0 {
        if is_large {
            core.note_processor(RECEIVE)?;
        }
        core.wake(RECEIVE)?;
    }
    Ok(taken)
}

/// What a receiver who holds the lock of a channel that is closed and was empty is told. A sender may have been about to
/// commit: with the senders' lock taken once, everybody knows.
fn end(core: Core) -> Result<Received, Error> {
    match core.lock(SEND, Some(SLICE))? {
        Ok(unlock) => drop(unlock),
        Err(Attempt::Interrupted) => return Ok(Received::Interrupted),
        Err(_) => return Ok(Received::Empty),
    }
    Ok(if core.waiting()? == 0 { Received::Closed } else { Received::Empty })
}

impl Core {
    /// So many tasks more are done, and are no longer owed; `false`, and nothing done, if they were all.
    fn count_done(self, count: u32, account: Option<&Account>) -> Result<bool, Error> {
        let at = self.at + field::DONE;
        let mut left = None;
        self.arena.amend(|read| {
            let done = read(at)?;
            let open = self.count(SEND)?.load(Ordering::Acquire).wrapping_sub(done as u32);
            left = open.checked_sub(count);
            if left.is_none() {
                return Ok(Vec::new());
            }
            let mut changes = vec![(at, done >> 32 << 32 | u64::from((done as u32).wrapping_add(count)))];
            changes.extend(account.map_or(Ok(None), |account| account.finishing(read))?);
            Ok(changes)
        })?;
        crash::point("channel.task.done");
        if left == Some(0) {
            self.wake_joiners()?;
        }
        Ok(left.is_some())
    }

    /// If what is open died with who had taken it: that is reported once, and then it is done.
    fn forgive(self) -> Result<Joined, Error> {
        let at = self.at + field::DONE;
        let mut joined = Joined::Waiting;
        self.arena.amend(|read| {
            let done = read(at)?;
            let open = self.count(SEND)?.load(Ordering::Acquire).wrapping_sub(done as u32);
            let forgiven = (done >> 32) as u32;
            if open == 0 || open > (read(self.at + field::LOST)? as u32).wrapping_sub(forgiven) {
                return Ok(Vec::new());
            }
            joined = Joined::Lost(open);
            let done = u64::from((done as u32).wrapping_add(open));
            Ok(vec![(at, u64::from(forgiven.wrapping_add(open)) << 32 | done)])
        })?;
        if joined != Joined::Waiting {
            self.wake_joiners()?;
        }
        Ok(joined)
    }

    fn wake_joiners(self) -> Result<(), Error> {
        if self.word(field::JOINERS)?.swap(0, Ordering::SeqCst) != 0 {
            futex::wake(self.word(field::DONE)?, futex::ALL);
        }
        Ok(())
    }
}

/// Throws away what waits. Holds the receivers' lock.
fn discard(core: Core) -> Result<(), Error> {
    loop {
        let taken = take(core, MOST_AT_ONCE, Claim::Nothing, None, drop)?;
        if taken == 0 {
            return Ok(());
        }
        core.count_done(taken as u32, None)?;
    }
}

/// The receivers' lock, which nobody is to hold for long.
fn lock_patiently(core: Core) -> Result<Unlock, Error> {
    let mut patience = Patience::new(HOLDER_PATIENCE);
    loop {
        match core.lock(RECEIVE, Some(SLICE))? {
            Ok(unlock) => return Ok(unlock),
            Err(_) if patience.is_over() => {
                return Err(Error::Corrupt("a channel that nobody receives from, and somebody locked"));
            }
            Err(_) => {}
        }
    }
}

/// Takes a channel apart that nobody else holds: receives what is left; its last chunk goes with it.
fn drain(arena: &'static Arena, block: Block) -> Result<usize, Error> {
    let core = Core { arena, at: block.payload() };
    // Its holder, if there is one, died with it.
    let _unlock = lock_patiently(core)?;
    while take(core, 1, Claim::Nothing, None, drop)? > 0 {}
    let sequence = core.count(RECEIVE)?.load(Ordering::Relaxed);
    Ok(core.place(RECEIVE, sequence)?.chunk)
}
