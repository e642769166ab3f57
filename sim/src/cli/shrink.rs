//! The command `shrink`: the smallest schedule that violates the same property.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a report says how long it took"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::args::{Shrink, ShrinkArgs};
use super::progress::ProgressDisplay;
use super::say::{self, say};
use super::source::{self, Source};
use super::{Exit, command, interrupt, usage};
use crate::determinism::{Nondeterminism, compare_schedule, compare_seed};
use crate::hunt::failing_seed_with_small_cluster;
use crate::hunt::watchdog::{WorkerHandle, watched};
use crate::profile::Setup;
use crate::protocol::Protocol;
use crate::regress::file_stem;
use crate::replay::record;
use crate::schedule::{Expectation, Schedule};
use crate::shrink::{ScheduleSize, ShrinkControl, ShrinkReport, ShrinkScope, shrink};

/// The greatest number of runs; a shrink of a default seed takes a few thousand.
// Reached only by schedules that do not become smaller; the best one so far is kept then.
const RUNS_MAX: u64 = 200_000;

/// Shrinks a seed or a file, and prints or writes the result.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Shrink) -> Result<Exit, Exit> {
    let setup = args.run_args.setup(protocol);
    let (schedule, origin) = match source::of(protocol, &args.target)? {
        Source::Seed(seed) => {
            if let Some(nondeterminism) = compare_seed(protocol, &setup, seed, || {}) {
                return Err(report_nondeterminism(&nondeterminism));
            }
            let flags = setup.as_args(&protocol.setup());
            (record(protocol, &setup, seed).1, format!("seed {seed}{flags}"))
        }
        Source::File(schedule) => {
            source::reject_options_for_file(&args.target, &args.run_args)?;
            if let Some(nondeterminism) = compare_schedule(protocol, &schedule, &args.target) {
                return Err(report_nondeterminism(&nondeterminism));
            }
            (*schedule, args.target.clone())
        }
    };
    if let Some(path) = args.output.as_deref().filter(|path| path.exists()) {
        // The existing file may be a schedule written by hand.
        return Err(usage::usage_error(format_args!(
            "{} exists already: -o needs a new file name",
            path.display()
        )));
    }
    let interrupted = interrupt::flag(&Arc::default());
    let scope = scope(args.shrink_args, &setup);
    let again = format!("{} replay {}", command(protocol), args.target);
    let shrunk = watched(protocol.limits(), &again, |watched| {
        let args = args.shrink_args;
        shrink_with_progress(protocol, &schedule, args, scope, &interrupted, || watched.begin(0))
    });
    let Some((mut shrunk, elapsed)) = shrunk else {
        say!("{origin} violates no property: there is nothing to shrink");
        return Ok(Exit::Clean);
    };
    keep_note(&mut shrunk, &schedule, &origin);
    let text = shrunk.schedule.write(protocol);
    let written = args.output.as_deref().map(|path| (path, source::write(path, &text)));
    say!("{origin} violates {}", shrunk.violation.property);
    say!("{}", summary(&shrunk, elapsed));
    match written {
        None => say::text(format_args!("\n{text}")),
        // The result is printed even if it cannot be written.
        Some((_, Err(exit))) => {
            say::text(format_args!("\n{text}"));
            return Err(exit);
        }
        Some((path, Ok(()))) => {
            say!("saved as {}; replay it with\n  {}", path.display(), replay_line(protocol, path));
        }
    }
    Ok(if interrupted.load(Ordering::Relaxed) {
        Exit::Interrupted
    } else {
        Exit::of(&shrunk.violation)
    })
}

/// A file keeps its notes and its kind of expectation; a seed's schedule notes its origin. The
/// property is the one that was violated.
fn keep_note<O>(shrunk: &mut ShrinkReport<O>, from: &Schedule<O>, origin: &str) {
    if from.note.is_empty() {
        shrunk
            .schedule
            .note
            .push(format!("Found by {origin} of version {}.", env!("CARGO_PKG_VERSION")));
    } else {
        // A description that a person wrote is worth more than where the schedule came from.
        shrunk.schedule.note.clone_from(&from.note);
    }
    let property = shrunk.violation.property.to_string();
    shrunk.schedule.expectation = match from.expectation {
        Expectation::Violation(_) => Expectation::Violation(property),
        Expectation::NoViolation(_) => Expectation::NoViolation(Some(property)),
    };
}

/// The shrunk schedule of a node whose runs differ would be that of some other run.
fn report_nondeterminism(nondeterminism: &Nondeterminism) -> Exit {
    say!("{nondeterminism}");
    eprintln!("error: {} is not shrunk, since its runs differ", nondeterminism.origin);
    Exit::Nondeterministic
}

fn scope(args: ShrinkArgs, setup: &Setup) -> ShrinkScope {
    if args.shrink_to_any { ShrinkScope::any() } else { ShrinkScope::of(setup) }
}

/// Shrinks, and shows the progress; `None` if no property is violated.
fn shrink_with_progress<P: Protocol>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
    args: ShrinkArgs,
    scope: ShrinkScope,
    interrupted: &Arc<AtomicBool>,
    mut begin_run: impl FnMut(),
) -> Option<(ShrinkReport<P::Request>, Duration)> {
    begin_run();
    let mut display = ProgressDisplay::new(None);
    let started = Instant::now();
    let control = ShrinkControl {
        stop: Arc::clone(interrupted),
        runs_max: RUNS_MAX,
        time_max: Some(Duration::from_secs(args.shrink_seconds.into())),
        scope,
        progress: Box::new(|runs, size| {
            begin_run();
            display.update(runs, format!("{runs} runs: {size} (Ctrl-C keeps the best so far)"));
        }),
    };
    let shrunk = shrink(protocol, schedule, control);
    display.finish();
    shrunk.map(|shrunk| (shrunk, started.elapsed()))
}

fn summary<O>(shrunk: &ShrinkReport<O>, elapsed: Duration) -> String {
    let after = ScheduleSize::of(&shrunk.schedule);
    let minimal = if shrunk.one_minimal {
        "every entry is needed"
    } else {
        "stopped early: some entries may not be needed"
    };
    let cause = if shrunk.same_cause {
        String::new()
    } else {
        format!("  perhaps another cause; before: {}\n", shrunk.original.reason)
    };
    format!(
        "  before  {}\n  after   {after}\n{cause}  {minimal}; {}\n  {} runs in {}.{:03} s",
        shrunk.before,
        shrunk.minimum,
        shrunk.runs,
        elapsed.as_secs(),
        elapsed.subsec_millis()
    )
}

/// Where a hunt saved its shrunk schedule.
pub(super) struct SavedSchedule {
    pub file: Option<PathBuf>,
    pub text: String,
    pub summary: String,
}

/// Shrinks the seed that a hunt has found, or one after it with a small cluster, and saves the
/// schedule in the directory `save`.
pub(super) fn shrink_and_save<P: Protocol>(
    protocol: &P,
    setup: &Setup,
    seed: u64,
    save: Option<&Path>,
    args: ShrinkArgs,
    interrupted: &Arc<AtomicBool>,
    watched: &mut WorkerHandle,
) -> Result<SavedSchedule, Exit> {
    let small = failing_seed_with_small_cluster(protocol, setup, seed, interrupted, |seed| {
        watched.begin(seed)
    });
    let seed = small.map_or(seed, |(small, violation)| {
        eprintln!(
            "seed {small} has a small cluster and violates {violation}: it is shrunk instead"
        );
        small
    });
    watched.begin(seed);
    let (_, schedule) = record(protocol, setup, seed);
    let scope = scope(args, setup);
    let shrunk = shrink_with_progress(protocol, &schedule, args, scope, interrupted, || {
        watched.begin(seed);
    });
    let flags = setup.as_args(&protocol.setup());
    let Some((mut shrunk, elapsed)) = shrunk else {
        eprintln!(
            "error: seed {seed} does not fail again when it is recorded: it is not deterministic; \
             see\n  {} check-determinism --first-seed {seed} --seeds 1{flags}",
            command(protocol)
        );
        return Err(Exit::Nondeterministic);
    };
    keep_note(&mut shrunk, &schedule, &format!("seed {seed}{flags}"));
    let text = shrunk.schedule.write(protocol);
    let file = save.map(|directory| unused_path(directory, &file_stem(&shrunk.schedule), &text));
    // The result is printed even if it cannot be written.
    let file = file.filter(|file| source::write(file, &text).is_ok());
    Ok(SavedSchedule { file, text, summary: summary(&shrunk, elapsed) })
}

/// `file_stem.schedule`, or `file_stem-2.schedule` if there is another file of that name.
fn unused_path(directory: &Path, file_stem: &str, text: &str) -> PathBuf {
    let mut path = directory.join(format!("{file_stem}.schedule"));
    let mut nth = 2_u32;
    // The same schedule again is no second file.
    while std::fs::read_to_string(&path).is_ok_and(|there| there != text) {
        path = directory.join(format!("{file_stem}-{nth}.schedule"));
        nth += 1;
    }
    path
}

/// The command that runs a file again.
pub(super) fn replay_line<P: Protocol>(protocol: &P, path: &Path) -> String {
    format!("{} replay {}", command(protocol), path.display())
}
