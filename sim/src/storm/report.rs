//! What a failing test says: enough for somebody who has never seen it to act on.

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::environment;
use crate::hunt::{Progress, Quarry, hunt_in};
use crate::oracle::Broken;
use crate::play::{record, stage};
use crate::profile::Setup;
use crate::protocol::Scene;
use crate::regress;
use crate::schedule::{Claim, Schedule};
use crate::shrink::{Size, Watch, shrink};
use crate::trace::{Filter, Trace};

/// Runs at most, for a shrink within a test.
const RUNS_MAX: u64 = 20_000;

/// Hunts so many seeds, or whatever the environment asks for; [`Storm::check`](super::Storm::check) for any scene.
///
/// # Panics
/// If a claim breaks.
#[track_caller]
pub fn check<S: Scene>(scene: &S, setup: &Setup, seeds: u64) {
    if let Some(path) = environment::replay() {
        let schedule = regress::read(scene, &path).unwrap_or_else(|why| panic!("{why}"));
        return run(scene, &schedule);
    }
    let range = match environment::seed() {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..environment::seeds().unwrap_or(seeds),
    };
    let quarry = Quarry { setup: *setup, seeds: range, jobs: 1, keep_going: false };
    let catch = hunt_in(scene, &quarry, &Progress::default());
    let Some((seed, _)) = catch.failures.first() else { return };
    let (_, schedule) = record(scene, setup, *seed);
    let watch = Watch { stop: &AtomicBool::new(false), runs_max: RUNS_MAX, progress: &mut |_, _| {} };
    let mut shrunk = shrink(scene, &schedule, watch).expect("what broke once breaks again");
    shrunk.schedule.why.push(format!("Found by seed {seed}."));
    let after = Size::of(&shrunk.schedule);
    let sizes = format!("seed {seed} ({}) shrunk to {after}", shrunk.before);
    let again = format!("STORMGLASS_SEED={seed} {}", test_command());
    panic!("{}", failure(scene, &shrunk.schedule, &shrunk.broken, &sizes, &again));
}

/// Runs a schedule; [`Storm::replay`](super::Storm::replay) for any scene.
///
/// # Panics
/// If it cannot be read, or does not end as it says.
#[track_caller]
pub fn replay<S: Scene>(scene: &S, text: &str) {
    let schedule = Schedule::read(scene, text).unwrap_or_else(|problem| panic!("{problem}"));
    run(scene, &schedule);
}

#[track_caller]
fn run<S: Scene>(scene: &S, schedule: &Schedule<S::Order>) {
    let broken = stage(scene, schedule, ()).run().broken;
    match (&schedule.claim, broken) {
        (Claim::Holds(_), None) => {}
        (Claim::Breaks(claim), Some(broken)) if broken.claim == claim => {}
        (Claim::Breaks(claim), None) => panic!("it should break {claim}, and nothing breaks"),
        (Claim::Holds(_) | Claim::Breaks(_), Some(broken)) => {
            let again = test_command();
            panic!("{}", failure(scene, schedule, &broken, "the schedule does not end as it says", &again))
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
pub(super) fn failure<S: Scene>(
    scene: &S,
    schedule: &Schedule<S::Order>,
    broken: &Broken,
    sizes: &str,
    again: &str,
) -> String {
    let mut glass = stage(scene, schedule, Trace::new(Filter::default(), false));
    glass.run();
    let (text, trace) = (schedule.write(scene), glass.judge().0.text());
    let mut message = format!("{} breaks {}\n  {}\n\n{sizes}:\n\n", scene.name(), broken.claim, broken.why);
    text.lines().for_each(|line| writeln!(message, "    {line}").expect("writing to a string"));
    write!(message, "\nwhat happens:\n\n{trace}\nrun it again with\n  {again}\n")
        .expect("writing to a string");
    message += &kept(schedule, &text);
    message
}

/// Writes the schedule where the environment says, or tells how.
fn kept<O>(schedule: &Schedule<O>, text: &str) -> String {
    let name = format!("{}.storm", regress::story(schedule));
    let Some(directory) = environment::save() else {
        let command = test_command();
        return format!(
            "keep it with\n  STORMGLASS_SAVE=regressions {command}\nand from then on, in a test:\n  \
             .replay(include_str!(\"../regressions/{name}\"))\n"
        );
    };
    match write(&directory, &name, text) {
        Ok(()) => format!("kept as {}\n", directory.join(name).display()),
        Err(error) => format!("not kept: {}: {error}\n", directory.display()),
    }
}

fn write(directory: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(name), text)
}
