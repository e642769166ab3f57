//! A replicated set of counters on the library [omnipaxos](https://docs.rs/omnipaxos/0.2.4), as a
//! node of Stormglass.
//!
//! | module | contents |
//! |---|---|
//! | [`replica`] | the node: the library, its storage, the write-ahead log, the clients |
//! | [`store`] | the library's storage, as records of the log |
//! | [`counters`] | the state machine with its client sessions |
//! | [`bug`] | deliberate bugs, which the properties must find |
//! | [`properties`] | one log, linearizability, convergence |
//! | [`simulation`] | requests, properties and the end of a run, for tests and for the command line |

pub mod bug;
pub mod counters;
pub mod properties;
pub mod replica;
pub mod simulation;
pub mod store;

pub use bug::Bug;
pub use counters::{Command, Counters, Request};
pub use replica::{Config, Event, Replica};
