//! Protocols that are not like two-phase commit: nodes that are never quiet, clients that are
//! referred to another node, links that keep the order.

mod run_ends;
mod sessions;
