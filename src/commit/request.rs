//! Requests of clients and their responses.
//!
//! A request id is (client, serial, attempt). A request is addressed to one incarnation of one
//! coordinator, at a position that an answer of this coordinator contained, and its id is never
//! used for another. A client that stops waiting for a response queries the outcome; a client that
//! retries uses the next attempt and keeps the age. This is what makes "exactly once" hold across
//! restarts, and although a coordinator remembers only its latest requests: see [`Position`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::end_mark::Position;
use super::message::Refusal;
use super::op::{Op, Reads};
use super::part::InvalidTransaction;
use stormglass_node::contract::{Label, Subject};
use stormglass_node::id::{NodeId, RequestId, Time};

/// A client's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Execute all operations or none.
    Transact {
        /// The coordinator as its last [`Response`] has shown it. Another incarnation looks the id
        /// up and does not execute it, and neither does this one if it may have executed and
        /// forgotten requests that were addressed to it so early: both respond with the position
        /// that it has now.
        addressed: Position,
        /// [`Response::began_at`] of the attempt before. `None` for the first attempt: the
        /// coordinator takes its own time.
        began_at: Option<Time>,
        /// The client has received the outcomes of all its requests *below* this number; they may
        /// be forgotten.
        seen: RequestNumber,
        /// The operations, in order.
        ops: Arc<[Op]>,
    },
    /// Query the outcome of the request with this id. Changes nothing.
    Outcome {
        /// The position to which that request was addressed. With an earlier one, such as serial 0
        /// of that incarnation, the outcome may be unknown although the coordinator knows it.
        addressed: Position,
    },
}

/// The number of a request among those of its client: later requests and later attempts are
/// greater.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestNumber {
    /// [`RequestId::serial`].
    pub serial: u32,
    /// [`RequestId::attempt`].
    pub attempt: u16,
}

/// The response to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Response {
    /// The current incarnation of the responding node, and the number of requests that it has
    /// begun: the address of the next request.
    pub position: Position,
    /// When the first attempt at this request began, by the clock of the coordinator: the age of
    /// the transaction, which the next attempt carries. `None` if the coordinator does not know.
    pub began_at: Option<Time>,
    pub outcome: Outcome,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Outcome {
    /// All operations are applied, exactly once and permanently.
    Committed {
        /// The values of its `Get`s, in the order of the request. `None` if they were forgotten in
        /// a restart.
        reads: Option<Reads>,
    },
    /// No operation is applied, and none ever will be under this id.
    Aborted {
        #[serde(rename = "why")]
        reason: AbortReason,
    },
    /// Undecided or forgotten: both other outcomes are possible. The coordinator has not executed
    /// the request on behalf of this copy of it.
    Unknown,
}

/// Why a request was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum AbortReason {
    /// A participant refused.
    Refused {
        by: NodeId,
        #[serde(rename = "no")]
        refusal: Refusal,
    },
    /// A vote was missing at the vote timeout.
    TimedOut {
        /// The first participant without a vote (the coordinator itself if its own part waited for
        /// locks).
        missing: NodeId,
    },
    /// The request was addressed to an earlier incarnation, which did not commit it.
    Restarted,
    /// The operations are not a transaction.
    Invalid(InvalidTransaction),
}

impl RequestNumber {
    /// The number of `request` among those of its client.
    pub fn of(request: RequestId) -> RequestNumber {
        RequestNumber { serial: request.serial, attempt: request.attempt }
    }

    /// The greatest number below this one; the number itself if it is the least.
    pub fn predecessor(self) -> RequestNumber {
        match self {
            RequestNumber { serial, attempt: 1.. } => {
                RequestNumber { serial, attempt: self.attempt - 1 }
            }
            RequestNumber { serial: 1.., attempt: 0 } => {
                RequestNumber { serial: self.serial - 1, attempt: u16::MAX }
            }
            RequestNumber { serial: 0, attempt: 0 } => self,
        }
    }
}

impl Label for Request {
    fn kind(&self) -> &'static str {
        match self {
            Request::Transact { .. } => "Transact",
            Request::Outcome { .. } => "Outcome",
        }
    }

    fn subject(&self) -> Option<Subject> {
        None
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Request::Transact { ops, .. } => {
                for (i, op) in ops.iter().enumerate() {
                    write!(f, "{}{op}", if i > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Request::Outcome { addressed } => write!(f, "of {}", addressed.incarnation),
        }
    }
}

impl Label for Response {
    fn kind(&self) -> &'static str {
        match self.outcome {
            Outcome::Committed { .. } => "Committed",
            Outcome::Aborted { .. } => "Aborted",
            Outcome::Unknown => "Unknown",
        }
    }

    fn subject(&self) -> Option<Subject> {
        None
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match &self.outcome {
            Outcome::Aborted { reason } => write!(f, "{reason}"),
            Outcome::Committed { reads: Some(reads) } if !reads.is_empty() => {
                write!(f, "{:?}", &reads[..])
            }
            Outcome::Committed { .. } | Outcome::Unknown => Ok(()),
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AbortReason::Refused { by, refusal } => write!(f, "{by} refused: {refusal}"),
            AbortReason::TimedOut { missing } => write!(f, "no vote from {missing} in time"),
            AbortReason::Restarted => {
                f.write_str("the coordinator restarted before it was committed")
            }
            AbortReason::Invalid(invalid) => write!(f, "{invalid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predecessor_is_the_greatest_smaller_request_number() {
        let number = |serial, attempt| RequestNumber { serial, attempt };
        assert_eq!(number(4, 2).predecessor(), number(4, 1));
        assert_eq!(number(4, 0).predecessor(), number(3, u16::MAX));
        assert_eq!(number(0, 0).predecessor(), number(0, 0));
    }
}
