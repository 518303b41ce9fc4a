//! What a pool of workers shares with the process that owns it: the tasks that wait, those that are on their way, what
//! came back, and what each worker is doing.
//!
//! [`Schedule`] decides, without the operating system, which task is next. [`Dispatch`] moves tasks and answers through
//! two [channels](forkless_ipc::Channel). [`Board`] is the memory in which workers write down what they are doing: it is how
//! their owner can tell, from outside, that a task takes too long.
//!
//! Who the workers are, and what is to be done about their deaths, is for the owner to say.

mod board;
mod dispatch;
mod schedule;

pub use board::{Accepts, Board, Entry};
pub use dispatch::{Arrived, Dispatch, Kept, Order, Payload, Tag};
pub use schedule::{Rank, Schedule, Stage};
