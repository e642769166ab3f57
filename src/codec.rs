//! The one place that knows how values become bytes: bincode 2 through serde, variable-length integers,
//! little-endian. Everything that is written to a disk or a wire goes through here, so that the day the
//! encoding changes is a day of one diff.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// No encoded value is longer than this (64 MiB): a damaged length must not become an allocation.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<VALUE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes do not decode as the type asked for.
    #[error("not decodable: {0}")]
    Malformed(String),
    /// The value ended before the bytes did.
    #[error("{0} bytes left over")]
    Trailing(usize),
}

/// Appends the encoding of `value` to `into`.
///
/// # Panics
/// If the value's own `Serialize` fails, or its encoding is longer than [`VALUE_BYTES_MAX`]: both are ours to
/// prevent.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, into, CONFIG).expect("our own values can be encoded");
}

/// The encoding of `value` on its own.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes);
    bytes
}

/// Reads one value that takes up all of `bytes`.
///
/// # Errors
/// [`CodecError`] if the bytes are no such value, or more than one.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = decode_prefix(bytes)?;
    if used < bytes.len() { Err(CodecError::Trailing(bytes.len() - used)) } else { Ok(value) }
}

/// Reads one value from the front of `bytes` and says how many bytes it took.
///
/// # Errors
/// [`CodecError::Malformed`] if the bytes do not begin with such a value.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|error| CodecError::Malformed(error.to_string()))
}

/// Like [`decode`], for bytes that a checksum vouches for, and of any length. The limit counts what a value takes
/// up decoded, eight bytes for a small integer that was written as one; a state of ten megabytes that we have
/// written ourselves must not be refused for that at the next boot.
///
/// # Errors
/// [`CodecError`] if the bytes are no such value, or more than one.
pub fn decode_verified<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let decoded = bincode::serde::decode_from_slice(bytes, CONFIG.with_no_limit());
    let (value, used) = decoded.map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used < bytes.len() { Err(CodecError::Trailing(bytes.len() - used)) } else { Ok(value) }
}
