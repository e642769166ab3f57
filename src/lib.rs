//! Sans-IO nodes that can be weathered: the contract between a node and whoever drives it, a
//! write-ahead log that keeps it, and the flagship, two-phase commit.
//!
//! This crate knows nothing of the simulator. A protocol written against [`contract`] runs unchanged
//! under the seeded, scripted and exhaustive engines of `stormglass-sim` and, for real, over TCP and files.

pub mod codec;
pub mod commit;
pub mod contract;
pub mod id;
pub mod store;
pub mod wal;
pub mod wire;

pub use contract::{
    About, Boot, BootError, DiskError, DiskOp, Effect, FileId, HaltReason, Input, Label, Node, OpId, Outbox,
    ReadDisk, Subject,
};
pub use id::{Incarnation, Micros, NodeId, RequestId, Time, TxId};
pub use wal::{Durable, Ticket, Wal, WalOptions};
