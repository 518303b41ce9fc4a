//! Descriptors on their way: how they get to a template and from there to whoever opens the [`Deposit`].

use std::collections::HashMap;
use std::time::Duration;

use forkless_ipc::{Deposit, State};
use forkless_shm::{Arena, Handle};
use forkless_sys::crash::point;
use forkless_sys::time::SLICE;
use forkless_sys::{AsFd, BorrowedFd, Errno, OwnedFd, process, socket};

use crate::protocol::{GRANTED, Request, UNKNOWN};
use crate::{Client, Error, Program};

/// A descriptor that is being given to a template. It is kept once [`Self::wait_within`] says so; the deposit then
/// stands for it, until the last lease on that has gone.
#[derive(Debug)]
pub struct Deposition {
    arena: &'static Arena,
    program: Program,
    descriptor: OwnedFd,
    asked: Option<(&'static Client, Deposit)>,
    tries: u32,
}

/// A template may be found dead only when it is asked.
const TRIES: u32 = 2;

impl Deposition {
    /// Asks a template to keep a descriptor: the one that started this process, else one with this program.
    ///
    /// # Errors
    /// [`Error::System`] when the system refuses.
    pub fn begin(arena: &'static Arena, program: &Program, descriptor: OwnedFd) -> Result<Self, Error> {
        let mut deposition = Self { arena, program: program.clone(), descriptor, asked: None, tries: 0 };
        deposition.ask()?;
        Ok(deposition)
    }

    fn ask(&mut self) -> Result<(), Error> {
        let mut failure = Errno::PIPE;
        while self.tries < TRIES {
            self.tries += 1;
            let client = Client::keeper(self.arena, &self.program)?;
            let deposit = Deposit::create(self.arena, client.name(), client.template_pid())?;
            let request = Request::Keep { deposit: deposit.lease().handle()? };
            match client.send(request, &[self.descriptor.as_fd()]) {
                Ok(()) => {
                    point("deposit.sent");
                    self.asked = Some((client, deposit));
                    return Ok(());
                }
                Err(errno) => {
                    // Too many descriptors of this user are in flight, for one.
                    client.has_gone(errno).map_err(Error::system("deposit a descriptor"))?;
                    failure = errno;
                }
            }
        }
        Err(Error::System { action: "deposit a descriptor with a template", errno: failure })
    }

    /// Waits for the template, at most `bound` (and at most 50 ms); `None` if it has not answered yet.
    ///
    /// # Errors
    /// [`Error::TooManyKept`]; [`Error::System`] when the system refuses.
    pub fn wait_within(&mut self, bound: Duration) -> Result<Option<Deposit>, Error> {
        let Some((client, deposit)) = &self.asked else { return Err(Error::Protocol("nothing was asked for")) };
        if deposit.state()? == State::Asked {
            deposit.wait_within(client.liveness(self.arena), bound)?;
        }
        match deposit.state()? {
            State::Refused => Err(Error::TooManyKept { pid: client.template_pid() }),
            State::Asked if !client.is_alive() => {
                self.asked = None;
                self.ask()?;
                Ok(None)
            }
            State::Asked => Ok(None),
            State::Kept | State::Given => Ok(self.asked.take().map(|(_, deposit)| deposit)),
        }
    }
}

/// A descriptor that is being fetched from the template that keeps it.
#[derive(Debug)]
pub struct Redemption<'a> {
    deposit: &'a Deposit,
    connection: Option<OwnedFd>,
}

impl<'a> Redemption<'a> {
    /// Nothing is done before [`Self::wait_within`].
    #[must_use]
    pub fn new(deposit: &'a Deposit) -> Self {
        Self { deposit, connection: None }
    }

    /// Waits for the descriptor, at most `bound` (and at most 50 ms); `None` if it is not there yet.
    ///
    /// # Errors
    /// [`Error::KeeperDied`], [`Error::Taken`]; [`Error::System`] when the system refuses, as without room for another
    /// descriptor.
    pub fn wait_within(&mut self, bound: Duration) -> Result<Option<OwnedFd>, Error> {
        let (name, pid) = self.deposit.keeper()?;
        let bound = bound.min(SLICE);
        if self.connection.is_none() {
            self.connection = match socket::try_connect(&name) {
                Ok(connection) => connection,
                Err(Errno::CONNREFUSED) => return Err(Error::KeeperDied { pid }),
                Err(errno) => return Err(Error::System { action: "reach the keeper of a descriptor", errno }),
            };
            let request = Request::Redeem { deposit: self.deposit.lease().handle()? };
            let Some(connection) = &self.connection else {
                // Others stand in line.
                let _ = process::readable(&[], bound.min(Duration::from_millis(1)));
                return Ok(None);
            };
            if socket::send(connection.as_fd(), &request.to_bytes(), &[]).is_err() {
                self.connection = None;
                return Ok(None);
            }
            point("deposit.claimed");
        }
        let Some(connection) = &self.connection else { return Ok(None) };
        // A signal handler may have run: the caller sees to that.
        if !process::readable(&[connection.as_fd()], bound).is_ok_and(|ready| ready[0]) {
            return Ok(None);
        }
        let mut answer = [UNKNOWN];
        match socket::receive(connection.as_fd(), &mut answer) {
            Ok((1, mut descriptors)) => match (answer[0], descriptors.pop()) {
                (GRANTED, Some(descriptor)) => Ok(Some(descriptor)),
                _ => Err(Error::Taken { pid }),
            },
            Err(Errno::MSGSIZE) => Err(Error::System { action: "receive a descriptor", errno: Errno::MFILE }),
            Err(Errno::AGAIN) => Ok(None),
            // It has made room for others, or has ended: the next try tells.
            Ok(_) | Err(_) => {
                self.connection = None;
                Ok(None)
            }
        }
    }
}

/// What a template keeps.
#[derive(Debug)]
pub(crate) struct Keeper {
    arena: &'static Arena,
    kept: HashMap<Handle, OwnedFd>,
}

/// Descriptors that a template needs for itself and for those who ask it.
const RESERVE: usize = 64;

impl Keeper {
    pub(crate) fn new(arena: &'static Arena) -> Self {
        Self { arena, kept: HashMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps a descriptor, if there is room beside `others`.
    pub(crate) fn keep(&mut self, handle: Handle, descriptor: Option<OwnedFd>, others: usize) {
        // Whoever sent it has died since, and so has the deposit.
        let Ok(deposit) = Deposit::open(self.arena, handle) else { return };
        let limit = process::descriptor_limit();
        let has_room = self.kept.len() + others + RESERVE.min(limit / 2) < limit;
        let state = match descriptor.filter(|_| has_room) {
            Some(descriptor) => {
                self.kept.insert(handle, descriptor);
                State::Kept
            }
            None => State::Refused,
        };
        point("keeper.kept");
        // Damaged: nobody will ask for it, and it is closed with its block.
        let _ = deposit.set_state(state);
        point("keeper.told");
    }

    /// Answers whoever asks for a descriptor.
    ///
    /// # Errors
    /// What the system says when the answer cannot be sent.
    pub(crate) fn redeem(&mut self, handle: Handle, connection: BorrowedFd<'_>) -> Result<(), Errno> {
        let Some(descriptor) = self.kept.get(&handle) else { return socket::send(connection, &[UNKNOWN], &[]) };
        socket::send(connection, &[GRANTED], &[descriptor.as_fd()])?;
        point("keeper.given");
        if let Ok(deposit) = Deposit::open(self.arena, handle)
            && deposit.is_for_one() == Ok(true)
        {
            self.kept.remove(&handle);
            let _ = deposit.set_state(State::Given);
        }
        Ok(())
    }

    /// Closes what nobody can ask for any more.
    pub(crate) fn sweep(&mut self) {
        let arena = self.arena;
        self.kept.retain(|handle, _| arena.is_live(*handle));
    }
}
