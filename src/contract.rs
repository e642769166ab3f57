//! What a node may be told and what it may ask for.
//!
//! A protocol is written once, as a [`Node`]: a deterministic state machine that performs no I/O. Somebody
//! else, the *driver*, owns sockets, files and the clock (or makes them up), feeds the node one [`Input`] at a
//! time and performs the [`Effect`]s that it leaves in the [`Outbox`], in order. The whole contract:
//!
//! The **node** promises that
//! 1. it is a function of its boot, its inputs and the times told to it: no clock, no randomness but
//!    [`Boot::entropy`], no threads, no iteration over hashed containers;
//! 2. [`Node::step`] is total: bad messages are dropped and reported, a bad disk makes it [`Effect::Halt`], and
//!    only its own bugs panic;
//! 3. it shows nothing to anyone (no `Send`, no `Reply`) that depends on a disk operation whose barrier has not
//!    completed successfully; the gate is inside the node, because a gate that every driver re-implements is one
//!    that some driver gets wrong;
//! 4. it reads its disk at boot only, and trusts nothing that it read there to be durable before a barrier of
//!    its own has made it so: after a mere process kill the page cache still shows what was never synced;
//! 5. it has at most one barrier under way per lane (the log is one, the snapshot another);
//! 6. once a barrier has failed, it emits nothing but `Halt`, and never retries the sync;
//! 7. it never sends to itself;
//! 8. [`Node::deadline`] is a function of its state, and after a `Wake` at or past it, it is later than the time
//!    of that wake, or `None`.
//!
//! The **driver** promises that
//! 1. it performs the effects of a step in order, all of them before the next input, unless the process dies in
//!    between: a crash may fall between any two effects;
//! 2. `now` never runs backwards within a life;
//! 3. it calls `Wake` at or after the deadline, never needs to be told to cancel one, and may wake too early;
//! 4. disk operations never complete, barriers do: each `Sync` and `SyncDir` is answered by exactly one
//!    [`Input::DiskDone`] with its `op`, or by none if the process dies first;
//! 5. `Append` creates the file if need be and writes at its current end; `Sync` covers data, length and
//!    truncations of that file, not its name; `SyncDir` covers every creation, rename and removal issued before
//!    it;
//! 6. the first failed or short write latches: a prefix of it may remain, no later disk operation of that life is
//!    performed, every barrier not yet completed may fail and every later one does;
//! 7. messages may be lost, delayed without bound, duplicated and reordered, and may outlive both ends.

mod outbox;

use std::fmt::{self, Debug};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use outbox::{Chunk, Outbox};

use crate::id::{NodeId, RequestId, Time};

/// A protocol, as a deterministic state machine. See the [module](self) for the duties on both sides.
pub trait Node: Clone + Debug + Sized {
    /// What an operator sets; the same for every life.
    type Config: Clone + Debug;
    /// What nodes say to each other.
    type Message: Clone + Debug + Label + Serialize + DeserializeOwned;
    /// What a client asks.
    type Request: Clone + Debug + Label + Serialize + DeserializeOwned;
    /// What a client is told.
    type Response: Clone + Debug + Label + Serialize + DeserializeOwned;
    /// What an operator might want to know; nothing depends on it.
    type Event: Clone + Debug + Label + Serialize + DeserializeOwned;

    /// Begins a life from what survived of the last one. Repairs are effects like any other.
    ///
    /// # Errors
    /// [`BootError`] if what the disk holds cannot be trusted; nothing has been changed then.
    fn boot(
        config: &Self::Config,
        boot: Boot<'_>,
        out: &mut Outbox<Self>,
    ) -> Result<Self, BootError>;

    /// Handles one input.
    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>);

    /// When to send [`Input::Wake`]: O(1), a function of the state, nothing to cancel. Never, if a node does not say.
    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// What a node is born with.
pub struct Boot<'a> {
    /// Its own name.
    pub id: NodeId,
    /// The time on its clock; unrelated to the times of an earlier life.
    pub now: Time,
    /// Random bits of this life, for jitter and the like. Correctness never depends on them.
    pub entropy: u64,
    /// What survived.
    pub disk: &'a dyn ReadDisk,
}

impl<'a> Boot<'a> {
    /// Every file with its content, in ascending order.
    ///
    /// # Errors
    /// [`BootError::Unreadable`] if one cannot be read.
    pub fn contents(&self) -> Result<Vec<(FileId, &'a [u8])>, BootError> {
        let content = |file| match self.disk.read(file) {
            Ok(bytes) => Ok((file, bytes.unwrap_or_default())),
            Err(error) => Err(BootError::Unreadable { file, error }),
        };
        self.disk.files().into_iter().map(content).collect()
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

/// The one thing that happens to a node in a step.
#[derive(Clone, Debug)]
pub enum Input<N: Node> {
    /// Another node said something, at some time, perhaps not for the first time.
    Message {
        /// Who said it.
        from: NodeId,
        /// What was said.
        message: N::Message,
    },
    /// A client asks. Queries about a request bear that request's name.
    Request {
        /// The name under which the answer goes back.
        id: RequestId,
        /// What is asked.
        request: N::Request,
    },
    /// A barrier has completed.
    DiskDone {
        /// Which one.
        op: OpId,
        /// Whether everything it covers is durable.
        result: Result<(), DiskError>,
    },
    /// Time has passed; perhaps a deadline with it.
    Wake,
}

/// The one thing that a node wants done.
#[derive(Clone, Debug)]
pub enum Effect<N: Node> {
    /// Say something to another node.
    Send {
        /// To whom. Never oneself.
        to: NodeId,
        /// What.
        message: N::Message,
    },
    /// Touch the disk.
    Disk(DiskOp),
    /// Answer a client.
    Reply {
        /// The request that is answered.
        id: RequestId,
        /// With what.
        response: N::Response,
    },
    /// Tell the operator.
    Report(N::Event),
    /// Stop this life. No further input is delivered.
    Halt(HaltReason),
}

/// An operation on the node's files. Only the two barriers ever complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Write at the end of a file, creating it if need be.
    Append {
        /// Which file.
        file: FileId,
        /// Where in the outbox the bytes are: [`Outbox::bytes`].
        bytes: Chunk,
        /// What they mean, for coordinates and traces. A driver for real ignores it.
        about: About,
    },
    /// Cut a file to `len` bytes.
    Truncate {
        /// Which file.
        file: FileId,
        /// Its length afterwards.
        len: u64,
    },
    /// Give a file another name, replacing whatever bore it.
    Rename {
        /// The old name.
        from: FileId,
        /// The new name.
        to: FileId,
    },
    /// Remove a file; removing one that is not there is no error.
    Remove {
        /// Which file.
        file: FileId,
    },
    /// Barrier: data, length and truncations of one file issued so far.
    Sync {
        /// Comes back in [`Input::DiskDone`].
        op: OpId,
        /// Which file.
        file: FileId,
    },
    /// Barrier: all creations, renames and removals issued so far.
    SyncDir {
        /// Comes back in [`Input::DiskDone`].
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
    /// What will be a snapshot once it is complete.
    Scratch,
}

/// Names a barrier within one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// What a message or record is about: its kind and, if it concerns one, its subject (`Vote c1.4`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// A word: `Vote`, `Prepared`.
    pub kind: &'static str,
    /// Whom it concerns.
    pub subject: Option<Subject>,
}

/// Whom a message or record concerns, by a name that no node has made up where there is one: coordinates of
/// faults are told in these names, and must mean the same when a node counts differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A client's request.
    Request(RequestId),
    /// Anything else that can be counted.
    Serial(u64),
}

/// Says what a message, request, response, record or event is about, for coordinates and traces.
pub trait Label {
    /// A word: `Vote`, `Prepared`.
    fn kind(&self) -> &'static str;
    /// Whom it concerns.
    fn subject(&self) -> Option<Subject>;
    /// What else a reader of a trace wants to know, in few words (`no: holder n0.1#7`).
    ///
    /// # Errors
    /// Those of the formatter.
    fn detail(&self, _f: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
    /// Kind and subject together.
    fn about(&self) -> About {
        About { kind: self.kind(), subject: self.subject() }
    }
}

/// For those who have nothing to say: a protocol without messages, a request that is always the same.
impl Label for () {
    fn kind(&self) -> &'static str {
        "Nothing"
    }
    fn subject(&self) -> Option<Subject> {
        None
    }
}

/// A bare number, as an answer for instance.
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

/// Why a disk operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum DiskError {
    /// The device gave up.
    #[error("input/output error")]
    Io,
    /// There is no room.
    #[error("no space left")]
    NoSpace,
}

/// Why a node stops itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HaltReason {
    /// A barrier failed; what it covered is unknown for good in this life.
    #[error("a disk barrier failed: {0}")]
    DiskFailed(DiskError),
}

/// Why a node refuses to begin a life.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// Something that was durable is gone or changed.
    #[error("{file} is damaged at byte {at}: {reason}")]
    Damaged {
        /// Which file.
        file: FileId,
        /// The offset of the first byte that cannot be trusted.
        at: u64,
        /// In plain words.
        reason: String,
    },
    /// The file was written by another version of this program.
    #[error("{file} has format version {found}, this program reads {readable}")]
    Version {
        /// Which file.
        file: FileId,
        /// What it says.
        found: u16,
        /// What would be readable.
        readable: u16,
    },
    /// The disk could not be read.
    #[error("{file} cannot be read: {error}")]
    Unreadable {
        /// Which file.
        file: FileId,
        /// Why.
        error: DiskError,
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
            Subject::Serial(serial) => write!(f, "#{serial}"),
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if let Some(subject) = self.subject { write!(f, " {subject}") } else { Ok(()) }
    }
}
