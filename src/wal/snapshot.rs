//! The whole state in one file: a [head](super::head), then the encoded state, and nothing after
//! it.

use serde::{Serialize, de::DeserializeOwned};

use super::head::{HEAD_BYTES, Head, Kind};
use crate::codec;
use crate::contract::{About, BootError, FileId, Node, Outbox};

/// An encoded state, with room for the head before it.
pub(super) struct EncodedSnapshot(Vec<u8>);

impl EncodedSnapshot {
    pub(super) fn new<S: Serialize>(state: &S) -> EncodedSnapshot {
        let mut bytes = vec![0; HEAD_BYTES];
        codec::encode_into(state, &mut bytes);
        EncodedSnapshot(bytes)
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.0[HEAD_BYTES..]
    }

    /// Fills in `head`, then appends all of it to the scratch file, at most `chunk_bytes_max` at a
    /// time.
    pub(super) fn write<N: Node>(
        mut self,
        head: Head,
        chunk_bytes_max: usize,
        out: &mut Outbox<N>,
    ) -> u64 {
        let head = Head { watermark_or_length: self.body().len() as u64, ..head }
            .encode(Kind::Snapshot, self.body());
        self.0[..HEAD_BYTES].copy_from_slice(&head);
        for chunk in self.0.chunks(chunk_bytes_max) {
            out.append(FileId::Scratch, About { kind: "Snapshot", subject: None }, chunk);
        }
        self.0.len() as u64
    }
}

/// Reads `snapshot.number`. It was synced before it got this name, so every error in it is damage.
pub(super) fn read<S: DeserializeOwned>(number: u32, bytes: &[u8]) -> Result<(Head, S), BootError> {
    let file = FileId::Snapshot(number);
    let damaged = |at: usize, reason: &str| BootError::Damaged {
        file,
        at: at as u64,
        reason: reason.to_owned(),
    };
    let (head, body) = Head::of_snapshot(bytes).map_err(|error| error.into_boot_error(file))?;
    if head.number != number {
        return Err(damaged(0, &format!("its head has the number of snapshot.{}", head.number)));
    }
    if head.watermark_or_length != body.len() as u64 {
        return Err(damaged(bytes.len(), "its length differs from the length in its head"));
    }
    let state =
        codec::decode_verified(body).map_err(|error| damaged(HEAD_BYTES, &error.to_string()))?;
    Ok((head, state))
}
