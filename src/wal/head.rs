//! The head: the first 44 bytes of every file of the log, segment or snapshot, little-endian.
//!
//! ```text
//!  0  magic 4 | format version 2 | zero 2 | checksum of these eight bytes 4    (all versions)
//! 12  number 4 | fingerprint 4 | chain 4 | position 8 | watermark or length 8 | checksum 4
//! ```
//!
//! `position` and `chain` identify the record after which the file continues, `fingerprint` the
//! incarnation that wrote it; `watermark_or_length` is a segment's durable watermark and a
//! snapshot's body length. The checksum covers everything before it and, in a snapshot, the body
//! after it. The format version has a checksum of its own: a torn head must not pass for one of
//! another version.

use crate::contract::{BootError, FileId};

/// The version of everything that the log writes.
pub const FORMAT_VERSION: u16 = 1;

/// The length of a head.
pub(super) const HEAD_BYTES: usize = 44;

const PREAMBLE_BYTES: usize = 12;
const CHECKSUM_AT: usize = 40;

/// The kind of file, as its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Segment,
    Snapshot,
}

impl Kind {
    fn magic(self) -> [u8; 4] {
        match self {
            Kind::Segment => *b"SGwl",
            Kind::Snapshot => *b"SGsn",
        }
    }
}

/// Which incarnation wrote a file, and where in the log it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The file's own number, so that the blocks of one file are not taken for another's.
    pub(super) number: u32,
    /// Identifies the incarnation that wrote it: no two incarnations that wrote a segment have the
    /// same.
    pub(super) fingerprint: u32,
    /// The checksum of the frame before; at the beginning of an incarnation, its fingerprint.
    pub(super) chain: u32,
    /// The number of the last record before this file.
    pub(super) position: u64,
    /// The durable watermark of a segment at its creation, the body length of a snapshot.
    pub(super) watermark_or_length: u64,
}

/// Why bytes are not a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// Intact, but of another format version.
    Version(u16),
    /// Not intact.
    Damaged(&'static str),
}

impl HeadError {
    pub(super) fn into_boot_error(self, file: FileId) -> BootError {
        match self {
            HeadError::Version(found) => {
                BootError::Version { file, found, readable: FORMAT_VERSION }
            }
            HeadError::Damaged(reason) => {
                BootError::Damaged { file, at: 0, reason: reason.to_owned() }
            }
        }
    }
}

impl Head {
    /// Encodes this head for a file with this `body`.
    pub(super) fn encode(&self, kind: Kind, body: &[u8]) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0..4].copy_from_slice(&kind.magic());
        bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let preamble = crc32c::crc32c(&bytes[0..8]);
        bytes[8..PREAMBLE_BYTES].copy_from_slice(&preamble.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.chain.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.to_le_bytes());
        bytes[32..CHECKSUM_AT].copy_from_slice(&self.watermark_or_length.to_le_bytes());
        let checksum = checksum(&bytes[..CHECKSUM_AT], body);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The head at the front of a segment.
    pub(super) fn of_segment(file: &[u8]) -> Result<Head, HeadError> {
        Head::decode(Kind::Segment, file, &[])
    }

    /// The head of a snapshot, whose checksum covers the whole file, and the body.
    pub(super) fn of_snapshot(file: &[u8]) -> Result<(Head, &[u8]), HeadError> {
        let body = file.get(HEAD_BYTES..).unwrap_or_default();
        Ok((Head::decode(Kind::Snapshot, file, body)?, body))
    }

    fn decode(kind: Kind, file: &[u8], body: &[u8]) -> Result<Head, HeadError> {
        check_preamble(kind, file)?;
        let Some(head) = file.get(..HEAD_BYTES) else {
            return Err(HeadError::Damaged("the head is truncated"));
        };
        if u32_at(head, CHECKSUM_AT) != checksum(&head[..CHECKSUM_AT], body) {
            return Err(HeadError::Damaged("the head's checksum is wrong"));
        }
        Ok(Head {
            number: u32_at(head, 12),
            fingerprint: u32_at(head, 16),
            chain: u32_at(head, 20),
            position: u64_at(head, 24),
            watermark_or_length: u64_at(head, 32),
        })
    }
}

fn check_preamble(kind: Kind, file: &[u8]) -> Result<(), HeadError> {
    let Some(preamble) = file.get(..PREAMBLE_BYTES) else {
        return Err(HeadError::Damaged("the head is truncated"));
    };
    if preamble[0..4] != kind.magic() {
        return Err(HeadError::Damaged("the head has the wrong magic number"));
    }
    if u32_at(preamble, 8) != crc32c::crc32c(&preamble[0..8]) {
        return Err(HeadError::Damaged("the checksum of the format version is wrong"));
    }
    let version = u16::from_le_bytes([preamble[4], preamble[5]]);
    if version == FORMAT_VERSION { Ok(()) } else { Err(HeadError::Version(version)) }
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), body)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
