//! An observer of every input and effect of a node, called just before each happens.

use std::io;

use crate::contract::{Effect, Input, Node};
use crate::id::{NodeId, Time};

use super::files::SurvivingFiles;

/// Sees the inputs and effects of one incarnation in their order. An error ends the node: a
/// complete event log is a requirement where one was requested.
pub trait Observer<N: Node>: Send + 'static {
    /// The incarnation is about to boot from these files.
    ///
    /// # Errors
    /// If it cannot be recorded.
    fn boot(&mut self, node: NodeId, surviving: &SurvivingFiles) -> io::Result<()>;

    /// The node is about to handle this input. `message_number` is the sender's number of a
    /// received message, and 0 for other inputs.
    ///
    /// # Errors
    /// If it cannot be recorded.
    fn input(
        &mut self,
        now: Time,
        input: &Input<N>,
        message_number: u64,
    ) -> io::Result<Continuation>;

    /// This effect is about to be performed. `bytes` is the data of an append and empty otherwise;
    /// `message_number` is the number that the message gets if the effect is a send.
    ///
    /// # Errors
    /// If it cannot be recorded.
    fn effect(
        &mut self,
        now: Time,
        effect: &Effect<N>,
        bytes: &[u8],
        message_number: u64,
    ) -> io::Result<Continuation>;

    /// The incarnation ends by a clean shutdown, with no work left.
    ///
    /// # Errors
    /// If it cannot be recorded.
    fn stopped(&mut self, now: Time) -> io::Result<()>;
}

/// Whether the node runs on after an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// The input or effect happens.
    Proceed,
    /// Neither it nor any later one happens: the node ends here, as if the process had been killed.
    Terminate,
}
