//! What clients ask and what they are told.
//!
//! A request is named (client, serial, attempt) and addressed to one life of one coordinator; that name is never
//! addressed anywhere else. A client that gives up on an answer asks for the outcome; one that wants to try
//! again takes the next attempt and keeps the age. This is what makes "exactly once" hold across restarts.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::Refusal;
use super::op::{Op, Reads};
use super::part::{Age, InvalidTransaction};
use crate::contract::{Label, Subject};
use crate::id::{Incarnation, NodeId, RequestId};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Do all of this or nothing.
    Transact {
        /// The life of the coordinator that is addressed, as learnt from its last [`Response`] (0 at first: the
        /// answer will be "aborted", with the right life). Another life looks the name up and does not execute it.
        #[serde(rename = "life")]
        incarnation: Incarnation,
        /// The age of the wish, for wait-die. Every attempt has the same.
        age: Age,
        /// This client has seen the answers to all its turns *below* this one; they may be forgotten.
        seen: RequestNumber,
        /// What to do, in this order.
        ops: Arc<[Op]>,
    },
    /// What has become of the request whose name this bears? Changes nothing.
    Outcome {
        /// The life that that request was addressed to.
        #[serde(rename = "life")]
        incarnation: Incarnation,
    },
}

/// The place of a request among those of its client: later wishes and later attempts are greater.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestNumber {
    /// [`RequestId::serial`].
    pub serial: u32,
    /// [`RequestId::attempt`].
    pub attempt: u16,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The present life of who answers: where to address the next request.
    #[serde(rename = "life")]
    pub incarnation: Incarnation,
    /// What has become of the request.
    pub outcome: Outcome,
}

/// What has become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All of it is done, once and for ever.
    Committed {
        /// What its `Get`s found, in the order of the request. `None` if that was forgotten in a restart.
        reads: Option<Reads>,
    },
    /// None of it is done, and none ever will be under this name.
    Aborted {
        /// Why.
        #[serde(rename = "why")]
        reason: AbortReason,
    },
    /// Not known, not yet or no longer: either of the others is possible.
    Unknown,
}

/// Why a request was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AbortReason {
    /// A participant refused.
    Refused {
        /// Which one.
        by: NodeId,
        /// Why.
        #[serde(rename = "no")]
        refusal: Refusal,
    },
    /// Not all votes came in time.
    TimedOut {
        /// The first participant whose vote was missing (the coordinator itself if its own part waited).
        missing: NodeId,
    },
    /// It was addressed to an earlier life, which did not commit it.
    Restarted,
    /// It is not a transaction.
    Invalid(InvalidTransaction),
}

impl RequestNumber {
    /// Where `request` stands among those of its client.
    pub fn of(request: RequestId) -> RequestNumber {
        RequestNumber { serial: request.serial, attempt: request.attempt }
    }

    /// The greatest turn below this one; itself if it is the least.
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
            Request::Outcome { incarnation } => write!(f, "of {incarnation}"),
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
