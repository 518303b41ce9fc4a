//! Messages: values of any type, from any process to any other.
//!
//! A [`channel`] has a [`Sender`] and a [`Receiver`], used as those of [`std::sync::mpsc`] are. Both can be
//! [cloned](Clone), and each other process [inherits](crate::inherited) or [opens](Sender::open) its own, so that any
//! number of processes and threads send, and any number receive; each message goes to one of them.
//!
//! ```
//! use forkless::messages;
//!
//! # fn main() -> Result<(), forkless::Error> {
//! let (sender, receiver) = messages::channel::<(String, f64)>()?;
//! sender.send(&("pi".to_owned(), 3.14))?;
//! assert_eq!(receiver.recv()?.0, "pi");
//! # Ok(())
//! # }
//! ```
//!
//! # What travels
//!
//! Whatever serde serialises. In Python it is a `forkless.Queue`, for which the values are plain ones:
//!
//! | in Rust | in Python |
//! |---|---|
//! | `bool`, integers, `f64`, [`String`], `()`, `None` | `bool`, `int`, `float`, `str`, `None` |
//! | [`Vec<u8>`](Vec) as the whole message, or what serde calls bytes | `bytes` |
//! | structs, maps | `dict` |
//! | [`Vec`], sets | `list`; received also from a `tuple`, a `set`, and, as numbers, `bytes` |
//! | tuples | `tuple`; received also from a `list` |
//! | enums | `"Variant"`, or `{"Variant": ...}` |
//!
//! Python's own objects have no counterpart here: to receive one is a [`DecodeError`], which names its class.
//!
//! # When a process dies
//!
//! A message is sent whole or not at all, survives its sender, and is received once. What a receiver had received when it
//! died is gone with it. A channel has no owner: it ends when somebody [closes](Sender::close) it, and nobody is told when
//! its last sender is gone. Whoever waits for the message of one process in particular waits with a timeout, and looks
//! after that process.
//!
//! # What is received is input from outside
//!
//! A message is checked before it is a value. It may be as long as the [receiver says](Receiver::set_max_bytes), may be
//! nested 128 deep, and takes memory in proportion to its length, whatever its bytes say.

mod channel;
mod decode;
mod encode;
mod error;
mod pickle;

pub use channel::{Iter, Receiver, Sender, TryIter, bounded, channel};
pub use decode::DecodeError;
pub use encode::{EncodeError, Outgoing};
pub use error::{RecvError, SendError};
