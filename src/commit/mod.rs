//! Two-phase commit with presumed abort, cooperative termination and safe forgetting.

pub mod config;
pub mod event;
pub mod message;
pub mod op;
pub mod part;
pub mod record;
pub mod request;
pub mod state;
pub mod words;

pub use config::Config;
pub use event::{Event, Nonsense};
pub use message::{Message, No, Said, Vote};
pub use op::{Action, Key, KeyTooLong, Op, Reads};
pub use part::{Age, Invalid, Part, Participants};
pub use record::{Record, RecordHead, RecordKind};
pub use request::{Outcome, Request, Response, Turn, Why};
pub use state::{Client, Committing, Decision, Known, Prepared, State};
pub use words::{Ended, Position, Word};
