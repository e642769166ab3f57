//! What a failing test says: enough for somebody who has never seen it to act on.

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::environment;
use crate::hunt::{HuntOptions, Progress, hunt_in};
use crate::profile::Setup;
use crate::property::Violation;
use crate::protocol::Scene;
use crate::regress;
use crate::replay::{record, replay_world};
use crate::schedule::{Expectation, Schedule};
use crate::shrink::{ScheduleSize, ShrinkControl, shrink};
use crate::trace::{Filter, Trace};
use crate::world::HARNESS_NEVER_PANICS;

/// Runs at most, for a shrink within a test.
const RUNS_MAX: u64 = 20_000;

/// Hunts so many seeds, or whatever the environment asks for; [`Simulation::check`](super::Simulation::check) for any scene.
///
/// # Panics
/// If a claim breaks, or all seeds together have not seen what they should.
#[track_caller]
pub fn check<S: Scene>(scene: &S, setup: &Setup, seeds: u64) {
    if let Some(path) = environment::replay() {
        return replay_file(scene, &path).unwrap_or_else(|reason| panic!("{reason}"));
    }
    let range = match environment::seed() {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..environment::seeds().unwrap_or(seeds),
    };
    let options = HuntOptions { setup: *setup, seeds: range, jobs: 1, keep_going: false };
    let report = hunt_in(scene, &options, &Progress::default());
    let Some((seed, violation)) = report.failures.first() else {
        let never: Vec<_> = report.sometimes.never().collect();
        let all = environment::seed().is_none();
        assert!(
            never.is_empty() || !all,
            "never seen in {} seeds: {}",
            report.seeds,
            never.join("; ")
        );
        return;
    };
    // Nothing of the node's: what there is to know is in the message, and in that of the panic itself.
    assert!(violation.property != HARNESS_NEVER_PANICS, "seed {seed}: {violation}");
    let (_, schedule) = record(scene, setup, *seed);
    let control = ShrinkControl {
        stop: &AtomicBool::new(false),
        runs_max: RUNS_MAX,
        progress: &mut |_, _| {},
    };
    let Some(mut shrunk) = shrink(scene, &schedule, control) else {
        panic!(
            "seed {seed} has broken {violation}\nand does not when it is run again: something in it is not deterministic"
        );
    };
    shrunk.schedule.note.push(format!("Found by seed {seed}."));
    let after = ScheduleSize::of(&shrunk.schedule);
    let sizes = format!("seed {seed} ({}) shrunk to {after}", shrunk.before);
    let repeat_command = format!("STORMGLASS_SEED={seed} {}", test_command());
    panic!(
        "{}",
        failure_message(scene, &shrunk.schedule, &shrunk.violation, &sizes, &repeat_command)
    );
}

/// Runs a schedule; [`Simulation::replay`](super::Simulation::replay) for any scene.
///
/// # Panics
/// If it cannot be read, or does not end as it says.
#[track_caller]
pub fn replay<S: Scene>(scene: &S, text: &str) {
    let schedule = Schedule::read(scene, text).unwrap_or_else(|error| panic!("{error}"));
    check_expectation(scene, &schedule).unwrap_or_else(|reason| panic!("{reason}"));
}

/// Runs the schedule in a file. What is wrong, if it cannot be read or does not end as it says.
pub(super) fn replay_file<S: Scene>(scene: &S, path: &Path) -> Result<(), String> {
    check_expectation(scene, &regress::read(scene, path)?)
}

fn check_expectation<S: Scene>(scene: &S, schedule: &Schedule<S::Request>) -> Result<(), String> {
    let violation = replay_world(scene, schedule, ()).run().violation;
    match (&schedule.property, violation) {
        (Expectation::MustHold(_), None) => Ok(()),
        (Expectation::MustViolate(property), Some(violation)) if violation.property == property => {
            Ok(())
        }
        (Expectation::MustViolate(property), None) => {
            Err(format!("it should break {property}, and nothing breaks"))
        }
        (Expectation::MustHold(_) | Expectation::MustViolate(_), Some(violation)) => {
            let repeat_command = test_command();
            Err(failure_message(
                scene,
                schedule,
                &violation,
                "the schedule does not end as it says",
                &repeat_command,
            ))
        }
    }
}

/// The command that runs the present test.
pub(super) fn test_command() -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => format!("cargo test {name}"),
        _ => "cargo test".to_string(),
    }
}

/// The message of a panic.
pub(super) fn failure_message<S: Scene>(
    scene: &S,
    schedule: &Schedule<S::Request>,
    violation: &Violation,
    sizes: &str,
    repeat_command: &str,
) -> String {
    let mut world = replay_world(scene, schedule, Trace::new(Filter::default(), false));
    let ended_us = world.run().tally.virtual_us;
    let (text, trace) = (schedule.write(scene), world.checker().0.text());
    let Violation { property, reason, .. } = violation;
    let mut message = format!("{} breaks {property}\n  {reason}\n\n{sizes}:\n\n", scene.name());
    text.lines().for_each(|line| writeln!(message, "    {line}").expect("writing to a string"));
    let (ms, us) = (ended_us / 1000, ended_us % 1000);
    write!(
        message,
        "\nwhat happens:\n\n{trace}{ms:>5}.{us:03}      BREAKS    {property}: {reason}\n"
    )
    .expect("writing to a string");
    if schedule.requests.is_empty() {
        message +=
            "\nnobody needs to ask for anything: it breaks in what every run does, or ends with\n";
    }
    write!(message, "\nrun it again with\n  {repeat_command}\n").expect("writing to a string");
    message + &save_or_explain(scene, schedule, &text)
}

/// Writes the schedule where the environment says, or tells how; and how to run what is there.
fn save_or_explain<S: Scene>(scene: &S, schedule: &Schedule<S::Request>, text: &str) -> String {
    let (name, command) = (format!("{}.storm", regress::file_stem(schedule)), test_command());
    let directory = environment::save();
    let path = directory.as_deref().unwrap_or(Path::new("regressions")).join(&name);
    let path = path.display();
    let save_or_explain = match directory.as_deref().map(|directory| write(directory, &name, text))
    {
        None => format!("keep it with\n  STORMGLASS_SAVE=regressions {command}\n"),
        Some(Ok(())) => format!("kept as {path}\n"),
        Some(Err(error)) => return format!("not kept: {path}: {error}\n"),
    };
    let cli_command =
        scene.command().map(|cli_command| format!("  {cli_command} replay {path} --explain\n"));
    format!(
        "{save_or_explain}and then run just this, however the test changes, with\n  STORMGLASS_REPLAY={path} {command}\n{}\
         or for ever, in a test of its own, with\n  .replay(include_str!(\"../regressions/{name}\"))\n",
        cli_command.unwrap_or_default()
    )
}

fn write(directory: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(name), text)
}
