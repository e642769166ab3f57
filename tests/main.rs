//! Storms over the real node: stories, costs, determinism, planted bugs. One binary.

mod contention;
mod costs;
mod determinism;
mod hunts;
mod planted;
mod rig;
mod stories;
