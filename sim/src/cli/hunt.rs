//! The command `hunt`: many seeds on all threads, until one violates a property.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "progress and rates need the wall clock"
)]

mod report;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::args::Hunt;
use super::progress::ProgressDisplay;
use super::say::say;
use super::shrink::{self, SavedSchedule};
use super::{Exit, command, interrupt, usage};
use crate::determinism::{Nondeterminism, compare_seed};
use crate::hunt::watchdog::{WorkerHandle, watched};
use crate::hunt::{HuntOptions, HuntReport, Progress, hunt};
use crate::profile::Profile;
use crate::property::{Checker, Violation};
use crate::protocol::{Protocol, draw_run, excludes_all_faults};
use crate::world::{HARNESS_NEVER_PANICS, panics};
use report::FinishedHunt;

// Enough for a first look; `--seeds` and `--seconds` ask for more.
const SEEDS: u64 = 10_000;
/// A default hunt of this many seeds must raise every `sometimes` counter.
// In fewer seeds a rare event may be missing by chance.
const VACUOUS_SEEDS: u64 = 100_000;

/// Hunts, shows the progress, and reports.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Hunt) -> Exit {
    let options = match options(protocol, args) {
        Ok(options) => options,
        Err(exit) => return exit,
    };
    let progress = Progress::default();
    let interrupted = interrupt::flag(&progress.stop);
    let started = Instant::now();
    let report = hunt_with_progress(protocol, args, &options, &progress, started);
    let wall = started.elapsed();
    // Before the shrink: Ctrl-C during a shrink does not make the hunt an interrupted one.
    let was_interrupted = interrupted.load(Ordering::Relaxed);
    // Before the shrink, which may take a while.
    announce_failure(args, &report, was_interrupted);
    let verdict = watched(options.limits, &options.seed_command, |watched| {
        verdict(protocol, args, &report, &interrupted, watched)
    });
    let exit = verdict.exit(was_interrupted);
    let finished = FinishedHunt {
        protocol,
        args,
        options: &options,
        report,
        wall,
        interrupted: was_interrupted,
        verdict,
    };
    finished.print();
    exit
}

/// The result of a hunt.
enum Verdict {
    Clean,
    /// No violation, but some seeds are judged only in part.
    JudgedInPart,
    /// A seed has failed: its exit code, and its shrunk schedule.
    Violated(Exit, Option<SavedSchedule>),
    /// Two runs of a seed differ, so no failure of it means anything. `None` if the difference
    /// showed in the recording only.
    NotDeterministic(Option<Nondeterminism>),
    /// No violation, but the hunt says little: no seed was finished, for example.
    Inconclusive(&'static str),
}

impl Verdict {
    fn exit(&self, interrupted: bool) -> Exit {
        match self {
            Verdict::Violated(exit, _) => *exit,
            Verdict::NotDeterministic(_) => Exit::Nondeterministic,
            Verdict::Clean | Verdict::JudgedInPart | Verdict::Inconclusive(_) if interrupted => {
                Exit::Interrupted
            }
            Verdict::Inconclusive(_) => Exit::Other,
            Verdict::Clean | Verdict::JudgedInPart => Exit::Clean,
        }
    }
}

fn options<P: Protocol>(protocol: &P, args: &Hunt) -> Result<HuntOptions, Exit> {
    // With a time limit alone, the clock ends the hunt.
    let endless = if args.seconds.is_some() { u64::MAX } else { SEEDS };
    let last = match args.seeds.map(u64::from) {
        Some(seeds) => usage::last_seed(args.first_seed, seeds)?,
        None => args.first_seed.saturating_add(endless - 1),
    };
    let setup = args.run_args.setup(protocol);
    let jobs = match args.jobs {
        Some(jobs) => usize::from(jobs),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    // A panic of the protocol's own code is left to the hunt, which names the seed.
    let properties = panics::catch(|| {
        protocol.checker(&draw_run(protocol, &setup, args.first_seed).plan).properties()
    });
    if properties == Ok(0) {
        let name = protocol.name();
        return Err(usage::usage_error(format_args!("{name} has no property: nothing is checked")));
    }
    if excludes_all_faults(protocol, &setup) {
        let name = protocol.name();
        return Err(usage::usage_error(format_args!(
            "{name} excludes every fault of profile {}; use --profile calm for runs without faults",
            setup.profile
        )));
    }
    let flags = setup.as_args(&protocol.setup());
    Ok(HuntOptions {
        jobs,
        keep_going: args.keep_going,
        limits: args.limit_args.limits(protocol),
        wall_max: args.seconds.map(|seconds| Duration::from_secs(seconds.into())),
        seed_command: format!("{} replay {{seed}}{flags}", command(protocol)),
        ..HuntOptions::new(setup, args.first_seed..=last)
    })
}

fn hunt_with_progress<P: Protocol>(
    protocol: &P,
    args: &Hunt,
    options: &HuntOptions,
    progress: &Progress,
    started: Instant,
) -> HuntReport {
    let mut display = if args.json {
        ProgressDisplay::hidden()
    } else {
        let is_timed = args.seconds.is_some() && args.seeds.is_none();
        ProgressDisplay::new((!is_timed).then_some(report::count(&options.seeds)))
    };
    let report = std::thread::scope(|scope| {
        let hunter = scope.spawn(|| hunt(protocol, options, progress));
        while !hunter.is_finished() {
            // Fifty updates of the progress bar a second.
            std::thread::sleep(Duration::from_millis(20));
            let seeds = progress.seeds.load(Ordering::Relaxed);
            let events = progress.events.load(Ordering::Relaxed);
            // At least 1: the rates below divide by it.
            let ms = started.elapsed().as_millis().max(1) as u64;
            let seeds_per_s = seeds * 1000 / ms;
            let events_per_s = events * 1000 / ms;
            let rates = format!("{seeds} seeds, {seeds_per_s} seeds/s, {events_per_s} events/s");
            display.update(seeds, rates);
        }
        hunter.join().expect("the hunter has no reason to panic")
    });
    display.finish();
    report
}

/// Names the lowest failing seed.
fn announce_failure(args: &Hunt, report: &HuntReport, interrupted: bool) {
    let Some((seed, violation)) = report.failures.first() else { return };
    if report.nondeterminism.is_some() {
        return;
    }
    let text = format!("seed {seed} violates {}\n  {}", violation.property, violation.reason);
    if args.json {
        eprintln!("{text}");
    } else {
        say!("{text}");
    }
    if is_shrunk(args, violation) && !interrupted {
        let seconds = args.shrink_args.shrink_seconds;
        eprintln!("shrinking it (at most {seconds} s; Ctrl-C keeps the best so far)");
    }
}

/// Whether the schedule of this violation is shrunk: not if only the harness is to blame.
fn is_shrunk(args: &Hunt, violation: &Violation) -> bool {
    !args.no_shrink && violation.property != HARNESS_NEVER_PANICS
}

/// The verdict on a hunt. Shrinks the lowest failing seed and saves its schedule, unless
/// `--no-shrink` is given, the hunt was interrupted, or the node is not to blame.
fn verdict<P: Protocol>(
    protocol: &P,
    args: &Hunt,
    report: &HuntReport,
    interrupted: &Arc<AtomicBool>,
    watched: &mut WorkerHandle,
) -> Verdict {
    if let Some(nondeterminism) = &report.nondeterminism {
        return Verdict::NotDeterministic(Some(nondeterminism.clone()));
    }
    let Some((seed, violation)) = report.failures.first() else {
        return verdict_without_failure(protocol, args, report);
    };
    let setup = args.run_args.setup(protocol);
    watched.begin(*seed);
    if violation.property != HARNESS_NEVER_PANICS
        && let Some(nondeterminism) = compare_seed(protocol, &setup, *seed, || watched.begin(*seed))
    {
        return Verdict::NotDeterministic(Some(nondeterminism));
    }
    let exit = Exit::of(violation);
    if !is_shrunk(args, violation) || interrupted.load(Ordering::Relaxed) {
        return Verdict::Violated(exit, None);
    }
    // A lying drive is outside the guarantees of the node: its violations are no regressions.
    let is_supported = setup.profile != Profile::LyingDisk;
    let default_directory = is_supported.then(|| Path::new("regressions"));
    let directory = args.save.as_deref().or(default_directory);
    let saved = shrink::shrink_and_save(
        protocol,
        &setup,
        *seed,
        directory,
        args.shrink_args,
        interrupted,
        watched,
    );
    match saved {
        Ok(saved) => Verdict::Violated(exit, Some(saved)),
        Err(_) => Verdict::NotDeterministic(None),
    }
}

/// The verdict on a hunt in which no seed has failed: one that has looked at nothing is no success.
fn verdict_without_failure<P: Protocol>(protocol: &P, args: &Hunt, report: &HuntReport) -> Verdict {
    if report.seeds == 0 {
        eprintln!("error: no seed was finished in the time that was given; raise --seconds");
        return Verdict::Inconclusive("no seed was finished");
    }
    // One seed may have lost its only request.
    if report.seeds > 1 && report.has_no_answers() {
        eprintln!(
            "error: no request was ever answered ({} sent), so no property has looked at an \
             answer; does the node reply, and does it get ready?",
            report.tally.requests
        );
        return Verdict::Inconclusive("no violation, but no request was ever answered");
    }
    let never: Vec<_> = report.sometimes.never().collect();
    let is_large_hunt = report.seeds >= VACUOUS_SEEDS;
    if (args.require_sometimes || is_large_hunt) && !never.is_empty() {
        eprintln!("never observed in {} seeds: {}", report.seeds, never.join("; "));
        // A hunt without faults sees no power cut; a hunt of everything that sees none has tested
        // nothing.
        if args.require_sometimes || args.run_args.setup(protocol) == protocol.setup() {
            return Verdict::Inconclusive("no violation, but `sometimes` counters stayed at zero");
        }
    }
    if report.judged_in_part > 0 { Verdict::JudgedInPart } else { Verdict::Clean }
}

/// Prints the schedule of a failure.
fn print_saved<P: Protocol>(protocol: &P, saved: &SavedSchedule) {
    say!("shrunk to\n{}\n", saved.summary);
    saved.text.lines().for_each(|line| say!("    {line}"));
    match &saved.file {
        Some(file) => {
            let line = shrink::replay_line(protocol, file);
            say!("\nsaved as {}; replay it with\n  {line}", file.display());
        }
        None => say!("\nnot saved (--save DIR writes the schedule)"),
    }
}
