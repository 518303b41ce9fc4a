//! Deposits: descriptors on their way, kept by a process that outlives their sender.
//!
//! A descriptor cannot lie in shared memory. It is given to a *keeper*, a process with a socket, and what travels is a
//! block that says who keeps it. The block's life is the deposit's: with its last lease the keeper is woken, and closes
//! its copy.
//!
//! ```text
//! +0 u32 futex: a state   +4 u32 the keeper's pid   +8 u32: 1 if it is given away once   +12 bytes of the name
//! +16 the name of the keeper's socket
//! ```

use std::time::Duration;

use forkless_shm::block::{Block, PLAIN};
use forkless_shm::{Arena, Error, Handle, Kind, Lease};
use forkless_sys::atomic::{AtomicU32, Ordering};
use forkless_sys::crash::point;
use forkless_sys::time::SLICE;
use forkless_sys::{futex, process, socket};

/// How deposits are taken apart: their keeper is told.
pub(crate) const KIND: Kind = Kind { id: Deposit::KIND, drain: Some(drain), settle: None, private: false };

const STATE: usize = 0;
const PID: usize = 4;
const ONCE: usize = 8;
const LENGTH: usize = 12;
const NAME: usize = 16;
/// The name of a socket is shorter (`unix(7)`).
const MAX_NAME: usize = 107;

/// Where the descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// On its way to the keeper.
    Asked,
    /// With the keeper.
    Kept,
    /// With whoever asked for it; the keeper has it no more.
    Given,
    /// The keeper has as many as it may have.
    Refused,
}

const STATES: [State; 4] = [State::Asked, State::Kept, State::Given, State::Refused];

/// A descriptor that another process keeps until this block is gone.
#[derive(Debug)]
pub struct Deposit {
    lease: Lease,
}

impl Deposit {
    /// The kind of its block.
    pub const KIND: u8 = 17;

    /// A deposit with the process that listens under this name, for which the descriptor is still to be sent.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    pub fn create(arena: &'static Arena, keeper: &str, pid: u32) -> Result<Self, Error> {
        if keeper.len() > MAX_NAME {
            return Err(Error::Corrupt("the name of a socket"));
        }
        let deposit = Self { lease: arena.allocate(NAME + keeper.len(), PLAIN)? };
        for (field, value) in [(STATE, 0), (PID, pid), (ONCE, 0), (LENGTH, keeper.len() as u32)] {
            deposit.word(field)?.store(value, Ordering::Release);
        }
        if !arena.map().write(deposit.lease.payload()? + NAME, keeper.as_bytes()) {
            return Err(Error::Corrupt("a new deposit"));
        }
        deposit.lease.set_kind(Self::KIND)?;
        point("deposit.created");
        Ok(deposit)
    }

    /// The deposit that a handle names.
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

    fn word(&self, field: usize) -> Result<&AtomicU32, Error> {
        self.lease.arena().map().u32(self.lease.payload()? + field).ok_or(Error::Corrupt("a deposit"))
    }

    /// Where the descriptor is.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn state(&self) -> Result<State, Error> {
        let state = self.word(STATE)?.load(Ordering::Acquire) as usize;
        STATES.get(state).copied().ok_or(Error::Corrupt("the state of a deposit"))
    }

    /// The keeper says where it is, and wakes whoever waits for that.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn set_state(&self, state: State) -> Result<(), Error> {
        let word = self.word(STATE)?;
        word.store(state as u32, Ordering::Release);
        futex::wake(word, futex::ALL);
        Ok(())
    }

    /// Sleeps while the descriptor is on its way to the keeper, beside another word, at most `bound` (and at most 50 ms).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn wait_within(&self, beside: Option<(&AtomicU32, u32)>, bound: Duration) -> Result<(), Error> {
        let (word, bound) = (self.word(STATE)?, bound.min(SLICE));
        match beside {
            Some(beside) => futex::wait_either((word, State::Asked as u32), beside, bound),
            None => futex::wait(word, State::Asked as u32, bound),
        };
        Ok(())
    }

    /// Whether the keeper gives its copy away to the first that asks, rather than further copies to each.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn is_for_one(&self) -> Result<bool, Error> {
        Ok(self.word(ONCE)?.load(Ordering::Acquire) != 0)
    }

    /// See [`Self::is_for_one`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn set_for_one(&self) -> Result<(), Error> {
        self.word(ONCE)?.store(1, Ordering::Release);
        Ok(())
    }

    /// The name of the keeper's socket, and the keeper's process id.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its block is damaged.
    pub fn keeper(&self) -> Result<(String, u32), Error> {
        keeper(self.lease.arena(), self.lease.block(), self.lease.payload()?)
    }
}

fn keeper(arena: &Arena, block: Block, at: usize) -> Result<(String, u32), Error> {
    let number =
        |field| arena.map().u32(at + field).map(|word| word.load(Ordering::Acquire)).ok_or(Error::Corrupt("a deposit"));
    let (pid, length) = (number(PID)?, number(LENGTH)? as usize);
    let mut bytes = Vec::new();
    if length > MAX_NAME || NAME + length > block.capacity() || !arena.map().read(at + NAME, length, &mut bytes) {
        return Err(Error::Corrupt("the keeper of a deposit"));
    }
    String::from_utf8(bytes).map(|name| (name, pid)).map_err(|_| Error::Corrupt("the keeper of a deposit"))
}

/// Wakes the keeper, by a connection that says nothing. It looks by itself too, only later.
fn drain(arena: &'static Arena, deposit: Block) -> Result<usize, Error> {
    let (name, pid) = keeper(arena, deposit, deposit.payload())?;
    point("deposit.dying");
    if pid != process::id() {
        let _ = socket::try_connect(&name);
    }
    Ok(0)
}
