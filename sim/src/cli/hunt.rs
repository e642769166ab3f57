//! The command `hunt`: many seeds on all threads, until one violates a property.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a progress bar and a time limit need the wall clock"
)]

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::Hunt;
use super::say::say;
use super::shrink::{self, SavedSchedule};
use super::{Exit, replay_line, usage};
use crate::hunt::{HuntOptions, HuntReport, Progress, hunt};
use crate::profile::{Profile, Setup};
use crate::protocol::Protocol;
use crate::tally::Rule;

// Enough for a first look; `--seeds` and `--seconds` ask for more.
const SEEDS: u64 = 10_000;
/// A default hunt of this many seeds must raise every `sometimes` counter.
// In fewer seeds a rare event may be missing by chance.
const VACUOUS_SEEDS: u64 = 100_000;
/// The greatest number of failing seeds that are listed.
const LISTED: usize = 20;

/// Hunts, shows the progress, and reports.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Hunt) -> Exit {
    // With a time limit alone, the clock ends the hunt.
    let endless = if args.seconds.is_some() { u64::MAX - args.first_seed } else { SEEDS };
    let count = args.seeds.map_or(endless, u64::from);
    let end = match usage::last_seed(args.first_seed, count) {
        Ok(end) => end,
        Err(exit) => return exit,
    };
    let jobs = match args.jobs {
        Some(jobs) => usize::from(jobs),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let options = HuntOptions {
        setup: args.run_args.setup(),
        seeds: args.first_seed..end,
        jobs,
        keep_going: args.keep_going,
    };
    let progress = Arc::new(Progress::default());
    let interrupted = Arc::new(AtomicBool::new(false));
    let on_interrupt = (Arc::clone(&progress), Arc::clone(&interrupted));
    // Without a handler Ctrl-C ends the process, which does no harm.
    let _handler = ctrlc::set_handler(move || {
        on_interrupt.0.stop.store(true, Ordering::Relaxed);
        on_interrupt.1.store(true, Ordering::Relaxed);
    });
    let started = Instant::now();
    let hunt_report = hunt_with_progress(protocol, args, &options, &progress, started);
    let wall = started.elapsed();
    // Before the shrink: Ctrl-C during a shrink does not make the hunt an interrupted one.
    let status = status(args, &hunt_report, &options, interrupted.load(Ordering::Relaxed));
    let saved = shrink_and_save(protocol, args, &hunt_report, &interrupted);
    let (saved, exit) = saved.map_or_else(|exit| (None, Some(exit)), |saved| (saved, None));
    if args.json {
        report_json(protocol, args, &hunt_report, saved.as_ref(), wall, &status)
    } else {
        report(&hunt_report, wall, &status)
    }
    exit.unwrap_or_else(|| {
        exit_code(protocol, args, &hunt_report, saved.as_ref(), interrupted.load(Ordering::Relaxed))
    })
}

/// The state of a hunt in a word or two.
fn status(
    args: &Hunt,
    hunt_report: &HuntReport,
    options: &HuntOptions,
    interrupted: bool,
) -> String {
    let verdict = if hunt_report.failures.is_empty() { "clean" } else { "VIOLATED" };
    if interrupted {
        let all = match (args.seeds, args.seconds) {
            (None, Some(seconds)) => format!("{seconds} s"),
            _ => (options.seeds.end - options.seeds.start).to_string(),
        };
        format!("{verdict} so far, interrupted ({all} requested)")
    } else {
        verdict.to_string()
    }
}

/// Shrinks the lowest failing seed and saves its schedule, unless `--no-shrink` is given or
/// the hunt was interrupted.
fn shrink_and_save<P: Protocol>(
    protocol: &P,
    args: &Hunt,
    hunt_report: &HuntReport,
    interrupted: &AtomicBool,
) -> Result<Option<SavedSchedule>, Exit> {
    let Some((seed, _)) = hunt_report.failures.first() else { return Ok(None) };
    if args.no_shrink || interrupted.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let setup = args.run_args.setup();
    // A lying drive is outside the guarantees of the node: its violations are no regressions.
    let default_directory = (setup.profile != Profile::LyingDisk).then(|| Path::new("regressions"));
    shrink::shrink_and_save(
        protocol,
        &setup,
        *seed,
        args.save.as_deref().or(default_directory),
        interrupted,
    )
}

fn hunt_with_progress<P: Protocol>(
    protocol: &P,
    args: &Hunt,
    options: &HuntOptions,
    progress: &Arc<Progress>,
    started: Instant,
) -> HuntReport {
    let limit = args.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let progress_bar = progress_bar(args, options);
    let hunt_report = std::thread::scope(|scope| {
        let hunter = scope.spawn(|| hunt(protocol, options, progress));
        while !hunter.is_finished() {
            // Fifty updates of the progress bar a second, and as fine a limit for `--seconds`.
            std::thread::sleep(Duration::from_millis(20));
            let seeds = progress.seeds.load(Ordering::Relaxed);
            let events = progress.events.load(Ordering::Relaxed);
            // At least 1: the rates below divide by it.
            let ms = started.elapsed().as_millis().max(1) as u64;
            progress_bar.set_position(seeds);
            progress_bar.set_message(format!(
                "{} seeds/s, {} events/s",
                seeds * 1000 / ms,
                events * 1000 / ms
            ));
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                progress.stop.store(true, Ordering::Relaxed);
            }
        }
        hunter.join().expect("the hunter has no reason to panic")
    });
    progress_bar.finish_and_clear();
    hunt_report
}

fn progress_bar(args: &Hunt, options: &HuntOptions) -> ProgressBar {
    if !std::io::stderr().is_terminal() || args.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} {msg}")
        .expect("a fixed template");
    let seeds = if args.seconds.is_some() && args.seeds.is_none() {
        0
    } else {
        options.seeds.end - options.seeds.start
    };
    ProgressBar::new(seeds).with_style(style)
}

fn exit_code<P: Protocol>(
    protocol: &P,
    args: &Hunt,
    hunt_report: &HuntReport,
    saved: Option<&SavedSchedule>,
    interrupted: bool,
) -> Exit {
    if let Some((seed, violation)) = hunt_report.failures.first() {
        if !args.json {
            say!("\nseed {seed} violates {}", violation.property);
            say!("  {}", violation.reason);
            if let Some(saved) = saved {
                print_saved(protocol, saved);
            }
            say!("replay the seed with");
            say!("  {}", replay_line(protocol, *seed, &args.run_args.setup()));
        }
        // Without `--keep-going` the hunt stops soon after the first failure, and others are chance
        // finds.
        if args.keep_going {
            list_other_failures(hunt_report);
        }
        return Exit::of(violation);
    }
    let never: Vec<_> = hunt_report.sometimes.never().collect();
    let is_large_hunt = hunt_report.seeds >= VACUOUS_SEEDS;
    if (args.require_sometimes || is_large_hunt) && !never.is_empty() {
        eprintln!("never observed in {} seeds: {}", hunt_report.seeds, never.join("; "));
        // A hunt without faults sees no power cut; a hunt of everything that sees none has tested
        // nothing.
        if args.require_sometimes || args.run_args.setup() == Setup::default() {
            return Exit::Other;
        }
    }
    if interrupted { Exit::Interrupted } else { Exit::Clean }
}

fn list_other_failures(hunt_report: &HuntReport) {
    for (seed, violation) in hunt_report.failures.iter().skip(1).take(LISTED) {
        eprintln!("also seed {seed}: {violation}");
    }
    let more = hunt_report.failures.len().saturating_sub(1 + LISTED);
    if more > 0 {
        eprintln!("and {more} more");
    }
}

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

fn report(hunt_report: &HuntReport, wall: Duration, status: &str) {
    // A hunt of one seed may take less than a millisecond.
    let ms = wall.as_millis().max(1) as u64;
    let tally = &hunt_report.tally;
    let seeds = if hunt_report.seeds == 1 { "seed" } else { "seeds" };
    say!("{} {seeds} in {}.{:03} s: {status}", hunt_report.seeds, ms / 1000, ms % 1000);
    say!("  {} seeds/s, {} events/s", hunt_report.seeds * 1000 / ms, tally.events * 1000 / ms);
    say!(
        "  {} s of virtual time, {} times real time",
        tally.virtual_time.0 / 1_000_000,
        tally.virtual_time.0 / 1000 / ms
    );
    say!(
        "  {} events, {} messages ({} copies, {} after a crash), {} boots",
        tally.events,
        tally.delivered,
        tally.duplicates,
        tally.arrived_after_crash,
        tally.boots
    );
    say!("faults");
    for (rule, meaning, _) in Rule::TABLE {
        say!("  {:>9}  {rule:<4} {meaning}", tally.hits(rule));
    }
    say!("sometimes");
    for (what, times) in hunt_report.sometimes.rows() {
        let times = if *times == 0 { "never".to_string() } else { times.to_string() };
        say!("  {times:>9}  {what}");
    }
    for (what, measure) in hunt_report.sometimes.peaks() {
        say!("  {measure:>9}  at most: {what}");
    }
    if let Some(print) = hunt_report.fingerprint {
        say!("fingerprint {print:016x}");
    }
}

fn report_json<P: Protocol>(
    protocol: &P,
    args: &Hunt,
    hunt_report: &HuntReport,
    saved: Option<&SavedSchedule>,
    wall: Duration,
    status: &str,
) {
    let rules: serde_json::Map<_, _> = Rule::TABLE
        .iter()
        .map(|(rule, ..)| (rule.to_string(), hunt_report.tally.hits(*rule).into()))
        .collect();
    let sometimes: serde_json::Map<_, _> = hunt_report
        .sometimes
        .rows()
        .iter()
        .map(|(what, times)| ((*what).to_string(), (*times).into()))
        .collect();
    let peaks: serde_json::Map<_, _> = hunt_report
        .sometimes
        .peaks()
        .iter()
        .map(|(what, most)| ((*what).to_string(), (*most).into()))
        .collect();
    let failures: Vec<_> = hunt_report
        .failures
        .iter()
        .take(LISTED)
        .map(|(seed, violation)| serde_json::json!({"seed": seed, "property": violation.property, "reason": violation.reason, "liveness": violation.liveness, "replay": replay_line(protocol, *seed, &args.run_args.setup())}))
        .collect();
    let report = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "seeds": hunt_report.seeds,
        "ended": status,
        "wall_ms": wall.as_millis() as u64,
        "virtual_ms": hunt_report.tally.virtual_time.0 / 1000,
        "events": hunt_report.tally.events,
        "messages": hunt_report.tally.delivered,
        "faults": rules,
        "sometimes": sometimes,
        "at_most": peaks,
        "failed_seeds": hunt_report.failures.len(),
        "failures": failures,
        "schedule": saved.map(|saved| saved.text.as_str()),
        "saved": saved.and_then(|saved| saved.file.as_ref()),
        "fingerprint": hunt_report.fingerprint.map(|print| format!("{print:016x}")),
    });
    say!("{report}");
}
