//! What nodes say to each other. Every message names its transaction and, for traces and coordinates of faults,
//! the client's request behind it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::end_mark::EndMark;
use super::op::{Key, Reads};
use super::part::Part;
use crate::contract::{Label, Subject};
use crate::id::{RequestId, TxId};

/// See the [protocol](super).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Coordinator to subordinate: lock this, record it, vote.
    Prepare {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
        /// What the receiver has to do.
        part: Part,
        /// What of the sender's is still open.
        #[serde(rename = "word")]
        end_mark: EndMark,
    },
    /// Subordinate to coordinator.
    Vote {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
        /// The vote.
        vote: Vote,
    },
    /// Coordinator to subordinate: decided, do it.
    Commit {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
        /// What of the sender's is still open.
        #[serde(rename = "word")]
        end_mark: EndMark,
    },
    /// Coordinator to subordinate: decided, or presumed: drop it.
    Abort {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
        /// What of the sender's is still open.
        #[serde(rename = "word")]
        end_mark: EndMark,
    },
    /// Subordinate to coordinator: the commit is on my disk.
    Ack {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
    },
    /// From somebody in doubt, to the coordinator or to a fellow participant: what has become of it?
    Inquire {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
    },
    /// The answer of a fellow participant. (A coordinator answers with `Commit` or `Abort`.)
    #[serde(rename = "Tell")]
    InquiryReply {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
        /// The answer.
        #[serde(rename = "said")]
        reply: InquiryReply,
    },
}

/// A participant's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vote {
    /// It is locked and on my disk, and will be done if you say so.
    Yes {
        /// What the `Get`s of the part found, in the part's order.
        reads: Reads,
    },
    /// It will not be done here.
    No(Refusal),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// An undecided transaction that is older holds a lock.
    Conflict {
        /// That one.
        holder: TxId,
    },
    /// An `Add` would fall below its bound.
    Bound {
        /// Of this key.
        key: Key,
    },
    /// An `Add` would overflow.
    Overflow {
        /// Of this key.
        key: Key,
    },
    /// It was aborted here earlier, for instance because a fellow participant asked before the Prepare came.
    Aborted,
}

/// What a participant says to another who is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InquiryReply {
    /// I know that it is committed.
    Committed,
    /// It is aborted, and my disk says so.
    Aborted,
    /// I am in doubt myself.
    Uncertain,
}

impl Message {
    /// The transaction.
    pub fn tx(&self) -> TxId {
        self.tx_and_request().0
    }

    /// The request behind it.
    pub fn request(&self) -> RequestId {
        self.tx_and_request().1
    }

    /// The word that travels with it.
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
            | Message::Ack { tx, request }
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
                InquiryReply::Committed => "committed",
                InquiryReply::Aborted => "aborted",
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
    use super::*;

    #[test]
    fn a_message_stays_small() {
        assert!(size_of::<Message>() <= 96, "{} bytes", size_of::<Message>());
    }
}
