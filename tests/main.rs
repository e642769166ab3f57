//! Storms over the real node: stories, costs, determinism, planted bugs. One binary.

mod builder;
mod clocks;
mod contention;
mod costs;
mod determinism;
mod documented;
mod hunts;
mod liars;
mod litmus;
mod outliving;
mod planted;
mod properties;
#[cfg(feature = "cli")]
mod real;
mod rig;
mod shrinking;
mod stories;
mod traces;
