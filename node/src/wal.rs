//! The write-ahead log: a record that was reported durable survives every crash of process and
//! machine.
//!
//! Its mechanism: **every incarnation, and every compaction, begins with a snapshot**. Nothing is
//! repaired in place and nothing is truncated. The reason: after a failed sync the operating system
//! regards the pages that it could not write as written. They are readable, and a second sync
//! succeeds without writing them. So an incarnation that read a record back and synced its file
//! again would treat as durable what the next power cut removes. Instead [`Wal::begin`] writes all
//! that [`recover`] found to a new file, syncs, renames and syncs the directory, and only then is
//! the log [ready](Wal::ready).
//!
//! Files are `snapshot.k` and `wal.k`; the records after `snapshot.k` are in the segment `wal.k`. A
//! compaction begins `wal.k+1`, then writes `snapshot.k+1`, then removes the files before. The
//! formats are in the modules `file_header`, `frame` and `snapshot`, the rules of reading in
//! `recovery`; `docs/log-format.md` describes both together, with an example.
//!
//! # The proof of durability
//!
//! [`Wal::append`] returns a [`Ticket`]; once the barrier that covers its record has completed, the
//! ticket can be redeemed for a [`Durable`], and nothing else creates one. A function that sends
//! what depends on the record takes a `Durable` as an argument.
//!
//! The *boot snapshot* is the one that `begin` writes. It has a barrier for its data and one for
//! its name; the first records of the incarnation wait for both. Tickets for records that were read
//! back come from the state in it, the [`BootSnapshot`], and from nowhere else.
//!
//! # Duties of the node
//!
//! 1. Call `recover`, apply its records to the state of its snapshot, add what the new incarnation
//!    needs (its number), and pass the result to `begin`, with the [`ResumePoint`]: where the log
//!    ended.
//! 2. Send nothing before `ready`. Appends issued earlier are deferred until then.
//! 3. Pass every `DiskDone` to [`Wal::on_disk_done`]; on `Err` halt. The log emits nothing from
//!    then on.
//! 4. Compact when [`Wal::needs_compaction`] returns true, with the state after the last append.
//!
//! # Example
//!
//! A counter: each request adds one, and a retry of a request is answered like the request. A
//! client sends one request after another, so the last one of each is enough.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use serde::{Deserialize, Serialize};
//! use stormglass_node::wal::recover;
//! use stormglass_node::*;
//!
//! #[derive(Clone, Copy, Label, Serialize, Deserialize)]
//! struct Counted { #[label(subject)] id: RequestId, value: u64 }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct State { value: u64, last: BTreeMap<u64, Counted> }
//!
//! impl State {
//!     fn apply(&mut self, counted: Counted) {
//!         self.value = counted.value;
//!         self.last.insert(counted.id.client, counted);
//!     }
//! }
//!
//! struct Counter { state: State, wal: Wal, unanswered: Vec<Ticket<Counted>> }
//!
//! impl Node for Counter {
//!     type Config = u64; // the length of the log, in bytes, at which it is compacted
//!     type Message = ();
//!     type Request = ();
//!     type Response = u64;
//!     type Event = ();
//!
//!     fn boot(
//!         compact_at: &u64,
//!         boot: Boot<'_>,
//!         out: &mut Outbox<Self>,
//!     ) -> Result<Self, BootError> {
//!         let recovered = recover::<State, Counted>(boot.disk)?;
//!         let mut state = recovered.snapshot.unwrap_or_default();
//!         recovered.records.into_iter().for_each(|record| state.apply(record));
//!         let (compact_at, entropy) = (*compact_at, boot.entropy);
//!         let options = WalOptions { compact_at, chunk_bytes_max: 4096, entropy };
//!         // Here the state is written again; nothing is sent before that is durable.
//!         let (wal, _) = Wal::begin(recovered.resume_point, options, &state, out);
//!         Ok(Counter { state, wal, unanswered: Vec::new() })
//!     }
//!
//!     fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
//!         match input {
//!             Input::Request { id, .. } if self.wal.ready() => self.count(id, out),
//!             Input::DiskDone { op, result } => match self.wal.on_disk_done(op, result, out) {
//!                 Ok(_) => self.answer_durable(out),
//!                 Err(error) => out.halt(HaltReason::DiskFailed(error)),
//!             },
//!             // Clients resend what comes before the log is ready.
//!             _ => {}
//!         }
//!     }
//! }
//!
//! impl Counter {
//!     fn count(&mut self, id: RequestId, out: &mut Outbox<Self>) {
//!         match self.state.last.get(&id.client) {
//!             // The client has the answer to this one: it has sent a later one.
//!             Some(last) if id.serial < last.id.serial => {}
//!             Some(last) if id.serial == last.id.serial => {
//!                 // If the record is not durable yet, its ticket brings the answer.
//!                 if self.unanswered.iter().all(|ticket| ticket.value().id != last.id) {
//!                     out.reply(id, last.value);
//!                 }
//!             }
//!             _ => {
//!                 let counted = Counted { id, value: self.state.value + 1 };
//!                 self.state.apply(counted);
//!                 self.unanswered.push(self.wal.append(&counted, counted, out));
//!                 self.wal.force(out);
//!                 if self.wal.needs_compaction() {
//!                     self.wal.compact(&self.state, out);
//!                 }
//!             }
//!         }
//!     }
//!
//!     fn answer_durable(&mut self, out: &mut Outbox<Self>) {
//!         for ticket in std::mem::take(&mut self.unanswered) {
//!             match self.wal.redeem(ticket) {
//!                 Ok(durable) => out.reply(durable.get().id, durable.get().value),
//!                 Err(ticket) => self.unanswered.push(ticket),
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! # Known limits
//!
//! Records are numbered from 1 over all incarnations; the number of a record is its *position*.
//! Each frame contains a *watermark*, the position of the last record that was durable when the
//! frame was written. The records of the last barrier have no frame after them. So damage to them
//! cannot be distinguished from a torn tail. The encoded state may have at most 4 GiB, since one
//! step writes it, and a record at most [`codec::VALUE_BYTES_MAX`](crate::codec::VALUE_BYTES_MAX)
//! bytes.

mod durable;
mod file_header;
mod frame;
mod group_commit;
mod log;
mod recovery;
mod snapshot;
#[cfg(test)]
mod tests;

pub use durable::{BootSnapshot, Durable, Ticket};
pub use file_header::FORMAT_VERSION;
pub use frame::payload;
pub use log::{Progress, Stats, Wal, WalOptions};
pub use recovery::{FrameInfo, Recovered, ResumePoint, TornTail, recover, scan_frames};
