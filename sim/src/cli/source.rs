//! The argument of `replay`, `shrink` and `diff`: a seed or a file.

use std::fs;
use std::path::{Path, PathBuf};

use super::args::RunArgs;
use super::{Exit, usage};
use crate::protocol::Protocol;
use crate::schedule::Schedule;

pub(super) enum Source<O> {
    Seed(u64),
    File(Box<Schedule<O>>),
}

/// A number is a seed, unless there is a file of that name.
pub(super) fn of<P: Protocol>(protocol: &P, target: &str) -> Result<Source<P::Request>, Exit> {
    let path = Path::new(target);
    match target.parse() {
        // A file named `7` was created on purpose; the seed can still be named `07`.
        Ok(seed) if !path.exists() => Ok(Source::Seed(seed)),
        _ if path.exists() => read(protocol, path).map(|schedule| Source::File(Box::new(schedule))),
        _ => Err(usage::usage_error(format_args!(
            "{target} is neither a seed (a number) nor an existing file"
        ))),
    }
}

/// Refuses options that apply to seeds only.
pub(super) fn reject_options_for_file(file: &str, run_args: &RunArgs) -> Result<(), Exit> {
    if !run_args.are_given() {
        return Ok(());
    }
    Err(usage::usage_error(format_args!(
        "{file} is a schedule and has its own settings: --profile, --nodes and --txns apply to seeds only"
    )))
}

/// Reads a schedule; an error is shown at its place.
pub(super) fn read<P: Protocol>(protocol: &P, path: &Path) -> Result<Schedule<P::Request>, Exit> {
    crate::regress::read(protocol, path)
        .map_err(|reason| usage::usage_error(format_args!("{reason}")))
}

/// The schedules of a directory, by name.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, Exit> {
    crate::regress::files(directory).map_err(|reason| usage::usage_error(format_args!("{reason}")))
}

/// Writes a file, and creates its directories.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Exit> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text)).map_err(
        |error| {
            eprintln!("error: cannot write {}: {error}", path.display());
            Exit::Other
        },
    )
}
