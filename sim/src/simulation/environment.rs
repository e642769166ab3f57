//! The environment variables that override what a test runs.

#![allow(clippy::disallowed_methods, reason = "the environment selects the seeds of a test")]

use std::env;
use std::path::PathBuf;
use std::time::Duration;

/// A number in an environment variable.
///
/// # Panics
/// If it is no number: a test must not run something else than requested.
fn number(name: &str) -> Option<u64> {
    let text = env::var_os(name)?;
    let text = text.to_string_lossy();
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name} is `{text}`, not a number")))
}

/// The requested seed.
pub(super) fn seed() -> Option<u64> {
    number("STORMGLASS_SEED")
}

/// The requested number of seeds.
///
/// # Panics
/// If it is 0: a test that runs nothing must not pass.
pub(super) fn seeds() -> Option<u64> {
    let seeds = number("STORMGLASS_SEEDS");
    assert!(seeds != Some(0), "STORMGLASS_SEEDS is 0: a check needs at least one seed");
    seeds
}

/// The wall time after which a test ends, in the middle of a run.
///
/// # Panics
/// If it is 0: a test that runs nothing must not pass.
pub(super) fn wall_max() -> Option<Duration> {
    let seconds = number("STORMGLASS_SECONDS");
    assert!(seconds != Some(0), "STORMGLASS_SECONDS is 0: a check needs some time");
    seconds.map(Duration::from_secs)
}

/// The requested schedule.
pub(super) fn replay() -> Option<PathBuf> {
    env::var_os("STORMGLASS_REPLAY").map(PathBuf::from)
}

/// The directory for the schedule of a failure.
pub(super) fn save() -> Option<PathBuf> {
    env::var_os("STORMGLASS_SAVE").map(PathBuf::from)
}

/// Whether the trace of a failure is shown with the routine of the cluster.
///
/// # Panics
/// If it is set to anything but `all`.
pub(super) fn whole_trace() -> bool {
    let Some(text) = env::var_os("STORMGLASS_TRACE") else { return false };
    assert!(text == "all", "STORMGLASS_TRACE is `{}`, not `all`", text.to_string_lossy());
    true
}
