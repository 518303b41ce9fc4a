//! From a value to a message.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Display;

use forkless_ipc::format;
use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};
use serde_pickle::SerOptions;

use crate::sync::name;

/// A value that has no place in a message, because serde or its type says so.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a value of type {what} cannot be sent: {reason}")]
pub struct EncodeError {
    what: String,
    reason: String,
}

impl EncodeError {
    fn new<T>(reason: impl Display) -> Self {
        Self { what: name::<T>(), reason: reason.to_string() }
    }
}

/// What can be sent as a `T`: a `T`, and a piece of text or of bytes as a [`String`] or `Vec<u8>`.
pub trait Outgoing<T>: Encode<T> {}

impl<T, Q: Encode<T> + ?Sized> Outgoing<T> for Q {}

pub(super) mod sealed {
    use super::{Cow, EncodeError};

    /// A message: its tag, and its bytes.
    pub type Encoded<'a> = (u64, Cow<'a, [u8]>);

    /// Seals [`Outgoing`](super::Outgoing): what a message looks like is for both sides to know.
    pub trait Encode<T> {
        /// The message.
        fn encode(&self) -> Result<Encoded<'_>, EncodeError>;
    }
}

use sealed::{Encode, Encoded};

impl<T: Serialize + 'static> Encode<T> for T {
    fn encode(&self) -> Result<Encoded<'_>, EncodeError> {
        let this: &dyn Any = self;
        // To serde, they are a list of numbers.
        if let Some(bytes) = this.downcast_ref::<Vec<u8>>() {
            return Ok((format::BYTES, bytes.into()));
        }
        self.serialize(Scalar).or_else(|NoScalar| pickle(self))
    }
}

impl Encode<String> for str {
    fn encode(&self) -> Result<Encoded<'_>, EncodeError> {
        Ok((format::STR, self.as_bytes().into()))
    }
}

impl Encode<Vec<u8>> for [u8] {
    fn encode(&self) -> Result<Encoded<'_>, EncodeError> {
        Ok((format::BYTES, self.into()))
    }
}

impl<const N: usize> Encode<Vec<u8>> for [u8; N] {
    fn encode(&self) -> Result<Encoded<'_>, EncodeError> {
        Ok((format::BYTES, self.as_slice().into()))
    }
}

fn pickle<T: Serialize>(value: &T) -> Result<Encoded<'static>, EncodeError> {
    let bytes = serde_pickle::to_vec(value, SerOptions::new()).map_err(EncodeError::new::<T>)?;
    // The lengths in it have four bytes, and would be cut.
    if u32::try_from(bytes.len()).is_err() {
        return Err(EncodeError::new::<T>("it has more than 4 GiB"));
    }
    Ok((format::PICKLE, bytes.into()))
}

/// Serialises what has a format of its own, and nothing else.
struct Scalar;

/// A value that is more than a number, text, bytes or nothing.
#[derive(Debug, thiserror::Error)]
#[error("no scalar")]
struct NoScalar;

impl ser::Error for NoScalar {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

fn message(tag: u64, bytes: &[u8]) -> Result<Encoded<'static>, NoScalar> {
    Ok((tag, bytes.to_vec().into()))
}

impl Serializer for Scalar {
    type Ok = Encoded<'static>;
    type Error = NoScalar;
    type SerializeSeq = Impossible<Self::Ok, NoScalar>;
    type SerializeTuple = Impossible<Self::Ok, NoScalar>;
    type SerializeTupleStruct = Impossible<Self::Ok, NoScalar>;
    type SerializeTupleVariant = Impossible<Self::Ok, NoScalar>;
    type SerializeMap = Impossible<Self::Ok, NoScalar>;
    type SerializeStruct = Impossible<Self::Ok, NoScalar>;
    type SerializeStructVariant = Impossible<Self::Ok, NoScalar>;

    fn serialize_bool(self, value: bool) -> Result<Self::Ok, NoScalar> {
        message(if value { format::TRUE } else { format::FALSE }, &[])
    }

    fn serialize_i64(self, value: i64) -> Result<Self::Ok, NoScalar> {
        message(format::INT, &value.to_le_bytes())
    }

    fn serialize_u64(self, value: u64) -> Result<Self::Ok, NoScalar> {
        self.serialize_i64(value.try_into().map_err(|_| NoScalar)?)
    }

    fn serialize_f64(self, value: f64) -> Result<Self::Ok, NoScalar> {
        message(format::FLOAT, &value.to_le_bytes())
    }

    fn serialize_str(self, value: &str) -> Result<Self::Ok, NoScalar> {
        message(format::STR, value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Self::Ok, NoScalar> {
        message(format::BYTES, value)
    }

    fn serialize_none(self) -> Result<Self::Ok, NoScalar> {
        message(format::NONE, &[])
    }

    fn serialize_i8(self, value: i8) -> Result<Self::Ok, NoScalar> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<Self::Ok, NoScalar> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<Self::Ok, NoScalar> {
        self.serialize_i64(value.into())
    }

    fn serialize_u8(self, value: u8) -> Result<Self::Ok, NoScalar> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<Self::Ok, NoScalar> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<Self::Ok, NoScalar> {
        self.serialize_i64(value.into())
    }

    fn serialize_f32(self, value: f32) -> Result<Self::Ok, NoScalar> {
        self.serialize_f64(value.into())
    }

    fn serialize_char(self, value: char) -> Result<Self::Ok, NoScalar> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_unit(self) -> Result<Self::Ok, NoScalar> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Self::Ok, NoScalar> {
        self.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, NoScalar> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Self::Ok, NoScalar> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Self::Ok, NoScalar> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Self::Ok, NoScalar> {
        Err(NoScalar)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, NoScalar> {
        Err(NoScalar)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, NoScalar> {
        Err(NoScalar)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, NoScalar> {
        Err(NoScalar)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NoScalar> {
        Err(NoScalar)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, NoScalar> {
        Err(NoScalar)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, NoScalar> {
        Err(NoScalar)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, NoScalar> {
        Err(NoScalar)
    }
}
