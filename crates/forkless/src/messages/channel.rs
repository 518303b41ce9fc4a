//! The two ends of a channel.

use std::fmt::{Debug, Formatter};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use forkless_ipc::{Channel, Claim, Closing, Content, Received, Sent};
use forkless_shm::{Arena, Handle, Lease, Waited};
use forkless_sys::time::Deadline;
use serde::de::DeserializeOwned;

use super::decode::decode;
use super::{DecodeError, Outgoing, RecvError, SendError};
use crate::shared::sealed::Object;
use crate::wait::until;
use crate::{Error, arena};

/// A new channel without limit, in this process's [`arena`](crate::arena()): [`Sender::send`] never waits.
///
/// # Errors
/// [`Error::Arena`] if there is no arena, or no room in it.
///
/// # Examples
/// Between two processes:
/// ```standalone_crate
/// use forkless::messages::{self, Receiver, Sender};
/// use forkless::process::Command;
///
/// fn main() -> Result<(), forkless::Error> {
///     if std::env::args().any(|argument| argument == "--child") {
///         let questions: Receiver<Vec<u64>> = forkless::inherited("questions")?;
///         let answers: Sender<u64> = forkless::inherited("answers")?;
///         answers.send(&questions.recv()?.iter().sum::<u64>())?;
///         return Ok(());
///     }
///     let (questions, for_child) = messages::channel::<Vec<u64>>()?;
///     let (from_child, answers) = messages::channel::<u64>()?;
///     let mut command = Command::current_exe();
///     command.arg("--child").pass("questions", &for_child).pass("answers", &from_child);
///     let mut child = command.spawn()?;
///     questions.send(&vec![1, 2, 39])?;
///     assert_eq!(answers.recv()?, 42);
///     assert!(child.wait()?.success());
///     Ok(())
/// }
/// ```
pub fn channel<T>() -> Result<(Sender<T>, Receiver<T>), Error> {
    ends(0)
}

/// A new channel in which at most this many messages wait; at least one, and at most `i32::MAX`.
///
/// # Errors
/// As [`channel`].
///
/// # Examples
/// ```
/// use forkless::messages::{self, SendError};
///
/// # fn main() -> Result<(), forkless::Error> {
/// let (sender, receiver) = messages::bounded(1)?;
/// sender.send("one")?;
/// assert!(matches!(sender.try_send("two"), Err(SendError::Full)));
/// let first: String = receiver.recv()?;
/// assert_eq!(first, "one");
/// # Ok(())
/// # }
/// ```
pub fn bounded<T>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), Error> {
    ends(u32::try_from(capacity).unwrap_or(u32::MAX).clamp(1, i32::MAX as u32))
}

fn ends<T>(max_size: u32) -> Result<(Sender<T>, Receiver<T>), Error> {
    let end = End::new(Channel::create(arena()?, max_size)?)?;
    Ok((Sender { end: end.clone(), values: PhantomData }, Receiver::of(end)))
}

/// What both ends have.
#[derive(Clone)]
struct End {
    channel: Arc<Channel>,
    handle: Handle,
}

impl End {
    fn new(channel: Channel) -> Result<Self, Error> {
        Ok(Self { handle: channel.lease().handle().map_err(Error::from)?, channel: Arc::new(channel) })
    }

    fn capacity(&self) -> Result<Option<usize>, Error> {
        Ok(Some(self.channel.max_size()? as usize).filter(|size| *size > 0))
    }

    fn debug(&self, name: &str, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct(name);
        fields.field("handle", &format_args!("{}", self.handle));
        if let (Ok(length), Ok(capacity)) = (self.channel.len(), self.capacity()) {
            fields.field("len", &length).field("capacity", &capacity);
        }
        fields.finish()
    }
}

/// What a [`Sender`] and a [`Receiver`] have in common.
macro_rules! end {
    ($type:ident, $open:expr) => {
        impl<T> $type<T> {
            /// Opens an end of the channel that a handle names, which lives from now on at least as long as what this
            /// returns. The handle may be that of a `forkless.Queue` of Python.
            ///
            /// That both sides mean the same type is not looked at here: a message that is no `T` is an
            /// [error](RecvError::Decode) when it is received.
            ///
            /// # Errors
            /// [`Error::Arena`] if it is gone, belongs to another process tree, or is something else.
            pub fn open(handle: Handle) -> Result<Self, Error> {
                crate::tree::open(handle)
            }

            /// The channel's name, which travels as text or in a message, and opens either end of it in any process of the
            /// tree for as long as somebody has one.
            #[must_use]
            pub fn handle(&self) -> Handle {
                self.end.handle
            }

            /// What keeps the channel alive.
            #[must_use]
            pub fn lease(&self) -> &Lease {
                self.end.channel.lease()
            }

            /// How many messages wait. By the time this returns that may have changed.
            ///
            /// # Errors
            /// [`Error::Arena`] if its memory is damaged.
            pub fn len(&self) -> Result<usize, Error> {
                Ok(self.end.channel.len()? as usize)
            }

            /// Whether no message waits. By the time this returns that may have changed.
            ///
            /// # Errors
            /// [`Error::Arena`] if its memory is damaged.
            pub fn is_empty(&self) -> Result<bool, Error> {
                Ok(self.len()? == 0)
            }

            /// Closes the channel for all processes: nobody sends any more, and receivers come to an end once they have
            /// received what was sent before. In Python it is `shutdown`.
            ///
            /// # Errors
            /// [`Error::Arena`] if its memory is damaged.
            ///
            /// # Examples
            /// ```
            /// # fn main() -> Result<(), forkless::Error> {
            /// let (sender, receiver) = forkless::messages::channel::<u32>()?;
            /// sender.send(&1)?;
            /// sender.close()?;
            /// assert!(sender.send(&2).is_err());
            /// assert_eq!(receiver.iter().collect::<Result<Vec<_>, _>>()?, [1]);
            /// # Ok(())
            /// # }
            /// ```
            pub fn close(&self) -> Result<(), Error> {
                Ok(self.end.channel.close(Closing::Graceful)?)
            }

            /// Whether somebody has [closed](Self::close) it.
            ///
            /// # Errors
            /// [`Error::Arena`] if its memory is damaged.
            pub fn is_closed(&self) -> Result<bool, Error> {
                Ok(self.end.channel.is_closed()?)
            }

            /// How many messages may wait, unless any number may.
            ///
            /// # Errors
            /// [`Error::Arena`] if its memory is damaged.
            pub fn capacity(&self) -> Result<Option<usize>, Error> {
                self.end.capacity()
            }
        }

        impl<T> Object for $type<T> {
            const KIND: u8 = Channel::KIND;

            fn lease(&self) -> &Lease {
                Self::lease(self)
            }

            fn open_in(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
                let open: fn(End) -> Self = $open;
                Ok(open(End::new(Channel::open(arena, handle)?)?))
            }
        }

        impl<T> Debug for $type<T> {
            fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
                self.end.debug(stringify!($type), formatter)
            }
        }
    };
}

/// Sends values. In Python, this and the [`Receiver`] are a `forkless.Queue`.
///
/// When a method says that a value is sent, its message is in shared memory, and survives this process.
pub struct Sender<T> {
    end: End,
    values: PhantomData<fn(T)>,
}

end!(Sender, |end| Self { end, values: PhantomData });

impl<T> Sender<T> {
    /// Sends a value, waiting for room if the channel is [bounded].
    ///
    /// Text and bytes need not be moved into a [`String`] or a [`Vec`] for it: see [`Outgoing`].
    ///
    /// # Errors
    /// [`SendError::Closed`] if somebody has [closed](Self::close) the channel, [`SendError::Encode`] if the value has no
    /// place in a message, [`SendError::Failed`] if there is no room in the arena.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), forkless::Error> {
    /// let (sender, receiver) = forkless::messages::channel::<Vec<u8>>()?;
    /// sender.send(b"bytes as they are")?;
    /// assert_eq!(receiver.recv()?, b"bytes as they are");
    /// # Ok(())
    /// # }
    /// ```
    pub fn send<Q: Outgoing<T> + ?Sized>(&self, value: &Q) -> Result<(), SendError> {
        self.send_deadline(value, Deadline::NEVER)
    }

    /// Sends a value if there is room.
    ///
    /// # Errors
    /// [`SendError::Full`] if there is none; otherwise as [`send`](Self::send).
    pub fn try_send<Q: Outgoing<T> + ?Sized>(&self, value: &Q) -> Result<(), SendError> {
        self.send_timeout(value, Duration::ZERO).map_err(|error| match error {
            SendError::Timeout => SendError::Full,
            other => other,
        })
    }

    /// As [`send`](Self::send), but gives up after this long.
    ///
    /// # Errors
    /// [`SendError::Timeout`] if there was no room; otherwise as [`send`](Self::send).
    pub fn send_timeout<Q: Outgoing<T> + ?Sized>(&self, value: &Q, timeout: Duration) -> Result<(), SendError> {
        self.send_deadline(value, Deadline::after(timeout))
    }

    /// As [`send`](Self::send), but gives up at this moment.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline<Q: Outgoing<T> + ?Sized>(
        &self,
        value: &Q,
        deadline: impl Into<Deadline>,
    ) -> Result<(), SendError> {
        let (tag, bytes) = value.encode()?;
        let content = Content { parts: &[&bytes], ..Content::default() };
        let mut outbox = self.end.channel.pack(tag, &content).map_err(Error::from)?;
        let waited = (self.end.channel.lease(), Waited::QueuePut);
        let sent = until(deadline.into(), waited, |bound| {
            Ok(match outbox.send_within(bound)? {
                Sent::Sent => Some(Ok(())),
                Sent::Closed => Some(Err(SendError::Closed)),
                Sent::Full | Sent::Interrupted => None,
            })
        })?;
        sent.unwrap_or(Err(SendError::Timeout))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), values: PhantomData }
    }
}

/// Receives values. In Python, this and the [`Sender`] are a `forkless.Queue`.
pub struct Receiver<T> {
    end: End,
    max_bytes: usize,
    values: PhantomData<fn() -> T>,
}

end!(Receiver, Self::of);

impl<T> Receiver<T> {
    /// What a message may be long, unless [told otherwise](Self::set_max_bytes): 1 GiB.
    pub const MAX_BYTES: usize = 1 << 30;

    fn of(end: End) -> Self {
        Self { end, max_bytes: Self::MAX_BYTES, values: PhantomData }
    }

    /// How long a message may be that this end receives, in bytes. A longer one is an [error](RecvError::Decode), and is
    /// not copied out of the arena.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }
}

impl<T: DeserializeOwned + 'static> Receiver<T> {
    /// Waits for the next message and receives it.
    ///
    /// # Errors
    /// [`RecvError::Closed`] if somebody has [closed](Self::close) the channel and nothing is left, [`RecvError::Decode`] if
    /// the message is no `T`, [`RecvError::Failed`] if its memory is damaged.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_deadline(Deadline::NEVER)
    }

    /// Receives the next message if there is one.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; otherwise as [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_timeout(Duration::ZERO).map_err(|error| match error {
            RecvError::Timeout => RecvError::Empty,
            other => other,
        })
    }

    /// As [`recv`](Self::recv), but gives up after this long.
    ///
    /// # Errors
    /// [`RecvError::Timeout`] if there was none; otherwise as [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_deadline(Deadline::after(timeout))
    }

    /// As [`recv`](Self::recv), but gives up at this moment.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: impl Into<Deadline>) -> Result<T, RecvError> {
        let waited = (self.end.channel.lease(), Waited::QueueGet);
        let received = until(deadline.into(), waited, |bound| {
            Ok(match self.end.channel.receive_within(bound, Claim::Nothing, None)? {
                Received::Message(message) => Some(Ok(message)),
                Received::Closed => Some(Err(RecvError::Closed)),
                Received::Empty | Received::Interrupted => None,
            })
        })?;
        let message = received.unwrap_or(Err(RecvError::Timeout))?;
        let length = message.length().map_err(Error::from)?;
        if length > self.max_bytes {
            let reason = format!("it is longer than this receiver accepts ({} bytes)", self.max_bytes);
            return Err(DecodeError::new::<T>(message.tag, Vec::new(), length, reason).into());
        }
        Ok(decode(message.tag, message.bytes().map_err(Error::from)?)?)
    }

    /// Receives until the channel is [closed](Self::close) and nothing is left: waits for each message. What is no `T` is
    /// an item that is an error; after [`RecvError::Failed`] comes nothing more.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), forkless::Error> {
    /// let (sender, receiver) = forkless::messages::channel::<u32>()?;
    /// for number in 1..4 {
    ///     sender.send(&number)?;
    /// }
    /// let squares: Result<Vec<_>, _> = receiver.iter().take(3).map(|number| number.map(|n| n * n)).collect();
    /// assert_eq!(squares?, [1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self, failed: false }
    }

    /// Receives what there is, without waiting, and ends when there is nothing more.
    #[must_use]
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self, failed: false }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), max_bytes: self.max_bytes, values: PhantomData }
    }
}

impl<'a, T: DeserializeOwned + 'static> IntoIterator for &'a Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// See [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
    failed: bool,
}

impl<T: DeserializeOwned + 'static> Iterator for Iter<'_, T> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        next(&mut self.failed, || self.receiver.recv())
    }
}

/// See [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
    failed: bool,
}

impl<T: DeserializeOwned + 'static> Iterator for TryIter<'_, T> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        next(&mut self.failed, || self.receiver.try_recv())
    }
}

fn next<T>(failed: &mut bool, receive: impl FnOnce() -> Result<T, RecvError>) -> Option<Result<T, RecvError>> {
    if *failed {
        return None;
    }
    let received = receive();
    *failed = matches!(received, Err(RecvError::Failed(_)));
    Some(received).filter(|received| !matches!(received, Err(RecvError::Empty | RecvError::Closed)))
}
