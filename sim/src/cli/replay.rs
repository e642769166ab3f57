use std::path::Path;

use super::args::{MS_MAX, Replay};
use super::say::{self, say};
use super::source::{self, Source};
use super::{Exit, explain, usage};
use crate::chooser::Chooser;
use crate::oracle::Judge;
use crate::plan::Plan;
use crate::play::{Player, stage};
use crate::profile::Setup;
use crate::protocol::{Scene, WorldOf, drawn_in, world_in};
use crate::schedule::{Claim, Schedule};
use crate::trace::{Filter, Trace};
use crate::world::Ending;

/// Runs one seed or schedule with the trace on, or every schedule of a directory without.
pub(super) fn run<S: Scene>(scene: &S, args: &Replay) -> Result<Exit, Exit> {
    let path = Path::new(&args.what);
    let typed = args.storm.setup() != Setup::default();
    if path.is_dir() {
        let filtered = args.node.is_some() || args.request.is_some();
        let timed = args.from_ms > 0 || args.to_ms < MS_MAX;
        if args.json || args.explain || filtered || timed || typed {
            return Err(usage::refuse(format_args!("a directory is replayed without any flag")));
        }
        return directory(scene, path);
    }
    if path.is_file() && typed {
        source::no_options(&args.what, &args.storm.setup())?;
    }
    if args.explain {
        return explain::run(scene, args);
    }
    match source::of(scene, &args.what)? {
        Source::Seed(seed) => one_seed(scene, args, seed),
        Source::File(schedule) => one_schedule(scene, args, &schedule),
    }
}

fn one_seed<S: Scene>(scene: &S, args: &Replay, seed: u64) -> Result<Exit, Exit> {
    let drawn = drawn_in(scene, &args.storm.setup(), seed);
    let plan = &drawn.plan;
    check_filter(args, &format!("seed {seed}"), plan)?;
    let typed = args.storm.setup().typed();
    let head =
        format!("stormglass {} seed {seed}{typed}\n{plan}\n{}\n", env!("CARGO_PKG_VERSION"), drawn.rates);
    say_first(args, &head);
    let (ending, trace) = traced::<S, _>(world_in(scene, drawn, |chooser| chooser, new_trace(args)));
    let exit = ending.broken.as_ref().map_or(Exit::Clean, Exit::of);
    print(args, &trace, &ending, "");
    Ok(exit)
}

/// Whether what is to be shown exists in this run.
fn check_filter(args: &Replay, of: &str, plan: &Plan) -> Result<(), Exit> {
    if let Some(node) = args.node.filter(|node| node.0 >= plan.nodes) {
        return Err(usage::refuse(format_args!("there is no {node}: {of} has {} nodes", plan.nodes)));
    }
    let clients = plan.clients;
    if let Some(request) = args.request.filter(|request| !(1..=u64::from(clients)).contains(&request.client))
    {
        return Err(usage::refuse(format_args!("there is no {request}: {of} has clients c1 to c{clients}")));
    }
    if args.from_ms > args.to_ms {
        let (from, to) = (args.from_ms, args.to_ms);
        return Err(usage::refuse(format_args!(
            "--from-ms {from} is after --to-ms {to}: nothing would be printed"
        )));
    }
    Ok(())
}

fn one_schedule<S: Scene>(scene: &S, args: &Replay, schedule: &Schedule<S::Order>) -> Result<Exit, Exit> {
    check_filter(args, &args.what, &schedule.plan)?;
    say_first(args, &format!("stormglass {} schedule {}\n", env!("CARGO_PKG_VERSION"), args.what));
    let mut glass = stage(scene, schedule, new_trace(args));
    let ending = glass.run();
    let mut notes = String::new();
    for never in schedule.never(glass.chooser().unused()) {
        notes += &format!("never came up: {never}\n");
    }
    let (exit, note) = judged(&schedule.claim, &ending);
    notes += &note.map(|note| note + "\n").unwrap_or_default();
    print(args, glass.judge().0.text(), &ending, &notes);
    Ok(exit)
}

/// The exit code, and what is to be said if a run did not end as its schedule says.
fn judged(claim: &Claim, ending: &Ending) -> (Exit, Option<String>) {
    match (claim, &ending.broken) {
        (Claim::Breaks(claim), Some(broken)) if broken.claim == claim => (Exit::of(broken), None),
        (Claim::Breaks(claim), _) => (Exit::Other, Some(format!("the schedule says that it breaks {claim}"))),
        (Claim::Holds(_), Some(broken)) => (Exit::of(broken), None),
        (Claim::Holds(_), None) => (Exit::Clean, None),
    }
}

fn new_trace(args: &Replay) -> Trace {
    let span_us = Some((args.from_ms * 1000, args.to_ms.saturating_mul(1000)));
    Trace::new(Filter { node: args.node, request: args.request, span_us }, args.json)
}

fn traced<S: Scene, C: Chooser>(mut glass: WorldOf<S, (Trace, S::Judge), C>) -> (Ending, String)
where
    Trace: Judge<S::Node>,
{
    let ending = glass.run();
    (ending, glass.judge().0.text().to_string())
}

/// What is run, before it runs: should the run never end, this is known.
fn say_first(args: &Replay, head: &str) {
    let text = if args.json {
        let options = head.trim_end();
        let head =
            serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "what": args.what, "options": options});
        format!("{head}\n")
    } else {
        head.to_string()
    };
    say::text(format_args!("{text}"));
}

fn print(args: &Replay, trace: &str, ending: &Ending, notes: &str) {
    if trace.is_empty() {
        eprintln!("no line of the trace is shown: nothing matches what was asked for");
    }
    let verdict = ending.broken.as_ref().map_or("clean".to_string(), |broken| format!("BROKEN {broken}"));
    let print = format!("{:016x}", ending.fingerprint);
    let text = if args.json {
        let notes: Vec<_> = notes.lines().collect();
        let tail = serde_json::json!({"verdict": verdict, "fingerprint": print, "notes": notes});
        format!("{trace}{tail}\n")
    } else {
        format!("{trace}{verdict}\n{notes}fingerprint {print}\n")
    };
    say::text(format_args!("{text}"));
}

/// Every schedule of a directory, a line each; the worst that does not end as it says decides the exit code.
fn directory<S: Scene>(scene: &S, path: &Path) -> Result<Exit, Exit> {
    let (mut player, mut worst, mut count) = (Player::new(scene), Exit::Clean, 0);
    let files = source::files(path)?;
    if files.is_empty() {
        return Err(usage::refuse(format_args!("there is no schedule (`.storm`) in {}", path.display())));
    }
    for file in files {
        count += 1;
        let schedule = match crate::regress::read(scene, &file) {
            Ok(schedule) => schedule,
            Err(why) => {
                say!("FAILED {why}");
                worst = worst.or(Exit::Usage);
                continue;
            }
        };
        let (ending, unreached) = player.play(&schedule);
        let (exit, note) = judged(&schedule.claim, &ending);
        let as_said = matches!(schedule.claim, Claim::Breaks(_)) && note.is_none() || exit == Exit::Clean;
        let verdict = match (&ending.broken, note) {
            (None, None) => "holds".to_string(),
            (_, Some(note)) => note,
            (Some(broken), None) => format!("breaks {broken}"),
        };
        say!("{} {}: {verdict}", if as_said { "ok    " } else { "FAILED" }, file.display());
        for never in schedule.never(unreached) {
            say!("         never came up: {never}");
        }
        if !as_said {
            worst = worst.or(exit);
        }
    }
    let (schedules, clean) =
        if count == 1 { ("schedule", "as it says") } else { ("schedules", "as they say") };
    let verdict = if worst == Exit::Clean { clean } else { "FAILED" };
    say!("{count} {schedules}: {verdict}");
    Ok(worst)
}
