//! The rules of each profile, one test for each; and small engines with the mistakes that released
//! ones have.

mod engines;
mod replaying;
mod rules;
mod std_fs;
mod write_ahead_log;
