//! The frame: one record in a segment, little-endian.
//!
//! ```text
//!  0  magic 4 | checksum 4 | previous checksum 4 | payload checksum 4
//! 16  length 4 | lag 4 | position 8 | payload
//! ```
//!
//! The *position* of a record is its number, counted from 1 over all incarnations. The *watermark*
//! is the position of the last record that was durable when this frame was written. The frame
//! contains it as `lag`, position minus watermark. A lag that does not fit is written as the
//! largest that does, since a lower watermark is true as well.
//!
//! The checksum covers the rest of the header, and thereby the payload, whose checksum is in the
//! header. The next frame contains it as its previous checksum: so the frames form a chain, and
//! each checksum depends on all earlier frames. A frame is checked in two ways. Its *header is
//! valid* if the checksum is right: then its watermark is true, even if frames before it are
//! missing. It *continues the log* if also its previous checksum and its position follow from the
//! frame before and its payload is intact.
//!
//! Bytes that must not be taken for a frame, and why they are not:
//! - zeros, in a hole where the length survived and the data did not: the magic is not zero;
//! - blocks of a removed file in such a hole, frames copied to the wrong place, and values that
//!   contain a log: the checksum is *placed*, its seed is the incarnation's fingerprint, the
//!   segment's number and the offset in the file. For the same segment at another offset it differs
//!   for certain, not just probably, as CRCs are linear;
//! - a value made up by a client to look like a frame: it would have to predict the incarnation's
//!   fingerprint, which is made from [`WalOptions::entropy`](super::WalOptions::entropy) and the
//!   whole state. Even then it is only read if the header of the record that contains it is lost.

use super::file_header::{u32_at, u64_at};

/// The length of a frame without its payload.
pub(super) const FRAME_BYTES: usize = 32;

// 0xF7 and 0xC0 occur in no UTF-8 text, and no byte is zero as in a hole.
const MAGIC: [u8; 4] = [0xF7, b'r', b'e', 0xC0];
// The magic is a constant and the checksum cannot cover itself.
const CHECKSUMMED_FROM: usize = 8;

/// The start value of a segment's checksums: differs by incarnation and by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChecksumSeed(u32);

impl ChecksumSeed {
    pub(super) fn new(fingerprint: u32, number: u32) -> ChecksumSeed {
        ChecksumSeed(crc32c::crc32c_append(fingerprint, &number.to_le_bytes()))
    }

    /// The seed of the frame at one offset: injective in the offset, up to segments of 4 GiB.
    fn at(self, offset: u64) -> u32 {
        self.0 ^ (offset as u32) ^ ((offset >> 32) as u32)
    }
}

/// The header fields of a frame to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub seed: ChecksumSeed,
    /// The offset in the segment.
    pub offset: u64,
    /// The checksum of the frame before; for the first of a file, that in the file header.
    pub previous_checksum: u32,
    pub position: u64,
    pub watermark: u64,
}

impl Frame {
    /// Appends the frame around what `encode` adds to `buffer`; returns its checksum.
    pub(super) fn write(self, buffer: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) -> u32 {
        let start = buffer.len();
        // Room for the header, which needs the length and checksum of the payload behind it.
        buffer.extend_from_slice(&[0; FRAME_BYTES]);
        encode(buffer);
        // From `start`: the buffer holds the earlier appends of the step.
        let (header, payload) = buffer[start..].split_at_mut(FRAME_BYTES);
        assert!(
            payload.len() <= crate::codec::VALUE_BYTES_MAX,
            "a record of {} bytes",
            payload.len()
        );
        let mut aligned = Header([0; FRAME_BYTES]);
        let bytes = &mut aligned.0;
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.previous_checksum.to_le_bytes());
        bytes[12..16].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        bytes[16..20].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes[20..24].copy_from_slice(&self.lag().to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.to_le_bytes());
        let checksum = crc32c::crc32c_append(self.seed.at(self.offset), &bytes[CHECKSUMMED_FROM..]);
        // Last, when everything that it covers is in place.
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        header.copy_from_slice(bytes);
        checksum
    }

    fn lag(&self) -> u32 {
        let lag = self
            .position
            .checked_sub(self.watermark)
            .expect("watermark is above the position of the record");
        u32::try_from(lag).unwrap_or(u32::MAX)
    }
}

/// Aligned, so that the checksum is computed over whole words.
#[repr(align(8))]
struct Header([u8; FRAME_BYTES]);

/// A valid frame header found in a segment, and the payload if that is intact too.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParsedFrame<'a> {
    pub previous_checksum: u32,
    pub position: u64,
    pub watermark: u64,
    pub checksum: u32,
    pub payload: Option<&'a [u8]>,
}

impl<'a> ParsedFrame<'a> {
    /// The frame at offset `at` of a segment, if its header is valid.
    pub(super) fn parse(
        segment: &'a [u8],
        at: usize,
        seed: ChecksumSeed,
    ) -> Option<ParsedFrame<'a>> {
        let header = segment.get(at..)?.get(..FRAME_BYTES)?;
        let checksum = u32_at(header, 4);
        // The magic first: a scan tries every offset, and most fail here without a checksum.
        if header[0..4] != MAGIC
            || checksum != crc32c::crc32c_append(seed.at(at as u64), &header[CHECKSUMMED_FROM..])
        {
            return None;
        }
        let body = &segment[at + FRAME_BYTES..];
        // The payload of the last frame may have been cut off; the header is valid nevertheless,
        // and its watermark true.
        let payload = body.get(..u32_at(header, 16) as usize);
        let position = u64_at(header, 24);
        Some(ParsedFrame {
            previous_checksum: u32_at(header, 8),
            position,
            watermark: position.saturating_sub(u64::from(u32_at(header, 20))),
            checksum,
            // An intact header with a damaged payload is kept: its watermark is what proves the
            // damage.
            payload: payload.filter(|payload| crc32c::crc32c(payload) == u32_at(header, 12)),
        })
    }
}

/// The next offset from `at` on at which a frame may begin.
pub(super) fn next_candidate(segment: &[u8], at: usize) -> Option<usize> {
    let rest = segment.get(at..)?;
    rest.windows(MAGIC.len()).position(|window| window == MAGIC).map(|skip| at + skip)
}

/// The payload of a frame, for checkers that observe appends. `None` if it is too short to be a
/// frame.
pub fn payload(frame: &[u8]) -> Option<&[u8]> {
    frame.get(FRAME_BYTES..)
}
