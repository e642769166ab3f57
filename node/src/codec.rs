//! The encoding of values: bincode 2 through serde, variable-length integers, little-endian.
//! Everything that is written to a disk or a connection goes through this module, so that a change
//! of the encoding is a change of one file.

mod writer;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

use writer::Encoder;

/// The greatest length of an encoded value (64 MiB): a damaged length must not become an
/// allocation.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<VALUE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();

/// Why bytes do not decode, or a value does not encode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes do not decode as the requested type.
    #[error("not decodable: {0}")]
    Malformed(String),
    /// The value cannot be encoded.
    #[error("not encodable: {0}")]
    Unencodable(String),
    /// The value ends before the bytes do.
    #[error("{0} bytes left over")]
    Trailing(usize),
}

/// Appends the encoding of `value` to `into`.
///
/// # Panics
/// If the value's own `Serialize` fails, which no type of this crate does.
#[inline]
pub fn encode_into<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) {
    value.serialize(&mut Encoder(into)).expect("Serialize of a value of this crate does not fail");
}

/// Appends the encoding of `value` to `into`, for values of types that this crate does not know.
///
/// # Errors
/// [`CodecError::Unencodable`] if the value's own `Serialize` fails, or needs a format that
/// describes itself. Then a part of the encoding may have been appended.
pub fn try_encode_into<T: Serialize + ?Sized>(
    value: &T,
    into: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let encoded = value.serialize(&mut Encoder(into));
    encoded.map_err(|error| CodecError::Unencodable(error.to_string()))
}

/// The encoding of `value`.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes);
    bytes
}

/// Decodes one value from all of `bytes`.
///
/// # Errors
/// [`CodecError`] if the bytes are not exactly one such value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    // Bytes after the value are an error: two versions of a type may share a prefix, and the rest
    // would be ignored silently.
    let (value, used) = decode_prefix(bytes)?;
    if used < bytes.len() { Err(CodecError::Trailing(bytes.len() - used)) } else { Ok(value) }
}

/// Decodes one value from the front of `bytes` and returns how many bytes it took.
///
/// # Errors
/// [`CodecError::Malformed`] if the bytes do not begin with such a value.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Malformed(error.to_string()))
}

/// Like [`decode`], for bytes that a checksum has verified, of any length. bincode's limit counts
/// the decoded size of a value, eight bytes for a small integer that was encoded as one; a state of
/// ten megabytes that this node has written must not be refused for that at the next boot.
///
/// # Errors
/// [`CodecError`] if the bytes are not exactly one such value.
pub fn decode_checksummed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let decoded = bincode::serde::decode_from_slice(bytes, CONFIG.with_no_limit());
    let (value, used) = decoded.map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used < bytes.len() { Err(CodecError::Trailing(bytes.len() - used)) } else { Ok(value) }
}

/// Reads an encoding field by field, in place, for code that inspects every record and must not
/// build each. The encoding is "Varint encoding" of bincode's specification: one byte below 251;
/// else a byte that gives the number of bytes that follow; signed integers are zigzag-encoded
/// first.
#[derive(Clone, Copy, Debug)]
pub struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    /// Starts at the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> FieldReader<'a> {
        FieldReader(bytes)
    }

    /// The bytes that have not been read yet.
    pub fn remaining(self) -> &'a [u8] {
        self.0
    }

    /// An unsigned integer of any width up to 64 bits, a length, or the number of an enum's
    /// variant. `None` if the bytes do not begin with one.
    #[inline]
    pub fn unsigned(&mut self) -> Option<u64> {
        let (&first, remaining) = self.0.split_first()?;
        self.0 = remaining;
        // Most integers of a record are small, so the one-byte case is inlined into the caller and
        // the others are not.
        if first < 251 { Some(first.into()) } else { self.multi_byte(first) }
    }

    fn multi_byte(&mut self, first: u8) -> Option<u64> {
        let width = match first {
            251 => 2,
            252 => 4,
            253 => 8,
            // 254 would be a 128-bit integer, which no record has; 255 is reserved by the format.
            _ => return None,
        };
        // Little-endian, so that the bytes which are not in the encoding are the upper ones.
        let mut buffer = [0; 8];
        buffer[..width].copy_from_slice(self.bytes(width)?);
        Some(u64::from_le_bytes(buffer))
    }

    /// The same, and `None` if it does not fit into `T`.
    #[inline]
    pub fn unsigned_as<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.unsigned()?).ok()
    }

    /// A signed integer.
    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        let zigzag = self.unsigned()?;
        // The lowest bit is the sign: it becomes a mask of all ones or all zeros.
        Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// That many bytes, unchanged.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        // The length may come from damaged bytes, so it is checked before anything is taken.
        let (taken, remaining) = self.0.split_at_checked(len)?;
        self.0 = remaining;
        Some(taken)
    }

    /// A string.
    #[inline]
    pub fn text(&mut self) -> Option<&'a str> {
        let len = self.unsigned_as()?;
        // Damaged bytes need not be text.
        std::str::from_utf8(self.bytes(len)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_reader_returns_the_encoded_values() {
        // Both sides of each border between one, two, four and eight bytes.
        let unsigned = [0, 250, 251, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX];
        // After zigzag encoding 125 is 250, the last of one byte, and -126 is 251.
        let signed = [0, -1, 1, 125, -126, 40_000, i64::MIN, i64::MAX];
        let bytes = encode(&(unsigned, signed, "text"));
        let mut reader = FieldReader::new(&bytes);
        for number in unsigned {
            assert_eq!(reader.unsigned(), Some(number));
        }
        for number in signed {
            assert_eq!(reader.signed(), Some(number));
        }
        assert_eq!(reader.text(), Some("text"));
        assert!(reader.remaining().is_empty());
        assert_eq!(reader.unsigned(), None);
        assert_eq!(FieldReader::new(&[251, 1]).unsigned(), None);
        assert_eq!(FieldReader::new(&encode(&300u64)).unsigned_as::<u8>(), None);
        assert_eq!(FieldReader::new(&[2, 0xff, 0xff]).text(), None);
    }
}
