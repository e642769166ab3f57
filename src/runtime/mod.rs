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
//! Nothing is dialled and nobody is greeted before the node says that its life is durable ([`Serve::life`]): a life that
//! a crash could still undo must not be heard of.
//!
//! A [`Tap`] sees every input and every effect before it happens, and may end the process there. The event log is one;
//! with it, the simulator's judges judge a real cluster.

pub mod client;
mod clock;
mod commit;
mod disk;
mod door;
mod driver;
mod files;
mod journal;
mod link;
mod noise;
mod packet;
mod serve;
mod start;
mod stream;
mod tap;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientError, ClientOptions, Doubt, Name, NoName, Settled};
pub use disk::{Done, Files};
pub use files::{Directory, DirectoryError, Survived, name_of, role_of};
pub use journal::Journal;
pub use noise::Noise;
pub use serve::{DiskStatus, FileStatus, LinkStatus, Serve, Status};
pub use start::{Ending, Running, Settings, StartError, start};
pub use stream::FRAME_BYTES_MAX;
pub use tap::{Tap, Then};

#[cfg(doc)]
use crate::contract::Node;
