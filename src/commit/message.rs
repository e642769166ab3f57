//! What nodes say to each other. Every message names its transaction and, for traces and coordinates of faults,
//! the client's request behind it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::op::{Key, Reads};
use super::part::Part;
use super::words::Word;
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
        name: RequestId,
        /// What the receiver has to do.
        part: Part,
        /// What of the sender's is still open.
        word: Word,
    },
    /// Subordinate to coordinator.
    Vote {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
        /// The vote.
        vote: Vote,
    },
    /// Coordinator to subordinate: decided, do it.
    Commit {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
        /// What of the sender's is still open.
        word: Word,
    },
    /// Coordinator to subordinate: decided, or presumed: drop it.
    Abort {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
        /// What of the sender's is still open.
        word: Word,
    },
    /// Subordinate to coordinator: the commit is on my disk.
    Ack {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
    },
    /// From somebody in doubt, to the coordinator or to a fellow participant: what has become of it?
    Inquire {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
    },
    /// The answer of a fellow participant. (A coordinator answers with `Commit` or `Abort`.)
    Tell {
        /// The transaction.
        tx: TxId,
        /// The request behind it.
        name: RequestId,
        /// The answer.
        said: Said,
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
    No(No),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum No {
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
pub enum Said {
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
        self.names().0
    }

    /// The request behind it.
    pub fn name(&self) -> RequestId {
        self.names().1
    }

    /// The word that travels with it.
    pub fn word(&self) -> Option<&Word> {
        match self {
            Message::Prepare { word, .. } | Message::Commit { word, .. } | Message::Abort { word, .. } => {
                Some(word)
            }
            Message::Vote { .. } | Message::Ack { .. } | Message::Inquire { .. } | Message::Tell { .. } => {
                None
            }
        }
    }

    fn names(&self) -> (TxId, RequestId) {
        match self {
            Message::Prepare { tx, name, .. }
            | Message::Vote { tx, name, .. }
            | Message::Commit { tx, name, .. }
            | Message::Abort { tx, name, .. }
            | Message::Ack { tx, name }
            | Message::Inquire { tx, name }
            | Message::Tell { tx, name, .. } => (*tx, *name),
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
            Message::Tell { .. } => "Tell",
        }
    }

    fn subject(&self) -> Option<Subject> {
        Some(Subject::Request(self.name()))
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Message::Prepare { part, .. } => write!(f, "{part}"),
            Message::Vote { vote: Vote::Yes { .. }, .. } => f.write_str("yes"),
            Message::Vote { vote: Vote::No(no), .. } => write!(f, "no: {no}"),
            Message::Commit { .. }
            | Message::Abort { .. }
            | Message::Ack { .. }
            | Message::Inquire { .. } => Ok(()),
            Message::Tell { said, .. } => f.write_str(match said {
                Said::Committed => "committed",
                Said::Aborted => "aborted",
                Said::Uncertain => "uncertain",
            }),
        }
    }
}

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            No::Conflict { holder } => write!(f, "locked by {holder}"),
            No::Bound { key } => write!(f, "{key} would fall below its bound"),
            No::Overflow { key } => write!(f, "{key} would overflow"),
            No::Aborted => f.write_str("aborted earlier"),
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
