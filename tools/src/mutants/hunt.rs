//! The part of `mutants` that runs in the copy, in which one mutant is switched on: hunts it and
//! shrinks the first violation.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use stormglass_commit_sim::Commit;
use stormglass_sim::hunt::{HuntOptions, Progress, failing_seed_with_small_cluster, hunt};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::replay::record;
use stormglass_sim::shrink::{ScheduleSize, ShrinkControl, ShrinkScope, shrink};

use crate::stability::{Survived, count_survived};
use crate::{CliError, Exit, say};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct HuntMutant {
    /// The profile
    #[arg(long, value_enum, default_value_t = Profile::Swarm)]
    profile: Profile,
    /// Seeds to try
    #[arg(long)]
    seeds: u64,
    /// Count the edits of the node that the schedule survives, too
    #[arg(long)]
    stability: bool,
}

/// A mutant that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Found {
    pub seed: u64,
    /// The time until its violation, the seeds before it included, in microseconds of one core.
    pub hunt_us: u64,
    /// That of the shrunk schedule, which is of a later seed if `seed` has a large cluster.
    pub property: String,
    /// Faults and requests of the seed that is shrunk, and of the shrunk schedule.
    pub before: (usize, usize),
    pub after: (usize, usize),
    /// Runs of the shrink.
    pub runs: u64,
    /// Its time, in milliseconds of one core.
    pub shrink_ms: u64,
    /// Whether every entry of the schedule is needed.
    pub minimal: bool,
    pub schedule: String,
    pub survived: Option<Survived>,
}

/// The greatest number of runs of a shrink.
// A bound on a shrink that does not converge; then `minimal` is false and the table shows it.
const RUNS_MAX: u64 = 200_000;

/// The longest wall time of a shrink.
// A run of 50 nodes takes a hundred times as long as one of three: 200,000 of them take hours. All
// other shrinks end within a few seconds.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Prints a `Found` as JSON, or `null`.
pub(crate) fn run(args: &HuntMutant) -> Result<Exit, CliError> {
    let setup = Setup { profile: args.profile, ..Setup::default() };
    // One job: the tool runs a process for each core.
    let options = HuntOptions::new(setup, 0..=args.seeds - 1);
    let protocol = Commit;
    let began_us = cpu_us();
    let report = hunt(&protocol, &options, &Progress::default());
    let hunt_us = cpu_us() - began_us;
    let Some((seed, violation)) = report.failures.first().cloned() else {
        say!("null")?;
        return Ok(Exit::Success);
    };
    let small = failing_seed_with_small_cluster(&protocol, &setup, seed, &Arc::default(), |_| {});
    // What is hunted is still the first one: `Found::seed`.
    let (shrunk_seed, violation) = small.unwrap_or((seed, violation));
    // Time of this process and not of the wall: other mutants are hunted at the same time.
    let began_us = cpu_us();
    let control = ShrinkControl {
        runs_max: RUNS_MAX,
        time_max: Some(TIME_MAX),
        ..ShrinkControl::new(ShrinkScope::of(&setup))
    };
    let recorded = record(&protocol, &setup, shrunk_seed).1;
    let shrunk = shrink(&protocol, &recorded, control).ok_or("the seed does not fail again")?;
    if shrunk.violation.property != violation.property {
        return Err(format!("shrunk to another property, {}", shrunk.violation.property).into());
    }
    let after = ScheduleSize::of(&shrunk.schedule);
    let shrink_ms = (cpu_us() - began_us) / 1_000;
    let survived =
        args.stability.then(|| count_survived(&shrunk.schedule, shrunk_seed, violation.property));
    let found = Found {
        seed,
        hunt_us,
        property: violation.property.to_owned(),
        before: (shrunk.before.faults, shrunk.before.requests),
        after: (after.faults, after.requests),
        runs: shrunk.runs,
        shrink_ms,
        minimal: shrunk.one_minimal,
        schedule: shrunk.schedule.write(&protocol),
        survived,
    };
    say!("{}", serde_json::to_string(&found)?)?;
    Ok(Exit::Success)
}

/// The time that this process has run, in microseconds of one core.
fn cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// Writes the schedule of a mutant that was found.
pub(super) fn keep(found: &Found, directory: &Path, name: &str) -> Result<(), CliError> {
    std::fs::create_dir_all(directory)?;
    Ok(std::fs::write(directory.join(format!("{name}.schedule")), &found.schedule)?)
}
