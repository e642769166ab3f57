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
use crate::world::NOTHING_ELSE;

/// Runs at most, for a shrink within a test.
const RUNS_MAX: u64 = 20_000;

/// Hunts so many seeds, or whatever the environment asks for; [`Storm::check`](super::Storm::check) for any scene.
///
/// # Panics
/// If a claim breaks, or all seeds together have not seen what they should.
#[track_caller]
pub fn check<S: Scene>(scene: &S, setup: &Setup, seeds: u64) {
    if let Some(path) = environment::replay() {
        return replayed(scene, &path).unwrap_or_else(|why| panic!("{why}"));
    }
    let range = match environment::seed() {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..environment::seeds().unwrap_or(seeds),
    };
    let quarry = Quarry { setup: *setup, seeds: range, jobs: 1, keep_going: false };
    let catch = hunt_in(scene, &quarry, &Progress::default());
    let Some((seed, broken)) = catch.failures.first() else {
        let never: Vec<_> = catch.sometimes.never().collect();
        let all = environment::seed().is_none();
        assert!(never.is_empty() || !all, "never seen in {} seeds: {}", catch.seeds, never.join("; "));
        return;
    };
    // Nothing of the node's: what there is to know is in the message, and in that of the panic itself.
    assert!(broken.claim != NOTHING_ELSE, "seed {seed}: {broken}");
    let (_, schedule) = record(scene, setup, *seed);
    let watch = Watch { stop: &AtomicBool::new(false), runs_max: RUNS_MAX, progress: &mut |_, _| {} };
    let Some(mut shrunk) = shrink(scene, &schedule, watch) else {
        panic!(
            "seed {seed} has broken {broken}\nand does not when it is run again: something in it is not deterministic"
        );
    };
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
    ends_as_it_says(scene, &schedule).unwrap_or_else(|why| panic!("{why}"));
}

/// Runs the schedule in a file. What is wrong, if it cannot be read or does not end as it says.
pub(super) fn replayed<S: Scene>(scene: &S, path: &Path) -> Result<(), String> {
    ends_as_it_says(scene, &regress::read(scene, path)?)
}

fn ends_as_it_says<S: Scene>(scene: &S, schedule: &Schedule<S::Order>) -> Result<(), String> {
    let broken = stage(scene, schedule, ()).run().broken;
    match (&schedule.claim, broken) {
        (Claim::Holds(_), None) => Ok(()),
        (Claim::Breaks(claim), Some(broken)) if broken.claim == claim => Ok(()),
        (Claim::Breaks(claim), None) => Err(format!("it should break {claim}, and nothing breaks")),
        (Claim::Holds(_) | Claim::Breaks(_), Some(broken)) => {
            let again = test_command();
            Err(failure(scene, schedule, &broken, "the schedule does not end as it says", &again))
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
    let ended_us = glass.run().tally.virtual_us;
    let (text, trace) = (schedule.write(scene), glass.judge().0.text());
    let Broken { claim, why, .. } = broken;
    let mut message = format!("{} breaks {claim}\n  {why}\n\n{sizes}:\n\n", scene.name());
    text.lines().for_each(|line| writeln!(message, "    {line}").expect("writing to a string"));
    let (ms, us) = (ended_us / 1000, ended_us % 1000);
    write!(message, "\nwhat happens:\n\n{trace}{ms:>5}.{us:03}      BREAKS    {claim}: {why}\n")
        .expect("writing to a string");
    if schedule.wishes.is_empty() {
        message += "\nnobody needs to ask for anything: it breaks in what every run does, or ends with\n";
    }
    write!(message, "\nrun it again with\n  {again}\n").expect("writing to a string");
    message + &kept(scene, schedule, &text)
}

/// Writes the schedule where the environment says, or tells how; and how to run what is there.
fn kept<S: Scene>(scene: &S, schedule: &Schedule<S::Order>, text: &str) -> String {
    let (name, command) = (format!("{}.storm", regress::story(schedule)), test_command());
    let directory = environment::save();
    let path = directory.as_deref().unwrap_or(Path::new("regressions")).join(&name);
    let path = path.display();
    let kept = match directory.as_deref().map(|directory| write(directory, &name, text)) {
        None => format!("keep it with\n  STORMGLASS_SAVE=regressions {command}\n"),
        Some(Ok(())) => format!("kept as {path}\n"),
        Some(Err(error)) => return format!("not kept: {path}: {error}\n"),
    };
    let own = scene.command().map(|own| format!("  {own} replay {path} --explain\n"));
    format!(
        "{kept}and then run just this, however the test changes, with\n  STORMGLASS_REPLAY={path} {command}\n{}\
         or for ever, in a test of its own, with\n  .replay(include_str!(\"../regressions/{name}\"))\n",
        own.unwrap_or_default()
    )
}

fn write(directory: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(name), text)
}
