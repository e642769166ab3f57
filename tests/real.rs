//! The program, as processes on this machine: its output, its exit codes, and the files after a
//! kill.

mod disk;
mod errors;
mod event_logs;
mod hanging_disk;
mod history;
mod limits;
mod logging;
mod output;
mod program;
mod transactions;
