//! Storms over the real node: stories, costs, determinism, planted bugs. One binary.

mod clocks;
mod contention;
mod costs;
mod determinism;
mod hunts;
mod litmus;
mod outliving;
mod planted;
mod properties;
#[cfg(feature = "cli")]
mod real;
mod rig;
mod stories;
mod traces;
