//! Two-phase commit with presumed abort, a write-ahead log, snapshots and recovery.
//!
//! - [`commit`]: the protocol, specified in the module documentation and, with its properties, in
//!   `docs/protocol.md`, and [`CommitNode`](commit::CommitNode), a sans-IO
//!   [`Node`](stormglass_node::Node).
//! - [`store`]: keyed values and their locks.
//! - `client`, with feature `runtime`: a client over TCP, with typed results and retries.
//!
//! The program `stormglass` (feature `cli`) runs a node with the engine of `stormglass-node`. The
//! package `stormglass-commit-sim` has the properties of atomic commitment, which the simulator
//! checks.

#[cfg(feature = "runtime")]
pub mod client;
pub mod commit;
pub mod store;
