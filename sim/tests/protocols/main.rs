//! Protocols that are not like two-phase commit, on the simulator's public interface: nodes that
//! are never quiet, clients that are referred to another node, links that keep the order, nodes of
//! which nothing is known.

mod all_disks;
mod bare_node;
mod fatal_errors;
mod lease;
#[cfg(feature = "tracing")]
mod logging;
mod node_configs;
mod run_ends;
mod sessions;
mod several_subjects;
mod traces;
