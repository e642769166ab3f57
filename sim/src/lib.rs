//! The storm: one deterministic world of networks, disks, crashes and clocks for sans-IO nodes, and the judges who
//! watch it.

pub mod chooser;
pub mod cli;
pub mod commit;
mod digest;
pub mod disk;
pub mod fault;
pub mod guide {
    #![doc = include_str!("guide.md")]
}
pub mod hunt;
pub mod judge;
pub mod mix;
pub mod oracle;
pub mod plan;
pub mod play;
pub mod profile;
pub mod protocol;
pub mod queue;
pub mod regress;
pub mod schedule;
pub mod shrink;
mod sorted;
pub mod storm;
pub mod tally;
pub mod trace;
mod why;
pub mod workload;
pub mod world;
