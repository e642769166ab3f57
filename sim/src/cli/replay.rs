//! The command `replay`: one seed or schedule with its trace, or a directory of schedules.

use std::path::Path;
use stormglass_node::Micros;

use super::args::{MS_MAX, Replay};
use super::say::{self, say};
use super::source::{self, Source};
use super::{Exit, command, explain, usage};
use crate::chooser::Chooser;
use crate::hunt::watchdog::watched;
use crate::plan::Plan;
use crate::property::Checker;
use crate::protocol::{Protocol, WorldOf, draw_run, world};
use crate::replay::{Replayer, replay_world};
use crate::schedule::{Expectation, Schedule};
use crate::trace::{Filter, Trace};
use crate::workload::ClientId;
use crate::world::RunOutcome;

/// Runs one seed or schedule with the trace on, or every schedule of a directory without.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Replay) -> Result<Exit, Exit> {
    let path = Path::new(&args.target);
    let flags = args.run_args.are_given();
    if path.is_dir() {
        let has_filter = args.node.is_some() || args.request.is_some();
        let has_time_range = args.from_ms > 0 || args.to_ms < MS_MAX;
        if args.json || args.explain || has_filter || has_time_range || flags {
            return Err(usage::usage_error(format_args!("a directory takes no other flags")));
        }
        return replay_directory(protocol, path);
    }
    if path.is_file() && flags {
        source::reject_options_for_file(&args.target, &args.run_args)?;
    }
    if args.explain {
        return explain::run(protocol, args);
    }
    match source::of(protocol, &args.target)? {
        Source::Seed(seed) => replay_seed(protocol, args, seed),
        Source::File(schedule) => replay_schedule(protocol, args, &schedule),
    }
}

fn replay_seed<P: Protocol>(protocol: &P, args: &Replay, seed: u64) -> Result<Exit, Exit> {
    let setup = args.run_args.setup(protocol);
    let drawn = draw_run(protocol, &setup, seed);
    let plan = &drawn.plan;
    check_filter(args, &format!("seed {seed}"), plan)?;
    let flags = setup.as_args(&protocol.setup());
    let head = format!(
        "stormglass {} seed {seed}{flags}\n{plan}\n{}\n",
        env!("CARGO_PKG_VERSION"),
        drawn.rates
    );
    // Before the run: a run that does not end can be identified.
    print_header(args, &head);
    let seed_command = format!("{} replay {{seed}}{flags}", command(protocol));
    let (outcome, trace) = watched(protocol.limits(), &seed_command, |watched| {
        watched.begin(seed);
        traced::<P, _>(world(protocol, drawn, |chooser| chooser, new_trace(args)))
    });
    // A seed has no expectation; only schedules do.
    let exit = outcome.violation.as_ref().map_or(Exit::Clean, Exit::of);
    print(args, &trace, &outcome, "");
    Ok(exit)
}

/// Checks that the selected node, request and time exist in this run.
fn check_filter(args: &Replay, of: &str, plan: &Plan) -> Result<(), Exit> {
    if let Some(node) = args.node.filter(|node| node.0 >= plan.nodes) {
        return Err(usage::usage_error(format_args!(
            "there is no {node}: {of} has {} nodes",
            plan.nodes
        )));
    }
    let clients = plan.clients;
    if let Some(request) = args.request
        && !ClientId::try_from(request.client).is_ok_and(|client| client.is_among(clients))
    {
        return Err(usage::usage_error(format_args!(
            "there is no {request}: {of} has clients c1 to c{clients}"
        )));
    }
    if args.from_ms > args.to_ms {
        return Err(usage::usage_error(format_args!(
            "--from-ms {} is after --to-ms {}: nothing would be printed",
            args.from_ms, args.to_ms
        )));
    }
    Ok(())
}

fn replay_schedule<P: Protocol>(
    protocol: &P,
    args: &Replay,
    schedule: &Schedule<P::Request>,
) -> Result<Exit, Exit> {
    check_filter(args, &args.target, &schedule.plan)?;
    print_header(
        args,
        &format!("stormglass {} schedule {}\n", env!("CARGO_PKG_VERSION"), args.target),
    );
    let mut world = replay_world(protocol, schedule, new_trace(args));
    let file_command = format!("{} replay {}", command(protocol), args.target);
    let outcome = watched(protocol.limits(), &file_command, |watched| {
        watched.begin(0);
        world.run()
    });
    let mut notes = String::new();
    for entry in schedule.unreached_entries(world.chooser().unused()) {
        notes += &format!("not reached: {entry}\n");
    }
    let (mut exit, note) = compare_with_expectation(&schedule.expectation, &outcome);
    notes += &note.map(|note| note + "\n").unwrap_or_default();
    let unreached_faults = schedule.unreached_faults(world.chooser().unused());
    let has_faults = !schedule.faults.is_empty();
    if exit == Exit::Clean && has_faults && unreached_faults.len() == schedule.faults.len() {
        notes += "no fault of the schedule came up: the run tests nothing of it\n";
        exit = Exit::Other;
    }
    print(args, world.checker().0.text(), &outcome, &notes);
    Ok(exit)
}

/// The exit code, and a message if a run did not end as its schedule expects.
fn compare_with_expectation(
    expectation: &Expectation,
    outcome: &RunOutcome,
) -> (Exit, Option<String>) {
    match (expectation, &outcome.violation) {
        (Expectation::Violation(property), Some(violation)) if violation.property == property => {
            (Exit::of(violation), None)
        }
        (Expectation::Violation(property), _) => {
            (Exit::Other, Some(format!("the schedule expects a violation of {property}")))
        }
        (Expectation::NoViolation(_), Some(violation)) => (Exit::of(violation), None),
        (Expectation::NoViolation(_), None) => (Exit::Clean, None),
    }
}

fn new_trace(args: &Replay) -> Trace {
    // Both are at most `MS_MAX`, so neither overflows.
    let span = Some((Micros(args.from_ms * 1000), Micros(args.to_ms.saturating_mul(1000))));
    Trace::new(Filter { node: args.node, request: args.request, span }, args.json)
}

fn traced<P: Protocol, C: Chooser>(
    mut world: WorldOf<P, (Trace, P::Checker), C>,
) -> (RunOutcome, String)
where
    Trace: Checker<P::Node>,
{
    let outcome = world.run();
    (outcome, world.checker().0.text().to_string())
}

/// Prints what is run, before it runs, in case the run does not end.
fn print_header(args: &Replay, head: &str) {
    let text = if args.json {
        let options = head.trim_end();
        let head = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "what": args.target, "options": options});
        format!("{head}\n")
    } else {
        head.to_string()
    };
    say::text(format_args!("{text}"));
}

fn print(args: &Replay, trace: &str, outcome: &RunOutcome, notes: &str) {
    if trace.is_empty() {
        eprintln!("no line of the trace matches the filters");
    }
    let verdict = match (&outcome.violation, &outcome.judged_until) {
        (Some(violation), _) => format!("VIOLATED {violation}"),
        (None, Some(until)) => format!("no violation, but judged only until {until}"),
        (None, None) => "clean".to_string(),
    };
    let print = format!("{:016x}", outcome.fingerprint);
    let text = if args.json {
        let notes: Vec<_> = notes.lines().collect();
        let tail = serde_json::json!({"verdict": verdict, "fingerprint": print, "notes": notes});
        format!("{trace}{tail}\n")
    } else {
        format!("{trace}{verdict}\n{notes}fingerprint {print}\n")
    };
    say::text(format_args!("{text}"));
}

/// Runs every schedule of a directory, with one line each; the worst unexpected result decides the
/// exit code.
fn replay_directory<P: Protocol>(protocol: &P, path: &Path) -> Result<Exit, Exit> {
    let mut replayer = Replayer::new(protocol);
    let mut worst = Exit::Clean;
    let mut count = 0;
    let files = source::files(path)?;
    if files.is_empty() {
        return Err(usage::usage_error(format_args!(
            "there is no schedule (`.schedule`) in {}",
            path.display()
        )));
    }
    for file in files {
        count += 1;
        // A file that cannot be read does not keep the others from being run.
        let schedule = match crate::regress::read(protocol, &file) {
            Ok(schedule) => schedule,
            Err(reason) => {
                say!("FAILED {reason}");
                worst = worst.worse(Exit::Usage);
                continue;
            }
        };
        let (outcome, unreached) = replayer.replay(&schedule);
        let (exit, note) = compare_with_expectation(&schedule.expectation, &outcome);
        let unreached = schedule.unreached_entries(unreached);
        let is_expected_violation =
            matches!(schedule.expectation, Expectation::Violation(_)) && note.is_none();
        let ended_as_expected = is_expected_violation || exit == Exit::Clean;
        // A kept schedule whose faults do not happen, or that is judged only in part, tests nothing
        // any more.
        let is_judged = outcome.violation.is_some() || outcome.judged_until.is_none();
        let as_expected = ended_as_expected && unreached.is_empty() && is_judged;
        let exit = if ended_as_expected { Exit::Other } else { exit };
        let verdict = match (&outcome.violation, note) {
            (None, None) => match &outcome.judged_until {
                Some(until) => format!("no violation, but judged only until {until}"),
                None => "no violation".to_string(),
            },
            (_, Some(note)) => note,
            (Some(violation), None) => format!("violates {violation}"),
        };
        say!("{} {}: {verdict}", if as_expected { "ok    " } else { "FAILED" }, file.display());
        for entry in unreached {
            say!("         not reached: {entry}");
        }
        if !as_expected {
            worst = worst.worse(exit);
        }
    }
    let schedules = if count == 1 { "schedule" } else { "schedules" };
    let verdict = if worst == Exit::Clean { "as expected" } else { "FAILED" };
    say!("{count} {schedules}: {verdict}");
    Ok(worst)
}
