//! The seed that a thread runs, in a file: what is left to know if the process is killed.
//!
//! A process that runs out of memory is killed without a chance to report anything. So each thread
//! keeps the number of its seed in a file of the directory for temporary files. The next hunt finds
//! the file of a process that no longer exists, names the seed, and removes the file. Only on
//! Linux, where `/proc` tells which processes exist.

#![allow(
    clippy::disallowed_methods,
    reason = "the file is for the person who hunts; no run reads it"
)]

use std::fs::{self, DirEntry, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The beginning of the name of such a file. The processes among which its number is unique (a
/// container may have its own), the number of the process, and a counter follow.
const PREFIX: &str = "stormglass-seed-in-progress.";
/// The place of the seed in a command.
const PLACEHOLDER: &str = "{seed}";

/// The command that runs this seed again. A command without a place for it, of a schedule, stays.
pub(super) fn seed_command_for(seed_command: &str, seed: u64) -> String {
    seed_command.replace(PLACEHOLDER, &seed.to_string())
}

/// The file of one thread. It is removed when the value is dropped.
pub(super) struct SeedInProgress {
    /// `None` if it cannot be written: nothing but a hint is lost.
    file: Option<(File, PathBuf)>,
}

impl SeedInProgress {
    /// A file for a thread whose seeds this command runs again.
    pub(super) fn new(seed_command: &str) -> SeedInProgress {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let nth = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{}{nth}", prefix_of_this_process()));
        SeedInProgress { file: create(&path, seed_command).ok().map(|file| (file, path)) }
    }

    /// A run of this seed begins.
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

/// `pid:[4026531836]` without its punctuation; empty where there is no `/proc`.
fn process_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

fn prefix_of_this_process() -> String {
    format!("{PREFIX}{}.{}.", process_namespace(), std::process::id())
}

fn files_with_prefix(prefix: &str) -> Vec<DirEntry> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).collect()
}

/// Removes the files of this process, before it ends without dropping them.
pub(crate) fn remove_files_of_this_process() {
    for entry in files_with_prefix(&prefix_of_this_process()) {
        let _left_behind = fs::remove_file(entry.path());
    }
}

/// Names the seeds that processes were running when they were killed, once.
pub(super) fn report_earlier_deaths() {
    let prefix = format!("{PREFIX}{}.", process_namespace());
    for entry in files_with_prefix(&prefix) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((process, _)) = name[prefix.len()..].split_once('.') else { continue };
        if !has_ended(process) {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        // Only what could be removed is reported, or every hunt would report it again.
        if fs::remove_file(entry.path()).is_err() {
            continue;
        }
        if let Some((seed, command)) = text.split_once('\n')
            && let Ok(seed) = seed.trim().parse::<u64>()
        {
            let command = seed_command_for(command.trim(), seed);
            // Not `eprintln!`, whose text the test harness keeps to itself.
            let _closed = writeln!(
                io::stderr(),
                "note: process {process} was killed, perhaps out of memory, while it ran seed \
                 {seed}; run the seed again with\n  {command}"
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
