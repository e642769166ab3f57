//! The write-ahead log: what a node has said it will remember, it remembers, whatever becomes of process and disk.
//!
//! One mechanism carries it all: **every life, and every compaction, begins with a snapshot**. Nothing is
//! repaired in place and nothing is truncated, because *restart is a retry*: after a failed sync the pages count
//! as clean and are readable, so a life that read a record back and synced its file again would believe in
//! something that the next power cut takes away. Instead [`Wal::begin`] writes all that [`recover`] found to a new
//! file, syncs, renames and syncs the directory, and only then is the log [ready](Wal::ready).
//!
//! Files are `snapshot.k` and `wal.k`; the log after `snapshot.k` is `wal.k`, and `wal.k+1` too while a
//! compaction is under way or was cut short. The formats are in the modules `head`, `frame` and `snapshot`, the
//! rules of reading in `recovery`.
//!
//! # The proof of durability
//!
//! [`Wal::append`] gives a [`Ticket`]; once the barrier that covers its record has completed, the ticket can be
//! redeemed for a [`Durable`], and nothing else makes one. What must not be said before the disk has it demands
//! a `Durable` as an argument.
//!
//! # Duties of the node
//!
//! 1. Recover, fold the records into the snapshot, add what the new life needs (its incarnation), `begin`.
//! 2. Say nothing to anyone before `ready`. What is appended earlier is held back until then.
//! 3. Feed every `DiskDone` to [`Wal::on_disk_done`]; on `Err` halt. The log is silent from then on.
//! 4. Compact when [`Wal::needs_compaction`] says so, with the state as it is after the last append.
//!
//! # Known limits
//!
//! Damage in the last synced group cannot be told from a torn tail: no frame behind it says that it was durable.
//! The state, encoded, must fit 4 GiB, since one step writes it; a record
//! [`codec::VALUE_BYTES_MAX`](crate::codec::VALUE_BYTES_MAX).

mod durable;
mod frame;
mod group;
mod head;
mod log;
mod recovery;
mod snapshot;
#[cfg(test)]
mod tests;

pub use durable::{Durable, Ticket};
pub use frame::payload;
pub use head::FORMAT_VERSION;
pub use log::{Progress, Stats, Wal, WalOptions};
pub use recovery::{FrameInfo, Recovered, ResumePoint, TornTail, recover, scan_frames};
