//! Deterministic simulation testing for sans-IO state machines.
//!
//! A protocol is written as a [`Node`]: a state machine that performs no
//! I/O. This crate simulates its network, its disks, its clocks and its crashes from one 64-bit
//! seed, checks properties at every effect of every node, and shrinks a failing seed to a short
//! [`schedule`] that replays the same violation.
//!
//! A run is a function of its seed: the same seed gives the same events, the same bytes on every
//! disk and the same fingerprint on every machine. A hunt over many seeds reports the lowest
//! failing seed, whatever the number of threads.
//!
//! # Where to begin
//!
//! | to | begin with |
//! |---|---|
//! | test a node in `#[test]` | [`simulation::Simulation`] |
//! | learn it step by step, from an empty crate to a fixed bug | the [`guide`] |
//! | give a protocol its own workload, checker and schedule syntax | [`protocol::Protocol`] |
//! | give it the command line (`hunt`, `replay`, `shrink`, `diff`), with feature `cli` | `cli` |
//! | state a property | [`property::Property`] |
//! | know which faults exist and how often they occur | [`tally::Rule`], [`profile::Profile`] |
//! | read or write a schedule by hand | [`schedule`] |
//!
//! # Imports
//!
//! A test imports what it needs from the root of this crate: the simulation, what a property looks
//! at, what the methods of [`Simulation`] take, and the contract of nodes. The crate of the node
//! itself depends on `stormglass_node` only, which has the same contract and the write-ahead log.
//!
//! # Units
//!
//! A span of time is a [`Micros`], and so is a moment of true time: the span since the beginning of
//! the run. True time is the simulator's, and no node sees it; a node's own clock, which may be off
//! (C1 to C3), shows a [`Time`]. A share is a [`Permille`], the drift of a clock a [`Ppm`].
//!
//! # Example
//!
//! A node that echoes each request, 20 requests per seed, and 50 seeds, each with a random subset
//! of the network, crash, disk and clock faults. The property holds, so `check` returns. If it did
//! not hold, `check` would panic with the shrunk schedule and its trace.
//!
//! ```
//! use stormglass_sim::{Boot, BootError, Effect, Input, Node, Outbox, Time};
//! use stormglass_sim::{Fact, Observation, Property, PropertyResult, Simulation};
//!
//! struct Echo;
//!
//! impl Node for Echo {
//!     type Config = ();
//!     type Message = (); // Nodes send no messages to each other.
//!     type Request = u64;
//!     type Response = u64;
//!     type Event = ();
//!
//!     fn boot(_: &(), _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
//!         Ok(Echo)
//!     }
//!
//!     fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
//!         if let Input::Request { id, request } = input {
//!             out.reply(id, request);
//!         }
//!     }
//! }
//!
//! #[derive(Clone)]
//! struct RepliesAreSmall;
//!
//! impl Property<Echo> for RepliesAreSmall {
//!     const NAME: &'static str = "RepliesAreSmall";
//!     fn on(&mut self, observation: &Observation<'_, Echo>) -> PropertyResult {
//!         match observation.fact {
//!             Fact::Effect(Effect::Reply { response, .. }, _) if *response > 9 => {
//!                 Err(format!("{} replies {response}", observation.node))
//!             }
//!             _ => Ok(()),
//!         }
//!     }
//! }
//!
//! // In your test this is the body of `#[test] fn replies_are_small()`.
//! Simulation::<Echo>::new(())
//!     .requests(20, |rng| (rng.node(), rng.between(0, 9)))
//!     .property(RepliesAreSmall)
//!     .seeds(50)
//!     .check();
//! ```

pub mod chooser;
#[cfg(feature = "cli")]
pub mod cli;
pub mod coverage;
pub mod determinism;
pub mod disk;
mod fact_hash;
pub mod fault;
pub mod guide {
    #![doc = include_str!("guide.md")]
}
mod causality;
pub mod event_queue;
pub mod hash;
pub mod hunt;
pub mod limits;
pub mod log_check;
mod named;
mod node_log;
pub mod plan;
pub mod profile;
pub mod property;
pub mod protocol;
pub mod ratio;
pub mod regress;
pub mod replay;
pub mod run_end;
pub mod schedule;
pub mod shrink;
pub mod simulation;
pub mod tally;
pub mod trace;
pub mod workload;
pub mod world;

/// The contract that nodes are written against, the write-ahead log and the real engine.
#[doc(inline)]
pub use stormglass_node as node;

pub use fault::{FaultKind, FaultKinds};
pub use plan::Plan;
pub use profile::{Profile, Rng};
pub use property::{
    Checker, ClientFact, Fact, FaultFact, JudgedUntil, Observation, ProcessFact, Property,
    PropertyResult, RunFact, Sometimes, Violation,
};
pub use ratio::{Permille, Ppm};
pub use run_end::{Availability, RunEnd};
pub use simulation::Simulation;
pub use stormglass_node::{
    About, Boot, BootError, DiskError, DiskOp, Effect, FileId, HaltReason, Input, Label, Links,
    Micros, Node, NodeId, OpId, Outbox, ReadDisk, RequestId, Subject, Time,
};
