//! Regressions: a directory of schedules, each run and named.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

pub use harness::harness;

use crate::fault::{BarrierFault, Crash, CrashKind, Deed, Fault, MessageFault, Weather};
use crate::protocol::Scene;
use crate::schedule::{Claim, Schedule};

/// Reads the schedule in a file.
///
/// # Errors
/// What is wrong, in words for the person who wrote it: file, line, column, what was expected, and the line.
pub fn read<S: Scene>(scene: &S, path: &Path) -> Result<Schedule<S::Order>, String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    Schedule::read(scene, &text).map_err(|problem| {
        let line = text.trim_start_matches('\u{feff}').lines().nth(problem.line - 1).unwrap_or_default();
        // Of a very long line what is around that place; and nothing that a terminal would obey.
        let from = (problem.column - 1).saturating_sub(BEFORE);
        let shown = line.chars().skip(from).take(BEFORE + BEHIND);
        let line: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let caret = " ".repeat(problem.column - 1 - from);
        format!("{name}: {problem}\n  {line}\n  {caret}^")
    })
}

/// So many characters of a line are shown before a mistake in it, and so many from there on.
const BEFORE: usize = 120;
const BEHIND: usize = 60;

/// A name for a schedule that says what broke and how: `prepared-before-yes-power-cut-after-send-vote`.
pub fn story<O>(schedule: &Schedule<O>) -> String {
    let claim = match &schedule.claim {
        Claim::Breaks(claim) | Claim::Holds(Some(claim)) => claim.as_str(),
        Claim::Holds(None) => "holds",
    };
    // A claim's number, `W10`, is no part of the story.
    let is_number = |word: &&str| word.chars().any(|c| c.is_ascii_digit());
    let mut words: Vec<String> = claim.split(' ').filter(|word| !is_number(word)).map(kebab).collect();
    let said: Vec<String> = schedule.faults.iter().take(2).map(what_happens).collect();
    words.extend(if said.is_empty() { vec!["in-fair-weather".to_string()] } else { said });
    words.join("-")
}

/// A fault without names and numbers.
fn what_happens(fault: &Fault) -> String {
    match fault {
        Fault::Message(at, fault) => {
            let verb = match fault {
                MessageFault::Lose => "lost",
                MessageFault::Duplicate { .. } => "second",
                MessageFault::Delay { .. } => "late",
                MessageFault::Flip { .. } => "flipped",
                MessageFault::Evict { .. } => "crowded",
            };
            format!("{verb}-{}", kebab(at.about.kind))
        }
        Fault::Crash(at, crash) => format!("{}-after-{}", crash_word(crash), deed_word(&at.deed)),
        Fault::Barrier(at, fault) => {
            let verb = match fault {
                BarrierFault::Fail(_) => "failed",
                BarrierFault::Slow { .. } => "slow",
                BarrierFault::Lie => "lying",
            };
            format!("{verb}-{}", deed_word(&at.deed))
        }
        Fault::Write(at, _) => format!("broken-{}", deed_word(&at.deed)),
        Fault::Skew { .. } => "wrong-clock".to_string(),
        Fault::At(_, weather) => match weather {
            Weather::Cut { .. } => "partition".to_string(),
            Weather::Clog { .. } => "clog".to_string(),
            Weather::Pause { .. } => "pause".to_string(),
            Weather::Jump { .. } => "clock-jump".to_string(),
            Weather::Crash { crash, .. } => crash_word(crash).to_string(),
        },
    }
}

fn crash_word(crash: &Crash) -> &'static str {
    match crash.how {
        CrashKind::Kill { .. } => "kill",
        CrashKind::PowerCut(_) => "power-cut",
    }
}

fn deed_word(deed: &Deed) -> String {
    match deed {
        Deed::Send(about, _) => format!("send-{}", kebab(about.kind)),
        Deed::Append(about) => format!("append-{}", kebab(about.kind)),
        Deed::Sync(_) => "sync".to_string(),
        Deed::SyncDir(_) => "sync-dir".to_string(),
        Deed::Rename(_) => "rename".to_string(),
        Deed::Remove(_) => "remove".to_string(),
        Deed::Truncate(_) => "truncate".to_string(),
        Deed::Reply(_) => "reply".to_string(),
    }
}

/// `NoTwoDecideDifferently` as `no-two-decide-differently`.
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

/// The schedules (`*.storm`) of a directory, in the order of their names.
///
/// # Errors
/// If the directory cannot be read.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("cannot read {}: {error}", directory.display());
    let entries = fs::read_dir(directory).map_err(unreadable)?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "storm"));
    paths.sort();
    Ok(paths)
}
