//! What nodes and clients send, and what nodes report.

use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use stormglass_node::{Label, NodeId, RequestId};

use crate::store::first_attempt;

/// A message of the library. On a connection it is its protobuf encoding.
#[derive(Clone, Debug, Label)]
#[label(kind_with = "kind_of", subject_with = "request_of", subjects_with = "later_requests_of")]
pub struct Wire(pub Message);

impl Serialize for Wire {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write_to_bytes().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wire, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Message::parse_from_bytes(&bytes).map(Wire).map_err(D::Error::custom)
    }
}

fn kind_of(message: &Message) -> &'static str {
    match message.get_msg_type() {
        MessageType::MsgHup => "Hup",
        MessageType::MsgBeat => "Beat",
        MessageType::MsgPropose => "Propose",
        MessageType::MsgAppend => "Append",
        MessageType::MsgAppendResponse => "AppendResponse",
        MessageType::MsgRequestVote => "RequestVote",
        MessageType::MsgRequestVoteResponse => "RequestVoteResponse",
        MessageType::MsgSnapshot => "Snapshot",
        MessageType::MsgHeartbeat => "Heartbeat",
        MessageType::MsgHeartbeatResponse => "HeartbeatResponse",
        MessageType::MsgUnreachable => "Unreachable",
        MessageType::MsgSnapStatus => "SnapStatus",
        MessageType::MsgCheckQuorum => "CheckQuorum",
        MessageType::MsgTransferLeader => "TransferLeader",
        MessageType::MsgTimeoutNow => "TimeoutNow",
        MessageType::MsgReadIndex => "ReadIndex",
        MessageType::MsgReadIndexResp => "ReadIndexResp",
        MessageType::MsgRequestPreVote => "RequestPreVote",
        MessageType::MsgRequestPreVoteResponse => "RequestPreVoteResponse",
    }
}

/// The requests of the entries. The entry of a ReadIndex has no command and gives none.
fn requests_of(message: &Message) -> impl Iterator<Item = RequestId> + '_ {
    message.get_entries().iter().filter_map(|entry| first_attempt(&entry.data))
}

fn request_of(message: &Message) -> Option<RequestId> {
    requests_of(message).next()
}

fn later_requests_of(message: &Message) -> Vec<RequestId> {
    requests_of(message).skip(1).collect()
}

/// The raft id of a node; 0 is none.
pub fn raft_id(node: NodeId) -> u64 {
    u64::from(node.0) + 1
}

/// The node of a raft id.
///
/// # Panics
/// If it is the id of no node.
pub fn node_of(raft_id: u64) -> NodeId {
    let number = raft_id.checked_sub(1).and_then(|number| u16::try_from(number).ok());
    NodeId(number.expect("the raft id of a node"))
}

/// What a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Label, Serialize, Deserialize)]
pub enum Request {
    /// Add 1 to this counter and return its value.
    Add(u8),
    /// Return the value of this counter.
    Get(u8),
}

/// What a client receives: the value of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Label, Serialize, Deserialize)]
#[label(detail)]
pub struct Value(pub u64);

/// What a node reports. The digest is that of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Label)]
#[label(detail)]
#[allow(missing_docs, reason = "the fields are terms of Raft")]
pub enum Event {
    /// It has booted with this state.
    Recovered { term: u64, vote: u64, last_index: u64, applied: u64, digest: u64 },
    /// It has applied an entry.
    Applied { index: u64, digest: u64 },
    /// It has installed the snapshot of a leader.
    Installed { index: u64, digest: u64 },
}
