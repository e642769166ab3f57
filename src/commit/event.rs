//! What an operator might want to know. Nothing depends on it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contract::{Label, Subject};
use crate::id::{Incarnation, NodeId, RequestId, TxId};

/// Something remarkable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A life began and its boot barrier has completed: from now on the node answers.
    Ready {
        /// Which life.
        #[serde(rename = "life")]
        incarnation: Incarnation,
        /// How many transactions it found in doubt.
        in_doubt: u32,
        /// How many it found decided and not acknowledged by all.
        committing: u32,
    },
    /// A message made no sense and was dropped.
    Dropped {
        /// Who sent it.
        from: NodeId,
        /// The transaction it spoke of.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
        /// What was wrong.
        #[serde(rename = "why")]
        reason: DropReason,
    },
    /// An input came before the boot barrier had completed, and was dropped.
    NotReady,
    /// Somebody commits what this node knows to be impossible: something durable was lost. The message was dropped.
    Damage {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        #[serde(rename = "name")]
        request: RequestId,
    },
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DropReason {
    /// The sender is not of this cluster, or is said to be the receiver.
    #[error("not from a fellow node")]
    #[serde(rename = "Stranger")]
    UnknownSender,
    /// Only the transaction's coordinator may say this.
    #[error("not from its coordinator")]
    #[serde(rename = "NotItsCoordinator")]
    SenderNotCoordinator,
    /// Only the transaction's coordinator can be told this, and the receiver is not it.
    #[error("not for its coordinator")]
    #[serde(rename = "NotForUs")]
    ReceiverNotCoordinator,
    /// The sender does not take part in the transaction.
    #[error("not from a participant")]
    #[serde(rename = "NotAParticipant")]
    SenderNotParticipant,
    /// The receiver has nothing to do in it, or somebody else's operations are in it.
    #[error("not a part for this node")]
    #[serde(rename = "NotOurPart")]
    WrongPart,
    /// The transaction was never begun.
    #[error("no such transaction yet")]
    NotBegun,
    /// An acknowledgement of what is not decided.
    #[error("acknowledges what is undecided")]
    NotDecided,
}

impl Label for Event {
    fn kind(&self) -> &'static str {
        match self {
            Event::Ready { .. } => "Ready",
            Event::Dropped { .. } => "Dropped",
            Event::NotReady => "NotReady",
            Event::Damage { .. } => "Damage",
        }
    }

    fn subject(&self) -> Option<Subject> {
        match self {
            Event::Dropped { request, .. } | Event::Damage { request, .. } => {
                Some(Subject::Request(*request))
            }
            Event::Ready { .. } | Event::NotReady => None,
        }
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Event::Ready { incarnation, in_doubt, committing } => {
                write!(f, "{incarnation}, {in_doubt} in doubt, {committing} to finish")
            }
            Event::Dropped { from, tx, reason, .. } => write!(f, "{tx} from {from}: {reason}"),
            Event::NotReady => Ok(()),
            Event::Damage { tx, .. } => write!(f, "{tx} commits, but no Yes to it is on this disk"),
        }
    }
}
