//! The program itself, as processes on this machine: what it says, how it ends, and what a kill leaves.

mod campaign;
mod disk;
mod errors;
mod output;
mod program;
mod transactions;
