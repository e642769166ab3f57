//! The write-ahead log: a record that was reported durable survives every crash of process and
//! machine.
//!
//! Its mechanism: **every incarnation, and every compaction, begins with a snapshot**. Nothing is
//! repaired in place and nothing is truncated. After a failed sync the pages count as clean and are
//! readable. So an incarnation that read a record back and synced its file again would retry a
//! sync, and treat as durable what the next power cut removes. Instead [`Wal::begin`] writes all
//! that [`recover`] found to a new file, syncs, renames and syncs the directory, and only then is
//! the log [ready](Wal::ready).
//!
//! Files are `snapshot.k` and `wal.k`; the log after `snapshot.k` is `wal.k`, and `wal.k+1` too
//! while a compaction is in progress or was interrupted. The formats are in the modules `head`,
//! `frame` and `snapshot`, the rules of reading in `recovery`.
//!
//! # The proof of durability
//!
//! [`Wal::append`] returns a [`Ticket`]; once the barrier that covers its record has completed, the
//! ticket can be redeemed for a [`Durable`], and nothing else creates one. A function that sends
//! what depends on the record takes a `Durable` as an argument.
//!
//! # Duties of the node
//!
//! 1. Recover, apply the records to the state of the snapshot, add what the new incarnation needs
//!    (its number), `begin`.
//! 2. Send nothing before `ready`. Appends issued earlier are deferred until then.
//! 3. Pass every `DiskDone` to [`Wal::on_disk_done`]; on `Err` halt. The log emits nothing from
//!    then on.
//! 4. Compact when [`Wal::needs_compaction`] returns true, with the state after the last append.
//!
//! # Known limits
//!
//! Damage to the records of the last barrier cannot be distinguished from a torn tail: only the
//! watermark in a later frame could prove that they were durable. The encoded state may have at
//! most 4 GiB, since one step writes it, and a record at most
//! [`codec::VALUE_BYTES_MAX`](crate::codec::VALUE_BYTES_MAX) bytes.

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
