//! The seed that a worker runs, in a file: what is left to know if the process is killed.
//!
//! A process that runs out of memory is killed without a chance to say anything. So each worker
//! keeps the number of its seed in a file of the directory for temporary files. The next hunt finds
//! the file of a process that no longer exists, names the seed, and removes the file.

#![allow(
    clippy::disallowed_methods,
    reason = "the file is for the person who hunts; no run reads it"
)]

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The beginning of the name of such a file; the number of the process and a counter follow.
const PREFIX: &str = "stormglass-seed-in-progress.";

/// The file of one worker. It is removed when the worker ends.
pub(super) struct SeedInProgress {
    /// `None` if it cannot be written: nothing but a hint is lost.
    file: Option<(File, PathBuf)>,
}

impl SeedInProgress {
    /// A file for a worker whose seeds this command runs again, with `SEED` for the number.
    pub(super) fn new(seed_command: &str) -> SeedInProgress {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let nth = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}.{nth}", std::process::id());
        let path = std::env::temp_dir().join(name);
        SeedInProgress { file: create(&path, seed_command).ok().map(|file| (file, path)) }
    }

    /// The worker begins with this seed.
    pub(super) fn begin(&mut self, seed: u64) {
        let Some((file, _)) = &mut self.file else { return };
        // Of a fixed width, so that nothing of an earlier number is left.
        let written = file.rewind().and_then(|()| file.write_all(format!("{seed:>20}").as_bytes()));
        if written.is_err() {
            self.file = None;
        }
    }
}

impl Drop for SeedInProgress {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.file {
            let _left_behind = fs::remove_file(path);
        }
    }
}

fn create(path: &Path, seed_command: &str) -> io::Result<File> {
    // Never through a name that somebody else has put there.
    let mut file = File::create_new(path)?;
    write!(file, "{:>20}\n{seed_command}\n", "")?;
    Ok(file)
}

/// Names the seeds that processes were running when they were killed, once.
pub(super) fn report_earlier_deaths() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let process = process.and_then(|rest| rest.split_once('.')).map(|(process, _)| process);
        let Some(process) = process.filter(|process| has_ended(process)) else { continue };
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        // Only what could be removed is reported, or every hunt would report it again.
        if fs::remove_file(entry.path()).is_err() {
            continue;
        }
        if let Some((seed, command)) = text.split_once('\n')
            && let Ok(seed) = seed.trim().parse::<u64>()
        {
            let command = command.trim().replace("SEED", &seed.to_string());
            // Not `eprintln!`, whose text the test harness keeps to itself.
            let _closed = writeln!(
                io::stderr(),
                "note: process {process} was killed while it ran seed {seed}, perhaps for want of \
                 memory; run the seed again with\n  {command}"
            );
        }
    }
}

/// Whether there is certainly no such process.
fn has_ended(process: &str) -> bool {
    let processes = Path::new("/proc");
    process.parse::<u32>().is_ok()
        && processes.join("self").exists()
        && !processes.join(process).exists()
}
