//! Two-phase commit with presumed abort, cooperative termination and safe forgetting.

pub mod config;
mod coordinator;
pub mod event;
pub mod message;
mod names;
mod node;
pub mod op;
pub mod part;
mod participant;
pub mod record;
pub mod request;
pub mod state;
mod table;
#[cfg(test)]
mod tests;
mod timers;
pub mod words;

pub use config::Config;
pub use event::{Event, Nonsense};
pub use message::{Message, No, Said, Vote};
pub use node::CommitNode;
pub use op::{Action, Key, KeyTooLong, Op, Reads};
pub use part::{Age, Invalid, Part, Participants};
pub use record::{Record, RecordHead, RecordKind};
pub use request::{Outcome, Request, Response, Turn, Why};
pub use state::{Client, Committing, Decision, Known, Prepared, State};
pub use words::{Ended, Position, Word};
