//! The real engine: TCP, files and the machine's clock around any [`Node`].
//!
//! One task owns the node. It takes inputs from one bounded queue and performs the effects of each step in order before it
//! looks at the next input. No network and no clock can make it wait; only a disk that is behind by its whole queue does,
//! and then on purpose:
//!
//! - **Disk** operations go, in order, to a thread of their own that owns the files, through a bounded queue. Barriers
//!   come back as inputs. The first error latches there: nothing more is written, no sync is tried again, and the node
//!   halts itself.
//! - **Messages** go into one bounded queue per peer, drained by a task that dials, greets, and dials again with a capped
//!   backoff. What has no room is dropped: the contract allows loss, and a dead peer must not cost memory.
//! - **Answers** go into one bounded queue per connection. A client that does not read loses its connection.
//! - **Time** is a clock that never runs backwards; the node's deadline is looked at after every step.
//!
//! Nothing is dialled and nobody is greeted before the node says that its life is durable ([`ServedNode::incarnation`]): a life that
//! a crash could still undo must not be heard of.
//!
//! A [`Observer`] sees every input and every effect before it happens, and may end the process there. The event log is one;
//! with it, the simulator's judges judge a real cluster.

pub mod client;
mod clock;
mod commit;
mod disk;
mod driver;
mod files;
mod frame_fuzzer;
mod journal;
mod link;
mod listener;
mod observer;
mod packet;
mod serve;
mod start;
mod stream;
#[cfg(test)]
mod tests;

pub use client::{
    Client, ClientError, ClientOptions, ParseHandleError, RequestHandle, TxResult, UnknownReason,
};
pub use disk::{BarrierCompletion, DataFiles};
pub use files::{Directory, DirectoryError, SurvivingFiles, file_id_of, file_name_of};
pub use frame_fuzzer::FrameFuzzer;
pub use journal::Journal;
pub use observer::{Continuation, Observer};
pub use serve::{DiskStatus, FileStatus, LinkStatus, ServedNode, Status};
pub use start::{Ending, RunningNode, Settings, StartError, start};
pub use stream::FRAME_BYTES_MAX;

#[cfg(doc)]
use crate::contract::Node;
