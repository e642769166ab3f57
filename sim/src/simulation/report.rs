//! The message of a failing test, with everything that is needed next.

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::environment;
use crate::hunt::{HuntOptions, Progress, hunt};
use crate::profile::Setup;
use crate::property::Violation;
use crate::protocol::Protocol;
use crate::regress::{self, ReadScheduleError};
use crate::replay::{record, replay_world};
use crate::schedule::{Expectation, Schedule};
use crate::shrink::{ScheduleSize, ShrinkControl, shrink};
use crate::trace::{Filter, Trace};
use crate::world::HARNESS_NEVER_PANICS;

/// The greatest number of runs of a shrink within a test.
const RUNS_MAX: u64 = 20_000;

/// Runs many seeds, or those that the environment requests;
/// [`Simulation::check`](super::Simulation::check) for any protocol.
///
/// # Panics
/// If a property is violated, or a `sometimes` counter stays at 0 in all seeds.
#[track_caller]
pub fn check<P: Protocol>(protocol: &P, setup: &Setup, seeds: u64) {
    if let Some(path) = environment::replay() {
        return replay_file(protocol, &path).unwrap_or_else(|reason| panic!("{reason}"));
    }
    let range = match environment::seed() {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..environment::seeds().unwrap_or(seeds),
    };
    // One thread: tests run beside each other already.
    let options = HuntOptions { setup: *setup, seeds: range, jobs: 1, keep_going: false };
    let report = hunt(protocol, &options, &Progress::default());
    let Some((seed, violation)) = report.failures.first() else {
        let never: Vec<_> = report.sometimes.never().collect();
        // A single seed cannot be expected to observe everything.
        let all = environment::seed().is_none();
        assert!(
            never.is_empty() || !all,
            "never observed in {} seeds: {}",
            report.seeds,
            never.join("; ")
        );
        return;
    };
    // Not the node's fault: the message, and that of the panic itself, are all there is to report.
    assert!(violation.property != HARNESS_NEVER_PANICS, "seed {seed}: {violation}");
    let (_, schedule) = record(protocol, setup, *seed);
    let control = ShrinkControl {
        stop: &AtomicBool::new(false),
        runs_max: RUNS_MAX,
        progress: &mut |_, _| {},
    };
    let Some(mut shrunk) = shrink(protocol, &schedule, control) else {
        panic!(
            "seed {seed} violated {violation}\nbut not when it was run again: the run is not deterministic"
        );
    };
    shrunk.schedule.note.push(format!("Found by seed {seed}."));
    let after = ScheduleSize::of(&shrunk.schedule);
    let sizes = format!("seed {seed} ({}) shrunk to {after}", shrunk.before);
    let repeat_command = format!("STORMGLASS_SEED={seed} {}", test_command());
    panic!(
        "{}",
        failure_message(protocol, &shrunk.schedule, &shrunk.violation, &sizes, &repeat_command)
    );
}

/// Runs a schedule; [`Simulation::replay`](super::Simulation::replay) for any protocol.
///
/// # Panics
/// If it cannot be read, or the run does not end as it expects.
#[track_caller]
pub fn replay<P: Protocol>(protocol: &P, text: &str) {
    let schedule = Schedule::read(protocol, text).unwrap_or_else(|error| panic!("{error}"));
    check_expectation(protocol, &schedule).unwrap_or_else(|reason| panic!("{reason}"));
}

/// Why a schedule in a test fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Unreadable(#[from] ReadScheduleError),
    #[error("expected a violation of {property}, but no property was violated")]
    NotViolated { property: String },
    /// The message of a failing test.
    #[error("{0}")]
    Violated(String),
}

/// Runs the schedule in a file. Returns the error if it cannot be read or does not end as it
/// expects.
pub(super) fn replay_file<P: Protocol>(protocol: &P, path: &Path) -> Result<(), ReplayError> {
    check_expectation(protocol, &regress::read(protocol, path)?)
}

fn check_expectation<P: Protocol>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
) -> Result<(), ReplayError> {
    let violation = replay_world(protocol, schedule, ()).run().violation;
    match (&schedule.expectation, violation) {
        (Expectation::NoViolation(_), None) => Ok(()),
        (Expectation::Violation(property), Some(violation)) if violation.property == property => {
            Ok(())
        }
        (Expectation::Violation(property), None) => {
            Err(ReplayError::NotViolated { property: property.clone() })
        }
        (Expectation::NoViolation(_) | Expectation::Violation(_), Some(violation)) => {
            let repeat_command = test_command();
            Err(ReplayError::Violated(failure_message(
                protocol,
                schedule,
                &violation,
                "the run does not meet the expectation of the schedule",
                &repeat_command,
            )))
        }
    }
}

/// The command that runs the current test.
pub(super) fn test_command() -> String {
    match std::thread::current().name() {
        // The test harness names the thread of a test after it.
        Some(name) if name != "main" => format!("cargo test {name}"),
        _ => "cargo test".to_string(),
    }
}

/// The panic message: violation, schedule, trace and commands.
pub(super) fn failure_message<P: Protocol>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
    violation: &Violation,
    sizes: &str,
    repeat_command: &str,
) -> String {
    let mut world = replay_world(protocol, schedule, Trace::new(Filter::default(), false));
    let ended_at = world.run().tally.virtual_time;
    let text = schedule.write(protocol);
    let trace = world.checker().0.text();
    let Violation { property, reason, .. } = violation;
    let mut message =
        format!("{} violates {property}\n  {reason}\n\n{sizes}:\n\n", protocol.name());
    text.lines().for_each(|line| writeln!(message, "    {line}").expect("writing to a string"));
    let ms = ended_at.0 / 1000;
    let us = ended_at.0 % 1000;
    write!(message, "\ntrace:\n\n{trace}{ms:>5}.{us:03}      VIOLATED  {property}: {reason}\n")
        .expect("writing to a string");
    if schedule.requests.is_empty() {
        message += "\nviolated without any request\n";
    }
    write!(message, "\nrun it again with\n  {repeat_command}\n").expect("writing to a string");
    message + &save_or_explain(protocol, schedule, &text)
}

/// Saves the schedule where the environment says, or explains how; and how to run it.
fn save_or_explain<P: Protocol>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
    text: &str,
) -> String {
    let name = format!("{}.schedule", regress::file_stem(schedule));
    let command = test_command();
    let directory = environment::save();
    let path = directory.as_deref().unwrap_or(Path::new("regressions")).join(&name);
    let path = path.display();
    let saved = match directory.as_deref().map(|directory| write(directory, &name, text)) {
        None => format!("save the schedule with\n  STORMGLASS_SAVE=regressions {command}\n"),
        Some(Ok(())) => format!("saved as {path}\n"),
        Some(Err(error)) => return format!("not saved: {path}: {error}\n"),
    };
    let cli_command =
        protocol.command().map(|cli_command| format!("  {cli_command} replay {path} --explain\n"));
    format!(
        "{saved}then replay this schedule with\n  STORMGLASS_REPLAY={path} {command}\n{}\
         or add it as a regression test with\n  .replay(include_str!(\"../regressions/{name}\"))\n",
        cli_command.unwrap_or_default()
    )
}

fn write(directory: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(name), text)
}
