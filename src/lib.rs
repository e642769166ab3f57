//! Sans-IO nodes that can be weathered: the contract between a node and whoever drives it, a
//! write-ahead log that keeps it, and the flagship, two-phase commit.
//!
//! A protocol is written once, as a [`Node`]: a deterministic state machine that performs no I/O. It is fed one
//! [`Input`] at a time and leaves [`Effect`]s in an [`Outbox`]; the *driver* owns network, disk and clock, or makes
//! them up. This crate knows nothing of the simulator: the package `stormglass-sim` is a driver like any other.
//!
//! # Where to begin
//!
//! - [`contract`]: the numbered duties of node and driver. Everything else follows from it.
//! - [`wal`]: a log over a disk that may lose, tear and bring back whatever was not synced. "Durable" is a value,
//!   [`Durable`], that only the log makes.
//! - [`commit`]: the protocol in prose, and [`CommitNode`](commit::CommitNode).
//! - [`store`]: keyed values, their locks, and who waits for whom. [`id`], [`codec`] and [`wire`] are names, bytes and
//!   frames.
//!
//! # A node
//!
//! A counter that answers after a sync:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use stormglass::*;
//!
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! struct Add;
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! struct Sum(u64);
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! enum Nothing {}
//!
//! impl Label for Add {
//!     fn kind(&self) -> &'static str { "Add" }
//!     fn subject(&self) -> Option<Subject> { None }
//! }
//! impl Label for Sum {
//!     fn kind(&self) -> &'static str { "Sum" }
//!     fn subject(&self) -> Option<Subject> { None }
//! }
//! impl Label for Nothing {
//!     fn kind(&self) -> &'static str { match *self {} }
//!     fn subject(&self) -> Option<Subject> { None }
//! }
//!
//! const FILE: FileId = FileId::Wal(0);
//!
//! /// One byte in the file for every `Add`.
//! #[derive(Clone, Debug)]
//! struct Counter { sum: u64, syncing: Option<(OpId, u64)>, waiting: Vec<(RequestId, u64)> }
//!
//! impl Counter {
//!     /// Starts a barrier if none is under way and somebody waits: the others share the next one.
//!     fn sync(&mut self, out: &mut Outbox<Self>) {
//!         if self.syncing.is_none() && !self.waiting.is_empty() {
//!             let op = OpId(self.sum);
//!             self.syncing = Some((op, self.sum));
//!             out.disk(DiskOp::Sync { op, file: FILE });
//!         }
//!     }
//! }
//!
//! impl Node for Counter {
//!     type Config = ();
//!     type Message = Nothing;
//!     type Request = Add;
//!     type Response = Sum;
//!     type Event = Nothing;
//!
//!     fn boot(_: &(), boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
//!         let read = boot.disk.read(FILE).map_err(|error| BootError::Unreadable { file: FILE, error })?;
//!         let sum = read.map_or(0, |bytes| bytes.len() as u64);
//!         Ok(Counter { sum, syncing: None, waiting: Vec::new() })
//!     }
//!
//!     fn step(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
//!         match input {
//!             Input::Request { id, request } => {
//!                 self.sum += 1;
//!                 self.waiting.push((id, self.sum));
//!                 out.append(FILE, request.about(), &[1]);
//!             }
//!             Input::DiskDone { result: Err(error), .. } => return out.halt(HaltReason::DiskFailed(error)),
//!             Input::DiskDone { result: Ok(()), .. } => {
//!                 let (_, durable) = self.syncing.take().expect("a completion without a barrier");
//!                 for (id, sum) in self.waiting.extract_if(.., |(_, sum)| *sum <= durable) {
//!                     out.reply(id, Sum(sum));
//!                 }
//!             }
//!             Input::Message { message, .. } => match message {},
//!             Input::Wake => {}
//!         }
//!         self.sync(out);
//!     }
//!
//!     fn deadline(&self) -> Option<Time> { None }
//! }
//! ```
//!
//! It looks right. It is not: no barrier covers the file's *name*, so a power cut may take the file away after an
//! answer; and a life that reads back what was never synced, after a failed sync, answers on top of it. This is what
//! the storm is for, and why [`wal`] does more.

pub mod codec;
pub mod commit;
pub mod contract;
pub mod id;
pub mod journal;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod store;
pub mod wal;
pub mod wire;

pub use contract::{
    About, Boot, BootError, DiskError, DiskOp, Effect, FileId, HaltReason, Input, Label, Node,
    OpId, Outbox, ReadDisk, Subject,
};
pub use id::{Incarnation, Micros, NodeId, RequestId, Time, TxId};
pub use wal::{Durable, Ticket, Wal, WalOptions};
