//! Lists, rows and dictionaries of plain values as columns in one block of bytes, which are read where they are.
//!
//! A list of numbers becomes an array, a list of strings an array of ends and their bytes one after the other, a list of
//! rows a column for each of their parts, whatever is nested in them columns again. So what was millions of objects is a
//! few long arrays, and reading one item looks at a few words of them: nothing is unpacked, and nothing is written. That
//! is what makes such a block good for memory that many processes have in common.
//!
//! ```
//! use forkless_columns::{Column, Value, encode};
//!
//! let rows = Value::List(vec![
//!     Value::Tuple(vec![Value::Int(1), Value::Text("one".into())]),
//!     Value::Tuple(vec![Value::Int(2), Value::Text("two".into())]),
//! ]);
//! let block = encode(&rows)?;
//! let column = Column::root(&block)?;
//! assert_eq!(column.child(1)?.text(0)?, b"one");
//! assert_eq!(Value::read_list(column)?, rows);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is written need not be a [`Value`]: [`Item`] is how this crate looks at values, and whoever has others, an
//! interpreter's objects for one, says how to look at them.
//!
//! The idea of columns with ends, and of a union of columns for values of several kinds, is that of Apache Arrow's columnar
//! format; text and bytes lie as in its large binary layout. What Arrow has no use for is added: tuples beside lists,
//! integers of any size, missing parts of a row, and a table by which a dictionary finds a key.
//!
//! # The block
//!
//! ```text
//! +0   magic   +4 version   +8 bytes of all   +16 zero
//! +64  the root, a node
//! ...  other nodes and their arrays, each array at a multiple of 64, all after the node that they belong to
//!
//! node:  +0 kind   +8 items   +16 array   +24 heap   +32 bytes of the heap   +40 first child   +48 children
//! ```
//!
//! | kind | array | heap | children |
//! |---|---|---|---|
//! | nothing, missing | a byte for each, whatever it is | | |
//! | truth, integer, float | the items: 1, 8, 8 bytes each | | |
//! | text, bytes, big integer | where each ends, 8 bytes; the first word is 0 | their bytes | |
//! | list, sequence | where each ends in the child | | the items of all |
//! | tuple | | | one for each place, of as many items |
//! | record | | | the names; then one for each name, of as many items |
//! | map | where each ends in the children | a table of keys | keys, values |
//! | union | of which child each item is, 1 byte | its place there, 4 bytes | |
//!
//! All numbers are little-endian. A block comes from outside: kinds, places and lengths are checked when a column is
//! opened, and ends when they are used, so a damaged one is an [`Error`], and never a read outside of the block.

mod item;
mod key;
mod plan;
mod read;
mod value;
mod write;

pub use item::{Item, Look};
pub use key::Key;
pub use plan::{Plan, Refusal};
pub use read::{Column, Kind};
pub use value::{Value, encode};

/// What can be wrong with a block, or with what was to become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A number in the block does not make sense.
    #[error("columns in shared memory are damaged: {0}")]
    Damaged(&'static str),
    /// Not a block of columns, or one of another version.
    #[error("these are no columns that this version of forkless can read")]
    Foreign,
    /// There is nothing at this place, or it is of another kind.
    #[error("there is no such item: {0}")]
    Absent(&'static str),
}
