//! What a node writes into its log. The snapshot that a log begins with is a [`State`](super::state::State).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::part::Part;
use crate::codec::{self, CodecError};
use crate::contract::{Label, Subject};
use crate::id::{RequestId, TxId};

/// One record. Kind, transaction and name come first in every encoding, so that [`RecordHead`] can read them
/// without the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Participant: ready to do `part`; locks are held. Forced before Yes.
    Prepared {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
        /// This node's operations, all participants, and the age.
        part: Part,
    },
    /// Coordinator: it is decided. Forced before anything shows it. Its own part is done by this record.
    Commit {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
        /// The coordinator's own operations (perhaps none) and all participants.
        part: Part,
    },
    /// Participant: the prepared part is done. Forced before Ack.
    Committed {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
    },
    /// Participant: it will never be done here, prepared or not. Forced only if a fellow participant is told.
    Aborted {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
    },
    /// Coordinator: all have acknowledged, it can be forgotten. Never forced.
    End {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
    },
}

/// Which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// [`Record::Prepared`].
    Prepared,
    /// [`Record::Commit`].
    Commit,
    /// [`Record::Committed`].
    Committed,
    /// [`Record::Aborted`].
    Aborted,
    /// [`Record::End`].
    End,
}

/// What all records have in common, read from the front of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Which record.
    pub kind: RecordKind,
    /// The transaction.
    pub tx: TxId,
    /// The request behind it.
    pub name: RequestId,
}

impl RecordHead {
    /// Reads the front of an encoded [`Record`] and leaves the rest alone.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes do not begin like a record.
    pub fn decode(bytes: &[u8]) -> Result<RecordHead, CodecError> {
        let ((variant, tx, name), _) = codec::decode_prefix::<(u32, TxId, RequestId)>(bytes)?;
        let kind = match variant {
            0 => RecordKind::Prepared,
            1 => RecordKind::Commit,
            2 => RecordKind::Committed,
            3 => RecordKind::Aborted,
            4 => RecordKind::End,
            other => return Err(CodecError::Malformed(format!("there is no record kind {other}"))),
        };
        Ok(RecordHead { kind, tx, name })
    }
}

impl Record {
    /// Kind, transaction and name.
    pub fn head(&self) -> RecordHead {
        let (kind, tx, name) = match self {
            Record::Prepared { tx, name, .. } => (RecordKind::Prepared, tx, name),
            Record::Commit { tx, name, .. } => (RecordKind::Commit, tx, name),
            Record::Committed { tx, name } => (RecordKind::Committed, tx, name),
            Record::Aborted { tx, name } => (RecordKind::Aborted, tx, name),
            Record::End { tx, name } => (RecordKind::End, tx, name),
        };
        RecordHead { kind, tx: *tx, name: *name }
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
        }
    }

    fn subject(&self) -> Option<Subject> {
        Some(Subject::Request(self.head().name))
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Record::Prepared { part, .. } | Record::Commit { part, .. } => write!(f, "{part}"),
            Record::Committed { .. } | Record::Aborted { .. } | Record::End { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::op::{Action, Key, Op};
    use super::super::part::Age;
    use super::*;
    use crate::id::{Incarnation, NodeId};

    #[test]
    fn the_head_of_every_record_can_be_read_from_its_front() {
        let tx = TxId { coordinator: NodeId(3), incarnation: Incarnation(300), serial: 1 << 40 };
        let name = RequestId { client: 1, serial: 70_000, attempt: 2 };
        let op = Op { node: NodeId(1), key: Key::new("k").unwrap(), action: Action::Get };
        let part = Part::whole(Age { at: 5, by: name }, &Arc::from([op])).unwrap();
        let records = [
            Record::Prepared { tx, name, part: part.clone() },
            Record::Commit { tx, name, part },
            Record::Committed { tx, name },
            Record::Aborted { tx, name },
            Record::End { tx, name },
        ];
        for record in records {
            assert_eq!(RecordHead::decode(&codec::encode(&record)), Ok(record.head()));
        }
        assert!(RecordHead::decode(&[5, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
