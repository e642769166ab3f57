//! Messages between nodes. Every message has the id of its transaction and, for traces and
//! coordinates of faults, the id of the client's request.
//!
//! The serde names here and in the other types of event logs are those of their first version; they
//! occur in JSON only.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::end_mark::{EndMark, EndedTransactions, Position};
use super::op::{Key, Reads};
use super::part::Part;
use super::tx_id::TxId;
use stormglass_node::contract::{Label, Subject};
use stormglass_node::id::RequestId;
use stormglass_node::wal::Durable;

/// Evidence that the record on which a message depends is durable. A node makes it from a
/// [`Durable`] proof or from the end of the transaction; a message that was received has it from
/// its sender. It takes no bytes in any encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordIsDurable(());

impl RecordIsDurable {
    pub(super) fn by<T>(_: &Durable<T>) -> RecordIsDurable {
        RecordIsDurable(())
    }

    /// The record of a transaction that has ended was durable, and has been dropped.
    pub(super) fn by_end(ended: &EndedTransactions, tx: TxId) -> Option<RecordIsDurable> {
        ended.contains(Position::of(tx)).then_some(RecordIsDurable(()))
    }

    fn received() -> RecordIsDurable {
        RecordIsDurable(())
    }

    /// Without any evidence: for tests, and for mutants of the node.
    #[cfg(feature = "forged-proofs")]
    pub fn forged() -> RecordIsDurable {
        RecordIsDurable(())
    }
}

/// See the [protocol](super).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Message {
    /// Coordinator to subordinate: lock the part, record it, vote.
    Prepare {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        /// The operations of the receiver.
        part: Part,
        /// The sender's end mark.
        #[serde(rename = "word")]
        end_mark: EndMark,
    },
    /// Subordinate to coordinator: the vote.
    Vote {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        vote: Vote,
    },
    /// Coordinator to subordinate: the transaction is committed.
    Commit {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        /// The sender's end mark.
        #[serde(rename = "word")]
        end_mark: EndMark,
        /// COMMIT.
        #[serde(skip, default = "RecordIsDurable::received")]
        proof: RecordIsDurable,
    },
    /// Coordinator to subordinate: the transaction is aborted, by decision or presumption.
    Abort {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        /// The sender's end mark.
        #[serde(rename = "word")]
        end_mark: EndMark,
    },
    /// Subordinate to coordinator: the commit is durable here.
    Ack {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        /// COMMITTED.
        #[serde(skip, default = "RecordIsDurable::received")]
        proof: RecordIsDurable,
    },
    /// A participant in doubt, to the coordinator or to another participant: asks for the outcome.
    Inquire {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
    },
    /// The reply of a participant. (A coordinator replies with `Commit` or `Abort`.)
    #[serde(rename = "Tell")]
    InquiryReply {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        #[serde(rename = "said")]
        reply: InquiryReply,
    },
}

/// A participant's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vote {
    /// The part is locked, PREPARED is durable, and the participant will commit if the coordinator
    /// decides so.
    Yes {
        /// What the `Get`s of the part found, in the part's order.
        reads: Reads,
        /// PREPARED.
        #[serde(skip, default = "RecordIsDurable::received")]
        proof: RecordIsDurable,
    },
    /// The participant will not commit.
    No(Refusal),
}

/// Why a participant votes No.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Refusal {
    /// An undecided older transaction holds a conflicting lock.
    Conflict {
        /// The older transaction.
        holder: TxId,
    },
    /// An `Add` would fall below its bound.
    Bound { key: Key },
    /// An `Add` would overflow.
    Overflow { key: Key },
    /// The transaction was aborted here earlier, for example because another participant inquired
    /// before the Prepare arrived.
    Aborted,
}

/// The reply of a participant to another one in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InquiryReply {
    /// The transaction is committed, and COMMITTED is durable.
    Committed(#[serde(skip, default = "RecordIsDurable::received")] RecordIsDurable),
    /// The transaction is aborted, and ABORTED is durable.
    Aborted(#[serde(skip, default = "RecordIsDurable::received")] RecordIsDurable),
    /// The replying participant is in doubt as well.
    Uncertain,
}

impl Message {
    /// The id of the transaction.
    pub fn tx(&self) -> TxId {
        self.tx_and_request().0
    }

    /// The id of the client's request.
    pub fn request(&self) -> RequestId {
        self.tx_and_request().1
    }

    /// The end mark of the sender, if the message has one.
    pub fn end_mark(&self) -> Option<&EndMark> {
        match self {
            Message::Prepare { end_mark, .. }
            | Message::Commit { end_mark, .. }
            | Message::Abort { end_mark, .. } => Some(end_mark),
            Message::Vote { .. }
            | Message::Ack { .. }
            | Message::Inquire { .. }
            | Message::InquiryReply { .. } => None,
        }
    }

    fn tx_and_request(&self) -> (TxId, RequestId) {
        match self {
            Message::Prepare { tx, request, .. }
            | Message::Vote { tx, request, .. }
            | Message::Commit { tx, request, .. }
            | Message::Abort { tx, request, .. }
            | Message::Ack { tx, request, .. }
            | Message::Inquire { tx, request }
            | Message::InquiryReply { tx, request, .. } => (*tx, *request),
        }
    }
}

impl Label for Message {
    fn kind(&self) -> &'static str {
        match self {
            Message::Prepare { .. } => "Prepare",
            Message::Vote { .. } => "Vote",
            Message::Commit { .. } => "Commit",
            Message::Abort { .. } => "Abort",
            Message::Ack { .. } => "Ack",
            Message::Inquire { .. } => "Inquire",
            Message::InquiryReply { .. } => "Tell",
        }
    }

    fn subject(&self) -> Option<Subject> {
        Some(Subject::Request(self.request()))
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Message::Prepare { part, .. } => write!(f, "{part}"),
            Message::Vote { vote: Vote::Yes { .. }, .. } => f.write_str("yes"),
            Message::Vote { vote: Vote::No(refusal), .. } => write!(f, "no: {refusal}"),
            Message::Commit { .. }
            | Message::Abort { .. }
            | Message::Ack { .. }
            | Message::Inquire { .. } => Ok(()),
            Message::InquiryReply { reply, .. } => f.write_str(match reply {
                InquiryReply::Committed(_) => "committed",
                InquiryReply::Aborted(_) => "aborted",
                InquiryReply::Uncertain => "uncertain",
            }),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Conflict { holder } => write!(f, "locked by {holder}"),
            Refusal::Bound { key } => write!(f, "{key} would fall below its bound"),
            Refusal::Overflow { key } => write!(f, "{key} would overflow"),
            Refusal::Aborted => f.write_str("aborted earlier"),
        }
    }
}

#[cfg(test)]
mod tests {
    use stormglass_node::codec;
    use stormglass_node::id::{Incarnation, NodeId};

    use super::*;

    #[test]
    fn a_message_stays_small() {
        assert!(size_of::<Message>() <= 96, "{} bytes", size_of::<Message>());
    }

    /// The encoding of an `Ack` is its variant, the transaction and the request; a log of events
    /// shows no proof either.
    #[test]
    fn proof_takes_no_bytes() {
        let tx = TxId { coordinator: NodeId(1), incarnation: Incarnation(2), serial: 3 };
        let request = RequestId { client: 4, serial: 5, attempt: 6 };
        let ack = Message::Ack { tx, request, proof: RecordIsDurable(()) };
        let bytes = codec::encode(&ack);
        assert_eq!(bytes, [&[4][..], &codec::encode(&(tx, request))].concat());
        assert_eq!(codec::decode::<Message>(&bytes), Ok(ack));
        let reply = InquiryReply::Aborted(RecordIsDurable(()));
        assert_eq!(codec::encode(&reply), [1]);
        assert_eq!(codec::decode::<InquiryReply>(&[1]), Ok(reply));
    }
}
