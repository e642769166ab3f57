//! Regressions: a directory of schedules, each run and named.

use std::fs;
use std::path::{Path, PathBuf};

use crate::protocol::Scene;
use crate::schedule::Schedule;

/// Reads the schedule in a file.
///
/// # Errors
/// What is wrong, in words for the person who wrote it: file, line, column, what was expected, and the line.
pub fn read<S: Scene>(scene: &S, path: &Path) -> Result<Schedule<S::Order>, String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    Schedule::read(scene, &text).map_err(|problem| {
        let line = text.lines().nth(problem.line - 1).unwrap_or_default();
        let caret = " ".repeat(problem.column - 1);
        format!("{name}: {problem}\n  {line}\n  {caret}^")
    })
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
