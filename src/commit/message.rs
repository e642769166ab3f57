//! Messages between nodes: an envelope with the ids that every message has, and a body. How they
//! are encoded is in `encoded`.

mod encoded;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use encoded::Encoded;

use super::end_mark::{EndMark, EndedTransactions, Position};
use super::op::{Key, Reads};
use super::part::Part;
use super::tx_id::{NO_REQUEST, TxId};
use stormglass_node::contract::{Label, Subject};
use stormglass_node::id::{Incarnation, NodeId, RequestId};
use stormglass_node::wal::Durable;

/// Evidence that the record on which a message depends is durable. A node makes it from a
/// [`Durable`] proof or from the end of the transaction. Decoding is the one exception: a message
/// that was received has the evidence of its sender.
///
/// It says how long the log of the sender is at least. A peer that has seen it recognises a log
/// that is shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordIsDurable {
    log_position: u64,
}

impl RecordIsDurable {
    pub(super) fn by<T>(proof: &Durable<T>) -> RecordIsDurable {
        RecordIsDurable { log_position: proof.position() }
    }

    /// The record of a transaction that has ended was durable, and has been dropped.
    pub(super) fn by_end(ended: &EndedTransactions, tx: TxId) -> Option<RecordIsDurable> {
        ended.contains(Position::of(tx)).then_some(RecordIsDurable { log_position: 0 })
    }

    /// So many records of the sender are durable at least, over all its incarnations.
    pub fn log_position(self) -> u64 {
        self.log_position
    }

    /// Without any evidence: for tests, and for mutants of the node.
    #[cfg(feature = "forged-proofs")]
    pub fn forged() -> RecordIsDurable {
        RecordIsDurable { log_position: 0 }
    }
}

/// See the [protocol](super).
///
/// The messages about an incarnation, `Hello` to `Refuse`, are those about its
/// transaction 0, which no client has requested: a [`TxId`] of serial 0 names the incarnation
/// itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Encoded", into = "Encoded")]
pub struct Message {
    /// The transaction that the message is about.
    pub tx: TxId,
    /// The client's request that the transaction executes; for traces and coordinates of faults.
    pub request: RequestId,
    /// The rest, by kind.
    pub body: Body,
}

/// The kind of a message, with what only this kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Body {
    /// Coordinator to subordinate: lock the part, record it, vote.
    Prepare {
        /// The operations of the receiver.
        part: Part,
        /// The sender's end mark.
        end_mark: EndMark,
    },
    /// Subordinate to coordinator: the vote.
    Vote(Vote),
    /// Coordinator to subordinate: the transaction is committed.
    Commit {
        /// The sender's end mark.
        end_mark: EndMark,
        /// COMMIT.
        proof: RecordIsDurable,
    },
    /// Coordinator to subordinate: the transaction is aborted, by decision or presumption.
    Abort {
        /// The sender's end mark.
        end_mark: EndMark,
    },
    /// Subordinate to coordinator: the commit is durable here.
    Ack {
        /// COMMITTED.
        proof: RecordIsDurable,
    },
    /// A participant in doubt, to the coordinator or to another participant: asks for the outcome.
    Inquire,
    /// The reply of a participant. (A coordinator replies with `Commit` or `Abort`.)
    InquiryReply(InquiryReply),
    /// A new incarnation to each peer: asks whether it is welcome.
    Hello(Introducing),
    /// The answer to `Hello`: the incarnation follows the one that the sender remembers, if any.
    Welcome,
    /// An incarnation that is welcome to each peer: asks it to remember this incarnation.
    Remember(Introducing),
    /// The answer to `Remember`: the incarnation is remembered.
    Remembered {
        /// MET.
        proof: RecordIsDurable,
    },
    /// The answer to `Hello` or `Remember` of an incarnation that does not follow the one that the
    /// sender remembers.
    Refuse {
        /// The incarnation that the sender remembers.
        known: Incarnation,
        /// The number of records that the log of `known` had at least.
        log_position: u64,
    },
}

/// What a new incarnation says of itself: enough for a peer to see whether it follows the one that
/// the peer remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introducing {
    /// The incarnations before it that a peer may remember, in ascending order.
    pub ancestors: Arc<[Incarnation]>,
    /// The number of records in its log, over all incarnations.
    pub log_position: u64,
    /// If the node began again with an empty disk: the last incarnation whose records are lost.
    pub lost: Incarnation,
}

/// A participant's vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// The part is locked, PREPARED is durable, and the participant will commit if the coordinator
    /// decides so.
    Yes {
        /// What the `Get`s of the part found, in the part's order.
        reads: Reads,
        /// PREPARED.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InquiryReply {
    /// The transaction is committed, and COMMITTED is durable.
    Committed(RecordIsDurable),
    /// The transaction is aborted, and ABORTED is durable.
    Aborted(RecordIsDurable),
    /// The replying participant is in doubt as well.
    Uncertain,
}

impl Message {
    /// The end mark of the sender, if the message has one.
    pub fn end_mark(&self) -> Option<&EndMark> {
        match &self.body {
            Body::Prepare { end_mark, .. }
            | Body::Commit { end_mark, .. }
            | Body::Abort { end_mark } => Some(end_mark),
            Body::Vote(_)
            | Body::Ack { .. }
            | Body::Inquire
            | Body::InquiryReply(_)
            | Body::Hello(_)
            | Body::Welcome
            | Body::Remember(_)
            | Body::Remembered { .. }
            | Body::Refuse { .. } => None,
        }
    }

    /// The evidence that a record of the transaction is durable, if the message depends on one.
    pub fn proof(&self) -> Option<RecordIsDurable> {
        match &self.body {
            Body::Vote(Vote::Yes { proof, .. })
            | Body::Commit { proof, .. }
            | Body::Ack { proof }
            | Body::InquiryReply(InquiryReply::Committed(proof) | InquiryReply::Aborted(proof)) => {
                Some(*proof)
            }
            Body::Prepare { .. }
            | Body::Vote(Vote::No(_))
            | Body::Abort { .. }
            | Body::Inquire
            | Body::InquiryReply(InquiryReply::Uncertain)
            | Body::Hello(_)
            | Body::Welcome
            | Body::Remember(_)
            | Body::Remembered { .. }
            | Body::Refuse { .. } => None,
        }
    }

    /// Whether it is about an incarnation, and not about a transaction.
    pub fn is_introduction(&self) -> bool {
        matches!(
            self.body,
            Body::Hello(_)
                | Body::Welcome
                | Body::Remember(_)
                | Body::Remembered { .. }
                | Body::Refuse { .. }
        )
    }

    /// A message about an incarnation of a node.
    pub(super) fn about_incarnation(node: NodeId, incarnation: Incarnation, body: Body) -> Message {
        Message { tx: TxId::of_incarnation(node, incarnation), request: NO_REQUEST, body }
    }
}

impl Label for Message {
    fn kind(&self) -> &'static str {
        match self.body {
            Body::Prepare { .. } => "Prepare",
            Body::Vote(_) => "Vote",
            Body::Commit { .. } => "Commit",
            Body::Abort { .. } => "Abort",
            Body::Ack { .. } => "Ack",
            Body::Inquire => "Inquire",
            Body::InquiryReply(_) => "Tell",
            Body::Hello(_) => "Hello",
            Body::Welcome => "Welcome",
            Body::Remember(_) => "Remember",
            Body::Remembered { .. } => "Remembered",
            Body::Refuse { .. } => "Refuse",
        }
    }

    fn subject(&self) -> Option<Subject> {
        (!self.is_introduction()).then_some(Subject::Request(self.request))
    }

    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match &self.body {
            Body::Prepare { part, .. } => write!(f, "{part}"),
            Body::Vote(Vote::Yes { .. }) => f.write_str("yes"),
            Body::Vote(Vote::No(refusal)) => write!(f, "no: {refusal}"),
            Body::Commit { .. } | Body::Abort { .. } | Body::Ack { .. } | Body::Inquire => Ok(()),
            Body::InquiryReply(InquiryReply::Committed(_)) => f.write_str("committed"),
            Body::InquiryReply(InquiryReply::Aborted(_)) => f.write_str("aborted"),
            Body::InquiryReply(InquiryReply::Uncertain) => f.write_str("uncertain"),
            Body::Hello(_) => write!(f, "as {}", self.tx.incarnation),
            Body::Welcome | Body::Remember(_) | Body::Remembered { .. } => {
                write!(f, "{}", self.tx.incarnation)
            }
            Body::Refuse { known, .. } => {
                write!(f, "{}, remembers {known}", self.tx.incarnation)
            }
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

    use super::*;
    use crate::commit::op::{Action, Op};
    use crate::commit::part::Age;

    #[test]
    fn a_message_stays_small() {
        assert!(size_of::<Message>() <= 96, "{} bytes", size_of::<Message>());
    }

    /// What is on connections and in event logs must remain readable: the bytes in hexadecimal, and
    /// the JSON after the ids.
    #[test]
    fn each_kind_of_message_keeps_its_bytes_and_its_json() {
        let tx = TxId { coordinator: NodeId(1), incarnation: Incarnation::numbered(2), serial: 3 };
        let request = RequestId { client: 4, serial: 5, attempt: 6 };
        let proof = RecordIsDurable { log_position: 8 };
        let key = Key::new("k").expect("short");
        let op = Op { node: NodeId(7), key, action: Action::Put(-8) };
        let part = Part::of_all(Age { at: 9, by: request }, &[op].into()).expect("one operation");
        let open = Position { incarnation: Incarnation::numbered(2), serial: 1 };
        let end_mark = EndMark::new(Position::of(tx), [open].into_iter(), None);
        let reads = Reads::from(&[Some(10), None][..]);
        let no = |refusal| Body::Vote(Vote::No(refusal));
        let cases = [
            (
                Body::Prepare { part, end_mark: end_mark.clone() },
                "000102030405060904050601070107016b000f0203010201",
                concat!(
                    r#","part":{"age":{"at":9,"by":{"client":4,"serial":5,"attempt":6}},"#,
                    r#""participants":[7],"ops":[{"node":7,"key":"k","action":{"Put":-8}}]},"#,
                    r#""word":{"below":{"life":2,"serial":3},"open":[{"life":2,"serial":1}]}"#
                ),
            ),
            (
                Body::Vote(Vote::Yes { reads, proof }),
                "01010203040506000201140008",
                r#","vote":{"Yes":{"reads":[10,null],"log_position":8}}"#,
            ),
            (
                no(Refusal::Conflict { holder: tx }),
                "010102030405060100010203",
                r#","vote":{"No":{"Conflict":{"holder":{"coordinator":1,"incarnation":2,"serial":3}}}}"#,
            ),
            (
                no(Refusal::Bound { key }),
                "010102030405060101016b",
                r#","vote":{"No":{"Bound":{"key":"k"}}}"#,
            ),
            (
                no(Refusal::Overflow { key }),
                "010102030405060102016b",
                r#","vote":{"No":{"Overflow":{"key":"k"}}}"#,
            ),
            (no(Refusal::Aborted), "010102030405060103", r#","vote":{"No":"Aborted"}"#),
            (
                Body::Commit { end_mark: end_mark.clone(), proof },
                "02010203040506020301020108",
                concat!(
                    r#","word":{"below":{"life":2,"serial":3},"open":[{"life":2,"serial":1}]},"#,
                    r#""log_position":8"#
                ),
            ),
            (
                Body::Abort { end_mark },
                "030102030405060203010201",
                r#","word":{"below":{"life":2,"serial":3},"open":[{"life":2,"serial":1}]}"#,
            ),
            (Body::Ack { proof }, "0401020304050608", r#","log_position":8"#),
            (Body::Inquire, "05010203040506", ""),
            (
                Body::InquiryReply(InquiryReply::Committed(proof)),
                "060102030405060008",
                r#","said":{"Committed":{"log_position":8}}"#,
            ),
            (
                Body::InquiryReply(InquiryReply::Aborted(proof)),
                "060102030405060108",
                r#","said":{"Aborted":{"log_position":8}}"#,
            ),
            (
                Body::InquiryReply(InquiryReply::Uncertain),
                "0601020304050602",
                r#","said":"Uncertain""#,
            ),
        ];
        let ids = concat!(
            r#""tx":{"coordinator":1,"incarnation":2,"serial":3},"#,
            r#""name":{"client":4,"serial":5,"attempt":6}"#
        );
        for (body, expected_hex, expected_rest) in cases {
            let message = Message { tx, request, body };
            let bytes = codec::encode(&message);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected_hex);
            assert_eq!(codec::decode::<Message>(&bytes).as_ref(), Ok(&message));
            let json = serde_json::to_string(&message).expect("plain data");
            let kind = message.kind();
            assert_eq!(json, format!(r#"{{"{kind}":{{{ids}{expected_rest}}}}}"#));
            assert_eq!(serde_json::from_str::<Message>(&json).expect("the same"), message);
        }
    }

    #[test]
    fn messages_about_incarnations_round_trip_through_bytes_and_json() {
        let incarnation = Incarnation::numbered(1).next(0x1234_5678);
        let introducing = Introducing {
            ancestors: [Incarnation::numbered(1)].into(),
            log_position: 7,
            lost: Incarnation::default(),
        };
        let proof = RecordIsDurable { log_position: 8 };
        for (body, kind) in [
            (Body::Hello(introducing.clone()), "Hello"),
            (Body::Welcome, "Welcome"),
            (Body::Remember(introducing), "Remember"),
            (Body::Remembered { proof }, "Remembered"),
            (Body::Refuse { known: Incarnation::numbered(3), log_position: 9 }, "Refuse"),
        ] {
            let message = Message::about_incarnation(NodeId(4), incarnation, body);
            assert!(message.is_introduction() && message.subject().is_none());
            let bytes = codec::encode(&message);
            assert_eq!(codec::decode::<Message>(&bytes).as_ref(), Ok(&message));
            let json = serde_json::to_string(&message).expect("plain data");
            let ids = r#"{"node":4,"incarnation":"2.12345678""#;
            assert!(json.starts_with(&format!(r#"{{"{kind}":{ids}"#)), "{json}");
            assert_eq!(serde_json::from_str::<Message>(&json).expect("the same"), message);
        }
    }
}
