//! The storm: one deterministic world of networks, disks, crashes and clocks for sans-IO nodes, and the judges who
//! watch it.

pub mod chooser;
pub mod cli;
pub mod commit;
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
pub mod log_check;
pub mod plan;
pub mod profile;
pub mod property;
pub mod protocol;
pub mod regress;
pub mod replay;
pub mod schedule;
pub mod shrink;
pub mod simulation;
mod sorted_map;
pub mod tally;
pub mod trace;
pub mod workload;
pub mod world;
