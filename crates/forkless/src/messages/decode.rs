//! From a message to a value of any type that serde knows.

use std::any::Any;
use std::cell::Cell;
use std::fmt::{Debug, Display, Formatter};

use forkless_ipc::format::{self, Value};
use serde::de::{self, Deserialize, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use super::pickle::{Index, Node, Pickle};
use crate::sync::name;

/// How deep lists and dicts may lie within each other. Each level takes some hundred bytes of stack, or more: that is the
/// business of the type that is asked for.
const MAX_DEPTH: u32 = 128;

/// A value of a pickle counts as often as it is referred to. All of them together may be this large at least...
const ALWAYS_ALLOWED: usize = 64 << 20;
/// ... and this many times as large as the pickle.
const MAX_EXPANSION: usize = 64;
/// What a value counts beside its text or bytes.
const VALUE: usize = 32;

/// The length of a reason, which may quote the message.
const MAX_REASON: usize = 300;

/// A message that was received, and that is no value of the type that was asked for.
///
/// It is out of the channel, which goes on with the next one. It has what was received.
#[derive(Clone)]
pub struct DecodeError {
    tag: u64,
    bytes: Vec<u8>,
    length: usize,
    wanted: String,
    reason: String,
}

impl DecodeError {
    pub(super) fn new<T>(tag: u64, bytes: Vec<u8>, length: usize, reason: impl Display) -> Box<Self> {
        Box::new(Self { tag, bytes, length, wanted: name::<T>(), reason: shortened(reason.to_string()) })
    }

    /// What it is, as its sender says: see [`format`](crate::ipc::format).
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Its bytes; none if it was too long to be looked at.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, kept.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Display for DecodeError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let what = match self.tag {
            format::PICKLE => "a pickle",
            format::BYTES => "bytes",
            format::STR => "text",
            format::INT => "an integer",
            format::FLOAT => "a number",
            format::NONE => "None",
            format::FALSE => "False",
            format::TRUE => "True",
            _ => "of no known format",
        };
        let Self { length, wanted, reason, .. } = self;
        write!(formatter, "a message ({what}, {length} bytes) is no {wanted}: {reason}")
    }
}

/// Without the bytes, which may be many.
impl Debug for DecodeError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DecodeError({self})")
    }
}

impl std::error::Error for DecodeError {}

/// The value that a message is.
pub(super) fn decode<T: DeserializeOwned + 'static>(tag: u64, bytes: Vec<u8>) -> Result<T, Box<DecodeError>> {
    let bytes = match as_they_are(tag, bytes) {
        Ok(value) => return Ok(value),
        Err(bytes) => bytes,
    };
    let length = bytes.len();
    read(tag, &bytes).map_err(|reason| DecodeError::new::<T>(tag, bytes, length, reason.0))
}

/// Bytes for who wants bytes: serde would have them looked at one by one.
fn as_they_are<T: 'static>(tag: u64, bytes: Vec<u8>) -> Result<T, Vec<u8>> {
    let mut bytes = Some(bytes);
    let same: &mut dyn Any = &mut bytes;
    let wanted = same.downcast_mut::<Option<T>>().filter(|_| tag == format::BYTES).and_then(Option::take);
    wanted.ok_or_else(|| bytes.unwrap_or_default())
}

fn read<T: DeserializeOwned>(tag: u64, bytes: &[u8]) -> Result<T, Reason> {
    let node = match Value::of(tag, bytes).map_err(de::Error::custom)? {
        Value::Pickle(pickle) => {
            let Pickle { nodes, root } = Pickle::read(pickle).map_err(de::Error::custom)?;
            return value(&nodes, root, pickle.len());
        }
        Value::Bytes(bytes) => Node::Bytes(bytes),
        Value::Str(text) => Node::Str(text),
        Value::Int(number) => Node::Int(number.into()),
        Value::Float(number) => Node::Float(number),
        Value::None => Node::None,
        Value::Bool(truth) => Node::Bool(truth),
    };
    value(&[node], 0, bytes.len())
}

fn value<T: DeserializeOwned>(nodes: &[Node<'_>], at: Index, length: usize) -> Result<T, Reason> {
    let allowed = Cell::new(length.saturating_mul(MAX_EXPANSION).max(ALWAYS_ALLOWED));
    T::deserialize(Reader { nodes, at, depth: 0, allowed: &allowed })
}

/// Why a message is no value of a type.
#[derive(Debug)]
struct Reason(String);

impl Display for Reason {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Reason {}

impl de::Error for Reason {
    fn custom<T: Display>(message: T) -> Self {
        Self(shortened(message.to_string()))
    }
}

/// Not the whole of a long text that it may quote.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_REASON) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// One node as serde sees it.
#[derive(Clone, Copy)]
struct Reader<'p, 'a> {
    nodes: &'p [Node<'a>],
    at: Index,
    depth: u32,
    /// How much more may be read: see [`MAX_EXPANSION`].
    allowed: &'p Cell<usize>,
}

impl<'p, 'a> Reader<'p, 'a> {
    /// The node, which counts.
    fn node(self) -> Result<&'p Node<'a>, Reason> {
        let node = self.nodes.get(self.at as usize).ok_or_else(|| Reason("it is damaged".to_owned()))?;
        let size = match node {
            Node::Bytes(bytes) => bytes.len(),
            Node::Str(text) => text.len(),
            _ => 0,
        };
        let left = self.allowed.get().checked_sub(size + VALUE);
        let too_much = || Reason("it repeats so many parts that it would be far larger than the message".to_owned());
        self.allowed.set(left.ok_or_else(too_much)?);
        Ok(node)
    }

    /// What is in it.
    fn inside(self, at: Index) -> Result<Self, Reason> {
        if self.depth == MAX_DEPTH {
            return Err(Reason(format!("it is nested more than {MAX_DEPTH} deep, or contains itself")));
        }
        Ok(Self { at, depth: self.depth + 1, ..self })
    }

    fn visit_items<'de, V: Visitor<'de>>(self, items: &'p [Index], visitor: V) -> Result<V::Value, Reason> {
        let mut left = Items { outside: self, items: items.iter() };
        let value = visitor.visit_seq(&mut left)?;
        match left.items.len() {
            0 => Ok(value),
            more => Err(de::Error::custom(format_args!("it has {} items, {more} too many", items.len()))),
        }
    }
}

impl<'de> de::Deserializer<'de> for Reader<'_, '_> {
    type Error = Reason;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        match self.node()? {
            Node::None => visitor.visit_unit(),
            Node::Bool(truth) => visitor.visit_bool(*truth),
            Node::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => visitor.visit_i128(*number),
            },
            Node::Float(number) => visitor.visit_f64(*number),
            Node::Bytes(bytes) => visitor.visit_bytes(bytes),
            Node::Str(text) => visitor.visit_str(text),
            Node::List(items) => self.visit_items(items, visitor),
            Node::Dict(items) => visitor.visit_map(Pairs { outside: self, items: items.iter(), value: 0 }),
            Node::Global(module, name) => {
                Err(de::Error::custom(format_args!("it has an object of Python in it: {module}.{name}")))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        match self.node()? {
            Node::None => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Reason> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        match self.node()? {
            Node::Str(name) => visitor.visit_enum((*name).into_deserializer()),
            Node::Dict(items) => match items[..] {
                [(name, value)] => visitor.visit_enum(Variant { name: self.inside(name)?, value: self.inside(value)? }),
                _ => Err(Reason("an enum is text, or a dict with one item".to_owned())),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    /// Bytes serve as a list of their values.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        match self.node()? {
            Node::Bytes(bytes) => {
                let mut items = de::value::SeqDeserializer::new(bytes.iter().copied());
                let value = visitor.visit_seq(&mut items)?;
                items.end().map(|()| value)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Reason> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Reason> {
        self.deserialize_seq(visitor)
    }

    /// What nobody wants is not read.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct map struct identifier
    }
}

/// The items of a list.
struct Items<'p, 'a> {
    outside: Reader<'p, 'a>,
    items: std::slice::Iter<'p, Index>,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = Reason;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Reason> {
        let Some(item) = self.items.next() else { return Ok(None) };
        seed.deserialize(self.outside.inside(*item)?).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The items of a dict.
struct Pairs<'p, 'a> {
    outside: Reader<'p, 'a>,
    items: std::slice::Iter<'p, (Index, Index)>,
    value: Index,
}

impl<'de> de::MapAccess<'de> for Pairs<'_, '_> {
    type Error = Reason;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Reason> {
        let Some((key, value)) = self.items.next() else { return Ok(None) };
        self.value = *value;
        seed.deserialize(self.outside.inside(*key)?).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Reason> {
        seed.deserialize(self.outside.inside(self.value)?)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// A variant of an enum that has something in it: a dict with one item.
struct Variant<'p, 'a> {
    name: Reader<'p, 'a>,
    value: Reader<'p, 'a>,
}

impl<'de, 'p, 'a> de::EnumAccess<'de> for Variant<'p, 'a> {
    type Error = Reason;
    type Variant = Reader<'p, 'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Reason> {
        Ok((seed.deserialize(self.name)?, self.value))
    }
}

impl<'de> de::VariantAccess<'de> for Reader<'_, '_> {
    type Error = Reason;

    fn unit_variant(self) -> Result<(), Reason> {
        Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Reason> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Reason> {
        de::Deserializer::deserialize_seq(self, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Reason> {
        de::Deserializer::deserialize_any(self, visitor)
    }
}
