//! The program, as processes on this machine: its output, its exit codes, and the files after a
//! kill.

mod campaign;
mod disk;
mod errors;
mod output;
mod program;
mod transactions;
