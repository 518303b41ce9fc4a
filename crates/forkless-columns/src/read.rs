//! Columns of a block, read where they are.

use std::ops::Range;

use crate::write::{HEAD, MAGIC, NODE, VERSION};
use crate::{Error, Key};

/// What the items of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No values.
    Nothing = 0,
    /// Parts that records do not have.
    Missing = 1,
    /// True or false.
    Truth = 2,
    /// Integers of 64 bits.
    Int = 3,
    /// Floating-point numbers of 64 bits.
    Float = 4,
    /// Larger integers: two's complement, the lowest byte first.
    Big = 5,
    /// Text: UTF-8, but for halves of surrogate pairs.
    Text = 6,
    /// Bytes.
    Bytes = 7,
    /// Lists.
    List = 8,
    /// Tuples of different lengths.
    Sequence = 9,
    /// Tuples of one length.
    Tuple = 10,
    /// Maps with names of much the same set.
    Record = 11,
    /// Maps.
    Map = 12,
    /// Items of several kinds.
    Union = 13,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Nothing,
        Self::Missing,
        Self::Truth,
        Self::Int,
        Self::Float,
        Self::Big,
        Self::Text,
        Self::Bytes,
        Self::List,
        Self::Sequence,
        Self::Tuple,
        Self::Record,
        Self::Map,
        Self::Union,
    ];

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Bytes of an item in the array of its column; none for those that have no array.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            // Nothing takes a byte, so that no damaged count promises more items than there are bytes.
            Self::Nothing | Self::Missing | Self::Truth | Self::Union => 1,
            Self::Tuple | Self::Record => 0,
            _ => 8,
        }
    }

    /// Whether the array has one word more: where the first item begins.
    fn has_ends(self) -> bool {
        matches!(self, Self::Big | Self::Text | Self::Bytes | Self::List | Self::Sequence | Self::Map)
    }
}

/// A column in a block. It is a few words that say where: copying it is cheap.
#[derive(Debug, Clone, Copy)]
pub struct Column<'b> {
    block: &'b [u8],
    at: usize,
    kind: Kind,
    count: usize,
    array: usize,
    heap: (usize, usize),
    children: (usize, usize),
}

impl<'b> Column<'b> {
    /// The column that a block is.
    ///
    /// # Errors
    /// [`Error::Foreign`] if it is no such block, [`Error::Damaged`].
    pub fn root(block: &'b [u8]) -> Result<Self, Error> {
        let word = |at: usize| block.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        if word(0) != Some(MAGIC) || word(4) != Some(VERSION) {
            return Err(Error::Foreign);
        }
        if number(block, 8)? > block.len() {
            return Err(Error::Damaged("the size"));
        }
        Self::at(block, HEAD)
    }

    /// The column whose node is there; see [`Self::place`].
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn at(block: &'b [u8], at: usize) -> Result<Self, Error> {
        let node = at.checked_add(NODE).and_then(|end| block.get(at..end)).ok_or(Error::Damaged("a node"))?;
        let field = |index: usize| number(node, 8 * index);
        let kind = Kind::from_number(field(0)? as u64).ok_or(Error::Damaged("a kind"))?;
        let (count, array, heap) = (field(1)?, field(2)?, (field(3)?, field(4)?));
        let children = (field(5)?, field(6)?);
        let items = count.checked_add(usize::from(kind.has_ends())).and_then(|items| items.checked_mul(kind.width()));
        let inside = |begin: usize, length: Option<usize>| {
            length.and_then(|length| begin.checked_add(length)).is_some_and(|end| end <= block.len())
        };
        let children_needed = match kind {
            Kind::Record | Kind::Map => 2,
            Kind::Tuple | Kind::List | Kind::Sequence | Kind::Union => 1,
            _ => 0,
        };
        let heap_needed = if kind == Kind::Union { count.checked_mul(4) } else { Some(0) };
        if !inside(array, items)
            || !inside(heap.0, Some(heap.1))
            || heap_needed.is_none_or(|needed| heap.1 < needed)
            || !inside(children.0, children.1.checked_mul(NODE))
            || children.1 < children_needed
            // Children come after their parents, so whoever goes down gets to an end.
            || (children.1 > 0 && children.0 <= at)
        {
            return Err(Error::Damaged("the place of an array"));
        }
        Ok(Self { block, at, kind, count, array, heap, children })
    }

    /// Where its node is in the block, in bytes.
    #[must_use]
    pub fn place(&self) -> usize {
        self.at
    }

    /// What its items are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many items it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many columns are below it.
    #[must_use]
    pub fn children(&self) -> usize {
        self.children.1
    }

    /// A column below it.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Damaged`].
    pub fn child(&self, index: usize) -> Result<Self, Error> {
        if index >= self.children.1 {
            return Err(Error::Absent("a column"));
        }
        let child = Self::at(self.block, self.children.0 + NODE * index)?;
        let of_each = match self.kind {
            Kind::Tuple => true,
            Kind::Record => index > 0,
            _ => false,
        };
        // What every other use relies on: an item of the parent has one in each of these.
        if of_each && child.count < self.count { Err(Error::Damaged("the length of a column")) } else { Ok(child) }
    }

    /// Where the array of its items begins in the block.
    #[must_use]
    pub fn array(&self) -> usize {
        self.array
    }

    /// # Errors
    /// [`Error::Absent`] if there is no item with this index.
    pub fn check(&self, index: usize) -> Result<(), Error> {
        if index < self.count { Ok(()) } else { Err(Error::Absent("an item after the last one")) }
    }

    fn word(&self, kind: Kind, index: usize) -> Result<[u8; 8], Error> {
        self.check(index)?;
        if self.kind != kind {
            return Err(Error::Absent("an item of this kind"));
        }
        let at = self.array + 8 * index;
        self.block.get(at..at + 8).and_then(|word| word.try_into().ok()).ok_or(Error::Damaged("an array"))
    }

    /// An item of a column of integers.
    ///
    /// # Errors
    /// [`Error::Absent`].
    pub fn int(&self, index: usize) -> Result<i64, Error> {
        self.word(Kind::Int, index).map(i64::from_le_bytes)
    }

    /// An item of a column of floating-point numbers.
    ///
    /// # Errors
    /// [`Error::Absent`].
    pub fn float(&self, index: usize) -> Result<f64, Error> {
        self.word(Kind::Float, index).map(|word| f64::from_bits(u64::from_le_bytes(word)))
    }

    /// An item of a column of truths.
    ///
    /// # Errors
    /// [`Error::Absent`].
    pub fn truth(&self, index: usize) -> Result<bool, Error> {
        self.check(index)?;
        match (self.kind, self.block.get(self.array + index)) {
            (Kind::Truth, Some(byte)) => Ok(*byte != 0),
            _ => Err(Error::Absent("an item of this kind")),
        }
    }

    /// The bytes of an item of text, of bytes, or of a big integer.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Damaged`].
    pub fn text(&self, index: usize) -> Result<&'b [u8], Error> {
        if !matches!(self.kind, Kind::Text | Kind::Bytes | Kind::Big) {
            return Err(Error::Absent("an item of this kind"));
        }
        let range = self.ends(index)?;
        let heap = &self.block[self.heap.0..self.heap.0 + self.heap.1];
        heap.get(range).ok_or(Error::Damaged("where text ends"))
    }

    /// Where the items of a list, a sequence or a map are in the columns below.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Damaged`].
    pub fn range(&self, index: usize) -> Result<Range<usize>, Error> {
        if !matches!(self.kind, Kind::List | Kind::Sequence | Kind::Map) {
            return Err(Error::Absent("an item of this kind"));
        }
        let range = self.ends(index)?;
        for child in 0..if self.kind == Kind::Map { 2 } else { 1 } {
            if self.child(child)?.count < range.end {
                return Err(Error::Damaged("where a list ends"));
            }
        }
        Ok(range)
    }

    fn ends(&self, index: usize) -> Result<Range<usize>, Error> {
        self.check(index)?;
        let end = |index: usize| number(self.block, self.array + 8 * index);
        let (begin, end) = (end(index)?, end(index + 1)?);
        if begin > end { Err(Error::Damaged("where an item ends")) } else { Ok(begin..end) }
    }

    /// The column that an item of a union is in, and its place there.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Damaged`].
    pub fn member(&self, index: usize) -> Result<(Self, usize), Error> {
        self.check(index)?;
        if self.kind != Kind::Union {
            return Err(Error::Absent("an item of this kind"));
        }
        let member = self.child(usize::from(self.block[self.array + index]))?;
        let place = self.table_word(index)?;
        if member.kind == Kind::Union || place >= member.count {
            return Err(Error::Damaged("a union"));
        }
        Ok((member, place))
    }

    fn table_word(&self, index: usize) -> Result<usize, Error> {
        let at = self.heap.0 + 4 * index;
        let word = self.block.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map(|word| u32::from_le_bytes(word) as usize).ok_or(Error::Damaged("a table"))
    }

    /// Which column of a record has this name; the first is that of the names, so it is at least 1.
    ///
    /// # Errors
    /// [`Error::Absent`] if it is no column of records, [`Error::Damaged`].
    pub fn named(&self, name: &[u8]) -> Result<Option<usize>, Error> {
        let names = self.names()?;
        for index in 0..names.count {
            if names.text(index)? == name {
                return Ok(Some(index + 1));
            }
        }
        Ok(None)
    }

    /// The names of records: a column of text.
    ///
    /// # Errors
    /// [`Error::Absent`] if it is no column of records, [`Error::Damaged`].
    pub fn names(&self) -> Result<Self, Error> {
        if self.kind != Kind::Record {
            return Err(Error::Absent("an item of this kind"));
        }
        let names = self.child(0)?;
        let fits = names.count + 1 == self.children.1 && (names.kind == Kind::Text || names.count == 0);
        if fits { Ok(names) } else { Err(Error::Damaged("the names of a record")) }
    }

    /// Whether this item is a part that its record does not have.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Damaged`].
    pub fn is_missing(&self, index: usize) -> Result<bool, Error> {
        self.check(index)?;
        match self.kind {
            Kind::Missing => Ok(true),
            Kind::Union => Ok(self.member(index)?.0.kind == Kind::Missing),
            _ => Ok(false),
        }
    }

    /// Where in the columns below a map has this key.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Damaged`].
    pub fn find(&self, index: usize, key: &Key) -> Result<Option<usize>, Error> {
        let range = self.range(index)?;
        let slots = self.heap.1 / 4;
        if !slots.is_power_of_two() {
            return Err(Error::Damaged("the table of a map"));
        }
        let (keys, mut other) = (self.child(0)?, Key::new());
        let mut slot = key.hash(index) as usize & (slots - 1);
        for _ in 0..slots {
            let Some(place) = self.table_word(slot)?.checked_sub(1) else { return Ok(None) };
            if range.contains(&place) {
                other.set_from(keys, place)?;
                if other == *key {
                    return Ok(Some(place));
                }
            }
            slot = (slot + 1) & (slots - 1);
        }
        Ok(None)
    }
}

/// A number of the block that counts or places something in memory.
fn number(block: &[u8], at: usize) -> Result<usize, Error> {
    let word = at.checked_add(8).and_then(|end| block.get(at..end)).and_then(|word| word.try_into().ok());
    let number = word.map(u64::from_le_bytes).ok_or(Error::Damaged("a number"))?;
    usize::try_from(number).map_err(|_| Error::Damaged("a number"))
}
