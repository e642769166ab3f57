//! The wire format of a message: a frame with version, length and checksum.
//!
//! | bytes | content |
//! |---|---|
//! | 2 | `SG` |
//! | 1 | version, 3 |
//! | 4 | length of the payload, little-endian |
//! | 4 | CRC-32C of all of the above and the payload |
//! | n | the message, through [`codec`] |
//!
//! All formats are described in `docs/log-format.md`.

use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{self, CodecError};

/// The version that this program writes and reads.
pub const VERSION: u8 = 3;

/// Bytes before the payload.
// The length is within the first seven bytes, so a reader knows what to wait for before it can
// check anything.
pub const HEADER_BYTES: usize = 11;

const MAGIC: [u8; 2] = *b"SG";

/// Why a frame does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than a header, or fewer or more than the header says.
    #[error("a frame of {0} bytes has the wrong length")]
    Length(usize),
    /// The bytes do not begin with the magic number.
    #[error("not a frame")]
    Magic,
    /// The frame has another version.
    #[error("wire version {found}, this program uses version {VERSION}")]
    Version {
        /// The version in the frame.
        found: u8,
    },
    /// The frame was damaged in transit.
    #[error("checksum does not match")]
    Checksum,
    /// An intact frame whose payload is no such message.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Encodes a message as a frame.
pub fn encode_frame<M: Serialize>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame_into(message, &mut frame);
    frame
}

/// Appends the frame of a message to `into`.
pub fn encode_frame_into<M: Serialize>(message: &M, into: &mut Vec<u8>) {
    let start = into.len();
    into.extend_from_slice(&[0; HEADER_BYTES]);
    codec::encode_into(message, into);
    write_header(&mut into[start..]);
}

/// Encodes arbitrary bytes as a frame.
pub fn frame_payload(payload: &[u8]) -> Vec<u8> {
    let mut frame = [&[0; HEADER_BYTES], payload].concat();
    write_header(&mut frame);
    frame
}

fn write_header(frame: &mut [u8]) {
    let length = u32::try_from(frame.len() - HEADER_BYTES).expect("messages are far below 4 GiB");
    frame[..2].copy_from_slice(&MAGIC);
    frame[2] = VERSION;
    frame[3..7].copy_from_slice(&length.to_le_bytes());
    // The field of the checksum itself is not covered, so it does not matter what it holds now.
    let sum = checksum(frame);
    frame[7..11].copy_from_slice(&sum.to_le_bytes());
}

/// The length of the frame that begins with `bytes`, header included; `None` if there are too few
/// bytes to know it. For readers of a stream, which must know how many bytes to wait for before
/// they can check the checksum.
///
/// # Errors
/// [`WireError`] if the bytes cannot be the beginning of a frame.
pub fn frame_len(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    // As many bytes as there are: a stream may have brought the first one only.
    if !bytes.starts_with(&MAGIC[..bytes.len().min(2)]) {
        return Err(WireError::Magic);
    }
    match bytes.get(2) {
        Some(&version) if version != VERSION => return Err(WireError::Version { found: version }),
        Some(_) | None => {}
    }
    // After the version, as another version may have its length elsewhere.
    let Some(length) = bytes.get(3..7) else { return Ok(None) };
    let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
    Ok(Some(HEADER_BYTES + length as usize))
}

/// Decodes a message from a frame.
///
/// # Errors
/// [`WireError`] if the frame is damaged or no such message; the receiver drops it and goes on.
pub fn decode_frame<M: DeserializeOwned>(frame: &[u8]) -> Result<M, WireError> {
    let Some((header, payload)) = frame.split_at_checked(HEADER_BYTES) else {
        return Err(WireError::Length(frame.len()));
    };
    if header[..2] != MAGIC {
        return Err(WireError::Magic);
    }
    // Before the rest, whose meaning depends on it.
    if header[2] != VERSION {
        return Err(WireError::Version { found: header[2] });
    }
    if header[3..7] != (payload.len() as u64).to_le_bytes()[..4] {
        return Err(WireError::Length(frame.len()));
    }
    // Before the payload is decoded, so that the decoder sees only what a peer has sent.
    if header[7..11] != checksum(frame).to_le_bytes() {
        return Err(WireError::Checksum);
    }
    Ok(codec::decode(payload)?)
}

fn checksum(frame: &[u8]) -> u32 {
    // Without the four bytes of the checksum itself.
    crc32c::crc32c_append(crc32c::crc32c(&frame[..7]), &frame[HEADER_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_flipped_bit_is_always_detected() {
        let frame = encode_frame(&(7u64, "prepare".to_string()));
        assert_eq!(decode_frame::<(u64, String)>(&frame), Ok((7, "prepare".into())));
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_frame::<(u64, String)>(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn frame_length_is_known_after_seven_bytes() {
        let frame = encode_frame(&7u64);
        for len in 0..frame.len() {
            assert_eq!(
                frame_len(&frame[..len]),
                Ok((len >= 7).then_some(frame.len())),
                "{len} bytes"
            );
        }
        assert_eq!(frame_len(b"SX"), Err(WireError::Magic));
        assert_eq!(frame_len(b"SG\x07"), Err(WireError::Version { found: 7 }));
    }

    #[test]
    fn truncated_or_extended_frame_is_rejected() {
        let frame = encode_frame(&7u64);
        for len in 0..frame.len() {
            assert!(decode_frame::<u64>(&frame[..len]).is_err(), "{len} bytes");
        }
        let longer = [frame, vec![0]].concat();
        assert_eq!(decode_frame::<u64>(&longer), Err(WireError::Length(longer.len())));
    }
}
