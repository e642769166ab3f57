//! Protocols that are unlike two-phase commit, on the simulator's public interface.

mod bare_node;
