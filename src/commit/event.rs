//! Events for operators. No behaviour depends on them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::tx_id::TxId;
use stormglass_node::contract::{FileId, Label, Subject};
use stormglass_node::id::{Incarnation, NodeId, RequestId};

/// A remarkable event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum Event {
    /// An incarnation began: its boot snapshot is durable, and enough peers remember it. From now
    /// on the node answers.
    Ready {
        #[serde(rename = "life")]
        incarnation: Incarnation,
        /// The number of transactions in doubt.
        in_doubt: u32,
        /// The number of committed transactions that are not acknowledged by all.
        committing: u32,
    },
    /// An invalid message was dropped.
    Dropped {
        from: NodeId,
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        #[serde(rename = "why")]
        reason: DropReason,
    },
    /// The log ends before bytes that do not belong to it: a crash has torn a record, or records,
    /// that nobody was promised; or the end of the file is damaged.
    TornTail {
        file: FileId,
        /// The offset of the first byte that is discarded.
        at: u64,
        /// How many bytes are discarded, later files included.
        bytes: u64,
        /// The last record before it, counted over all incarnations.
        log_position: u64,
    },
    /// An input arrived before the node answers, and was dropped.
    NotReady,
    /// The node still waits for its peers, and answers nobody.
    Unconfirmed {
        incarnation: Incarnation,
        /// How many more peers have to remember this incarnation.
        missing: u32,
    },
    /// A peer has said Hello as an incarnation that does not follow the one that this node
    /// remembers: its data directory is an older copy, was emptied, or two processes run under its
    /// id.
    PeerRefused {
        peer: NodeId,
        incarnation: Incarnation,
        /// The incarnation that this node remembers.
        known: Incarnation,
    },
    /// A peer refuses this incarnation. The node halts unless it answers already.
    Refused {
        by: NodeId,
        /// The incarnation that the peer remembers.
        known: Incarnation,
    },
    /// A Commit arrived for a transaction that this node has neither a record nor an end mark of:
    /// something durable was lost. The message was dropped.
    Damage {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
    },
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// The sender is not a node of this cluster, or is this node itself.
    #[error("the sender is not another node of this cluster")]
    #[serde(rename = "Stranger")]
    UnknownSender,
    /// Only the transaction's coordinator may send this.
    #[error("the sender is not the transaction's coordinator")]
    #[serde(rename = "NotItsCoordinator")]
    SenderNotCoordinator,
    /// Only the transaction's coordinator may receive this, and this node is not it.
    #[error("this node is not the transaction's coordinator")]
    #[serde(rename = "NotForUs")]
    ReceiverNotCoordinator,
    /// The sender is not a participant of the transaction.
    #[error("the sender is not a participant of the transaction")]
    #[serde(rename = "NotAParticipant")]
    SenderNotParticipant,
    /// The part has no operations, or operations of another node.
    #[error("the part is empty or contains operations of another node")]
    #[serde(rename = "NotOurPart")]
    WrongPart,
    /// The transaction has not begun.
    #[error("the transaction has not begun")]
    NotBegun,
    /// The transaction executes another request.
    #[error("the transaction executes another request")]
    OtherRequest,
    /// An acknowledgement of an undecided transaction.
    #[error("acknowledgement of an undecided transaction")]
    NotDecided,
}

impl Label for Event {
    fn kind(&self) -> &'static str {
        match self {
            Event::Ready { .. } => "Ready",
            Event::Dropped { .. } => "Dropped",
            Event::TornTail { .. } => "TornTail",
            Event::NotReady => "NotReady",
            Event::Unconfirmed { .. } => "Unconfirmed",
            Event::PeerRefused { .. } => "PeerRefused",
            Event::Refused { .. } => "Refused",
            Event::Damage { .. } => "Damage",
        }
    }

    fn subject(&self) -> Option<Subject> {
        match self {
            Event::Dropped { request, .. } | Event::Damage { request, .. } => {
                Some(Subject::Request(*request))
            }
            Event::Ready { .. }
            | Event::TornTail { .. }
            | Event::NotReady
            | Event::Unconfirmed { .. }
            | Event::PeerRefused { .. }
            | Event::Refused { .. } => None,
        }
    }

    fn is_warning(&self) -> bool {
        match self {
            Event::TornTail { .. }
            | Event::Unconfirmed { .. }
            | Event::PeerRefused { .. }
            | Event::Refused { .. }
            | Event::Damage { .. } => true,
            // A peer with another list of nodes sends such messages without end.
            Event::Dropped { .. } | Event::Ready { .. } | Event::NotReady => false,
        }
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Event::Ready { incarnation, in_doubt, committing } => {
                write!(
                    f,
                    "{incarnation}, {in_doubt} in doubt, {committing} not acknowledged by all"
                )
            }
            Event::Dropped { from, tx, reason, .. } => write!(f, "{tx} from {from}: {reason}"),
            Event::TornTail { file, at, bytes, log_position } => write!(
                f,
                "{bytes} bytes of {file} from byte {at} on are discarded, after record \
                 {log_position}"
            ),
            Event::NotReady => Ok(()),
            Event::Unconfirmed { incarnation, missing } => {
                write!(f, "{incarnation:#} answers nobody before {missing} more peers remember it")
            }
            Event::PeerRefused { peer, incarnation, known } => write!(
                f,
                "{peer} as {incarnation:#}, which does not follow {known:#}: its data directory \
                 is an older copy or was emptied, or two processes run under its id"
            ),
            Event::Refused { by, known } => write!(f, "by {by}, which remembers {known:#}"),
            Event::Damage { tx, .. } => {
                write!(f, "Commit for {tx}, but this log has no PREPARED record of it")
            }
        }
    }
}
