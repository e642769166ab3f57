//! The form of a message on connections and in event logs: one variant for each kind, in which the
//! ids come before the kind's own fields. The serde names are those of the first version; they
//! occur in JSON only.
//!
//! Of a proof it has the length of the log. The sender had it, so the receiver makes it here, and
//! nowhere else.

use serde::{Deserialize, Serialize};

use super::{Body, InquiryReply, Introducing, Message, RecordIsDurable, Refusal, Vote};
use crate::commit::end_mark::EndMark;
use crate::commit::op::Reads;
use crate::commit::part::Part;
use crate::commit::tx_id::TxId;
use stormglass_node::id::{Incarnation, NodeId, RequestId};

/// See the [module](self).
#[derive(Serialize, Deserialize)]
#[serde(rename = "Message")]
pub(super) enum Encoded {
    Prepare {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        part: Part,
        #[serde(rename = "word")]
        end_mark: EndMark,
    },
    Vote {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        vote: EncodedVote,
    },
    Commit {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        #[serde(rename = "word")]
        end_mark: EndMark,
        log_position: u64,
    },
    Abort {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        #[serde(rename = "word")]
        end_mark: EndMark,
    },
    Ack {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        log_position: u64,
    },
    Inquire {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
    },
    #[serde(rename = "Tell")]
    InquiryReply {
        tx: TxId,
        #[serde(rename = "name")]
        request: RequestId,
        #[serde(rename = "said")]
        reply: EncodedReply,
    },
    Hello {
        node: NodeId,
        incarnation: Incarnation,
        introducing: Introducing,
    },
    Welcome {
        node: NodeId,
        incarnation: Incarnation,
    },
    Remember {
        node: NodeId,
        incarnation: Incarnation,
        introducing: Introducing,
    },
    Remembered {
        node: NodeId,
        incarnation: Incarnation,
        log_position: u64,
    },
    Refuse {
        node: NodeId,
        incarnation: Incarnation,
        known: Incarnation,
        log_position: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Vote")]
pub(super) enum EncodedVote {
    Yes { reads: Reads, log_position: u64 },
    No(Refusal),
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "InquiryReply")]
pub(super) enum EncodedReply {
    Committed { log_position: u64 },
    Aborted { log_position: u64 },
    Uncertain,
}

// No pattern below has a `..`: the compiler names both conversions when a message gets a field.
impl From<Message> for Encoded {
    fn from(message: Message) -> Encoded {
        let Message { tx, request, body } = message;
        match body {
            Body::Prepare { part, end_mark } => Encoded::Prepare { tx, request, part, end_mark },
            Body::Vote(vote) => {
                let vote = match vote {
                    Vote::Yes { reads, proof: RecordIsDurable { log_position } } => {
                        EncodedVote::Yes { reads, log_position }
                    }
                    Vote::No(refusal) => EncodedVote::No(refusal),
                };
                Encoded::Vote { tx, request, vote }
            }
            Body::Commit { end_mark, proof: RecordIsDurable { log_position } } => {
                Encoded::Commit { tx, request, end_mark, log_position }
            }
            Body::Abort { end_mark } => Encoded::Abort { tx, request, end_mark },
            Body::Ack { proof: RecordIsDurable { log_position } } => {
                Encoded::Ack { tx, request, log_position }
            }
            Body::Inquire => Encoded::Inquire { tx, request },
            Body::InquiryReply(reply) => {
                let reply = match reply {
                    InquiryReply::Committed(RecordIsDurable { log_position }) => {
                        EncodedReply::Committed { log_position }
                    }
                    InquiryReply::Aborted(RecordIsDurable { log_position }) => {
                        EncodedReply::Aborted { log_position }
                    }
                    InquiryReply::Uncertain => EncodedReply::Uncertain,
                };
                Encoded::InquiryReply { tx, request, reply }
            }
            Body::Hello(introducing) => {
                let TxId { coordinator: node, incarnation, serial: _ } = tx;
                Encoded::Hello { node, incarnation, introducing }
            }
            Body::Welcome => {
                let TxId { coordinator: node, incarnation, serial: _ } = tx;
                Encoded::Welcome { node, incarnation }
            }
            Body::Remember(introducing) => {
                let TxId { coordinator: node, incarnation, serial: _ } = tx;
                Encoded::Remember { node, incarnation, introducing }
            }
            Body::Remembered { proof: RecordIsDurable { log_position } } => {
                let TxId { coordinator: node, incarnation, serial: _ } = tx;
                Encoded::Remembered { node, incarnation, log_position }
            }
            Body::Refuse { known, log_position } => {
                let TxId { coordinator: node, incarnation, serial: _ } = tx;
                Encoded::Refuse { node, incarnation, known, log_position }
            }
        }
    }
}

impl From<Encoded> for Message {
    fn from(encoded: Encoded) -> Message {
        // The proofs are the sender's evidence. A node forwards no message, so it never sends them
        // on.
        match encoded {
            Encoded::Prepare { tx, request, part, end_mark } => {
                Message { tx, request, body: Body::Prepare { part, end_mark } }
            }
            Encoded::Vote { tx, request, vote } => {
                let vote = match vote {
                    EncodedVote::Yes { reads, log_position } => {
                        Vote::Yes { reads, proof: RecordIsDurable { log_position } }
                    }
                    EncodedVote::No(refusal) => Vote::No(refusal),
                };
                Message { tx, request, body: Body::Vote(vote) }
            }
            Encoded::Commit { tx, request, end_mark, log_position } => {
                let proof = RecordIsDurable { log_position };
                Message { tx, request, body: Body::Commit { end_mark, proof } }
            }
            Encoded::Abort { tx, request, end_mark } => {
                Message { tx, request, body: Body::Abort { end_mark } }
            }
            Encoded::Ack { tx, request, log_position } => {
                let proof = RecordIsDurable { log_position };
                Message { tx, request, body: Body::Ack { proof } }
            }
            Encoded::Inquire { tx, request } => Message { tx, request, body: Body::Inquire },
            Encoded::InquiryReply { tx, request, reply } => {
                let reply = match reply {
                    EncodedReply::Committed { log_position } => {
                        InquiryReply::Committed(RecordIsDurable { log_position })
                    }
                    EncodedReply::Aborted { log_position } => {
                        InquiryReply::Aborted(RecordIsDurable { log_position })
                    }
                    EncodedReply::Uncertain => InquiryReply::Uncertain,
                };
                Message { tx, request, body: Body::InquiryReply(reply) }
            }
            Encoded::Hello { node, incarnation, introducing } => {
                Message::about_incarnation(node, incarnation, Body::Hello(introducing))
            }
            Encoded::Welcome { node, incarnation } => {
                Message::about_incarnation(node, incarnation, Body::Welcome)
            }
            Encoded::Remember { node, incarnation, introducing } => {
                Message::about_incarnation(node, incarnation, Body::Remember(introducing))
            }
            Encoded::Remembered { node, incarnation, log_position } => {
                let body = Body::Remembered { proof: RecordIsDurable { log_position } };
                Message::about_incarnation(node, incarnation, body)
            }
            Encoded::Refuse { node, incarnation, known, log_position } => {
                let body = Body::Refuse { known, log_position };
                Message::about_incarnation(node, incarnation, body)
            }
        }
    }
}
