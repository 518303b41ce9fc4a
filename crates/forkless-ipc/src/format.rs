//! What the bytes of a message are, so that programs in different languages read each other.
//!
//! The tag of a message says it. Python's `forkless.Queue` and the `Sender` and `Receiver` of the crate `forkless` agree on
//! these; whoever uses a [`Channel`](crate::Channel) by itself may give tags any meaning.
//!
//! | tag | what | bytes |
//! |---|---|---|
//! | [`PICKLE`] | any object of Python | a pickle, of protocol 5 at most |
//! | [`BYTES`] | bytes | as they are |
//! | [`STR`] | text | UTF-8 |
//! | [`INT`] | an integer that fits | `i64`, little-endian |
//! | [`FLOAT`] | a number | `f64`, little-endian |
//! | [`NONE`], [`FALSE`], [`TRUE`] | `None`, `False`, `True` | none |

/// Any object, as a pickle.
pub const PICKLE: u64 = 0;
/// Bytes as they are.
pub const BYTES: u64 = 1;
/// Text, in UTF-8.
pub const STR: u64 = 2;
/// An integer: eight bytes, little-endian, in two's complement.
pub const INT: u64 = 3;
/// A floating-point number: eight bytes, little-endian.
pub const FLOAT: u64 = 4;
/// Nothing: `None`, or `()`.
pub const NONE: u64 = 5;
/// False.
pub const FALSE: u64 = 6;
/// True.
pub const TRUE: u64 = 7;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A pickle, unread.
    Pickle(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Text.
    Str(&'a str),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// Nothing.
    None,
    /// False or true.
    Bool(bool),
}

/// The tag and the bytes of a message do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A tag that stands for nothing here: the message comes from a later version, or from a channel that is used for
    /// something else.
    #[error("its tag, {0}, stands for no format that this version knows")]
    Tag(u64),
    /// Text that is not UTF-8.
    #[error("it is text, but not UTF-8")]
    Text,
    /// A number of another size, or bytes where there are none.
    #[error("it has {length} bytes where its tag, {tag}, stands for {expected}")]
    Length {
        /// The tag.
        tag: u64,
        /// Bytes that it has.
        length: usize,
        /// Bytes that it is to have.
        expected: usize,
    },
}

impl<'a> Value<'a> {
    /// What a message with this tag and these bytes is.
    ///
    /// # Errors
    /// [`Unreadable`] if nobody sends that.
    ///
    /// # Examples
    /// ```
    /// use forkless_ipc::format::{Value, INT, Unreadable};
    ///
    /// assert_eq!(Value::of(INT, &42_i64.to_le_bytes()), Ok(Value::Int(42)));
    /// assert_eq!(Value::of(INT, &[42]), Err(Unreadable::Length { tag: INT, length: 1, expected: 8 }));
    /// ```
    pub fn of(tag: u64, bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let short = |expected| Unreadable::Length { tag, length: bytes.len(), expected };
        let number = || bytes.try_into().map_err(|_| short(8));
        let nothing = |content| if bytes.is_empty() { Ok(content) } else { Err(short(0)) };
        match tag {
            PICKLE => Ok(Self::Pickle(bytes)),
            BYTES => Ok(Self::Bytes(bytes)),
            STR => str::from_utf8(bytes).map(Self::Str).map_err(|_| Unreadable::Text),
            INT => Ok(Self::Int(i64::from_le_bytes(number()?))),
            FLOAT => Ok(Self::Float(f64::from_le_bytes(number()?))),
            NONE => nothing(Self::None),
            FALSE => nothing(Self::Bool(false)),
            TRUE => nothing(Self::Bool(true)),
            _ => Err(Unreadable::Tag(tag)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tag_has_its_bytes() {
        let one = 1.0_f64.to_le_bytes();
        for (tag, bytes, content) in [
            (PICKLE, &b"N."[..], Value::Pickle(b"N.")),
            (BYTES, b"\xff", Value::Bytes(b"\xff")),
            (BYTES, b"", Value::Bytes(b"")),
            (STR, "é".as_bytes(), Value::Str("é")),
            (INT, &[0xff; 8], Value::Int(-1)),
            (FLOAT, &one, Value::Float(1.0)),
            (NONE, b"", Value::None),
            (FALSE, b"", Value::Bool(false)),
            (TRUE, b"", Value::Bool(true)),
        ] {
            assert_eq!(Value::of(tag, bytes), Ok(content));
        }
    }

    #[test]
    fn what_nobody_sends_is_an_error() {
        for (tag, bytes, text) in [
            (STR, &b"\xff"[..], "it is text, but not UTF-8"),
            (INT, b"1234567", "it has 7 bytes where its tag, 3, stands for 8"),
            (FLOAT, b"123456789", "it has 9 bytes where its tag, 4, stands for 8"),
            (NONE, b"x", "it has 1 bytes where its tag, 5, stands for 0"),
            (TRUE, b"x", "it has 1 bytes where its tag, 7, stands for 0"),
            (8, b"", "its tag, 8, stands for no format that this version knows"),
            (u64::MAX, b"", "its tag, 18446744073709551615, stands for no format that this version knows"),
        ] {
            assert_eq!(Value::of(tag, bytes).unwrap_err().to_string(), text);
        }
    }
}
