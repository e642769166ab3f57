#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a report says how long it took")]

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::args::Shrink;
use super::say::{self, say};
use super::source::{self, Source};
use super::{Exit, command, usage};
use crate::play::record;
use crate::protocol::Scene;
use crate::regress::story;
use crate::schedule::{Claim, Schedule};
use crate::shrink::{Shrunk, Size, Watch, shrink};

/// Runs at most; a shrink of a default seed takes a few thousand.
const RUNS_MAX: u64 = 200_000;

/// Shrinks a seed or a file, and prints or writes what is left.
pub(super) fn run<S: Scene>(scene: &S, args: &Shrink) -> Result<Exit, Exit> {
    let (schedule, origin) = match source::of(scene, &args.what)? {
        Source::Seed(seed) => {
            (record(scene, &args.storm.setup(), seed).1, format!("seed {seed}{}", args.storm.setup().typed()))
        }
        Source::File(schedule) => {
            source::no_options(&args.what, &args.storm.setup())?;
            (*schedule, args.what.clone())
        }
    };
    if let Some(path) = args.output.as_deref().filter(|path| path.exists()) {
        // What is there may be a story told by hand.
        return Err(usage::refuse(format_args!("{} is there already: -o takes a new name", path.display())));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let on_interrupt = Arc::clone(&interrupted);
    // Without a handler Ctrl-C ends the process and the best so far is lost; there is no other harm.
    let _handler = ctrlc::set_handler(move || on_interrupt.store(true, Ordering::Relaxed));
    let Some((shrunk, took)) = watched(scene, &schedule, &interrupted) else {
        say!("{origin} breaks no claim: there is nothing to shrink");
        return Ok(Exit::Clean);
    };
    let mut shrunk = shrunk;
    keep_story(&mut shrunk, &schedule, &origin);
    let text = shrunk.schedule.write(scene);
    let written = args.output.as_deref().map(|path| (path, source::write(path, &text)));
    say!("{origin} breaks {}", shrunk.broken.claim);
    say!("{}", summary(&shrunk, took));
    match written {
        None => say::text(format_args!("\n{text}")),
        // What was found is told even if it cannot be written.
        Some((_, Err(exit))) => {
            say::text(format_args!("\n{text}"));
            return Err(exit);
        }
        Some((path, Ok(()))) => {
            say!("written to {}; run it with\n  {}", path.display(), replay_line(scene, path));
        }
    }
    Ok(if interrupted.load(Ordering::Relaxed) { Exit::Interrupted } else { Exit::of(&shrunk.broken) })
}

/// The story of a file stays, and what it is kept for; a seed's says where it is from. The claim is the one that broke.
fn keep_story<O>(shrunk: &mut Shrunk<O>, from: &Schedule<O>, origin: &str) {
    if from.why.is_empty() {
        shrunk.schedule.why.push(format!("Found by {origin} of version {}.", env!("CARGO_PKG_VERSION")));
    } else {
        shrunk.schedule.why.clone_from(&from.why);
    }
    let claim = shrunk.broken.claim.to_string();
    shrunk.schedule.claim = match from.claim {
        Claim::Breaks(_) => Claim::Breaks(claim),
        Claim::Holds(_) => Claim::Holds(Some(claim)),
    };
}

/// Shrinks, and shows how it goes; `None` if nothing breaks.
fn watched<S: Scene>(
    scene: &S,
    schedule: &Schedule<S::Order>,
    interrupted: &AtomicBool,
) -> Option<(Shrunk<S::Order>, Duration)> {
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let began = Instant::now();
    let mut progress = |runs: u64, size: Size| {
        bar.set_message(format!("{runs} runs: {size} (Ctrl-C keeps the best so far)"));
        bar.tick();
    };
    let shrunk =
        shrink(scene, schedule, Watch { stop: interrupted, runs_max: RUNS_MAX, progress: &mut progress });
    bar.finish_and_clear();
    shrunk.map(|shrunk| (shrunk, began.elapsed()))
}

fn summary<O>(shrunk: &Shrunk<O>, took: Duration) -> String {
    let after = Size::of(&shrunk.schedule);
    let minimal = if shrunk.one_minimal {
        "every entry is needed"
    } else {
        "ended before its time: some entries may not be needed"
    };
    format!(
        "  before  {}\n  after   {after}\n  {minimal}; {}\n  {} runs in {}.{:03} s",
        shrunk.before,
        shrunk.minimum,
        shrunk.runs,
        took.as_secs(),
        took.subsec_millis()
    )
}

/// Where a hunt keeps what it found.
pub(super) struct Kept {
    pub(super) file: Option<PathBuf>,
    pub(super) text: String,
    pub(super) summary: String,
}

/// Shrinks the seed that a hunt has found, and writes it where `save` says.
pub(super) fn keep<S: Scene>(
    scene: &S,
    setup: &crate::profile::Setup,
    seed: u64,
    save: Option<&Path>,
    interrupted: &AtomicBool,
) -> Result<Option<Kept>, Exit> {
    let (_, schedule) = record(scene, setup, seed);
    let Some((mut shrunk, took)) = watched(scene, &schedule, interrupted) else {
        let check = format!("{} check --first-seed {seed} --seeds 1{}", command(scene), setup.typed());
        eprintln!(
            "error: seed {seed} does not break again when it is recorded: it is not deterministic; see\n  {check}"
        );
        return Err(Exit::Undetermined);
    };
    keep_story(&mut shrunk, &schedule, &format!("seed {seed}{}", setup.typed()));
    let text = shrunk.schedule.write(scene);
    let file = save.map(|directory| free_name(directory, &story(&shrunk.schedule), &text));
    // What was found is told even if it cannot be written.
    let file = file.filter(|file| source::write(file, &text).is_ok());
    Ok(Some(Kept { file, text, summary: summary(&shrunk, took) }))
}

/// `story.storm`, or `story-2.storm` if there is another one of that name.
fn free_name(directory: &Path, story: &str, text: &str) -> PathBuf {
    let name = |nth: u32| match nth {
        1 => directory.join(format!("{story}.storm")),
        _ => directory.join(format!("{story}-{nth}.storm")),
    };
    let is_free = |path: &PathBuf| std::fs::read_to_string(path).map_or(true, |there| there == text);
    (1..).map(name).find(is_free).expect("names do not run out")
}

/// The line that runs a file again.
pub(super) fn replay_line<S: Scene>(scene: &S, path: &Path) -> String {
    format!("{} replay {}", command(scene), path.display())
}
