//! Plain values, for programs in Rust.

use std::borrow::Cow;

use crate::{Column, Error, Item, Kind, Look, Plan, Refusal};

/// A plain value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Nothing,
    /// True or false.
    Truth(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A larger one, in two's complement, the lowest byte first.
    Big(Vec<u8>),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A list that does not change.
    Tuple(Vec<Value>),
    /// Keys, each with a value, in their order; each key once.
    Map(Vec<(Value, Value)>),
}

/// Makes a block of a value: of a list, a column of its items; of any other, a column with that one item.
///
/// # Errors
/// [`Refusal`] for keys that cannot be keys, and for what is nested too deep.
pub fn encode(value: &Value) -> Result<Vec<u8>, Refusal> {
    let items = match value {
        Value::List(items) => items.iter().map(Some).collect(),
        other => vec![Some(other)],
    };
    let plan = Plan::of(&items[..])?;
    let mut block = vec![0; plan.size()];
    plan.write(&mut |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes));
    Ok(block)
}

impl<'a> Item<'a> for Option<&'a Value> {
    const MISSING: Self = None;

    fn look(self) -> Look {
        match self {
            None => Look::Missing,
            Some(Value::Nothing) => Look::Nothing,
            Some(Value::Truth(truth)) => Look::Truth(*truth),
            Some(Value::Int(number)) => Look::Int(*number),
            Some(Value::Big(bytes)) => Look::Big(bytes.len()),
            Some(Value::Float(number)) => Look::Float(*number),
            Some(Value::Text(text)) => Look::Text(text.len()),
            Some(Value::Bytes(bytes)) => Look::Bytes(bytes.len()),
            Some(Value::List(_)) => Look::List,
            Some(Value::Tuple(_)) => Look::Tuple,
            Some(Value::Map(_)) => Look::Map,
        }
    }

    fn identity(self) -> usize {
        self.map_or(0, |value| std::ptr::from_ref(value).addr())
    }

    fn write(self, into: &mut [u8]) {
        match self {
            Some(Value::Text(text)) => into.copy_from_slice(text.as_bytes()),
            Some(Value::Bytes(bytes) | Value::Big(bytes)) => into.copy_from_slice(bytes),
            _ => {}
        }
    }

    fn items(self) -> Cow<'a, [Self]> {
        match self {
            Some(Value::List(items) | Value::Tuple(items)) => items.iter().map(Some).collect(),
            _ => Cow::Borrowed(&[]),
        }
    }

    fn entries(self, each: &mut dyn FnMut(Self, Self)) {
        if let Some(Value::Map(entries)) = self {
            entries.iter().for_each(|(key, value)| each(Some(key), Some(value)));
        }
    }
}

impl Value {
    /// The list that a column is.
    ///
    /// # Errors
    /// [`Error`] if the block is damaged.
    pub fn read_list(column: Column<'_>) -> Result<Self, Error> {
        (0..column.len()).map(|index| Self::read_item(column, index)).collect::<Result<_, _>>().map(Self::List)
    }

    /// An item of a column, with all that is in it.
    ///
    /// # Errors
    /// [`Error::Absent`] outside of the column, and for parts that a record does not have; others if the block is damaged.
    pub fn read_item(column: Column<'_>, index: usize) -> Result<Self, Error> {
        let within = |column: Column<'_>, range: std::ops::Range<usize>| {
            range.map(|place| Self::read_item(column, place)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match column.kind() {
            Kind::Nothing => Self::Nothing,
            Kind::Missing => return Err(Error::Absent("a part of a record")),
            Kind::Truth => Self::Truth(column.truth(index)?),
            Kind::Int => Self::Int(column.int(index)?),
            Kind::Float => Self::Float(column.float(index)?),
            Kind::Big => Self::Big(column.text(index)?.to_vec()),
            Kind::Bytes => Self::Bytes(column.text(index)?.to_vec()),
            Kind::Text => Self::Text(String::from_utf8_lossy(column.text(index)?).into_owned()),
            Kind::List => Self::List(within(column.child(0)?, column.range(index)?)?),
            Kind::Sequence => Self::Tuple(within(column.child(0)?, column.range(index)?)?),
            Kind::Tuple => Self::Tuple(
                (0..column.children())
                    .map(|child| Self::read_item(column.child(child)?, index))
                    .collect::<Result<_, _>>()?,
            ),
            Kind::Record => {
                let names = column.child(0)?;
                let mut entries = Vec::new();
                for name in 0..names.len() {
                    match Self::read_item(column.child(name + 1)?, index) {
                        Err(Error::Absent(_)) => {}
                        value => entries.push((Self::read_item(names, name)?, value?)),
                    }
                }
                Self::Map(entries)
            }
            Kind::Map => {
                let keys = within(column.child(0)?, column.range(index)?)?;
                let values = within(column.child(1)?, column.range(index)?)?;
                Self::Map(keys.into_iter().zip(values).collect())
            }
            Kind::Union => {
                let (member, place) = column.member(index)?;
                Self::read_item(member, place)?
            }
        })
    }
}
