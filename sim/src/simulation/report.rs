//! The message of a failing test, with everything that is needed next.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::environment;
use crate::causality::CausalTrace;
use crate::determinism::compare_seed;
use crate::hunt::watchdog::{WorkerHandle, watched};
use crate::hunt::{HuntOptions, HuntReport, Progress, failing_seed_with_small_cluster, hunt};
use crate::named::Named;
use crate::plan::Plan;
use crate::profile::Setup;
use crate::property::{Checker, JudgedUntil, Violation};
use crate::protocol::{Protocol, draw_run, excludes_all_faults};
use crate::regress::{self, ReadScheduleError};
use crate::replay::{record, replay_world};
use crate::schedule::{Expectation, Schedule, plural};
use crate::shrink::{ShrinkControl, ShrinkScope, shrink};
use crate::tally::Rule;
use crate::trace::{Filter, Show, ShownTrace, Trace};
use crate::world::{HARNESS_NEVER_PANICS, RunOutcome};

/// The greatest number of runs of a shrink within a test.
// A failing test waits for them: some seconds for most protocols. The command line takes longer.
const RUNS_MAX: u64 = 20_000;
/// The greatest wall time of a shrink within a test.
// For protocols with long runs; people wait so long for a test that has failed.
pub(super) const SHRINK_TIME_MAX: Duration = Duration::from_secs(30);
/// The lines of a trace in the message of a failing test: more of the end than of the beginning.
const TRACE_HEAD_LINES: usize = 50;
const TRACE_TAIL_LINES: usize = 950;

/// The greatest number of lines of a trace that a person reads as a whole. Before a longer one the
/// causes of the violation are listed.
const TRACE_LINES_WITHOUT_CAUSES: usize = 60;

/// Runs many seeds, or those that the environment requests;
/// [`Simulation::check`](super::Simulation::check) for any protocol.
///
/// # Panics
/// If a property is violated; if a run is not deterministic; if the test would check nothing: there
/// is no property, no request is ever answered, or a `sometimes` counter stays at 0 in all seeds.
#[track_caller]
pub fn check<P: Protocol>(protocol: &P, setup: &Setup, seeds: u64) {
    if let Some(path) = environment::replay() {
        return replay_file(protocol, &path).unwrap_or_else(|reason| panic!("{reason}"));
    }
    let only_seed = environment::seed();
    let range = match only_seed {
        Some(seed) => seed..=seed,
        None => 0..=environment::seeds().unwrap_or(seeds).checked_sub(1).expect("at least one"),
    };
    require_properties(protocol, &draw_run(protocol, setup, *range.start()).plan);
    assert!(
        !excludes_all_faults(protocol, setup),
        "the simulation excludes every fault of profile {}: use `.profile(Profile::Calm)` for runs \
         without faults",
        setup.profile
    );
    // One thread: tests run beside each other already.
    let options = HuntOptions {
        limits: protocol.limits(),
        wall_max: environment::wall_max(),
        seed_command: format!("STORMGLASS_SEED={{seed}} {}", test_command()),
        ..HuntOptions::new(*setup, range)
    };
    let report = hunt(protocol, &options, &Progress::default());
    if let Some(nondeterminism) = &report.nondeterminism {
        panic!("{}: {nondeterminism}", protocol.name());
    }
    if let Some((seed, violation)) = report.failures.first() {
        fail(protocol, setup, *seed, violation);
    }
    assert!(report.seeds > 0, "STORMGLASS_SECONDS was over before the first seed was");
    // A single seed cannot be expected to observe everything.
    if only_seed.is_none() {
        assert!(
            !report.has_no_answers(),
            "{}: in {} no request was ever answered ({} sent), so no property has looked at an \
             answer; does the node reply, and does it get ready?",
            protocol.name(),
            plural(report.seeds, "seed"),
            report.tally.requests
        );
        assert!(
            !report.coverage.has_no_effects(),
            "{}: in {} no node has sent, written, answered or reported anything, so there was \
             nothing to check",
            protocol.name(),
            plural(report.coverage.runs(), "seed")
        );
        let never: Vec<_> = report.sometimes.never().collect();
        assert!(never.is_empty(), "never observed in {} seeds: {}", report.seeds, never.join("; "));
    }
    println!("{}: {}", protocol.name(), verdict(&report));
    for line in coverage_lines(protocol, &report) {
        println!("  {line}");
    }
}

/// What the seeds have shown to the properties, in a few lines.
fn coverage_lines<P: Protocol>(protocol: &P, report: &HuntReport) -> Vec<String> {
    let HuntReport { tally, .. } = report;
    let mut lines = vec![format!(
        "{} requests, {} answers, resent ones included",
        tally.requests, tally.answers
    )];
    let mut faults = Vec::new();
    for (rule, ..) in Rule::TABLE {
        let times = tally.hits(rule);
        if times > 0 {
            faults.push(format!("{rule} {times}"));
        }
    }
    if !faults.is_empty() {
        lines.push(format!("faults: {}", faults.join(", ")));
    }
    lines.extend(report.coverage.lines(protocol.kinds()));
    lines
}

/// How a hunt without a failure ended, with the number of seeds that were run.
fn verdict(report: &HuntReport) -> String {
    let seeds = plural(report.seeds, "seed");
    match &report.first_judged_in_part {
        None => format!("{seeds}, no violation"),
        Some((seed, until)) => format!(
            "{seeds}, no violation, but {} judged only in part (seed {seed} until {until})",
            report.judged_in_part
        ),
    }
}

/// A test without properties would pass whatever the node does.
#[track_caller]
pub(super) fn require_properties<P: Protocol>(protocol: &P, plan: &Plan) {
    assert!(
        protocol.checker(plan).properties() > 0,
        "the simulation has no property: add one with `.property(...)`"
    );
}

/// Panics with the shrunk schedule of a failing seed.
#[track_caller]
fn fail<P: Protocol>(protocol: &P, setup: &Setup, seed: u64, violation: &Violation) -> ! {
    // Not the node's fault: the message is all there is to report.
    assert!(
        violation.property != HARNESS_NEVER_PANICS,
        "seed {seed}: {violation}\nrun it again with\n  STORMGLASS_SEED={seed} {}",
        test_command()
    );
    let limits = protocol.limits();
    let seed_command = format!("STORMGLASS_SEED={{seed}} {}", test_command());
    let message = watched(limits, &seed_command, |watched| {
        explain_failure(protocol, setup, seed, violation, watched)
    });
    panic!("{message}");
}

/// The message about a failing seed, with its shrunk schedule.
fn explain_failure<P: Protocol>(
    protocol: &P,
    setup: &Setup,
    seed: u64,
    violation: &Violation,
    watched: &mut WorkerHandle,
) -> String {
    watched.begin(seed);
    // Otherwise the shrunk schedule would be that of some other run.
    if let Some(nondeterminism) = compare_seed(protocol, setup, seed, || watched.begin(seed)) {
        return format!("seed {seed} violated {violation}\nbut {nondeterminism}");
    }
    // Before the shrink, which may take a while; not `eprintln!`, whose text the test harness keeps
    // until the test ends.
    let _closed = writeln!(
        std::io::stderr(),
        "seed {seed} violates {violation}\nshrinking it (at most {} s)",
        SHRINK_TIME_MAX.as_secs()
    );
    let never = Arc::default();
    let small =
        failing_seed_with_small_cluster(protocol, setup, seed, &never, |seed| watched.begin(seed));
    let seed = small.map_or(seed, |(small, violation)| {
        let line =
            format!("seed {small} has a small cluster and violates {violation}: it is shrunk");
        let _closed = writeln!(std::io::stderr(), "{line}");
        small
    });
    watched.begin(seed);
    let (_, schedule) = record(protocol, setup, seed);
    let control = ShrinkControl {
        runs_max: RUNS_MAX,
        time_max: Some(SHRINK_TIME_MAX),
        progress: Box::new(|_, _| watched.begin(seed)),
        ..ShrinkControl::new(ShrinkScope::of(setup))
    };
    let Some(mut shrunk) = shrink(protocol, &schedule, control) else {
        return format!(
            "seed {seed} violated {violation}\nbut its recorded schedule does not: the run is not \
             deterministic"
        );
    };
    shrunk.schedule.note.push(format!("Found by seed {seed}."));
    let sizes = format!("seed {seed} {}", shrunk.summary());
    let repeat_command = format!("STORMGLASS_SEED={seed} {}", test_command());
    failure_message(protocol, &shrunk.schedule, &shrunk.violation, &sizes, &repeat_command)
}

/// Runs a schedule; [`Simulation::replay`](super::Simulation::replay) for any protocol.
///
/// # Panics
/// If it cannot be read, the run does not end as it expects, or a fault of it is not reached.
#[track_caller]
pub fn replay<P: Protocol>(protocol: &P, text: &str) {
    let schedule = Schedule::read(protocol, text).unwrap_or_else(|error| panic!("{error}"));
    check_expectation(protocol, &schedule).unwrap_or_else(|reason| panic!("{reason}"));
}

/// The trace of a schedule; [`Simulation::trace`](super::Simulation::trace) for any protocol.
///
/// # Panics
/// If the schedule cannot be read, or a fault of it is not reached.
#[track_caller]
pub fn trace<P: Protocol>(protocol: &P, text: &str) -> String {
    let schedule = Schedule::read(protocol, text).unwrap_or_else(|error| panic!("{error}"));
    let trace = Trace::new(Filter::default(), false);
    let mut world = replay_world(protocol, &schedule, trace);
    let (RunOutcome { violation, judged_until, .. }, trace) = Trace::of_run(&mut world);
    let unreached = schedule.unreached_entries(world.chooser().unused());
    all_reached(unreached).unwrap_or_else(|reason| panic!("{reason}"));
    let reason = violation.as_ref().map_or("", |violation| violation.reason.as_str());
    let shown = trace.shown(&Show::default(), reason).text("`replay --all`");
    shown + &verdict_line(violation.as_ref(), judged_until.as_ref()) + "\n"
}

/// How a run has ended, as the last line of its trace.
pub(crate) fn verdict_line(
    violation: Option<&Violation>,
    judged_until: Option<&JudgedUntil>,
) -> String {
    match (violation, judged_until) {
        (Some(violation), _) => format!("VIOLATED {violation}"),
        (None, Some(until)) => format!("no violation, but judged only until {until}"),
        (None, None) => "clean".to_string(),
    }
}

/// Why a schedule in a test fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Unreadable(#[from] ReadScheduleError),
    #[error("expected a violation of {property}, but no property was violated")]
    NotViolated { property: String },
    #[error("no property was violated, but the run is judged only until {0}")]
    JudgedInPart(JudgedUntil),
    #[error(
        "the run ended as expected, but did not reach {} of the schedule:\n  {}",
        count_entries(entries.len()),
        entries.join("\n  ")
    )]
    Unreached { entries: Vec<String> },
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
    require_properties(protocol, &schedule.plan);
    let mut world = replay_world(protocol, schedule, ());
    let RunOutcome { violation, judged_until, .. } = world.run();
    // After the run: an entry counts as reached when its fault has happened.
    let unreached = schedule.unreached_entries(world.chooser().unused());
    match (&schedule.expectation, violation) {
        (Expectation::Violation(property), None) => {
            Err(ReplayError::NotViolated { property: property.clone() })
        }
        (Expectation::Violation(expected), Some(violation)) if violation.property == expected => {
            all_reached(unreached)
        }
        (Expectation::NoViolation(_), None) => match judged_until {
            Some(until) => Err(ReplayError::JudgedInPart(until)),
            None => all_reached(unreached),
        },
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

fn count_entries(count: usize) -> String {
    if count == 1 { "one entry".to_string() } else { format!("{count} entries") }
}

/// A schedule whose faults do not happen tests nothing.
fn all_reached(unreached: Vec<String>) -> Result<(), ReplayError> {
    if unreached.is_empty() { Ok(()) } else { Err(ReplayError::Unreached { entries: unreached }) }
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
    let (outcome, trace) = Trace::of_run(&mut world);
    let ended_at = outcome.tally.virtual_time;
    let text = schedule.write(protocol);
    let states = trace.states_at(&world, violation);
    let Violation { property, reason, .. } = violation;
    let name = protocol.name();
    let headline = match &outcome.violation {
        Some(shown) if shown == violation => format!("{name} violates {property}\n  {reason}"),
        // What this run showed, since its trace follows.
        Some(shown) => format!(
            "{name} is not deterministic: it has violated {violation}\n  and now violates {shown}"
        ),
        None => format!(
            "{name} is not deterministic: it has violated {violation}\n  and now no property"
        ),
    };
    let mut message = format!("{headline}\n\n{sizes}:\n\n");
    text.lines().for_each(|line| writeln!(message, "    {line}").expect("writing to a string"));
    let ms = ended_at.0 / 1000;
    let us = ended_at.0 % 1000;
    let show = Show::all(environment::whole_trace());
    let shown = trace.shown(&show, reason);
    let trace = shorten_trace(&shown, reason) + &shown.left_out("STORMGLASS_TRACE=all");
    let end = match &outcome.violation {
        Some(shown) => format!("VIOLATED  {shown}"),
        None => "END       without a violation".to_string(),
    };
    if shown.lines().len() > TRACE_LINES_WITHOUT_CAUSES {
        let mut world = replay_world(protocol, schedule, CausalTrace::default());
        world.run();
        write!(message, "\n{}", world.checker().0.explain(reason)).expect("writing to a string");
    }
    write!(message, "\ntrace:\n\n{trace}{ms:>5}.{us:03}      {end}\n")
        .expect("writing to a string");
    if schedule.requests.is_empty() {
        message += "\nviolated without any request\n";
    }
    message += &states;
    write!(message, "\nrun it again with\n  {repeat_command}\n").expect("writing to a string");
    message + &save_or_explain(protocol, schedule, &text)
}

/// Of a very long trace the beginning, the end, and between them every line that concerns what the
/// reason names.
fn shorten_trace(trace: &ShownTrace<'_>, reason: &str) -> String {
    let lines = trace.lines();
    let named = Named::of(reason);
    let tail = lines.len().saturating_sub(TRACE_TAIL_LINES);
    let mut text = String::new();
    let mut omitted = 0;
    for (at, line) in lines.iter().enumerate() {
        let is_kept = at < TRACE_HEAD_LINES || at >= tail || line.concerns(&named);
        if !is_kept {
            omitted += 1;
            continue;
        }
        text += &omission(omitted);
        omitted = 0;
        writeln!(text, "{}", line.text()).expect("writing to a string");
    }
    text
}

fn omission(lines: usize) -> String {
    match lines {
        0 => String::new(),
        1 => "... one line is omitted ...\n".to_string(),
        lines => format!("... {lines} lines are omitted ...\n"),
    }
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
