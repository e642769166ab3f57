//! The file header: the first 44 bytes of every file of the log, segment or snapshot,
//! little-endian.
//!
//! ```text
//!  0  magic 4 | format version 2 | zero 2 | checksum of these eight bytes 4    (all versions)
//! 12  number 4 | fingerprint 4 | previous checksum 4 | position 8 | watermark or length 8
//! 40  checksum 4
//! ```
//!
//! `position` and `previous_checksum` identify the record after which the file continues,
//! `fingerprint` the incarnation that wrote it; `watermark_or_length` is a segment's durable
//! watermark and a snapshot's body length. The checksum covers everything before it and, in a
//! snapshot, the body after it. The format version has a checksum of its own: a torn header must
//! not pass for one of another version.

use crate::contract::{BootError, FileId};

/// The version of everything that the log writes, the records and the state of the node included.
/// Versions 1 and 2 have the same headers and frames.
pub const FORMAT_VERSION: u16 = 3;

/// The earliest version that is read.
const OLDEST_READABLE_VERSION: u16 = 1;

/// The length of a header.
pub(super) const FILE_HEADER_BYTES: usize = 44;

// The same in all versions: a program can name the version of a file that it cannot read.
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
pub(super) struct FileHeader {
    /// The file's own number, so that the blocks of one file are not taken for another's.
    pub number: u32,
    /// Identifies the incarnation that wrote it: no two incarnations that wrote a segment have the
    /// same.
    pub fingerprint: u32,
    /// The checksum of the frame before; at the beginning of an incarnation, its fingerprint.
    pub previous_checksum: u32,
    /// The number of the last record before this file.
    pub position: u64,
    /// In a segment the watermark at its creation, in a snapshot the length of the body.
    pub watermark_or_length: u64,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileHeaderError {
    /// Intact, but of another format version.
    Version(u16),
    /// Not intact.
    Damaged(&'static str),
}

impl FileHeaderError {
    pub(super) fn into_boot_error(self, file: FileId) -> BootError {
        match self {
            FileHeaderError::Version(found) => {
                BootError::Version { file, found, readable: FORMAT_VERSION }
            }
            FileHeaderError::Damaged(reason) => {
                BootError::Damaged { file, at: 0, reason: reason.to_owned() }
            }
        }
    }
}

impl FileHeader {
    /// Encodes this header for a file with this `body`.
    pub(super) fn encode(&self, kind: Kind, body: &[u8]) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&kind.magic());
        bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let preamble = crc32c::crc32c(&bytes[0..8]);
        bytes[8..PREAMBLE_BYTES].copy_from_slice(&preamble.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.previous_checksum.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.to_le_bytes());
        bytes[32..CHECKSUM_AT].copy_from_slice(&self.watermark_or_length.to_le_bytes());
        // Last, as it covers every field before it.
        let checksum = checksum(&bytes[..CHECKSUM_AT], body);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at the front of a segment.
    pub(super) fn of_segment(file: &[u8]) -> Result<FileHeader, FileHeaderError> {
        FileHeader::decode(Kind::Segment, file, &[])
    }

    /// The header of a snapshot, whose checksum covers the whole file, and the body.
    pub(super) fn of_snapshot(file: &[u8]) -> Result<(FileHeader, &[u8]), FileHeaderError> {
        let body = file.get(FILE_HEADER_BYTES..).unwrap_or_default();
        Ok((FileHeader::decode(Kind::Snapshot, file, body)?, body))
    }

    fn decode(kind: Kind, file: &[u8], body: &[u8]) -> Result<FileHeader, FileHeaderError> {
        // The version before the rest: a header of another version has another layout, and is not
        // damaged.
        check_preamble(kind, file)?;
        let Some(header) = file.get(..FILE_HEADER_BYTES) else {
            return Err(FileHeaderError::Damaged("the header is truncated"));
        };
        if u32_at(header, CHECKSUM_AT) != checksum(&header[..CHECKSUM_AT], body) {
            return Err(FileHeaderError::Damaged("the header's checksum is wrong"));
        }
        Ok(FileHeader {
            number: u32_at(header, 12),
            fingerprint: u32_at(header, 16),
            previous_checksum: u32_at(header, 20),
            position: u64_at(header, 24),
            watermark_or_length: u64_at(header, 32),
        })
    }
}

fn check_preamble(kind: Kind, file: &[u8]) -> Result<(), FileHeaderError> {
    // A file can end anywhere: its length survives a power cut separately from its data.
    let Some(preamble) = file.get(..PREAMBLE_BYTES) else {
        return Err(FileHeaderError::Damaged("the header is truncated"));
    };
    if preamble[0..4] != kind.magic() {
        return Err(FileHeaderError::Damaged("the header has the wrong magic number"));
    }
    if u32_at(preamble, 8) != crc32c::crc32c(&preamble[0..8]) {
        return Err(FileHeaderError::Damaged("the checksum of the format version is wrong"));
    }
    let version = u16::from_le_bytes([preamble[4], preamble[5]]);
    if (OLDEST_READABLE_VERSION..=FORMAT_VERSION).contains(&version) {
        Ok(())
    } else {
        Err(FileHeaderError::Version(version))
    }
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), body)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
