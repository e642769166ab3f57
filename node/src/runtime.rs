//! The real-time engine: TCP, files and the system clock around any [`Node`].
//!
//! One task owns the node. It takes inputs from one bounded queue and performs the effects of each
//! step, in order, before it handles the next input. It never waits for the network or the clock.
//! When the queue of the disk thread is full, it takes no messages and no requests, which is back
//! pressure; it still answers `status` and can be stopped.
//!
//! - **Disk** operations go, in order, through a bounded queue to a thread that owns the files.
//!   Barrier completions come back as inputs. The first error is final: nothing more is written, no
//!   sync is retried, and the node halts itself.
//! - **Messages** go into one bounded queue per peer. A task drains it: it connects, performs the
//!   handshake, and reconnects with capped backoff. A datagram that finds the queue full is
//!   dropped: the contract allows loss, and an unreachable peer must not cost memory. With
//!   [sessions](crate::contract#sessions), each session has a queue, and ends when it is full.
//! - **Answers** go into one bounded queue per connection. A client that does not read loses its
//!   connection.
//! - **Memory** of large frames and of answers is shared by all clients, and bounded for all
//!   together. A connection that gets none in time is closed.
//! - **Time** is a monotonic clock; the node's deadline is read again after every step.
//!
//! The engine neither dials peers nor accepts handshakes before the node's incarnation is durable
//! ([`ServedNode::incarnation`]): a crash can still undo an incarnation that is not durable, so no
//! other process may have seen it.
//!
//! An [`Observer`] sees every input and every effect before it happens, and may terminate the node
//! there. [`Journal`], the event log, is one; with it the simulator's checkers check a real
//! cluster.

mod clock;
mod descriptors;
mod disk;
mod driver;
mod files;
mod journal;
mod link;
mod listener;
mod memory;
mod observer;
pub mod packet;
mod rate_limit;
mod serve;
mod session;
mod start;
pub mod stream;
#[cfg(test)]
mod tests;

pub use clock::after;
pub use descriptors::{TooFewDescriptors, raise_descriptor_limit};
pub use disk::{BarrierCompletion, DataFiles};
pub use files::{Directory, DirectoryError, SurvivingFiles, file_id_of, file_name_of};
pub use journal::Journal;
pub use observer::{Continuation, Observer};
pub use serve::{DiskStatus, FileStatus, LinkStatus, ServedNode, Status};
pub use start::{Ending, RunningNode, Settings, StartError, entropy, start};
pub use stream::FRAME_BYTES_MAX;

#[cfg(doc)]
use crate::contract::Node;
