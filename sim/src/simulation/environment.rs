#![allow(clippy::disallowed_methods, reason = "a test may be told which seeds to run")]

use std::env;
use std::path::PathBuf;

/// A number in a variable.
///
/// # Panics
/// If it is none: a test that runs something else than asked for would be worse.
fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name} is `{text}`, not a number")))
}

/// The one seed that is asked for.
pub(super) fn seed() -> Option<u64> {
    number("STORMGLASS_SEED")
}

/// How many seeds are asked for.
///
/// # Panics
/// If it is none: a test that runs nothing must not pass.
pub(super) fn seeds() -> Option<u64> {
    let seeds = number("STORMGLASS_SEEDS");
    assert!(seeds != Some(0), "STORMGLASS_SEEDS is 0: a storm of no seeds shows nothing");
    seeds
}

/// The schedule that is asked for.
pub(super) fn replay() -> Option<PathBuf> {
    env::var_os("STORMGLASS_REPLAY").map(PathBuf::from)
}

/// Where the schedule of a failure goes.
pub(super) fn save() -> Option<PathBuf> {
    env::var_os("STORMGLASS_SAVE").map(PathBuf::from)
}
