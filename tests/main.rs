//! Simulations of the real node: scenarios, costs, determinism, mutants. One binary.

mod builder;
mod clocks;
mod contention;
mod costs;
mod data_directory;
mod determinism;
mod documented;
mod explanations;
mod hunts;
mod litmus;
mod mutants;
mod one_node;
mod properties;
#[cfg(feature = "cli")]
mod real;
mod rig;
mod scenarios;
mod schedule_format;
mod schedule_stability;
mod shrinking;
mod tidy;
mod traces;
mod verdicts;
