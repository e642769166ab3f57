//! Crash-consistency tests for everything that writes files.
//!
//! A storage engine runs over a [`CrashFs`], a file system in memory that records every operation.
//! A [`CrashTest`] then asks for *every* point of that record what a disk may hold after a crash
//! there, opens the engine on each of these images, and compares what it finds with what was
//! acknowledged before the crash.
//!
//! ```
//! use std::io;
//! use stormglass_crash_test::{CrashFs, CrashTest, Profile, models};
//!
//! // An engine: one file that is replaced as a whole.
//! fn put(fs: &CrashFs, value: u64) -> io::Result<()> {
//!     let file = fs.create("value.new")?;
//!     file.write_at(0, &value.to_le_bytes())?;
//!     file.sync_all()?;
//!     fs.rename("value.new", "value")?;
//!     fs.sync_dir("")
//! }
//! fn get(fs: &CrashFs) -> io::Result<u64> {
//!     let bytes = fs.read("value").unwrap_or_else(|_| vec![0; 8]);
//!     Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| io::ErrorKind::InvalidData)?))
//! }
//!
//! let test = CrashTest::new(|fs: &CrashFs| {
//!     for value in 1..=3 {
//!         fs.commit(value, || put(fs, value))?;
//!     }
//!     Ok(())
//! })
//! .recover(get)
//! .expect(models::states(vec![0, 1, 2, 3]));
//! let report = test.run(Profile::PosixStrict);
//! assert!(report.is_clean(), "{report}");
//! ```
//!
//! # What a crash leaves
//!
//! Data in sectors of 512 bytes, sizes of files and names in directories survive apart from each
//! other, as far as the [`Profile`] allows: the rules of a file system, each with its source. A
//! sync makes durable what the profile says, and nothing else.

mod crash_file;
mod explore;
mod fs;
mod images;
pub mod models;
mod op;
mod pending;
mod profile;
mod reduce;
mod report;
mod run;
pub mod std_fs;
mod tree;

pub use crash_file::ReadCrashFileError;
pub use explore::{CrashTest, EngineError, NeedsExpectation, NeedsRecovery};
pub use fs::{CrashFile, CrashFs};
pub use models::Progress;
pub use op::Op;
pub use profile::Profile;
pub use report::{Finding, Report, Verdict};
pub use tree::Inode;

/// The unit in which bytes reach the disk.
// Disks with larger sectors write several of these at once; a test with smaller ones sees more.
pub const SECTOR_BYTES: usize = 512;
