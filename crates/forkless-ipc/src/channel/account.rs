//! What a process has taken from a channel and not finished yet, so that its death is known for what it was.
//!
//! An account is a block of its own that only its process leases. One double word says what was taken:
//!
//! ```text
//! sequence number (63..32) | TAKING (31) | messages taken (30..0)
//! ```
//!
//! Another one counts those that are finished with; the difference is what is owed. Before a receiver commits messages
//! from *n* on, it says that it is taking them; after that, that it has taken so many more. Death in between is settled by who takes the receivers' lock over, or by the cleaner, before the count moves on: the count
//! tells how many were taken. What a dead process still owes is added to what the channel has lost, together with
//! its name.

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Arena, Error, Kind, Lease, Owner, Read};
use forkless_sys::atomic::{AtomicU64, Ordering};
use forkless_sys::crash;

use super::core::{Core, RECEIVE, field};

/// How accounts are taken apart: what they owe is lost.
pub(crate) const KIND: Kind = Kind { id: ACCOUNT, drain: Some(drain), settle: Some(settle), private: true };
const ACCOUNT: u8 = 12;

/// u64: the channel's block.
const CHANNEL: usize = 0;
/// u64, see above.
const WORD: usize = 8;
/// u64: of the messages taken, those that are finished with; counts as far as they do.
const FINISHED: usize = 16;
/// u32 of a u64: the process.
const PID: usize = 24;
/// Its name, cut off if it is long.
const NAME: usize = 32;
const NAME_SIZE: usize = 40;
const SIZE: usize = NAME + NAME_SIZE;

const TAKING: u64 = 1 << 31;
/// What counts wrap at.
const COUNT: u64 = TAKING - 1;

/// The channel's list of the dead: u64 with what was lost (63..32) and the pid (31..0), then the name.
const ENTRY: usize = 8 + NAME_SIZE;
pub(super) const ENTRIES: usize = 8;

/// A process that died with messages it had taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// How many messages it had.
    pub count: u32,
}

/// This process's account with a channel.
#[derive(Debug)]
pub(super) struct Account {
    lease: Option<Lease>,
    owner: Owner,
    at: usize,
}

impl Account {
    /// The one there is, or a new one: it is one for all objects of a process that are the same channel.
    pub(super) fn open(channel: &Lease) -> Result<Self, Error> {
        let arena = channel.arena();
        let owner = arena.me()?;
        let of_channel = channel.block().offset() as u64;
        let is_ours = |block: Block| {
            arena.map().u64(block.payload() + CHANNEL).is_some_and(|word| word.load(Ordering::Acquire) == of_channel)
        };
        let lease = match arena.find_held(ACCOUNT, is_ours)? {
            Some(lease) => lease,
            None => Self::create(channel, owner)?,
        };
        let at = lease.block().payload();
        Ok(Self { lease: Some(lease), owner, at })
    }

    fn create(channel: &Lease, owner: Owner) -> Result<Lease, Error> {
        let arena = channel.arena();
        let process = arena.process(owner).ok_or(Error::NoSlot)?;
        let lease = arena.allocate(SIZE, PLAIN)?;
        let at = lease.block().payload();
        let mut bytes = [0; SIZE];
        bytes[PID..PID + 4].copy_from_slice(&process.pid.to_le_bytes());
        let length = process.name.floor_char_boundary(NAME_SIZE - 1);
        bytes[NAME..NAME + length].copy_from_slice(&process.name.as_bytes()[..length]);
        if !arena.map().write(at, &bytes) {
            return Err(Error::Corrupt("a new account"));
        }
        lease.set_kind(ACCOUNT)?;
        channel.entrust(&[(at + CHANNEL, channel.block().offset() as u64)])?;
        Ok(lease)
    }

    /// Whether it is this process's: a copy of the process has the object, and not the account.
    pub(super) fn is_mine(&self, arena: &Arena) -> bool {
        arena.is_me(self.owner)
    }

    fn word(&self, arena: &'static Arena) -> Result<&'static AtomicU64, Error> {
        double(arena, self.at + WORD)
    }

    /// Says that messages from `sequence` on are about to be taken. Holds the receivers' lock.
    pub(super) fn takes(&self, arena: &'static Arena, sequence: u32) -> Result<(), Error> {
        let taking = |now: u64| Some(u64::from(sequence) << 32 | TAKING | now & COUNT);
        let _ = self.word(arena)?.fetch_update(Ordering::AcqRel, Ordering::Relaxed, taking);
        Ok(())
    }

    /// So many were taken.
    pub(super) fn took(&self, arena: &'static Arena, count: u32) -> Result<(), Error> {
        let took = |now: u64| Some(((now & COUNT) + u64::from(count)) & COUNT);
        let _ = self.word(arena)?.fetch_update(Ordering::AcqRel, Ordering::Relaxed, took);
        Ok(())
    }

    /// So many messages are finished with, of those that are owed.
    pub(super) fn finished(&self, arena: &'static Arena, count: u32) -> Result<(), Error> {
        double(arena, self.at + FINISHED)?.fetch_add(u64::from(count), Ordering::AcqRel);
        Ok(())
    }

    /// The word to change, and its new value, if one message more is finished with; `None` if none is owed.
    pub(super) fn finishing(&self, read: Read<'_>) -> Result<Option<(usize, u64)>, Error> {
        let at = self.at + FINISHED;
        Ok((owed(self.at, read)? > 0).then_some((at, read(at)?.wrapping_add(1))))
    }
}

/// What an account owes.
fn owed(at: usize, read: Read<'_>) -> Result<u64, Error> {
    Ok(read(at + WORD)?.wrapping_sub(read(at + FINISHED)?) & COUNT)
}

impl Drop for Account {
    /// While something is owed the account stays, also without an object: until the process dies with it.
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let arena = lease.arena();
        let read = |at| Ok(double(arena, at)?.load(Ordering::Acquire));
        let owes = owed(self.at, &read).is_ok_and(|owed| owed > 0);
        if owes && self.is_mine(arena) {
            std::mem::forget(lease);
        }
    }
}

fn double(arena: &'static Arena, at: usize) -> Result<&'static AtomicU64, Error> {
    arena.map().u64(at).ok_or(Error::Corrupt("an account"))
}

/// Decides how many of the messages that a dead process was taking it has taken.
fn settle(arena: &'static Arena, account: Block) -> Result<(), Error> {
    let at = account.payload();
    let word = double(arena, at + WORD)?;
    let now = word.load(Ordering::Acquire);
    let channel = arena.map().u64(at + CHANNEL).ok_or(Error::Corrupt("an account"))?.load(Ordering::Acquire);
    if now & TAKING == 0 || channel == 0 {
        return Ok(());
    }
    let core = Core { arena, at: arena.block(channel as usize)?.payload() };
    let received = core.count(RECEIVE)?.load(Ordering::Acquire);
    // Nobody else has taken any since: they would have had to settle this first.
    let taken = received.wrapping_sub((now >> 32) as u32);
    let taken = if taken.cast_signed() > 0 { u64::from(taken) } else { 0 };
    word.store(((now & COUNT) + taken) & COUNT, Ordering::Release);
    Ok(())
}

/// Adds what is owed to what the channel has lost, then lets go of the channel.
fn drain(arena: &'static Arena, block: Block) -> Result<usize, Error> {
    let at = block.payload();
    let channel = arena.map().u64(at + CHANNEL).ok_or(Error::Corrupt("an account"))?.load(Ordering::Acquire);
    if channel == 0 {
        return Ok(0);
    }
    let channel = arena.block(channel as usize)?;
    let core = Core { arena, at: channel.payload() };
    arena.amend(|read| {
        let owed = owed(at, read)?;
        if owed == 0 {
            return Ok(Vec::new());
        }
        let deaths = read(core.at + field::DEATHS)?;
        let entry = core.at + field::DEAD + ENTRY * (deaths % ENTRIES as u64) as usize;
        let mut changes = vec![
            (at + FINISHED, read(at + WORD)?),
            (core.at + field::LOST, read(core.at + field::LOST)?.wrapping_add(owed)),
            (core.at + field::DEATHS, deaths.wrapping_add(1)),
            (entry, owed << 32 | read(at + PID)? & 0xffff_ffff),
        ];
        for offset in (0..NAME_SIZE).step_by(8) {
            changes.push((entry + 8 + offset, read(at + NAME + offset)?));
        }
        Ok(changes)
    })?;
    crash::point("channel.account.closed");
    // Who waits until all tasks are done learns that some never will be.
    core.wake_joiners()?;
    drop(Lease::adopt(arena, channel, (at + CHANNEL, 0))?);
    Ok(0)
}

/// The last processes that messages died with, latest first.
pub(super) fn losses(core: Core) -> Result<Vec<Loss>, Error> {
    let deaths = core.double(field::DEATHS)?.load(Ordering::Acquire);
    let mut losses = Vec::new();
    for number in (deaths.saturating_sub(ENTRIES as u64)..deaths).rev() {
        let entry = core.at + field::DEAD + ENTRY * (number % ENTRIES as u64) as usize;
        let head = core.get(entry)?;
        let mut name = Vec::new();
        if !core.arena.map().read(entry + 8, NAME_SIZE, &mut name) {
            return Err(Error::Corrupt("a channel's list of the dead"));
        }
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_SIZE);
        let name = String::from_utf8_lossy(&name[..end]).into_owned();
        losses.push(Loss { pid: head as u32, name, count: (head >> 32) as u32 });
    }
    Ok(losses)
}

/// Bytes of the channel's block, its list of the dead included.
pub(super) const CHANNEL_SIZE: usize = field::DEAD + ENTRY * ENTRIES;
