//! Crash files: a finding as a text that replays it.
//!
//! ```text
//! stormglass-crash-test 1
//! # lost: item 1 was acknowledged, and there are 0
//! profile ext4
//! left-out 2 3
//! fault sync 1
//! operations 6 90b5c2bd21e4dbb6
//! pending 2
//! lost 0 1
//! torn 1 256
//! garbage
//! ```
//!
//! The order of the lines is free. `left-out` names commits that the workload does not perform,
//! `fault` the sync or write that fails, counted from 0 (`write 3 io`, `no-space` or `short`).
//! `operations` is the number of operations before the crash, and a digest of their names: contents
//! may differ. Of the `pending` parts at the crash those behind `lost` are gone; of the part behind
//! `torn` only so many bytes are new; with `garbage`, bytes that were never written are not zero.
//! `interrupted` is the number of bytes of the last write that a kill has let through.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::fs::{Faults, WriteFault};
use crate::images::Survivors;
use crate::op::Op;
use crate::pending::Disk;
use crate::profile::Profile;
use crate::report::{CrashPoint, Finding};

const FIRST_LINE: &str = "stormglass-crash-test 1";

/// A crash file that was read.
pub(crate) struct CrashFile {
    pub profile: Profile,
    pub at: CrashPoint,
    pub operations: Operations,
    /// Parts that were pending at the crash.
    pub pending: usize,
}

/// The operations before a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operations {
    count: usize,
    digest: u64,
}

/// Why a crash file cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadCrashFileError {
    /// The first line is not that of this version.
    Version {
        /// What it is.
        found: String,
    },
    /// A line that is not understood.
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no line of this name.
    Missing(&'static str),
    /// The workload performs other operations before the crash.
    OtherOperations {
        /// How many of them there are; fewer than in the file if the workload ends earlier.
        there: usize,
        /// How many there are in the file.
        in_file: usize,
    },
    /// Other parts are pending at the crash: the rules of the profile have changed.
    OtherParts {
        /// How many there are.
        there: usize,
        /// How many there are in the file.
        pending: usize,
    },
}

impl std::error::Error for ReadCrashFileError {}

impl std::fmt::Display for ReadCrashFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadCrashFileError::Version { found } => {
                write!(
                    f,
                    "line 1 is {found:?} and not {FIRST_LINE:?}: no crash file of this version"
                )
            }
            ReadCrashFileError::Line { line, reason } => write!(f, "line {line}: {reason}"),
            ReadCrashFileError::Missing(what) => write!(f, "the line `{what}` is missing"),
            ReadCrashFileError::OtherOperations { there, in_file } if there < in_file => write!(
                f,
                "the workload ends after {there} operations, before the crash after {in_file}: the \
                 engine or the workload has changed; run the test again to write the file anew"
            ),
            ReadCrashFileError::OtherOperations { in_file, .. } => write!(
                f,
                "the first {in_file} operations of the workload are not those of the file: the \
                 engine or the workload has changed, or draws on time, threads or randomness; run \
                 the test again to write the file anew"
            ),
            ReadCrashFileError::OtherParts { there, pending } => write!(
                f,
                "{there} parts are pending at the crash, and {pending} in the file: the rules of \
                 the profile have changed; run the test again to write the file anew"
            ),
        }
    }
}

impl Operations {
    fn of(log: &[Op]) -> Operations {
        // FNV-1a, 64 bits (Fowler, Noll, Vo): the same in every release of the standard library.
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for op in log {
            for byte in format!("{op}\n").bytes() {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        Operations { count: log.len(), digest }
    }

    /// # Errors
    /// If these operations are others.
    pub(crate) fn check(self, log: &[Op]) -> Result<(), ReadCrashFileError> {
        if Operations::of(log) == self {
            return Ok(());
        }
        Err(ReadCrashFileError::OtherOperations { there: log.len(), in_file: self.count })
    }
}

/// The text that replays a crash of this workload.
pub(crate) fn write(finding: &Finding, at: &CrashPoint, log: &[Op], disk: Option<&Disk>) -> String {
    // One line, whatever an engine has put into its errors.
    let reason = finding.reason.replace(['\n', '\r'], " ");
    let mut lines = vec![FIRST_LINE.to_string(), format!("# {reason}")];
    lines.push(format!("profile {}", finding.profile));
    if !at.left_out.is_empty() {
        lines.push(format!("left-out {}", numbers(&at.left_out)));
    }
    match (at.faults.sync, at.faults.write) {
        (Some(sync), _) => lines.push(format!("fault sync {sync}")),
        (None, Some((write, fault))) => {
            lines.push(format!("fault write {write} {}", name_of(fault)));
        }
        (None, None) => {}
    }
    let Operations { count, digest } = Operations::of(&log[..at.point]);
    lines.push(format!("operations {count} {digest:016x}"));
    lines.push(format!("pending {}", disk.map_or(0, |disk| disk.pending().len())));
    let survivors = &at.survivors;
    match survivors.torn {
        Some((_, bytes)) if survivors.interrupts_write() => {
            lines.push(format!("interrupted {bytes}"));
        }
        Some((part, bytes)) => lines.push(format!("torn {part} {bytes}")),
        None => {}
    }
    let lost = (0..survivors.keep.len()).filter(|part| !survivors.keep[*part]);
    let lost: BTreeSet<u64> = lost.map(|part| part as u64).collect();
    if !lost.is_empty() {
        lines.push(format!("lost {}", numbers(&lost)));
    }
    if survivors.garbage {
        lines.push("garbage".to_string());
    }
    lines.join("\n") + "\n"
}

fn numbers(numbers: &BTreeSet<u64>) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

fn name_of(fault: WriteFault) -> &'static str {
    match fault {
        WriteFault::Io => "io",
        WriteFault::NoSpace => "no-space",
        WriteFault::Short => "short",
    }
}

/// The lines that were read so far.
#[derive(Default)]
struct Lines {
    profile: Option<Profile>,
    left_out: BTreeSet<u64>,
    faults: Faults,
    operations: Option<Operations>,
    pending: Option<usize>,
    torn: Option<(usize, usize)>,
    interrupted: Option<usize>,
    lost: Vec<usize>,
    garbage: bool,
}

impl CrashFile {
    /// # Errors
    /// If the text is no crash file of this version.
    pub(crate) fn read(text: &str) -> Result<CrashFile, ReadCrashFileError> {
        let first = text.lines().next().unwrap_or_default().trim_end();
        if first != FIRST_LINE {
            return Err(ReadCrashFileError::Version { found: first.chars().take(60).collect() });
        }
        let mut lines = Lines::default();
        for (index, line) in text.lines().enumerate().skip(1) {
            lines
                .read(line.trim())
                .map_err(|reason| ReadCrashFileError::Line { line: index + 1, reason })?;
        }
        lines.finish()
    }
}

impl Lines {
    fn read(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            ["profile", name] => self.profile = Some(profile(name)?),
            ["left-out", ref commits @ ..] => self.left_out = all(commits)?.into_iter().collect(),
            ["fault", "sync", sync] => self.faults.sync = Some(number(sync)?),
            ["fault", "write", write, fault] => {
                let known = WriteFault::ALL.into_iter().find(|known| name_of(*known) == fault);
                let fault = known.ok_or_else(|| {
                    format!("a write fails with io, no-space or short, not {fault:?}")
                })?;
                self.faults.write = Some((number(write)?, fault));
            }
            ["operations", count, digest] => {
                let digest = u64::from_str_radix(digest, 16)
                    .map_err(|_| format!("{digest:?} is no digest: 16 hexadecimal digits"))?;
                self.operations = Some(Operations { count: number(count)?, digest });
            }
            ["pending", parts] => self.pending = Some(number(parts)?),
            ["torn", part, bytes] => self.torn = Some((number(part)?, number(bytes)?)),
            ["interrupted", bytes] => self.interrupted = Some(number(bytes)?),
            ["lost", ref parts @ ..] => self.lost = all(parts)?,
            ["garbage"] => self.garbage = true,
            _ => return Err(format!("not understood: {line:?}")),
        }
        Ok(())
    }

    fn finish(self) -> Result<CrashFile, ReadCrashFileError> {
        let profile = self.profile.ok_or(ReadCrashFileError::Missing("profile NAME"))?;
        let operations =
            self.operations.ok_or(ReadCrashFileError::Missing("operations COUNT DIGEST"))?;
        let pending = self.pending.ok_or(ReadCrashFileError::Missing("pending COUNT"))?;
        let mut keep = vec![true; pending];
        let named = self.lost.iter().copied().chain(self.torn.map(|(part, _)| part));
        if let Some(part) = named.max().filter(|part| *part >= pending) {
            return Err(ReadCrashFileError::OtherParts { there: part + 1, pending });
        }
        for part in self.lost {
            keep[part] = false;
        }
        let survivors = match self.interrupted {
            Some(bytes) => Survivors { keep: Vec::new(), torn: Some((0, bytes)), garbage: false },
            None => Survivors { keep, torn: self.torn, garbage: self.garbage },
        };
        let Lines { faults, left_out, .. } = self;
        let at = CrashPoint { point: operations.count, survivors, faults, left_out };
        Ok(CrashFile { profile, at, operations, pending })
    }
}

fn profile(name: &str) -> Result<Profile, String> {
    let known = Profile::ALL.into_iter().find(|profile| profile.to_string() == name);
    known.ok_or_else(|| {
        let names: Vec<_> = Profile::ALL.iter().map(ToString::to_string).collect();
        format!("no profile {name:?}: {}", names.join(", "))
    })
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is not a number"))
}

fn all<T: FromStr>(words: &[&str]) -> Result<Vec<T>, String> {
    words.iter().map(|word| number(word)).collect()
}
