//! `cargo tools stability FILE SEED`: after how many behaviour-preserving edits of the commit node
//! a schedule still violates its property, and the seed that it came from. Useful for a mutant that
//! the schedule shows; `cargo tools mutants --stability` does this for each.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

use stormglass_commit_sim::{Commit, Txn};
use stormglass_sim::hunt::{HuntOptions, Progress, hunt};
use stormglass_sim::profile::Setup;
use stormglass_sim::regress::read;
use stormglass_sim::schedule::{Expectation, Schedule};
use stormglass_tools::edits::{Reproduction, try_edits};

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

/// What survives the edits of the node, of which there are `edits`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Survived {
    pub edits: usize,
    /// Edits after which the schedule still violates its property, and those of them in which the
    /// same request does so.
    pub schedules: usize,
    pub same_schedules: usize,
    /// The same for the seed.
    pub seeds: usize,
    pub same_seeds: usize,
    /// How many of the first 1,000 seeds violate the property without any edit: where many do, it
    /// says nothing about one seed that it still does.
    pub failing_seeds: usize,
    /// The edits after which the schedule does not violate its property.
    pub lost: Vec<String>,
}

impl fmt::Display for Survived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Survived { edits, schedules, same_schedules, seeds, same_seeds, .. } = self;
        write!(
            f,
            "after {schedules} of {edits} edits by the schedule, after {seeds} by the seed "
        )?;
        write!(f, "(by the same request: {same_schedules}, {same_seeds}); ")?;
        write!(f, "{} of {SEEDS} seeds violate it", self.failing_seeds)?;
        if !self.lost.is_empty() {
            write!(f, "; not by the schedule after: {}", self.lost.join(", "))?;
        }
        Ok(())
    }
}

/// Counts the edits that the schedule and its seed survive.
pub(super) fn count_survived(schedule: &Schedule<Txn>, seed: u64, property: &str) -> Survived {
    let mut survived = Survived {
        edits: 0,
        schedules: 0,
        same_schedules: 0,
        seeds: 0,
        same_seeds: 0,
        failing_seeds: failing_seeds(property),
        lost: Vec::new(),
    };
    for result in try_edits(Commit, schedule, seed, property) {
        survived.edits += 1;
        survived.schedules += usize::from(result.schedule.reproduces());
        survived.same_schedules += usize::from(result.schedule == Reproduction::SameRequest);
        survived.seeds += usize::from(result.seed.reproduces());
        survived.same_seeds += usize::from(result.seed == Reproduction::SameRequest);
        if !result.schedule.reproduces() {
            survived.lost.push(result.edit.to_string());
        }
    }
    survived
}

/// Prints what survives.
pub(super) fn run(args: &Stability) -> Result<Exit, CliError> {
    std::panic::set_hook(Box::new(|_| {}));
    let schedule = read(&Commit, &args.file)?;
    let (Expectation::NoViolation(Some(property)) | Expectation::Violation(property)) =
        &schedule.expectation
    else {
        return Err(format!("{} names no property", args.file.display()).into());
    };
    say!("still violated: {}", count_survived(&schedule, args.seed, property))?;
    Ok(Exit::Success)
}

fn failing_seeds(property: &str) -> usize {
    let options =
        // One job, as this runs within a hunt that already uses every core.
        HuntOptions { keep_going: true, ..HuntOptions::new(Setup::default(), 0..=SEEDS - 1) };
    let report = hunt(&Commit, &options, &Progress::default());
    report.failures.iter().filter(|(_, violation)| violation.property == property).count()
}
