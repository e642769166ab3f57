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
use super::shrink::{self, Kept};
use super::{Exit, replay_line, usage};
use crate::hunt::{Catch, Progress, Quarry, hunt_in};
use crate::profile::{Profile, Setup};
use crate::protocol::Scene;
use crate::tally::Rule;

const SEEDS: u64 = 10_000;
/// So many seeds of the default storm must have seen everything that should sometimes happen.
const VACUOUS_SEEDS: u64 = 100_000;
/// Failing seeds that are listed, at most.
const LISTED: usize = 20;

/// Hunts, shows how it goes, and reports.
pub(super) fn run<S: Scene>(scene: &S, args: &Hunt) -> Exit {
    let endless = if args.seconds.is_some() { u64::MAX - args.first_seed } else { SEEDS };
    let count = args.seeds.map_or(endless, u64::from);
    let end = match usage::last_seed(args.first_seed, count) {
        Ok(end) => end,
        Err(exit) => return exit,
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or_else(cores, usize::from);
    let quarry =
        Quarry { setup: args.storm.setup(), seeds: args.first_seed..end, jobs, keep_going: args.keep_going };
    let progress = Arc::new(Progress::default());
    let interrupted = Arc::new(AtomicBool::new(false));
    let on_interrupt = (Arc::clone(&progress), Arc::clone(&interrupted));
    // Without a handler Ctrl-C ends the process, which is no harm.
    let _handler = ctrlc::set_handler(move || {
        on_interrupt.0.stop.store(true, Ordering::Relaxed);
        on_interrupt.1.store(true, Ordering::Relaxed);
    });
    let began = Instant::now();
    let catch = watch(scene, args, &quarry, &progress, began);
    let wall = began.elapsed();
    let ended = ended(args, &catch, &quarry, interrupted.load(Ordering::Relaxed));
    let kept = keep(scene, args, &catch, &interrupted);
    let (kept, exit) = kept.map_or_else(|exit| (None, Some(exit)), |kept| (kept, None));
    if args.json {
        report_json(scene, args, &catch, kept.as_ref(), wall, &ended)
    } else {
        report(&catch, wall, &ended)
    }
    exit.unwrap_or_else(|| exit_of(scene, args, &catch, kept.as_ref(), interrupted.load(Ordering::Relaxed)))
}

/// What there is to say of a hunt in a word or two.
fn ended(args: &Hunt, catch: &Catch, quarry: &Quarry, interrupted: bool) -> String {
    let verdict = if catch.failures.is_empty() { "clean" } else { "BROKEN" };
    if interrupted {
        let all = match (args.seeds, args.seconds) {
            (None, Some(seconds)) => format!("{seconds} s"),
            _ => (quarry.seeds.end - quarry.seeds.start).to_string(),
        };
        format!("{verdict} so far, interrupted ({all} were asked for)")
    } else {
        verdict.to_string()
    }
}

/// Shrinks the lowest failing seed and writes it down, unless nobody wants that.
fn keep<S: Scene>(
    scene: &S,
    args: &Hunt,
    catch: &Catch,
    interrupted: &AtomicBool,
) -> Result<Option<Kept>, Exit> {
    let Some((seed, _)) = catch.failures.first() else { return Ok(None) };
    if args.no_shrink || interrupted.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let setup = args.storm.setup();
    // A drive that lies is outside the promise: what breaks there is no regression.
    let usual = (setup.profile != Profile::Lying).then(|| Path::new("regressions"));
    shrink::keep(scene, &setup, *seed, args.save.as_deref().or(usual), interrupted)
}

fn watch<S: Scene>(
    scene: &S,
    args: &Hunt,
    quarry: &Quarry,
    progress: &Arc<Progress>,
    began: Instant,
) -> Catch {
    let limit = args.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let bar = bar(args, quarry);
    let catch = std::thread::scope(|scope| {
        let hunter = scope.spawn(|| hunt_in(scene, quarry, progress));
        while !hunter.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
            let (seeds, events) =
                (progress.seeds.load(Ordering::Relaxed), progress.events.load(Ordering::Relaxed));
            let ms = began.elapsed().as_millis().max(1) as u64;
            bar.set_position(seeds);
            bar.set_message(format!("{} seeds/s, {} events/s", seeds * 1000 / ms, events * 1000 / ms));
            if limit.is_some_and(|limit| began.elapsed() >= limit) {
                progress.stop.store(true, Ordering::Relaxed);
            }
        }
        hunter.join().expect("the hunter has no reason to panic")
    });
    bar.finish_and_clear();
    catch
}

fn bar(args: &Hunt, quarry: &Quarry) -> ProgressBar {
    if !std::io::stderr().is_terminal() || args.json {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} {msg}").expect("a fixed template");
    let seeds = if args.seconds.is_some() && args.seeds.is_none() {
        0
    } else {
        quarry.seeds.end - quarry.seeds.start
    };
    ProgressBar::new(seeds).with_style(style)
}

fn exit_of<S: Scene>(scene: &S, args: &Hunt, catch: &Catch, kept: Option<&Kept>, interrupted: bool) -> Exit {
    if let Some((seed, broken)) = catch.failures.first() {
        if !args.json {
            say!("\nseed {seed} breaks {}", broken.claim);
            say!("  {}", broken.why);
            if let Some(kept) = kept {
                say_kept(scene, kept);
            }
            say!("replay the seed with");
            say!("  {}", replay_line(scene, *seed, &args.storm.setup()));
        }
        if args.keep_going {
            list_others(catch);
        }
        return Exit::of(broken);
    }
    let never: Vec<_> = catch.sometimes.never().collect();
    let large = catch.seeds >= VACUOUS_SEEDS;
    if (args.require_sometimes || large) && !never.is_empty() {
        eprintln!("never seen in {} seeds: {}", catch.seeds, never.join("; "));
        // A calm hunt sees no power cut; one of everything that sees none has shown nothing.
        if args.require_sometimes || args.storm.setup() == Setup::default() {
            return Exit::Other;
        }
    }
    if interrupted { Exit::Interrupted } else { Exit::Clean }
}

fn list_others(catch: &Catch) {
    for (seed, broken) in catch.failures.iter().skip(1).take(LISTED) {
        eprintln!("also seed {seed}: {broken}");
    }
    let more = catch.failures.len().saturating_sub(1 + LISTED);
    if more > 0 {
        eprintln!("and {more} more");
    }
}

fn say_kept<S: Scene>(scene: &S, kept: &Kept) {
    say!("shrunk to\n{}\n", kept.summary);
    kept.text.lines().for_each(|line| say!("    {line}"));
    match &kept.file {
        Some(file) => {
            let line = shrink::replay_line(scene, file);
            say!("\nkept as {}; run it with\n  {line}", file.display());
        }
        None => say!("\nnot kept in a file (--save DIR writes one)"),
    }
}

fn report(catch: &Catch, wall: Duration, ended: &str) {
    let ms = wall.as_millis().max(1) as u64;
    let tally = &catch.tally;
    let seeds = if catch.seeds == 1 { "seed" } else { "seeds" };
    say!("{} {seeds} in {}.{:03} s: {ended}", catch.seeds, ms / 1000, ms % 1000);
    say!("  {} seeds/s, {} events/s", catch.seeds * 1000 / ms, tally.events * 1000 / ms);
    say!(
        "  {} s of virtual time, {} times the wall's",
        tally.virtual_us / 1_000_000,
        tally.virtual_us / 1000 / ms
    );
    say!(
        "  {} events, {} messages ({} copies, {} late), {} boots",
        tally.events,
        tally.delivered,
        tally.duplicates,
        tally.late,
        tally.boots
    );
    say!("faults");
    for (rule, meaning, _) in Rule::TABLE {
        say!("  {:>9}  {rule:<4} {meaning}", tally.of(rule));
    }
    say!("sometimes");
    for (what, times) in catch.sometimes.rows() {
        let times = if *times == 0 { "never".to_string() } else { times.to_string() };
        say!("  {times:>9}  {what}");
    }
    for (what, measure) in catch.sometimes.peaks() {
        say!("  {measure:>9}  at most: {what}");
    }
    if let Some(print) = catch.fingerprint {
        say!("fingerprint {print:016x}");
    }
}

fn report_json<S: Scene>(
    scene: &S,
    args: &Hunt,
    catch: &Catch,
    kept: Option<&Kept>,
    wall: Duration,
    ended: &str,
) {
    let rules: serde_json::Map<_, _> =
        Rule::TABLE.iter().map(|(rule, ..)| (rule.to_string(), catch.tally.of(*rule).into())).collect();
    let sometimes: serde_json::Map<_, _> =
        catch.sometimes.rows().iter().map(|(what, times)| ((*what).to_string(), (*times).into())).collect();
    let peaks: serde_json::Map<_, _> =
        catch.sometimes.peaks().iter().map(|(what, most)| ((*what).to_string(), (*most).into())).collect();
    let failures: Vec<_> = catch
        .failures
        .iter()
        .take(LISTED)
        .map(|(seed, broken)| serde_json::json!({"seed": seed, "claim": broken.claim, "why": broken.why, "liveness": broken.liveness, "replay": replay_line(scene, *seed, &args.storm.setup())}))
        .collect();
    let report = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "seeds": catch.seeds,
        "ended": ended,
        "wall_ms": wall.as_millis() as u64,
        "virtual_ms": catch.tally.virtual_us / 1000,
        "events": catch.tally.events,
        "messages": catch.tally.delivered,
        "faults": rules,
        "sometimes": sometimes,
        "at_most": peaks,
        "failed_seeds": catch.failures.len(),
        "failures": failures,
        "schedule": kept.map(|kept| kept.text.as_str()),
        "kept": kept.and_then(|kept| kept.file.as_ref()),
        "fingerprint": catch.fingerprint.map(|print| format!("{print:016x}")),
    });
    say!("{report}");
}
