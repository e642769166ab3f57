//! Sans-IO nodes: the contract between a node and its driver, a write-ahead log, and an engine that
//! runs a node over TCP and files.
//!
//! A protocol is written once, as a [`Node`]: a deterministic state machine that performs no I/O.
//! It handles one [`Input`] at a time and adds [`Effect`]s to an [`Outbox`]; its *driver* performs
//! them on a real network and disk, or simulates both. This crate does not depend on the simulator,
//! the package `stormglass-sim`, which is one driver among others.
//!
//! # Where to begin
//!
//! - [`contract`]: the numbered duties of node and driver.
//! - [`wal`]: a log for disks that lose, tear and bring back what was not synced. Durability is a
//!   value, [`Durable`], that only the log creates.
//! - [`id`], [`codec`], [`wire`], [`journal`]: ids, encoding, frames, and the entries of event
//!   logs.
//! - `runtime`, with feature `runtime`: the engine, which runs any node over TCP and files.
//!
//! No protocol is in here: the package `stormglass` has two-phase commit.
//!
//! # A node
//!
//! It hands out the numbers 1, 2, 3, ... and never the same twice. Its file has one byte for each
//! number.
//!
//! ```
//! use std::collections::VecDeque;
//! use stormglass_node::*;
//!
//! struct Tickets { file: FileId, last: u64, barriers: u32, waiting: VecDeque<RequestId> }
//!
//! impl Node for Tickets {
//!     type Config = ();
//!     type Message = (); // Nodes send no messages to each other.
//!     type Request = ();
//!     type Response = u64;
//!     type Event = ();
//!
//!     fn boot(_: &(), boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
//!         let files = boot.contents()?;
//!         let last = files.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
//!         // Bytes that were read back may not be durable: they are written again, to a new file.
//!         // Numbered upwards, and sorted: the last file has the greatest number.
//!         let file = match files.last() {
//!             Some((FileId::Wal(number), _)) => FileId::Wal(number + 1),
//!             _ => FileId::Wal(0),
//!         };
//!         // `About` is for traces: a kind of your choice, and an id if there is one.
//!         out.append(file, About { kind: "Start", subject: None }, &vec![0; last]);
//!         out.disk(DiskOp::Sync { op: OpId(0), file });
//!         // Without this barrier a power cut could remove the file, whose data is durable.
//!         out.disk(DiskOp::SyncDir { op: OpId(1) });
//!         Ok(Tickets { file, last: last as u64, barriers: 2, waiting: VecDeque::new() })
//!     }
//!
//!     fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
//!         match input {
//!             // One request at a time; clients resend the others.
//!             Input::Request { id, .. } if self.barriers == 0 => {
//!                 self.last += 1;
//!                 self.barriers = 1;
//!                 self.waiting.push_back(id);
//!                 out.append(self.file, About { kind: "Ticket", subject: None }, &[0]);
//!                 out.disk(DiskOp::Sync { op: OpId(1 + self.last), file: self.file });
//!             }
//!             // The number is durable: now the client may see it.
//!             Input::DiskDone { result: Ok(()), .. } => {
//!                 self.barriers -= 1;
//!                 if let Some(id) = self.waiting.pop_front() {
//!                     out.reply(id, self.last);
//!                 }
//!             }
//!             Input::DiskDone { result: Err(e), .. } => out.halt(HaltReason::DiskFailed(e)),
//!             // The other requests, and what this node does not use.
//!             Input::Request { .. } | Input::Message { .. } | Input::Wake => {}
//!             Input::Connected { .. } | Input::Disconnected { .. } => {}
//!         }
//!     }
//! }
//! ```
//!
//! A node that replies before the barrier completes, or omits the `SyncDir`, passes most tests and
//! loses numbers in a power cut. The simulator finds both within a few seeds; its guide
//! (`stormglass_sim::guide`) starts from this node. [`wal`] does the same for records of any kind,
//! with group commit and snapshots.

pub mod codec;
pub mod contract;
pub mod id;
pub mod journal;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod wal;
pub mod wire;

pub use contract::{
    About, Boot, BootError, DiskError, DiskOp, Effect, FileId, HaltReason, Input, Label, Links,
    Node, OpId, Outbox, ReadDisk, Subject,
};
pub use id::{Incarnation, Micros, NodeId, RequestId, Time};
/// Implements the trait [`Label`](trait@Label).
///
/// The kind of a value is the name of its variant, or of its type if that is a struct; a mark
/// changes it. A field that is marked gives the subject.
///
/// ```
/// use stormglass_node::{Label, RequestId, Subject};
///
/// #[derive(Debug, Label)]
/// #[label(detail)] // the detail in traces is the `Debug` text
/// enum Message {
///     // Several subjects, those of the marked fields in their order: a trace that is filtered by
///     // any of these requests shows the message. Coordinates of faults name the first.
///     Append { term: u64, #[label(subjects)] requests: Vec<RequestId> },
///     #[label(kind = "Ack")]
///     Acknowledge(#[label(subject)] u64),
///     #[label(warning)] // of an event: the real engine logs it as a warning
///     Rejected,
/// }
///
/// fn request(serial: u32) -> RequestId {
///     RequestId { client: 1, serial, attempt: 0 }
/// }
/// let append = Message::Append { term: 3, requests: vec![request(1), request(2)] };
/// assert_eq!(append.about().to_string(), "Append c1.1");
/// assert_eq!(append.further_subjects(), [Subject::Request(request(2))]);
/// assert_eq!(Message::Acknowledge(7).about().to_string(), "Ack #7");
/// assert!(Message::Rejected.is_warning() && !append.is_warning());
/// # let mut detail = String::new();
/// # Message::Rejected.detail(&mut detail).unwrap();
/// # assert_eq!(detail, "Rejected");
/// ```
///
/// A message of a library is wrapped in a type with one field. Functions name its kinds and
/// subjects; each receives a reference to that field.
///
/// ```
/// # mod foreign { #[derive(Clone, Debug)] pub struct Message { pub vote: bool, pub term: u64 } }
/// # use stormglass_node::Label;
/// #[derive(Clone, Debug, Label)]
/// #[label(kind_with = "kind_of", subject_with = "term_of")]
/// struct Wire(foreign::Message);
///
/// fn kind_of(message: &foreign::Message) -> &'static str {
///     if message.vote { "Vote" } else { "Heartbeat" }
/// }
///
/// fn term_of(message: &foreign::Message) -> Option<u64> {
///     message.vote.then_some(message.term)
/// }
///
/// let vote = Wire(foreign::Message { vote: true, term: 4 });
/// assert_eq!(vote.about().to_string(), "Vote #4");
/// ```
///
/// | mark | on | |
/// |---|---|---|
/// | `kind = "Word"` | struct, variant | the kind: one word of letters, digits and `_` |
/// | `subject` | field | a [`RequestId`], `u64`, `u32`, [`Subject`], or an `Option` of one |
/// | `subjects` | field | a collection of subjects |
/// | `warning` | type, variant | [`Label::is_warning`] is true |
/// | `detail` | type | [`Label::detail`] writes the `Debug` text of the value: a trace of the simulator shows its first 120 characters, to the last `, ` among them; of a record it shows none |
/// | `kind_with = "path"` | type | a function that returns the kind, a `&'static str` |
/// | `subject_with = "path"` | type | a function that returns a subject |
/// | `subjects_with = "path"` | type | a function that returns a collection of subjects |
/// | `detail_with = "path"` | type | a function like [`Label::detail`] |
/// | `crate = "path"` | type | this crate, where it has another name than `stormglass_node`: `"stormglass_sim::node"` |
///
/// A function receives a reference to the field of a struct with one unnamed field, and to the
/// value itself otherwise. With both `subject_with` and `subjects_with`, that of the former is the
/// first.
///
/// A field that is no subject does not compile:
///
/// ```compile_fail,E0277
/// # use stormglass_node::Label;
/// #[derive(Label)]
/// struct Vote(#[label(subject)] String);
/// ```
#[cfg(feature = "derive")]
pub use stormglass_derive::Label;
pub use wal::{Durable, Ticket, Wal, WalOptions};
