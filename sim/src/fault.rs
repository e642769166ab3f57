//! Faults, and their coordinates. The rules that the comments name by id are described in
//! `docs/faults.md`.
//!
//! A coordinate counts only things of its own kind and subject (`the 2nd Vote c1.4 from n1 to n0`),
//! in ids that the workload assigned. Reports and wakes are never counted. So an added log line,
//! timer or harmless message leaves the meaning of a recorded fault unchanged.

mod kind;

use std::fmt;

use serde::{Deserialize, Serialize};
use stormglass_node::{About, DiskError, Micros, NodeId, RequestId, Subject};

use crate::disk::{Damage, FileChoice, FileLoss, Survival};
use crate::ratio::{Permille, Ppm};
use crate::workload::ClientId;

pub use kind::{FaultKind, FaultKinds};

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Endpoint {
    /// A node of the cluster.
    Node(NodeId),
    /// A client.
    Client(ClientId),
}

impl Endpoint {
    /// The client that makes this request. Clients of a simulated cluster are few, so their numbers
    /// fit; a greater number, in a message with a flipped bit, belongs to no client.
    #[inline]
    pub(crate) fn client_of(id: RequestId) -> Endpoint {
        Endpoint::Client(ClientId::try_from(id.client).unwrap_or(ClientId(u32::MAX)))
    }
}

/// A message as the place of a fault: the `nth` (from 1) of its kind and subject on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub struct MessageAt {
    pub from: Endpoint,
    pub to: Endpoint,
    pub about: About,
    /// The ordinal, from 1.
    pub nth: u32,
}

/// An effect of a node, described by what it did and not when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EffectName {
    /// Sent a message to a node.
    Send(About, NodeId),
    /// Appended a record (or a header, or a piece of a snapshot).
    Append(About),
    /// Issued a sync after that append (the last one before it; `None` if this incarnation had not
    /// appended yet).
    Sync(Option<About>),
    /// Issued a directory sync after that append.
    SyncDir(Option<About>),
    /// Renamed a file, after that append.
    Rename(Option<About>),
    /// Removed a file, after that append.
    Remove(Option<About>),
    /// Shortened a file, after that append.
    Truncate(Option<About>),
    /// Replied to a client.
    Reply(RequestId),
}

/// The moment after an effect: the `nth` (from 1) of that description in that incarnation of that
/// node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub struct EffectAt {
    pub node: NodeId,
    /// The incarnation, counted by the world from 1.
    pub incarnation: u32,
    pub effect_name: EffectName,
    /// The ordinal, from 1.
    pub nth: u32,
}

/// Faults of one message (N1-N4, N8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageFault {
    /// N2: it is lost.
    Lose,
    /// N3: a second copy arrives, that long after it was sent.
    Duplicate {
        /// The delay of the copy.
        after: Micros,
    },
    /// N1: its delay is `by` longer.
    Delay {
        /// The additional delay.
        by: Micros,
    },
    /// N4: a bit of its encoding is flipped in transit.
    Flip {
        /// The bit, modulo the length of the frame.
        bit: u32,
    },
    /// N8: the link's queue is full, and this queued message is lost instead.
    Evict {
        /// Counted from the oldest message in flight on this link.
        victim: u32,
    },
}

/// How a process ends, and how it boots again.
#[derive(Clone, Debug, PartialEq)]
pub struct Crash {
    /// What the disk keeps.
    pub how: CrashKind,
    /// Time until it boots again; `None` for never in this fault phase (P6).
    pub down_for: Option<Micros>,
    /// What happens to the disk while the node is down.
    pub at_rest: Option<AtRestFault>,
}

/// A fault of the disk of a node that is down. The next incarnation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtRestFault {
    /// D10: bytes of a file are damaged.
    Damaged(Damage),
    /// D13: the disk is replaced by a copy of itself, made when an earlier incarnation booted.
    Restored {
        /// Which one: 1 is the incarnation that has ended last, 2 the one before. There is no copy
        /// from before the first.
        incarnations_back: u32,
    },
    /// D13: the disk is replaced by a copy of that of another node, as it is at that time.
    OfNode(NodeId),
    /// D14: all files are gone.
    Emptied,
    /// D15: files are cut short or gone.
    Lost(FileLoss),
    /// D16: at the next boot, and only then, this file cannot be read.
    Unreadable(FileChoice),
}

/// What the disk keeps after a crash.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CrashKind {
    /// P1: the process dies. Of the operations that may still have been in the driver's queue, the
    /// first ones are performed.
    Kill {
        /// How many of them, as a share of the queue.
        keep: Permille,
    },
    /// P2: the machine loses power.
    PowerCut(Survival),
}

/// Faults of a barrier (D7, D9, D11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierFault {
    /// D7: it fails, once, and the pages count as clean.
    Fail(DiskError),
    /// D9: it takes `by` longer.
    Slow {
        /// The additional time.
        by: Micros,
    },
    /// D11: it reports success and does nothing.
    Lie,
}

/// A fault of a write (D8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFault {
    /// The error that the next barrier reports.
    pub error: DiskError,
    /// How much of an append is written nevertheless.
    pub keep: Permille,
    /// For how long every later write of this node fails too; zero for this one only.
    pub lasts: Micros,
}

/// A fault at a time, independent of the actions of the nodes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum TimedFault {
    /// N6: messages from `from` to `to` are lost. One-way; a symmetric partition is two of these.
    Cut {
        /// Senders.
        from: Vec<Endpoint>,
        /// Receivers.
        to: Vec<Endpoint>,
        duration: Micros,
    },
    /// N5, N7: a link holds all messages, then releases them.
    Clog {
        /// Sender.
        from: Endpoint,
        /// Receiver.
        to: Endpoint,
        duration: Micros,
        /// Whether it is part of a swizzle (N7).
        swizzle: bool,
    },
    /// P4: a node pauses while time passes for the others.
    Pause { node: NodeId, duration: Micros },
    /// C3: a clock jumps forward.
    ClockJump {
        node: NodeId,
        /// By how much.
        by: Micros,
    },
    /// D17: the running process of a node is set aside with its disk, and a second one runs under
    /// its id. After `duration` the second one ends for good, and the first goes on.
    SecondProcess {
        node: NodeId,
        /// What the second process finds at its boot.
        disk: SecondDisk,
        duration: Micros,
    },
    /// D9: no barrier of a node completes.
    DiskHang { node: NodeId, duration: Micros },
    /// C4: a wake comes although no deadline has been reached.
    Wake { node: NodeId },
    /// P1, P2 between two steps.
    Crash {
        /// P3 is several of these at one time.
        node: NodeId,
        crash: Crash,
    },
}

/// D17: the disk of a second process under the id of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecondDisk {
    /// No files: an id was typed twice.
    Empty,
    /// A copy of the node's disk, made before the boot of its present incarnation.
    Copy,
}

/// One entry of a schedule.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum Fault {
    /// A fault of a message.
    Message(MessageAt, MessageFault),
    /// A process ends right after an effect.
    Crash(EffectAt, Crash),
    /// A fault of the barrier that this `Sync` or `SyncDir` issued.
    Barrier(EffectAt, BarrierFault),
    /// A write fails; the effect is the write.
    Write(EffectAt, WriteFault),
    /// C1, C2: the clock of one incarnation deviates.
    Skew { node: NodeId, incarnation: u32, skew: Skew },
    /// A fault at a time from the beginning of the run.
    At(Micros, TimedFault),
}

/// How the clock of one incarnation differs from true time (C1, C2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// Its time at true time 0.
    pub offset: Micros,
    /// Its rate: how far ahead of (or behind) true time.
    pub drift: Ppm,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Node(node) => write!(f, "{node}"),
            Endpoint::Client(client) => write!(f, "{client}"),
        }
    }
}

pub(crate) fn endpoint_list(ends: &[Endpoint]) -> String {
    ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl EffectName {
    /// The request or serial that the effect concerns, if any.
    pub fn subject(&self) -> Option<Subject> {
        match self {
            EffectName::Send(about, _) | EffectName::Append(about) => about.subject,
            EffectName::Sync(after)
            | EffectName::SyncDir(after)
            | EffectName::Rename(after)
            | EffectName::Remove(after)
            | EffectName::Truncate(after) => after.and_then(|about| about.subject),
            EffectName::Reply(id) => Some(Subject::Request(*id)),
        }
    }
}

impl fmt::Display for EffectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EffectName::Send(about, to) => write!(f, "send {about} to {to}"),
            EffectName::Append(about) => write!(f, "append {about}"),
            EffectName::Sync(after) => write_after_append(f, "sync", *after),
            EffectName::SyncDir(after) => write_after_append(f, "sync-dir", *after),
            EffectName::Rename(after) => write_after_append(f, "rename", *after),
            EffectName::Remove(after) => write_after_append(f, "remove", *after),
            EffectName::Truncate(after) => write_after_append(f, "truncate", *after),
            EffectName::Reply(id) => write!(f, "reply {id}"),
        }
    }
}

fn write_after_append(f: &mut fmt::Formatter<'_>, what: &str, after: Option<About>) -> fmt::Result {
    match after {
        Some(about) => write!(f, "{what} following append {about}"),
        None => write!(f, "{what} before any append"),
    }
}

impl fmt::Display for MessageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageFault::Lose => f.write_str("lose"),
            MessageFault::Duplicate { after } => write!(f, "duplicate after {after} ms"),
            MessageFault::Delay { by } => write!(f, "delay by {by} ms"),
            // The trace continues with the message, as in `flip bit 17 of Vote c1.1`.
            MessageFault::Flip { bit } => write!(f, "flip bit {bit} of"),
            MessageFault::Evict { victim } => write!(f, "evict message {victim} of the queue for"),
        }
    }
}

impl fmt::Display for BarrierFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BarrierFault::Fail(error) => write!(f, "sync will fail: {error}"),
            BarrierFault::Slow { by } => write!(f, "sync takes {by} ms longer"),
            BarrierFault::Lie => f.write_str("sync will lie"),
        }
    }
}

impl fmt::Display for SecondDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SecondDisk::Empty => "an empty disk",
            SecondDisk::Copy => "an older copy of the disk",
        })
    }
}

impl fmt::Display for TimedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimedFault::Cut { from, to, duration } => {
                write!(
                    f,
                    "cut {{{}}} -> {{{}}} for {duration} ms",
                    endpoint_list(from),
                    endpoint_list(to)
                )
            }
            TimedFault::Clog { from, to, duration, .. } => {
                write!(f, "clog {from} -> {to} for {duration} ms")
            }
            TimedFault::Pause { node, duration } => {
                write!(f, "pause {node} for {duration} ms")
            }
            TimedFault::ClockJump { node, by } => {
                write!(f, "clock of {node} jumps by {by} ms")
            }
            TimedFault::SecondProcess { node, disk, duration } => {
                write!(f, "second process of {node} with {disk} for {duration} ms")
            }
            TimedFault::DiskHang { node, duration } => {
                write!(f, "disk of {node} hangs for {duration} ms")
            }
            TimedFault::Wake { node } => write!(f, "wake {node}"),
            TimedFault::Crash { node, .. } => write!(f, "crash {node}"),
        }
    }
}
