//! Why nothing was sent or received.

use super::{DecodeError, EncodeError};
use crate::Error;

/// Why a value was not sent. The caller has it still.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// As many messages wait as may: from [`try_send`](super::Sender::try_send).
    #[error("the channel is full")]
    Full,
    /// As many messages wait as may, and did for as long as the caller wanted to wait: from
    /// [`send_timeout`](super::Sender::send_timeout) and [`send_deadline`](super::Sender::send_deadline).
    #[error("the channel was full for as long as this process waited to send")]
    Timeout,
    /// Somebody has [closed](super::Sender::close) the channel, in this process or another.
    #[error("the channel is closed: nobody sends through it any more")]
    Closed,
    /// The value has no place in a message.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Shared memory is full or damaged.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Why no value was received.
#[derive(Debug, thiserror::Error)]
pub enum RecvError {
    /// No message waits: from [`try_recv`](super::Receiver::try_recv).
    #[error("the channel is empty")]
    Empty,
    /// No message came for as long as the caller wanted to wait: from [`recv_timeout`](super::Receiver::recv_timeout) and
    /// [`recv_deadline`](super::Receiver::recv_deadline).
    #[error("no message came for as long as this process waited to receive")]
    Timeout,
    /// Somebody has [closed](super::Receiver::close) the channel, in this process or another, and nothing is left in it.
    #[error("the channel is closed, and nothing is left in it")]
    Closed,
    /// A message was received that is no value of the type. It is out of the channel, which goes on.
    #[error(transparent)]
    Decode(#[from] Box<DecodeError>),
    /// Shared memory is damaged.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Failed(error) => error,
            other => Self::NotSent(other.to_string()),
        }
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Failed(error) => error,
            other => Self::NotReceived(other.to_string()),
        }
    }
}
