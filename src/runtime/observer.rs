//! Somebody who sees everything a node is told and does, just before it happens.

use std::io;

use crate::contract::{Effect, Input, Node};
use crate::id::{NodeId, Time};

use super::files::SurvivingFiles;

/// Sees the facts of one life in their order. An error ends the life: whoever asked for a log of everything would rather
/// have no node than one that is not logged.
pub trait Observer<N: Node>: Send + 'static {
    /// The life is about to begin from this.
    ///
    /// # Errors
    /// If it cannot be written down.
    fn boot(&mut self, node: NodeId, surviving: &SurvivingFiles) -> io::Result<()>;

    /// The node is about to handle this. A message bears the number of the letter that it came in.
    ///
    /// # Errors
    /// If it cannot be written down.
    fn input(
        &mut self,
        now: Time,
        input: &Input<N>,
        message_number: u64,
    ) -> io::Result<Continuation>;

    /// This is about to be performed. `bytes` are those of an append, `message_number` the number of the letter that is sent.
    ///
    /// # Errors
    /// If it cannot be written down.
    fn effect(
        &mut self,
        now: Time,
        effect: &Effect<N>,
        bytes: &[u8],
        message_number: u64,
    ) -> io::Result<Continuation>;

    /// The life ends cleanly, with nothing left under way.
    ///
    /// # Errors
    /// If it cannot be written down.
    fn stopped(&mut self, now: Time) -> io::Result<()>;
}

/// How it goes on after a fact was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// It happens.
    Proceed,
    /// It does not happen, nor does anything after it: the life ends here, as if the process had been killed.
    Terminate,
}
