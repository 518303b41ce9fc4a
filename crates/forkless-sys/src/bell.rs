//! A descriptor that other processes can make readable, by number: for event loops.
//!
//! An event loop waits for descriptors, and shared words have none. A bell is a datagram socket under an abstract name;
//! whoever knows its number rings it from any process of the machine, without a connection and without a descriptor
//! of its own for each ([`unix(7)`]). That it rang means no more than that it is time to look. Anybody could ring it;
//! then somebody looks in vain.
//!
//! [`unix(7)`]: https://man7.org/linux/man-pages/man7/unix.7.html

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// Readable once it has been rung, until it is silenced.
#[derive(Debug)]
pub struct Bell {
    socket: OwnedFd,
    number: u64,
}

impl Bell {
    /// A bell of this process.
    ///
    /// # Errors
    /// `EMFILE` without descriptors.
    pub fn new() -> Result<Self, Errno> {
        let (socket, number) = (datagrams()?, crate::random_u64()?);
        rustix::net::bind(&socket, &address(number)?)?;
        Ok(Self { socket, number })
    }

    /// What others ring it by; never zero.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// No longer readable, until it is rung again.
    pub fn silence(&self) {
        // Any failure means that there is nothing to read.
        while rustix::net::recv(&self.socket, &mut [0; 1], RecvFlags::DONTWAIT).is_ok() {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Rings a bell; `false` if there is none of that number any more.
#[must_use]
pub fn ring(number: u64) -> bool {
    // A socket for each ring: one to keep would be a descriptor that nobody asked for, and that programs close by mistake.
    let rung = datagrams().and_then(|ringer| {
        rustix::net::sendto(&ringer, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &address(number)?)
    });
    // With so many rings unheard that no more fit, it is readable. What else may go wrong costs the listener a moment.
    !matches!(rung, Err(Errno::CONNREFUSED | Errno::NOENT))
}

fn datagrams() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).and_then(crate::above_standard)
}

fn address(number: u64) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new_abstract_name(format!("forkless-bell-{number:016x}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::readable;

    fn rang(bell: &Bell) -> bool {
        readable(&[bell.as_fd()], Duration::ZERO).unwrap()[0]
    }

    #[test]
    fn it_is_readable_when_rung_and_until_silenced() {
        let bell = Bell::new().unwrap();
        assert!(!rang(&bell));
        for _ in 0..1000 {
            assert!(ring(bell.number()), "a bell that nobody hears is a bell still");
        }
        assert!(rang(&bell));
        bell.silence();
        assert!(!rang(&bell));
        let number = bell.number();
        drop(bell);
        // A child that another test has just forked has all descriptors until it executes its program.
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while ring(number) {
            assert!(std::time::Instant::now() < end, "a bell that was dropped is gone");
            std::thread::yield_now();
        }
    }
}
