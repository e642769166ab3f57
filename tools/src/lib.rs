//! Edits of the commit node that preserve its behaviour, for tests of schedules. The tools
//! themselves are in the program of this package.

pub mod edits;
