//! How values are looked at that are to become columns.

use std::borrow::Cow;

/// A value, as far as columns are concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// No value: `None`.
    Nothing,
    /// A part that a record does not have, though others beside it do.
    Missing,
    /// True or false.
    Truth(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A larger one: how many bytes it takes in two's complement.
    Big(usize),
    /// A floating-point number.
    Float(f64),
    /// Text: its length in bytes of UTF-8, in which halves of surrogate pairs are written as if they were characters.
    Text(usize),
    /// Bytes: how many.
    Bytes(usize),
    /// A list.
    List,
    /// A list that does not change.
    Tuple,
    /// Keys, each with a value.
    Map,
    /// Something that columns do not hold.
    Other,
}

/// A value that is to become part of a block. It is a reference: copying it is cheap, and what it refers to does not
/// change as long as columns are planned and written.
pub trait Item<'a>: Copy + 'a {
    /// What stands for a part that a record does not have.
    const MISSING: Self;

    /// What it is.
    fn look(self) -> Look;

    /// Which of all values it is: tells whether a container contains itself.
    fn identity(self) -> usize;

    /// Writes text, bytes or a big integer (little-endian) into as many bytes as [`Self::look`] said.
    fn write(self, into: &mut [u8]);

    /// The items of a list or tuple.
    fn items(self) -> Cow<'a, [Self]>;

    /// Calls `each` with every key of a map and its value.
    fn entries(self, each: &mut dyn FnMut(Self, Self));
}
