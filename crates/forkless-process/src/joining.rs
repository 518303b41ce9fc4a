//! Joining a tree by its name: the way in for processes that the tree knows nothing of.

use std::time::Duration;

use forkless_ipc::KINDS;
use forkless_shm::Arena;
use forkless_sys::time::SLICE;
use forkless_sys::{AsFd, Errno, OwnedFd, process, socket};

use crate::protocol::Request;
use crate::{Error, TREE_VARIABLE};

const ACTION: &str = "join a process tree by its name";

/// This process on its way into a tree. The tree's template lets it in; one that was stopped does so when it goes on, and one
/// that has ended never does, which is an error.
#[derive(Debug)]
pub struct Joining {
    name: String,
    connection: Option<OwnedFd>,
}

impl Joining {
    /// Into the tree with that name, see [`tree_name`](crate::tree_name). Nothing is done before [`Self::wait_within`].
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), connection: None }
    }

    /// Into the tree whose name is in the environment: that of programs that a process of it started by other means.
    #[must_use]
    pub fn by_environment() -> Option<Self> {
        std::env::var(TREE_VARIABLE).ok().map(|name| Self::new(&name))
    }

    /// Waits until this process is let in, at most `bound` (and at most 50 ms); `None` if it is not yet.
    ///
    /// # Errors
    /// [`Error::System`] if nobody listens under that name any more, or only another user.
    pub fn wait_within(&mut self, bound: Duration) -> Result<Option<&'static Arena>, Error> {
        let bound = bound.min(SLICE);
        let Some(connection) = self.connect()? else {
            // Others stand in line.
            let _ = process::readable(&[], bound.min(Duration::from_millis(1)));
            return Ok(None);
        };
        // A signal handler may have run: the caller sees to that.
        if !process::readable(&[connection.as_fd()], bound).is_ok_and(|ready| ready[0]) {
            return Ok(None);
        }
        match socket::receive(connection.as_fd(), &mut [0; 8]) {
            Ok((1.., mut descriptors)) => {
                let file = descriptors.pop().ok_or(Error::Protocol("an answer without the arena"))?;
                Ok(Some(Arena::join(file, KINDS)?))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::MSGSIZE) => Err(Error::System { action: ACTION, errno: Errno::MFILE }),
            // The template has made room for others, or has ended: the next try tells.
            Ok(_) | Err(_) => {
                self.connection = None;
                Ok(None)
            }
        }
    }

    /// The connection over which this process has asked, if there was room for one.
    fn connect(&mut self) -> Result<Option<&OwnedFd>, Error> {
        if self.connection.is_none()
            && let Some(connection) = socket::try_connect(&self.name).map_err(Error::system(ACTION))?
            && socket::send(connection.as_fd(), &Request::Attach.to_bytes(), &[]).is_ok()
        {
            self.connection = Some(connection);
        }
        Ok(self.connection.as_ref())
    }

    /// Waits until this process is let in, for as long as that takes.
    ///
    /// # Errors
    /// As [`Self::wait_within`].
    pub fn wait(mut self) -> Result<&'static Arena, Error> {
        loop {
            if let Some(arena) = self.wait_within(SLICE)? {
                return Ok(arena);
            }
        }
    }
}
