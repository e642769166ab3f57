//! The end of a node's log: the records that are appended and not yet durable.

use stormglass::commit::{RecordKind, TxId};
use stormglass_node::FileId;

use stormglass_sim::disk::Disk;

/// The records that no barrier has made durable, in the order of the log.
#[derive(Clone, Debug, Default)]
pub(super) struct LogTail {
    records: Vec<PendingRecord>,
}

#[derive(Clone, Copy, Debug)]
struct PendingRecord {
    file: FileId,
    /// The length of `file` once the record is appended.
    end: u64,
    tx: TxId,
    kind: RecordKind,
}

impl LogTail {
    #[inline]
    pub(super) fn append(&mut self, file: FileId, end: u64, tx: TxId, kind: RecordKind) {
        self.records.push(PendingRecord { file, end, tx, kind });
    }

    /// How many records would survive the worst power cut now. A record that would not survive cuts
    /// off those after it.
    #[inline]
    pub(super) fn durable(&self, disk: &Disk) -> usize {
        // The disk is asked once per file: consecutive records are mostly in the same one.
        let mut known: Option<(FileId, Option<u64>)> = None;
        self.records
            .iter()
            .take_while(|record| {
                let durable_to = match known {
                    Some((file, durable_to)) if file == record.file => durable_to,
                    _ => disk.durable_to(record.file),
                };
                known = Some((record.file, durable_to));
                durable_to.is_some_and(|durable_to| record.end <= durable_to)
            })
            .count()
    }

    #[inline]
    pub(super) fn record(&self, index: usize) -> (TxId, RecordKind) {
        let PendingRecord { tx, kind, .. } = self.records[index];
        (tx, kind)
    }

    /// Removes the first `count` records.
    #[inline]
    pub(super) fn remove_first(&mut self, count: usize) {
        self.records.drain(..count);
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
    }
}
