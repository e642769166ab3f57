//! Regressions: a directory of schedules, each with a name and replayed by a test.

#[cfg(feature = "harness")]
mod harness;

use std::path::{Path, PathBuf};
use std::{fs, io};

#[cfg(feature = "harness")]
pub use harness::harness;

use crate::fault::{BarrierFault, Crash, CrashKind, EffectName, Fault, MessageFault, TimedFault};
use crate::protocol::Protocol;
use crate::schedule::{Expectation, ParseError, Schedule};

/// Why a file is not read as a schedule.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum ReadScheduleError {
    #[error("cannot read {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {error}\n  {line}\n  {caret}", path.display())]
    Parse {
        path: PathBuf,
        /// The first error in the text. Boxed, as results of reading are passed on by value.
        error: Box<ParseError>,
        /// The line with the error; of a very long line only the part around it.
        line: String,
        /// Marks the place in `line`.
        caret: String,
    },
}

/// Reads the schedule in a file.
///
/// # Errors
/// The first error in the file: line, column, what was expected, and the line.
pub fn read<P: Protocol>(
    protocol: &P,
    path: &Path,
) -> Result<Schedule<P::Request>, ReadScheduleError> {
    let path = path.to_path_buf();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(ReadScheduleError::Io { path, error }),
    };
    Schedule::read(protocol, &text).map_err(|error| {
        // The columns of an error do not count a byte order mark, which the reader has skipped.
        let line =
            text.trim_start_matches('\u{feff}').lines().nth(error.line - 1).unwrap_or_default();
        // Of a very long line only the part around that place; and no control characters.
        let from = (error.column - 1).saturating_sub(SHOWN_BEFORE);
        let shown = line.chars().skip(from).take(SHOWN_BEFORE + SHOWN_AFTER);
        let line: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let caret = " ".repeat(error.column - 1 - from) + "^";
        ReadScheduleError::Parse { path, error: Box::new(error), line, caret }
    })
}

/// How many characters of a line are shown before an error in it, and how many after.
// A line of a schedule fits; one that a program generated may be megabytes long.
const SHOWN_BEFORE: usize = 120;
const SHOWN_AFTER: usize = 60;

/// A file name for a schedule, from the property and the first faults:
/// `prepared-before-yes-power-cut-after-send-vote`.
pub fn file_stem<O>(schedule: &Schedule<O>) -> String {
    let property = match &schedule.expectation {
        Expectation::Violation(property) | Expectation::NoViolation(Some(property)) => {
            property.as_str()
        }
        Expectation::NoViolation(None) => "no-violation",
    };
    // Without a property's id, `W10`: ids may be renumbered, and a file keeps its name.
    let words = property.split(' ').filter(|word| !word.chars().any(|c| c.is_ascii_digit()));
    let mut words: Vec<String> = words.map(kebab).collect();
    // Two tell most regressions apart, and the name stays short.
    let fault_texts: Vec<String> = schedule.faults.iter().take(2).map(fault_words).collect();
    words.extend(if fault_texts.is_empty() {
        vec!["without-faults".to_string()]
    } else {
        fault_texts
    });
    words.join("-")
}

/// A fault without ids and numbers.
fn fault_words(fault: &Fault) -> String {
    match fault {
        Fault::Message(at, fault) => {
            let verb = match fault {
                MessageFault::Lose => "lost",
                MessageFault::Duplicate { .. } => "duplicated",
                MessageFault::Delay { .. } => "delayed",
                MessageFault::Flip { .. } => "flipped",
                MessageFault::Evict { .. } => "evicted",
            };
            format!("{verb}-{}", kebab(at.about.kind))
        }
        Fault::Crash(at, crash) => {
            format!("{}-after-{}", crash_verb(crash), effect_words(&at.effect_name))
        }
        Fault::Barrier(at, fault) => {
            let verb = match fault {
                BarrierFault::Fail(_) => "failed",
                BarrierFault::Slow { .. } => "slow",
                BarrierFault::Lie => "lying",
            };
            format!("{verb}-{}", effect_words(&at.effect_name))
        }
        Fault::Write(at, _) => format!("failed-{}", effect_words(&at.effect_name)),
        Fault::Skew { .. } => "wrong-clock".to_string(),
        Fault::At(_, timed_fault) => match timed_fault {
            TimedFault::Cut { .. } => "partition".to_string(),
            TimedFault::Clog { .. } => "clog".to_string(),
            TimedFault::Pause { .. } => "pause".to_string(),
            TimedFault::ClockJump { .. } => "clock-jump".to_string(),
            TimedFault::SecondProcess { .. } => "second-process".to_string(),
            TimedFault::DiskHang { .. } => "disk-hang".to_string(),
            TimedFault::Wake { .. } => "early-wake".to_string(),
            TimedFault::Crash { crash, .. } => crash_verb(crash).to_string(),
        },
    }
}

fn crash_verb(crash: &Crash) -> &'static str {
    match crash.how {
        CrashKind::Kill { .. } => "kill",
        CrashKind::PowerCut(_) => "power-cut",
    }
}

fn effect_words(effect_name: &EffectName) -> String {
    match effect_name {
        EffectName::Send(about, _) => format!("send-{}", kebab(about.kind)),
        EffectName::Append(about) => format!("append-{}", kebab(about.kind)),
        EffectName::Sync(_) => "sync".to_string(),
        EffectName::SyncDir(_) => "sync-dir".to_string(),
        EffectName::Rename(_) => "rename".to_string(),
        EffectName::Remove(_) => "remove".to_string(),
        EffectName::Truncate(_) => "truncate".to_string(),
        EffectName::Reply(_) => "reply".to_string(),
    }
}

/// `DecisionsAgree` as `no-two-decide-differently`.
fn kebab(word: &str) -> String {
    let mut name = String::new();
    for c in word.chars().filter(|c| c.is_alphanumeric() || *c == '-') {
        if c.is_uppercase() && !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        name.extend(c.to_lowercase());
    }
    name
}

/// Why the schedules of a directory are not listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {error}", directory.display())]
#[allow(missing_docs, reason = "the names say it")]
pub struct ListSchedulesError {
    pub directory: PathBuf,
    pub error: io::Error,
}

/// The schedules (`*.schedule`) of a directory, in the order of their names.
///
/// # Errors
/// If the directory cannot be read.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, ListSchedulesError> {
    let paths: Result<Vec<_>, _> = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    let mut paths =
        paths.map_err(|error| ListSchedulesError { directory: directory.to_path_buf(), error })?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "schedule"));
    // Directories are listed in any order, and reports must not depend on it.
    paths.sort();
    Ok(paths)
}
