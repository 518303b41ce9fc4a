//! Abstract sockets that carry descriptors.
//!
//! `SOCK_SEQPACKET` keeps messages whole, so one request is one `sendmsg` and needs no lock in the sender. The
//! name lives in the network namespace, not in a file system, and vanishes with the listener ([`unix(7)`]). Anyone
//! on the machine can connect to it, so both sides check the other's user with `SO_PEERCRED`.
//!
//! [`unix(7)`]: https://man7.org/linux/man-pages/man7/unix.7.html

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The most descriptors that travel with one message.
pub const MAX_DESCRIPTORS: usize = 4;

/// Listens under an abstract name.
///
/// # Errors
/// `EADDRINUSE` if the name is taken, `EMFILE` without descriptors.
pub fn listen(name: &str) -> Result<OwnedFd, Errno> {
    let socket = seqpacket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Connects to an abstract name.
///
/// # Errors
/// `ECONNREFUSED` if nobody listens, `EACCES` if the listener belongs to another user.
pub fn connect(name: &str) -> Result<OwnedFd, Errno> {
    let socket = seqpacket()?;
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    retry(|| rustix::net::connect(&socket, &address))?;
    check_peer(&socket)?;
    Ok(socket)
}

/// As [`connect`], without waiting for a listener that has as many connections to accept as it may: `None` then. What
/// is sent over the connection does not wait either.
///
/// # Errors
/// As [`connect`].
pub fn try_connect(name: &str) -> Result<Option<OwnedFd>, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .and_then(crate::above_standard)?;
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    match retry(|| rustix::net::connect(&socket, &address)) {
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno),
        Ok(()) => check_peer(&socket).map(|()| Some(socket)),
    }
}

/// Takes the next connection, or `None` if it came from another user or was given up.
///
/// # Errors
/// `EMFILE` without descriptors, `EAGAIN` if there is no connection.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    match retry(|| rustix::net::accept_with(listener, SocketFlags::CLOEXEC)) {
        Ok(socket) => Ok(check_peer(&socket).is_ok().then_some(socket)),
        Err(Errno::CONNABORTED) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The process at the other end, as the kernel saw it when the connection was made.
///
/// # Errors
/// Whatever `getsockopt` reports.
pub fn peer_pid(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.pid.as_raw_nonzero().get().unsigned_abs())
}

/// Sends one message, whole, with up to [`MAX_DESCRIPTORS`] descriptors.
///
/// # Errors
/// `EPIPE` or `ECONNRESET` if the other side is gone.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    retry(|| rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one message into `bytes`: its length (0: the other side closed) and its descriptors, close-on-exec.
///
/// # Errors
/// `EMSGSIZE` if the message or its descriptors did not fit.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        retry(|| rustix::net::recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC))?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    if received.flags.intersects(cut) {
        return Err(Errno::MSGSIZE);
    }
    Ok((received.bytes, descriptors))
}

fn seqpacket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .and_then(crate::above_standard)
}

fn check_peer(socket: &OwnedFd) -> Result<(), Errno> {
    let peer = rustix::net::sockopt::socket_peercred(socket.as_fd())?;
    if peer.uid == rustix::process::geteuid() { Ok(()) } else { Err(Errno::ACCESS) }
}

/// Repeats what a signal interrupted. Only for calls that end at once: a wait must come back to its caller.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        format!("forkless-test-{:016x}", crate::random_u64().unwrap())
    }

    #[test]
    fn a_message_arrives_whole_with_its_descriptor() {
        let name = name();
        let listener = listen(&name).unwrap();
        let client = connect(&name).unwrap();
        let server = accept(listener.as_fd()).unwrap().unwrap();
        assert_eq!(peer_pid(server.as_fd()).unwrap(), std::process::id());
        send(client.as_fd(), b"hello", &[listener.as_fd()]).unwrap();
        let mut bytes = [0; 16];
        let (length, descriptors) = receive(server.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..length], descriptors.len()), (&b"hello"[..], 1));
        drop(client);
        assert_eq!(receive(server.as_fd(), &mut bytes).unwrap().0, 0);
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error() {
        let name = name();
        let listener = listen(&name).unwrap();
        let client = connect(&name).unwrap();
        let server = accept(listener.as_fd()).unwrap().unwrap();
        send(client.as_fd(), &[0; 32], &[]).unwrap();
        assert_eq!(receive(server.as_fd(), &mut [0; 16]).unwrap_err(), Errno::MSGSIZE);
    }

    #[test]
    fn a_full_queue_keeps_nobody_waiting_who_only_tries() {
        let name = name();
        let listener = listen(&name).unwrap();
        let mut clients = Vec::new();
        while let Some(client) = try_connect(&name).unwrap() {
            clients.push(client);
            assert!(clients.len() < 1000);
        }
        accept(listener.as_fd()).unwrap().unwrap();
        assert!(try_connect(&name).unwrap().is_some());
    }

    #[test]
    fn a_name_nobody_listens_to_refuses() {
        assert_eq!(connect(&name()).unwrap_err(), Errno::CONNREFUSED);
        assert_eq!(try_connect(&name()).unwrap_err(), Errno::CONNREFUSED);
    }
}
