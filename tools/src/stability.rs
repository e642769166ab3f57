//! `cargo tools stability FILE SEED`: how many behaviour-preserving changes of the commit node a
//! schedule survives, and how many the seed that it came from.
//!
//! Six numbers: changes after which the schedule still violates its property, and about the same
//! request; the same two for the seed; how many of the first 1,000 seeds violate that property
//! without any change; the number of changes. Then the changes that the schedule does not survive.
//! Useful for a mutant that the schedule shows; `cargo tools mutants --stability` does this for
//! each.

use clap::Args;
use std::path::PathBuf;

use stormglass_commit_sim::Commit;
use stormglass_sim::hunt::{HuntOptions, Progress, hunt_in};
use stormglass_sim::profile::Setup;
use stormglass_sim::protocol::Of;
use stormglass_sim::regress::read;
use stormglass_sim::schedule::Expectation;
use stormglass_tools::edits::{EditResult, Reproduction, try_edits};

use crate::{CliError, Exit, say};

/// Seeds that show how easily a property is violated.
const SEEDS: u64 = 1_000;

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo tools stability regressions/late-vote.schedule 17")]
pub(super) struct Stability {
    /// A schedule (`.schedule`) that names a property
    file: PathBuf,
    /// The seed that it was shrunk from
    seed: u64,
}

/// Prints the six numbers.
///
/// # Errors
/// If the schedule cannot be read, or names no property.
pub(super) fn run(args: &Stability) -> Result<Exit, CliError> {
    std::panic::set_hook(Box::new(|_| {}));
    let (file, seed) = (args.file.as_path(), args.seed);
    let schedule = read(&Of::<Commit>::new(), file)?;
    let (Expectation::NoViolation(Some(property)) | Expectation::Violation(property)) =
        &schedule.expectation
    else {
        return Err(format!("{} names no property", file.display()).into());
    };
    let all = try_edits(Of::<Commit>::new(), &schedule, seed, property);
    let count = |reproduction: &dyn Fn(&EditResult) -> bool| {
        all.iter().filter(|edit_result| reproduction(edit_result)).count()
    };
    let schedules = count(&|edit_result| edit_result.schedule.reproduces());
    let seeds = count(&|edit_result| edit_result.seed.reproduces());
    let same_seeds = count(&|edit_result| edit_result.seed == Reproduction::SameRequest);
    let same_schedules = count(&|edit_result| edit_result.schedule == Reproduction::SameRequest);
    let lost = all.iter().filter(|edit_result| !edit_result.schedule.reproduces());
    let lost: Vec<String> = lost.map(|edit_result| edit_result.edit.to_string()).collect();
    let lost = if lost.is_empty() {
        String::new()
    } else {
        format!(" (not reproduced under: {})", lost.join(", "))
    };
    let any = any_seed(property);
    say!("{schedules} {same_schedules} {seeds} {same_seeds} {any} {}{lost}", all.len())?;
    Ok(Exit::Success)
}

/// How many of the first seeds violate this property: where many do, it says nothing about one seed
/// that it still does.
fn any_seed(property: &str) -> usize {
    let options =
        HuntOptions { setup: Setup::default(), seeds: 0..SEEDS, jobs: 1, keep_going: true };
    let report = hunt_in(&Of::<Commit>::new(), &options, &Progress::default());
    report.failures.iter().filter(|(_, violation)| violation.property == property).count()
}
