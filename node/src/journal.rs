//! The entries of an event log: every input and every effect of one incarnation, one JSON object
//! each, in the order in which the node handled them. The simulator and the real engine write the
//! same entries, each *before* the event happens, so the checkers of one can check the other. The
//! lines are described in `docs/log-format.md`.

use serde::{Deserialize, Serialize};

use crate::contract::{
    DiskError, DiskOp, Effect, FileId, HaltReason, Input, Label, Node, OpId, Subject,
};
use crate::id::{NodeId, RequestId, Time};

/// One line of an event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Entry<W> {
    /// Microseconds of the node's clock, or of the simulator's true time. Not comparable between
    /// nodes.
    pub at_us: u64,
    /// The node whose event this is.
    pub node: NodeId,
    /// The incarnation of that node, numbered by its driver from 1.
    // The names in the files are those of the first version, so that logs written by it can be
    // checked.
    #[serde(rename = "life")]
    pub incarnation: u32,
    #[serde(rename = "what")]
    pub body: W,
}

/// What happened. `M`, `Q`, `A` and `E` are a node's messages, requests, responses and events, or
/// references to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum EntryBody<M, Q, A, E> {
    /// An incarnation is about to boot from these files.
    Boot { files: Vec<FileSummary> },
    /// Input: a message.
    Received {
        from: NodeId,
        /// The number of its `Sent` entry, unique among the messages of that sender.
        #[serde(rename = "letter")]
        message_number: u64,
        message: M,
    },
    /// Input: a request.
    #[serde(rename = "Asked")]
    Requested { id: RequestId, request: Q },
    /// Input: a session with a peer has begun.
    Connected { peer: NodeId },
    /// Input: the session with a peer has ended.
    Disconnected { peer: NodeId },
    /// Input: a barrier has completed.
    #[serde(rename = "Done")]
    BarrierCompleted { op: OpId, result: Result<(), DiskError> },
    /// Input: time has passed.
    Wake,
    /// Effect: a message.
    Sent {
        to: NodeId,
        /// Unique among the messages of this sender.
        #[serde(rename = "letter")]
        message_number: u64,
        message: M,
    },
    /// Effect: an append.
    Append {
        file: FileId,
        /// The kind of the appended record.
        kind: String,
        /// Its subject.
        subject: Option<Subject>,
        hex: Hex,
    },
    /// Effect: a file is shortened.
    Truncate {
        file: FileId,
        /// Its length afterwards.
        len: u64,
    },
    /// Effect: a file is renamed.
    Rename {
        /// The old name.
        from: FileId,
        /// The new name.
        to: FileId,
    },
    /// Effect: a file is removed.
    Remove { file: FileId },
    /// Effect: a barrier on a file.
    Sync {
        /// Which barrier.
        op: OpId,
        file: FileId,
    },
    /// Effect: a barrier on all names.
    SyncDir {
        /// Which barrier.
        op: OpId,
    },
    /// Effect: a reply.
    Replied { id: RequestId, response: A },
    /// Effect: an event for the operator.
    Reported { event: E },
    /// Effect: the incarnation halts.
    Halted {
        #[serde(rename = "why")]
        reason: String,
        /// Whether the protocol has failed, after which the node may boot again. Not written if
        /// not, as in logs of earlier versions.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        protocol_failed: bool,
    },
    /// The incarnation ends cleanly, with no work in progress.
    Stopped,
}

/// The entries of node type `N`.
pub type EntryOf<N> = Entry<
    EntryBody<
        <N as Node>::Message,
        <N as Node>::Request,
        <N as Node>::Response,
        <N as Node>::Event,
    >,
>;

/// The same, with references, for writing. `E` is what is written of an event.
pub type EntryBodyRef<'a, N, E = &'a <N as Node>::Event> =
    EntryBody<&'a <N as Node>::Message, &'a <N as Node>::Request, &'a <N as Node>::Response, E>;

/// A file as an incarnation found it at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct FileSummary {
    pub file: FileId,
    pub bytes: u64,
    /// CRC-32C of the contents.
    #[serde(rename = "sum")]
    pub checksum: u32,
}

impl FileSummary {
    /// A file with these contents.
    pub fn new(file: FileId, contents: &[u8]) -> FileSummary {
        FileSummary { file, bytes: contents.len() as u64, checksum: crc32c::crc32c(contents) }
    }
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hex(String);

impl Hex {
    /// Encodes bytes.
    pub fn encode(bytes: &[u8]) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        Hex(digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect())
    }

    /// The decoded bytes; `None` if the text is not an even number of hexadecimal digits.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        // A log is an input like any other: a character that is no digit makes the text invalid,
        // and not the program panic.
        let digit = |byte: u8| char::from(byte).to_digit(16);
        // An odd number of digits leaves a chunk of one, whose missing second digit is `None`.
        let pairs = self.0.as_bytes().chunks(2);
        pairs.map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(*pair.get(1)?)?).ok()).collect()
    }
}

/// The entry of an input. `message_number` is 0 for anything but a message.
pub fn body_of_input<N: Node, E>(input: &Input<N>, message_number: u64) -> EntryBodyRef<'_, N, E> {
    match input {
        Input::Message { from, message } => {
            EntryBody::Received { from: *from, message_number, message }
        }
        Input::Request { id, request } => EntryBody::Requested { id: *id, request },
        Input::Connected { peer } => EntryBody::Connected { peer: *peer },
        Input::Disconnected { peer } => EntryBody::Disconnected { peer: *peer },
        Input::DiskDone { op, result } => EntryBody::BarrierCompleted { op: *op, result: *result },
        Input::Wake => EntryBody::Wake,
    }
}

/// The entry of an effect. `bytes` are those of an append, `message_number` is that of a message,
/// and `event` makes what is written of an event.
pub fn body_of_effect<'a, N: Node, E>(
    effect: &'a Effect<N>,
    bytes: &[u8],
    message_number: u64,
    event: impl FnOnce(&'a N::Event) -> E,
) -> EntryBodyRef<'a, N, E> {
    match effect {
        Effect::Send { to, message } => EntryBody::Sent { to: *to, message_number, message },
        Effect::Reply { id, response } => EntryBody::Replied { id: *id, response },
        Effect::Report(reported) => EntryBody::Reported { event: event(reported) },
        // As text: the checkers need to know whether the node may boot again, not why.
        Effect::Halt(reason) => EntryBody::Halted {
            reason: reason.to_string(),
            protocol_failed: matches!(reason, HaltReason::ProtocolFailed(_)),
        },
        Effect::Disk(op) => match *op {
            DiskOp::Append { file, about, .. } => EntryBody::Append {
                file,
                kind: about.kind.to_owned(),
                subject: about.subject,
                hex: Hex::encode(bytes),
            },
            DiskOp::Truncate { file, len } => EntryBody::Truncate { file, len },
            DiskOp::Rename { from, to } => EntryBody::Rename { from, to },
            DiskOp::Remove { file } => EntryBody::Remove { file },
            DiskOp::Sync { op, file } => EntryBody::Sync { op, file },
            DiskOp::SyncDir { op } => EntryBody::SyncDir { op },
        },
    }
}

/// A short description of an entry, for error messages.
pub fn describe<M: Label, Q: Label, A: Label, E: Label>(body: &EntryBody<M, Q, A, E>) -> String {
    match body {
        EntryBody::Boot { .. } => "boot".to_owned(),
        EntryBody::Received { from, message, .. } => format!("{} from {from}", message.about()),
        EntryBody::Requested { id, request } => format!("request {id} {}", request.about()),
        EntryBody::Connected { peer } => format!("session with {peer}"),
        EntryBody::Disconnected { peer } => format!("end of the session with {peer}"),
        EntryBody::BarrierCompleted { op, .. } => format!("completion of barrier {}", op.0),
        EntryBody::Wake => "wake".to_owned(),
        EntryBody::Sent { to, message, .. } => format!("{} to {to}", message.about()),
        EntryBody::Append { file, kind, .. } => format!("append of {kind} to {file}"),
        EntryBody::Truncate { file, .. } => format!("truncation of {file}"),
        EntryBody::Rename { from, to } => format!("renaming of {from} to {to}"),
        EntryBody::Remove { file } => format!("removal of {file}"),
        EntryBody::Sync { file, .. } => format!("sync of {file}"),
        EntryBody::SyncDir { .. } => "sync of the directory".to_owned(),
        EntryBody::Replied { id, response } => format!("reply to {id}: {}", response.about()),
        EntryBody::Reported { event } => format!("report {}", event.about()),
        EntryBody::Halted { .. } => "halt".to_owned(),
        EntryBody::Stopped => "clean shutdown".to_owned(),
    }
}

/// An entry for an event at `at`.
pub fn entry<W>(at: Time, node: NodeId, incarnation: u32, body: W) -> Entry<W> {
    Entry { at_us: at.0, node, incarnation, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_encoding_round_trips() {
        for bytes in [&[][..], &[0], &[255, 16, 1]] {
            assert_eq!(Hex::encode(bytes).bytes().as_deref(), Some(bytes));
        }
        assert_eq!(Hex("0".into()).bytes(), None);
        assert_eq!(Hex("zz".into()).bytes(), None);
    }
}
