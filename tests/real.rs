//! The program, as processes on this machine: its output, its exit codes, and the files after a
//! kill.

mod disk;
mod errors;
mod event_logs;
mod output;
mod program;
mod transactions;
