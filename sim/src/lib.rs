//! The storm.

pub mod disk;
