//! The contract between a node and its driver.
//!
//! A protocol is written once, as a [`Node`]: a deterministic state machine that performs no I/O.
//! The *driver* owns sockets, files and the clock, or simulates them. It feeds the node one
//! [`Input`] at a time and performs the [`Effect`]s that the node adds to the [`Outbox`], in order.
//! The whole contract:
//!
//! Duties of the **node**:
//! 1. It is a function of its boot, its inputs and the times passed to it: no clock, no randomness
//!    but [`Boot::entropy`], no threads, no iteration over hashed containers.
//! 2. [`Node::step`] is total: it drops and reports bad messages, answers a bad disk with
//!    [`Effect::Halt`], and panics only for bugs of its own. A fatal error of the protocol, which a
//!    library returned for example, is a halt, too ([`HaltReason::ProtocolFailed`]).
//! 3. It emits no `Send` and no `Reply` that depends on a disk operation whose barrier has not
//!    completed successfully. This gate is inside the node, because a gate that every driver has to
//!    implement is one that some driver gets wrong.
//! 4. It reads its disk at boot only, and treats nothing that it read as durable before a barrier
//!    of its own has made it so: after a process kill the page cache still shows what was never
//!    synced.
//! 5. It has at most one barrier in flight per lane. A `Sync` and a `SyncDir` that are issued
//!    together count as one barrier; a lane is a sequence of barriers (the log is one, the snapshot
//!    another).
//! 6. Once a barrier has failed, it emits nothing but `Halt`, and never retries the sync.
//! 7. It never sends to itself.
//! 8. [`Node::deadline`] is a function of its state. After a `Wake` at or past it, the new
//!    deadline is in the future, or `None`.
//!
//! Duties of the **driver**:
//! 1. It performs the effects of a step in order, all of them before the next input, unless the
//!    process dies in between: a crash may happen between any two effects.
//! 2. `now` never runs backwards within an incarnation.
//! 3. It calls `Wake` at or after the deadline. It may wake too early; nothing has to be cancelled.
//! 4. Only barriers report completion: each `Sync` and `SyncDir` is answered by exactly one
//!    [`Input::DiskDone`] with its `op`, or by none if the process dies first.
//! 5. `Append` creates the file if necessary and writes at its current end. `Sync` covers data,
//!    length and truncations of that file, not its name. `SyncDir` covers every creation, rename
//!    and removal issued before it.
//! 6. The first failed or short write is final: a prefix of it may remain, no later disk operation
//!    of that incarnation is performed, every barrier that has not completed may fail, and every
//!    later barrier fails.
//! 7. Messages may be lost, delayed without bound, duplicated and reordered, and may arrive after
//!    crashes of both ends: these are [datagrams](Links::Datagrams), which a protocol gets unless
//!    it asks for [sessions](Links::Sessions).
//!
//! # Sessions
//!
//! A session joins one incarnation of a node with one of another. For each of them:
//! 1. [`Input::Connected`] comes before every message of the session, and [`Input::Disconnected`]
//!    after all of them and before the next `Connected` of that peer. A process begins and ends
//!    without a session.
//! 2. The messages that a node sends between these two inputs arrive in order, each at most once:
//!    those that arrive are a prefix of those that were sent.
//! 3. A message that a node sends to a peer without a session with it is lost.
//! 4. A session may end at any time, and does when a message cannot be delivered: the link is
//!    partitioned, its queue is full, or the frame is damaged. The two sides learn of it at
//!    different times. Unless one of them ends first, both do.
//! 5. A new session begins when both processes run and messages pass in both directions.
//!
//! Requests and responses of clients are datagrams in any case.

mod derived;
mod outbox;

use std::fmt::{self, Debug};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use outbox::{Chunk, Outbox};

use crate::id::{NodeId, RequestId, Time};

/// A protocol, as a deterministic state machine. See the [module](self) for the duties on both
/// sides.
pub trait Node: Sized {
    /// How messages travel between nodes.
    const LINKS: Links = Links::Datagrams;

    /// Configuration, the same for every incarnation.
    type Config;
    /// What nodes send each other: encoded on the wire, `Clone` since the simulator duplicates it.
    /// Each of these four types has a [`Label`], kind and subject, for traces and schedules.
    type Message: Clone + Debug + Label + Serialize + DeserializeOwned;
    /// What a client requests.
    type Request: Clone + Debug + Label + Serialize + DeserializeOwned;
    /// What a client receives.
    type Response: Clone + Debug + Label + Serialize + DeserializeOwned;
    /// What an operator may want to know. No behaviour depends on it. An engine that writes event
    /// logs, and a check of them, need one that is `Serialize` and `Deserialize`, too.
    type Event: Debug + Label;

    /// Begins an incarnation from the files that survived. Repairs are effects like any other.
    ///
    /// # Errors
    /// [`BootError`] if the files cannot be trusted, or the protocol refuses them. The node has
    /// changed nothing then.
    fn boot(
        config: &Self::Config,
        boot: Boot<'_>,
        out: &mut Outbox<Self>,
    ) -> Result<Self, BootError>;

    /// Handles one input.
    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>);

    /// When to send [`Input::Wake`]: O(1), a function of the state, `None` for never.
    fn deadline(&self) -> Option<Time> {
        None
    }

    /// Writes the state for a reader of a trace; nothing by default. No behaviour depends on it. A
    /// type that has `Debug` writes it:
    ///
    /// ```
    /// # use std::fmt::{self, Write};
    /// # use stormglass_node::{Boot, BootError, Input, Node, Outbox, Time};
    /// # #[derive(Debug)]
    /// # struct Echo;
    /// # impl Node for Echo {
    /// #     type Config = ();
    /// #     type Message = ();
    /// #     type Request = ();
    /// #     type Response = ();
    /// #     type Event = ();
    /// #     fn boot(_: &(), _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
    /// #         Ok(Echo)
    /// #     }
    /// #     fn step(&mut self, _: Time, _: Input<Self>, _: &mut Outbox<Self>) {}
    /// fn write_state(&self, f: &mut dyn Write) -> fmt::Result {
    ///     write!(f, "{self:#?}")
    /// }
    /// # }
    /// # let mut text = String::new();
    /// # Echo.write_state(&mut text).unwrap();
    /// # assert_eq!(text, "Echo");
    /// ```
    ///
    /// # Errors
    /// Those of the formatter.
    fn write_state(&self, _f: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// How messages travel between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Each on its own: it may be lost, delayed, duplicated and reordered.
    Datagrams,
    /// In order and without duplicates, in sessions that may end at any time. See the
    /// [rules](self#sessions).
    Sessions,
}

/// What a node boots from.
pub struct Boot<'a> {
    /// Its own id.
    pub id: NodeId,
    /// The time on its clock: microseconds since 1970, as far as the machine knows at this boot.
    /// From here on the clock never runs backwards; it may be earlier than times of an earlier
    /// incarnation, and may differ from those of other nodes by any amount. So only fairness may
    /// depend on a comparison with such times.
    pub now: Time,
    /// Random bits of this boot, which no other boot of any node has: an incarnation may take its
    /// identity from them. The driver draws them from a source that two machines do not share.
    pub entropy: u64,
    /// The files that survived the last incarnation.
    pub disk: &'a dyn ReadDisk,
}

impl<'a> Boot<'a> {
    /// Every file with its content, in ascending order.
    ///
    /// # Errors
    /// [`BootError::Unreadable`] if one cannot be read.
    pub fn contents(&self) -> Result<Vec<(FileId, &'a [u8])>, BootError> {
        // A listed file exists, so its content is never `None`.
        let mut contents = Vec::new();
        for file in self.disk.files() {
            let bytes =
                self.disk.read(file).map_err(|error| BootError::Unreadable { file, error })?;
            contents.push((file, bytes.unwrap_or_default()));
        }
        Ok(contents)
    }
}

/// The files of one node, readable at boot.
pub trait ReadDisk {
    /// Every file that exists, in ascending order.
    fn files(&self) -> Vec<FileId>;
    /// The whole content of a file, `None` if there is no such file.
    ///
    /// # Errors
    /// [`DiskError`] if the file exists but cannot be read.
    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError>;
}

/// The one event that a step handles.
#[allow(missing_docs, reason = "the names say it")]
pub enum Input<N: Node> {
    /// A message of another node. It may arrive late, twice, or after a crash of either side.
    Message {
        /// The sender.
        from: NodeId,
        message: N::Message,
    },
    /// A client's request. A query about an earlier request has the id of that request.
    Request {
        /// The request id, to which the reply refers.
        id: RequestId,
        request: N::Request,
    },
    /// A session with a peer has begun. Only with [`Links::Sessions`].
    Connected { peer: NodeId },
    /// The session with this peer has ended: the last messages of either side may be lost. Only
    /// with [`Links::Sessions`].
    Disconnected { peer: NodeId },
    /// A barrier has completed.
    DiskDone {
        /// The barrier, as the node numbered it.
        op: OpId,
        /// `Ok` if everything that the barrier covers is durable.
        result: Result<(), DiskError>,
    },
    /// Time has passed; perhaps a deadline with it.
    Wake,
}

/// One thing that a node asks its driver to do. A step may emit many, in order.
#[allow(missing_docs, reason = "the names say it")]
pub enum Effect<N: Node> {
    /// Send a message to another node.
    Send {
        /// The receiver; never the node itself.
        to: NodeId,
        message: N::Message,
    },
    /// Perform a disk operation.
    Disk(DiskOp),
    /// Reply to a client.
    Reply {
        /// The request that is answered.
        id: RequestId,
        response: N::Response,
    },
    /// Report an event to the operator.
    Report(N::Event),
    /// Stop this incarnation. The driver delivers no further input.
    Halt(HaltReason),
}

/// An operation on the node's files. Only `Sync` and `SyncDir`, the barriers, ever complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DiskOp {
    /// Write at the end of a file, creating it if need be.
    Append {
        file: FileId,
        /// The bytes, as a range of the outbox: [`Outbox::bytes`].
        bytes: Chunk,
        /// Kind and subject of the bytes, for coordinates and traces. The real driver ignores it.
        about: About,
    },
    /// Shorten a file to `len` bytes.
    Truncate {
        file: FileId,
        /// Its length afterwards.
        len: u64,
    },
    /// Rename a file, replacing a file that has the new name.
    Rename {
        /// The old name.
        from: FileId,
        /// The new name.
        to: FileId,
    },
    /// Remove a file. Removing a file that does not exist is no error.
    Remove { file: FileId },
    /// Barrier: data, length and truncations of one file issued so far.
    Sync {
        /// Returned in [`Input::DiskDone`].
        op: OpId,
        file: FileId,
    },
    /// Barrier: all creations, renames and removals issued so far.
    SyncDir {
        /// Returned in [`Input::DiskDone`].
        op: OpId,
    },
}

/// A file by its role. The driver maps roles to paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileId {
    /// A segment of the write-ahead log.
    Wal(u32),
    /// A snapshot of the whole state.
    Snapshot(u32),
    /// A snapshot that is not complete yet.
    Scratch,
}

/// Identifies a `Sync` or `SyncDir` within one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// Kind and subject of a message or record (`Vote c1.4`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// One word: `Vote`, `Prepared`.
    pub kind: &'static str,
    /// What it concerns, if anything that has an id.
    pub subject: Option<Subject>,
}

/// What a message or record concerns. Where possible it is an id that no node has assigned:
/// coordinates of faults use subjects, and must keep their meaning when a node numbers things
/// differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A client's request.
    Request(RequestId),
    /// Anything else that is numbered.
    Number(u64),
}

/// What a field or a function of a derived [`Label`] gives as a subject: a [`RequestId`], a number,
/// a [`Subject`], an `Option` of one, or a reference to one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no subject of a label",
    label = "no subject",
    note = "a subject is a `RequestId`, a `u64`, a `u32`, a `Subject`, or an `Option` of one"
)]
pub trait IntoSubject: sealed::Sealed {
    /// The subject, if there is one.
    fn into_subject(self) -> Option<Subject>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::RequestId {}
    impl Sealed for u64 {}
    impl Sealed for u32 {}
    impl Sealed for super::Subject {}
    impl<T: Sealed> Sealed for Option<T> {}
    impl<T: Sealed> Sealed for &T {}
}

impl IntoSubject for RequestId {
    fn into_subject(self) -> Option<Subject> {
        Some(Subject::Request(self))
    }
}

impl IntoSubject for u64 {
    fn into_subject(self) -> Option<Subject> {
        Some(Subject::Number(self))
    }
}

impl IntoSubject for u32 {
    fn into_subject(self) -> Option<Subject> {
        Some(Subject::Number(self.into()))
    }
}

impl IntoSubject for Subject {
    fn into_subject(self) -> Option<Subject> {
        Some(self)
    }
}

impl<T: IntoSubject> IntoSubject for Option<T> {
    fn into_subject(self) -> Option<Subject> {
        self.and_then(T::into_subject)
    }
}

impl<T: IntoSubject + Copy> IntoSubject for &T {
    fn into_subject(self) -> Option<Subject> {
        (*self).into_subject()
    }
}

/// Kind and subject of a message, request, response, record or event, for coordinates and traces.
/// `#[derive(Label)]`, of feature `derive`, implements it.
pub trait Label {
    /// One word: `Vote`, `Prepared`.
    fn kind(&self) -> &'static str;
    /// What it concerns, if anything that has an id; the first, if there are several. Coordinates
    /// of faults name no other.
    fn subject(&self) -> Option<Subject>;
    /// What else it concerns: an append of a replicated log may carry three requests. Filters of
    /// traces consider all of them. None by default.
    fn further_subjects(&self) -> Vec<Subject> {
        Vec::new()
    }
    /// Further details for a reader of a trace, in a few words (`no: locked by n0.1#7`).
    ///
    /// # Errors
    /// Those of the formatter.
    fn detail(&self, _f: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
    /// Of an event: whether an operator should know of it. The real engine logs it as a warning.
    fn is_warning(&self) -> bool {
        false
    }
    /// Kind and subject together.
    fn about(&self) -> About {
        About { kind: self.kind(), subject: self.subject() }
    }
}

/// For protocols without messages, and for requests without content.
impl Label for () {
    fn kind(&self) -> &'static str {
        "Nothing"
    }
    fn subject(&self) -> Option<Subject> {
        None
    }
}

/// A bare number, for example as a response.
impl Label for u64 {
    fn kind(&self) -> &'static str {
        "Number"
    }
    fn subject(&self) -> Option<Subject> {
        None
    }
    fn detail(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a disk operation failed. Exhaustive, as [`Input`], [`Effect`] and [`Subject`] are: every
/// driver and every checker has to know all cases of the contract, so a new one is a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum DiskError {
    /// The device failed.
    #[error("input/output error")]
    Io,
    /// The device is full.
    #[error("no space left")]
    NoSpace,
}

/// Why a node stops itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HaltReason {
    /// A barrier failed. Whether the operations that it covers are durable stays unknown in this
    /// incarnation.
    #[error("a disk barrier failed: {0}")]
    DiskFailed(DiskError),
    /// The node must not go on, for a reason of its protocol, and a restart would not help: an
    /// operator has to act. The driver does not boot it again by itself.
    #[error("{0}")]
    OperatorNeeded(String),
    /// The state in memory cannot be trusted any more, for a reason of the protocol: an invariant
    /// is broken, or a library has returned a fatal error. The files can: the driver may boot the
    /// node again, as after a failed disk, and the next incarnation begins from them.
    #[error("the protocol failed: {0}")]
    ProtocolFailed(String),
}

/// Why a node refuses to boot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum BootError {
    /// Something that was durable is missing or changed.
    #[error("{file} is damaged at byte {at}: {reason}")]
    Damaged {
        file: FileId,
        /// The offset of the first byte that cannot be trusted.
        at: u64,
        /// The kind of damage.
        reason: String,
    },
    /// The file was written by another version of this program.
    #[error("{file} has format version {found}, this program reads versions up to {readable}")]
    Version {
        file: FileId,
        /// The version in the file.
        found: u16,
        /// The latest version that this program reads.
        readable: u16,
    },
    /// The files were written by another node.
    #[error("the files are those of {owner}, this is {node}")]
    OtherNode {
        /// The node that wrote them.
        owner: NodeId,
        /// The node that boots.
        node: NodeId,
    },
    /// The disk could not be read.
    #[error("{file} cannot be read: {error}")]
    Unreadable { file: FileId, error: DiskError },
    /// The files are intact, and the protocol refuses them: what they say is impossible, or this
    /// node must not start from it. No restart helps.
    #[error("the protocol refuses these files: {reason}")]
    Rejected {
        /// Why, for the operator.
        reason: String,
    },
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileId::Wal(k) => write!(f, "wal.{k}"),
            FileId::Snapshot(k) => write!(f, "snapshot.{k}"),
            FileId::Scratch => f.write_str("scratch"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Request(id) => write!(f, "{id}"),
            Subject::Number(number) => write!(f, "#{number}"),
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if let Some(subject) = self.subject { write!(f, " {subject}") } else { Ok(()) }
    }
}
