//! The whole state in one file: a [header](super::file_header), then the encoded state, and nothing
//! after it.

use serde::{Serialize, de::DeserializeOwned};

use super::file_header::{FILE_HEADER_BYTES, FileHeader, Kind};
use crate::codec;
use crate::contract::{About, BootError, FileId, Node, Outbox};

/// The memory with which the encoding of a state begins.
// Grown byte by byte, the buffer of a state of a few hundred bytes was reallocated three times.
const SNAPSHOT_BYTES_FIRST: usize = 1024;

/// An encoded state, with room for the header before it.
pub(super) struct EncodedSnapshot(Vec<u8>);

impl EncodedSnapshot {
    pub(super) fn new<S: Serialize>(state: &S) -> EncodedSnapshot {
        let mut bytes = Vec::with_capacity(SNAPSHOT_BYTES_FIRST);
        // Room for the header in the same buffer, so that the state is not copied again.
        bytes.resize(FILE_HEADER_BYTES, 0);
        codec::encode_into(state, &mut bytes);
        EncodedSnapshot(bytes)
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.0[FILE_HEADER_BYTES..]
    }

    /// Fills in `header`, then appends all of it to the scratch file, at most `chunk_bytes_max` at
    /// a time.
    pub(super) fn write<N: Node>(
        mut self,
        header: FileHeader,
        chunk_bytes_max: usize,
        out: &mut Outbox<N>,
    ) -> u64 {
        let header = FileHeader { watermark_or_length: self.body().len() as u64, ..header }
            .encode(Kind::Snapshot, self.body());
        self.0[..FILE_HEADER_BYTES].copy_from_slice(&header);
        // In pieces: one append of a whole state would be one effect, and no crash could fall into
        // its middle.
        for chunk in self.0.chunks(chunk_bytes_max) {
            out.append(FileId::Scratch, About { kind: "Snapshot", subject: None }, chunk);
        }
        self.0.len() as u64
    }
}

/// Reads `snapshot.number`. It was synced before it got this name, so every error in it is damage.
pub(super) fn read<S: DeserializeOwned>(
    number: u32,
    bytes: &[u8],
) -> Result<(FileHeader, S), BootError> {
    let file = FileId::Snapshot(number);
    let damaged = |at: usize, reason: &str| BootError::Damaged {
        file,
        at: at as u64,
        reason: reason.to_owned(),
    };
    let (header, body) =
        FileHeader::of_snapshot(bytes).map_err(|error| error.into_boot_error(file))?;
    // The header is intact but belongs to another file: a name that was lost and taken by another
    // snapshot.
    if header.number != number {
        return Err(damaged(
            0,
            &format!("its header has the number of snapshot.{}", header.number),
        ));
    }
    // The checksum covers the body, so this can only be a bug of the writer; the message is more
    // precise than the checksum's.
    if header.watermark_or_length != body.len() as u64 {
        return Err(damaged(bytes.len(), "its length differs from the length in its header"));
    }
    let state = codec::decode_checksummed(body)
        .map_err(|error| damaged(FILE_HEADER_BYTES, &error.to_string()))?;
    Ok((header, state))
}
