//! Writes values in bincode's format without bincode.
//!
//! A node encodes a record in most of its steps, and bincode's own serializer spends some
//! twenty-five instructions on each byte: every integer passes through a generic writer and returns
//! as a `Result` in memory. The format itself is small: an integer is one byte below 251, else a
//! byte that gives the number of bytes that follow; lengths and variants are integers; nothing else
//! is written but the values, in order. Decoding stays with bincode, which is careful with foreign
//! bytes. The tests compare the two.

use std::fmt::{self, Display};

use serde::ser::{self, Serialize};

/// Appends to a buffer.
pub(super) struct Encoder<'a>(pub(super) &'a mut Vec<u8>);

/// The value's own `Serialize` returned an error.
#[derive(Debug)]
pub(super) struct SerializeError(Box<str>);

impl Display for SerializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SerializeError {}

impl ser::Error for SerializeError {
    #[cold]
    fn custom<T: Display>(message: T) -> SerializeError {
        SerializeError(message.to_string().into())
    }
}

impl Encoder<'_> {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    #[inline]
    fn unsigned(&mut self, value: u64) {
        if value < 251 { self.byte(value as u8) } else { self.multi_byte(value) }
    }

    fn multi_byte(&mut self, value: u64) {
        // The shortest width that fits. A longer one would decode to the same number, but the bytes
        // would differ from bincode's, which the tests compare.
        let (tag, width) = match value {
            0..=0xffff => (251, 2),
            0x1_0000..=0xffff_ffff => (252, 4),
            0x1_0000_0000.. => (253, 8),
        };
        self.byte(tag);
        self.0.extend_from_slice(&value.to_le_bytes()[..width]);
    }

    /// Zigzag encoding: small numbers of either sign become small numbers.
    #[inline]
    fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn unsigned_128(&mut self, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.unsigned(value),
            Err(_) => {
                self.byte(254);
                self.0.extend_from_slice(&value.to_le_bytes());
            }
        }
    }

    #[inline]
    fn length(&mut self, len: Option<usize>) -> Result<(), SerializeError> {
        let Some(len) = len else {
            // The length comes before the elements, so it must be known when the first one is
            // written.
            return Err(ser::Error::custom("a sequence that does not know its length"));
        };
        self.unsigned(len as u64);
        Ok(())
    }
}

/// Writes an integer or a float.
macro_rules! serialize_integers_as {
    ($($method:ident($value:ident: $type:ty) => $self:ident $write:expr;)*) => {$(
        #[inline]
        fn $method($self, $value: $type) -> Result<(), SerializeError> {
            $write;
            Ok(())
        }
    )*};
}

impl ser::Serializer for &mut Encoder<'_> {
    type Ok = ();
    type Error = SerializeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    serialize_integers_as! {
        serialize_bool(value: bool) => self self.byte(value.into());
        // One byte is never longer than a variable-length integer, so bytes are written as they
        // are.
        serialize_i8(value: i8) => self self.byte(value.cast_unsigned());
        serialize_i16(value: i16) => self self.signed(value.into());
        serialize_i32(value: i32) => self self.signed(value.into());
        serialize_i64(value: i64) => self self.signed(value);
        serialize_i128(value: i128) => self self.unsigned_128(((value << 1) ^ (value >> 127)).cast_unsigned());
        serialize_u8(value: u8) => self self.byte(value);
        serialize_u16(value: u16) => self self.unsigned(value.into());
        serialize_u32(value: u32) => self self.unsigned(value.into());
        serialize_u64(value: u64) => self self.unsigned(value);
        serialize_u128(value: u128) => self self.unsigned_128(value);
        serialize_f32(value: f32) => self self.0.extend_from_slice(&value.to_le_bytes());
        serialize_f64(value: f64) => self self.0.extend_from_slice(&value.to_le_bytes());
        serialize_char(value: char) => self self.0.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
        serialize_str(value: &str) => self { self.unsigned(value.len() as u64); self.0.extend_from_slice(value.as_bytes()) };
        serialize_bytes(value: &[u8]) => self { self.unsigned(value.len() as u64); self.0.extend_from_slice(value) };
    }

    #[inline]
    fn serialize_none(self) -> Result<(), SerializeError> {
        self.byte(0);
        Ok(())
    }

    #[inline]
    // The tag is one byte, and the value follows without a length.
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), SerializeError> {
        self.byte(1);
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), SerializeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), SerializeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<(), SerializeError> {
        self.unsigned(index.into());
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), SerializeError> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), SerializeError> {
        self.unsigned(index.into());
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, SerializeError> {
        self.length(len)?;
        Ok(self)
    }

    #[inline]
    // The reader knows the length of a tuple or struct from its type, so it is not written.
    fn serialize_tuple(self, _len: usize) -> Result<Self, SerializeError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _len: usize) -> Result<Self, SerializeError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _len: usize,
    ) -> Result<Self, SerializeError> {
        self.unsigned(index.into());
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self, SerializeError> {
        self.length(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _len: usize) -> Result<Self, SerializeError> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _len: usize,
    ) -> Result<Self, SerializeError> {
        self.unsigned(index.into());
        Ok(self)
    }

    // Types that have a text form and a compact one choose by this; bincode answers the same.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a compound value, one after another.
macro_rules! impl_compound_serializers {
    ($($trait:ident::$method:ident($($name:ident: $type:ty)?);)*) => {$(
        impl ser::$trait for &mut Encoder<'_> {
            type Ok = ();
            type Error = SerializeError;
            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result<(), SerializeError> {
                value.serialize(&mut **self)
            }
            #[inline]
            fn end(self) -> Result<(), SerializeError> {
                Ok(())
            }
        }
    )*};
}

impl_compound_serializers! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(_name: &'static str);
    SerializeStructVariant::serialize_field(_name: &'static str);
}

impl ser::SerializeMap for &mut Encoder<'_> {
    type Ok = ();
    type Error = SerializeError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SerializeError> {
        key.serialize(&mut **self)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerializeError> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), SerializeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::super::{CONFIG, encode};

    /// Every kind of value in serde's data model.
    #[derive(Debug, Clone, Serialize)]
    struct EveryShape {
        unsigned: (u8, u16, u32, u64, u128),
        signed: (i8, i16, i32, i64, i128),
        others: (bool, char, f32, f64, ()),
        text: String,
        list: Vec<Kind>,
        map: BTreeMap<u16, Option<String>>,
        three: [u32; 3],
    }

    #[derive(Debug, Clone, Serialize)]
    enum Kind {
        Unit,
        Newtype(i64),
        Tuple(u64, Wrapped),
        Struct { a: Option<u32>, b: Marker },
    }

    #[derive(Debug, Clone, Serialize)]
    struct Wrapped(i32);

    #[derive(Debug, Clone, Serialize)]
    struct Marker;

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Unit),
            any::<i64>().prop_map(Kind::Newtype),
            (any::<u64>(), any::<i32>()).prop_map(|(a, b)| Kind::Tuple(a, Wrapped(b))),
            any::<Option<u32>>().prop_map(|a| Kind::Struct { a, b: Marker }),
        ]
    }

    prop_compose! {
        fn all()(
            unsigned: (u8, u16, u32, u64, u128), signed: (i8, i16, i32, i64, i128),
            others: (bool, char, f32, f64, ()), text: String, list in prop::collection::vec(kind(), 0..5),
            map: BTreeMap<u16, Option<String>>, three: [u32; 3],
        ) -> EveryShape {
            EveryShape { unsigned, signed, others, text, list, map, three }
        }
    }

    fn bincode_bytes<T: Serialize>(value: &T) -> Vec<u8> {
        bincode::serde::encode_to_vec(value, CONFIG).unwrap()
    }

    proptest! {
        #[test]
        fn encoding_equals_bincode(value in all()) {
            prop_assert_eq!(encode(&value), bincode_bytes(&value));
        }
    }

    #[test]
    fn integer_widths_change_at_the_same_values_as_in_bincode() {
        let edges =
            [0, 125, 126, 250, 251, 252, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0xffff_ffff, 1 << 32];
        for edge in edges.into_iter().chain([u64::MAX]) {
            let signed = edge.cast_signed();
            let values = (
                edge,
                signed,
                signed.wrapping_neg(),
                u128::from(edge) + 1,
                edge as u16,
                edge as u32,
            );
            assert_eq!(encode(&values), bincode_bytes(&values), "{edge}");
        }
    }

    #[test]
    fn serialize_error_is_passed_on() {
        struct FailingValue;
        impl Serialize for FailingValue {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("not me"))
            }
        }
        let error = FailingValue.serialize(&mut super::Encoder(&mut Vec::new())).unwrap_err();
        assert_eq!(error.to_string(), "not me");
    }
}
