//! The records of the log. The snapshot with which a log begins is a
//! [`State`](super::state::State).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::op::{Action, Key, Op};
use super::part::{Age, Part};
use super::tx_id::{NO_REQUEST, TxId};
use stormglass_node::codec::{CodecError, FieldReader};
use stormglass_node::contract::{Label, Subject};
use stormglass_node::id::{Incarnation, NodeId, RequestId};

/// One record. Kind, transaction and request come first in every encoding, so that [`RecordHeader`]
/// can be read without the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Record {
    /// Participant: `part` is prepared and its locks are held. Forced before Yes.
    Prepared {
        tx: TxId,
        request: RequestId,
        /// This node's operations, all participants, and the age.
        part: Part,
    },
    /// Coordinator: the transaction is committed. Forced before any effect depends on it. Applies
    /// the coordinator's own part.
    Commit {
        tx: TxId,
        request: RequestId,
        /// The coordinator's own operations (possibly none) and all participants.
        part: Part,
    },
    /// Participant: the prepared part is applied. Forced before Ack.
    Committed { tx: TxId, request: RequestId },
    /// Participant: the transaction is aborted here, prepared or not. Forced only for a reply to
    /// another participant.
    Aborted { tx: TxId, request: RequestId },
    /// Coordinator: all participants have acknowledged. Never forced.
    End { tx: TxId, request: RequestId },
    /// A peer is remembered as this incarnation. Forced before Remembered.
    Met {
        peer: NodeId,
        incarnation: Incarnation,
        /// The number of records in the peer's log then.
        log_position: u64,
    },
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum RecordKind {
    Prepared,
    Commit,
    Committed,
    Aborted,
    End,
    Met,
}

/// The fields common to all records, read from the front of an encoding. MET is about the peer's
/// incarnation, which its transaction 0 stands for, and about no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RecordHeader {
    pub kind: RecordKind,
    pub tx: TxId,
    pub request: RequestId,
}

impl RecordHeader {
    /// Decodes the front of an encoded [`Record`].
    ///
    /// # Errors
    /// [`CodecError`] if the bytes do not begin like a record.
    pub fn decode(bytes: &[u8]) -> Result<RecordHeader, CodecError> {
        RecordHeader::take(&mut FieldReader::new(bytes)).ok_or_else(not_a_record)
    }

    #[inline]
    fn take(reader: &mut FieldReader<'_>) -> Option<RecordHeader> {
        // An enum is encoded as the index of its variant.
        let kind = match reader.unsigned()? {
            0 => RecordKind::Prepared,
            1 => RecordKind::Commit,
            2 => RecordKind::Committed,
            3 => RecordKind::Aborted,
            4 => RecordKind::End,
            5 => RecordKind::Met,
            _ => return None,
        };
        let coordinator = NodeId(reader.unsigned_as()?);
        let incarnation = Incarnation::from_u64(reader.unsigned()?);
        if kind == RecordKind::Met {
            let tx = TxId::of_incarnation(coordinator, incarnation);
            return Some(RecordHeader { kind, tx, request: NO_REQUEST });
        }
        let tx = TxId { coordinator, incarnation, serial: reader.unsigned()? };
        Some(RecordHeader { kind, tx, request: take_request(reader)? })
    }
}

#[inline]
fn take_request(reader: &mut FieldReader<'_>) -> Option<RequestId> {
    // The order of the fields is that of the encoding.
    Some(RequestId {
        client: reader.unsigned()?,
        serial: reader.unsigned_as()?,
        attempt: reader.unsigned_as()?,
    })
}

fn not_a_record() -> CodecError {
    CodecError::Malformed("not a record".to_owned())
}

/// A record read in place, for checkers that inspect every record. Allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Kind, transaction and request.
    pub header: RecordHeader,
    rest: FieldReader<'a>,
}

impl<'a> RecordView<'a> {
    /// Decodes the front of an encoded [`Record`]. Its part, if it has one, is read on demand.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes do not begin like a record.
    pub fn of(bytes: &'a [u8]) -> Result<RecordView<'a>, CodecError> {
        let mut rest = FieldReader::new(bytes);
        let header = RecordHeader::take(&mut rest).ok_or_else(not_a_record)?;
        Ok(RecordView { header, rest })
    }

    /// The age of the record's part; `None` for records without a part.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes do not continue like a part.
    pub fn age(&self) -> Result<Option<Age>, CodecError> {
        if !self.has_part() {
            return Ok(None);
        }
        take_age(&mut self.rest.clone()).map(Some).ok_or_else(not_a_record)
    }

    fn has_part(&self) -> bool {
        matches!(self.header.kind, RecordKind::Prepared | RecordKind::Commit)
    }

    /// Adds the operations of the record's part to `ops` and returns its participants; nothing for
    /// records without a part.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes do not continue like a part.
    pub fn part(
        &self,
        ops: &mut Vec<Op>,
    ) -> Result<impl Iterator<Item = NodeId> + use<'a>, CodecError> {
        let (count, mut nodes) = match self.has_part() {
            true => take_part(self.rest, ops).ok_or_else(not_a_record)?,
            false => (0, self.rest),
        };
        // All of them were read once, on the way to the operations.
        Ok((0..count).map_while(move |_| nodes.unsigned_as().map(NodeId)))
    }
}

fn take_age(reader: &mut FieldReader<'_>) -> Option<Age> {
    Some(Age { at: reader.unsigned()?, by: take_request(reader)? })
}

fn take_part<'a>(
    mut reader: FieldReader<'a>,
    ops: &mut Vec<Op>,
) -> Option<(usize, FieldReader<'a>)> {
    take_age(&mut reader)?;
    let count = reader.unsigned_as()?;
    // A copy that stays at the first participant.
    let nodes = reader;
    for _ in 0..count {
        reader.unsigned_as::<u16>()?;
    }
    let op_count: usize = reader.unsigned_as()?;
    for _ in 0..op_count {
        let node = NodeId(reader.unsigned_as()?);
        let key = Key::new(reader.text()?).ok()?;
        let action = match reader.unsigned()? {
            0 => Action::Put(reader.signed()?),
            1 => Action::Delete,
            2 => Action::Get,
            3 => Action::Add { by: reader.signed()?, at_least: reader.signed()? },
            _ => return None,
        };
        ops.push(Op { node, key, action });
    }
    reader.remaining().is_empty().then_some((count, nodes))
}

impl Record {
    /// Kind, transaction and request.
    pub fn header(&self) -> RecordHeader {
        let (kind, tx, request) = match self {
            Record::Prepared { tx, request, .. } => (RecordKind::Prepared, tx, request),
            Record::Commit { tx, request, .. } => (RecordKind::Commit, tx, request),
            Record::Committed { tx, request } => (RecordKind::Committed, tx, request),
            Record::Aborted { tx, request } => (RecordKind::Aborted, tx, request),
            Record::End { tx, request } => (RecordKind::End, tx, request),
            Record::Met { peer, incarnation, .. } => {
                let tx = TxId::of_incarnation(*peer, *incarnation);
                return RecordHeader { kind: RecordKind::Met, tx, request: NO_REQUEST };
            }
        };
        RecordHeader { kind, tx: *tx, request: *request }
    }
}

impl Label for Record {
    fn kind(&self) -> &'static str {
        match self {
            Record::Prepared { .. } => "Prepared",
            Record::Commit { .. } => "Commit",
            Record::Committed { .. } => "Committed",
            Record::Aborted { .. } => "Aborted",
            Record::End { .. } => "End",
            Record::Met { .. } => "Met",
        }
    }

    fn subject(&self) -> Option<Subject> {
        match self {
            Record::Met { .. } => None,
            Record::Prepared { request, .. }
            | Record::Commit { request, .. }
            | Record::Committed { request, .. }
            | Record::Aborted { request, .. }
            | Record::End { request, .. } => Some(Subject::Request(*request)),
        }
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Record::Prepared { part, .. } | Record::Commit { part, .. } => write!(f, "{part}"),
            Record::Committed { .. } | Record::Aborted { .. } | Record::End { .. } => Ok(()),
            Record::Met { peer, incarnation, .. } => write!(f, "{peer} as {incarnation}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::part::Age;
    use super::*;
    use stormglass_node::codec;

    #[test]
    fn every_record_can_be_read_in_place() {
        let tx = TxId {
            coordinator: NodeId(300),
            incarnation: Incarnation::numbered(300),
            serial: 1 << 40,
        };
        let request = RequestId { client: u64::MAX, serial: 70_000, attempt: 2 };
        let op = |node, action| Op { node: NodeId(node), key: Key::new("key").unwrap(), action };
        let add = Action::Add { by: -1, at_least: i64::MIN };
        let ops =
            [op(1, Action::Get), op(1, Action::Put(-300)), op(260, Action::Delete), op(260, add)];
        let part = Part::of_all(Age { at: u64::MAX, by: request }, &Arc::from(ops)).unwrap();
        let records = [
            Record::Prepared { tx, request, part: part.of(NodeId(260)) },
            Record::Commit { tx, request, part },
            Record::Committed { tx, request },
            Record::Aborted { tx, request },
            Record::End { tx, request },
            Record::Met { peer: NodeId(300), incarnation: tx.incarnation, log_position: 7 },
        ];
        for record in records {
            let bytes = codec::encode(&record);
            assert_eq!(RecordHeader::decode(&bytes), Ok(record.header()));
            let view = RecordView::of(&bytes).unwrap();
            assert_eq!(view.header, record.header());
            let mut found = Vec::new();
            let nodes: Vec<NodeId> = view.part(&mut found).unwrap().collect();
            match &record {
                Record::Prepared { part, .. } | Record::Commit { part, .. } => {
                    assert_eq!((&nodes[..], &found[..]), (&part.participants()[..], part.ops()));
                    for len in 0..bytes.len() {
                        let cut = RecordView::of(&bytes[..len]);
                        assert!(
                            cut.is_err() || cut.unwrap().part(&mut Vec::new()).is_err(),
                            "{len}"
                        );
                    }
                }
                Record::Committed { .. }
                | Record::Aborted { .. }
                | Record::End { .. }
                | Record::Met { .. } => {
                    assert_eq!((nodes.len(), found.len()), (0, 0));
                }
            }
        }
        assert!(RecordHeader::decode(&[6, 0, 0, 0, 0, 0, 0]).is_err());
    }

    /// A client's number once had 32 bits. The encoding of an integer does not depend on its width,
    /// so logs and snapshots of that time have the same bytes as today's.
    #[test]
    fn record_with_a_32_bit_client_id_is_still_read() {
        let bytes = [4, 1, 2, 3, 252, 0xef, 0xbe, 0xad, 0xde, 5, 6];
        let tx = TxId { coordinator: NodeId(1), incarnation: Incarnation::numbered(2), serial: 3 };
        let request = RequestId { client: 0xdead_beef, serial: 5, attempt: 6 };
        let record = Record::End { tx, request };
        assert_eq!(codec::decode(&bytes), Ok(record.clone()));
        assert_eq!(RecordHeader::decode(&bytes), Ok(record.header()));
        assert_eq!(codec::encode(&record), bytes);
    }
}
