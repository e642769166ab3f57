//! The command `replay`: one seed or schedule with its trace, or a directory of schedules.

use std::path::Path;
use stormglass_node::{Micros, NodeId};

use super::args::{Replay, Selection};
use super::say::{self, say};
use super::source::{self, Source};
use super::{Exit, colour, command, explain, state, usage};
use crate::chooser::Chooser;
use crate::hunt::watchdog::watched;
use crate::plan::Plan;
use crate::protocol::{Protocol, WorldOf, draw_run, world};
use crate::replay::{Replayer, replay_world};
use crate::schedule::{Expectation, Schedule};
use crate::simulation::verdict_line;
use crate::trace::{Filter, Show, Trace};
use crate::workload::ClientId;
use crate::world::RunOutcome;

/// Runs one seed or schedule with the trace on, or every schedule of a directory without.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Replay) -> Result<Exit, Exit> {
    let path = Path::new(&args.target);
    let flags = args.run_args.are_given();
    if path.is_dir() {
        let has_output = args.json || args.explain || args.state.is_some();
        if has_output || args.selection.is_given() || flags {
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
    if let Some(node) = args.state {
        return state::run(protocol, args, node);
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
    let finished = watched(protocol.limits(), &seed_command, |watched| {
        watched.begin(seed);
        finish::<P, _>(&mut world(protocol, drawn, |chooser| chooser, new_trace(args)))
    });
    // A seed has no expectation; only schedules do.
    let exit = finished.outcome.violation.as_ref().map_or(Exit::Clean, Exit::of);
    print(args, &finished, "");
    Ok(exit)
}

/// Checks that the selected node, request and time exist in this run.
fn check_filter(args: &Replay, of: &str, plan: &Plan) -> Result<(), Exit> {
    let Selection { node, request, from_ms, to_ms, .. } = args.selection;
    if let Some(node) = node {
        check_node(node, of, plan)?;
    }
    let clients = plan.clients;
    if let Some(request) = request
        && !ClientId::try_from(request.client).is_ok_and(|client| client.is_among(clients))
    {
        return Err(usage::usage_error(format_args!(
            "there is no {request}: {of} has clients c1 to c{clients}"
        )));
    }
    if let (Some(from_ms), Some(to_ms)) = (from_ms, to_ms)
        && from_ms > to_ms
    {
        return Err(usage::usage_error(format_args!(
            "--from-ms {from_ms} is after --to-ms {to_ms}: nothing would be printed"
        )));
    }
    Ok(())
}

/// Checks that the node exists in this run.
pub(super) fn check_node(node: NodeId, of: &str, plan: &Plan) -> Result<(), Exit> {
    let nodes = plan.nodes;
    if node.0 < nodes {
        return Ok(());
    }
    Err(usage::usage_error(format_args!("there is no {node}: {of} has {nodes} nodes")))
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
    let finished = watched(protocol.limits(), &file_command, |watched| {
        watched.begin(0);
        finish::<P, _>(&mut world)
    });
    let mut notes = String::new();
    for entry in schedule.unreached_entries(world.chooser().unused()) {
        notes += &format!("not reached: {entry}\n");
    }
    let (mut exit, note) = compare_with_expectation(&schedule.expectation, &finished.outcome);
    notes += &note.map(|note| note + "\n").unwrap_or_default();
    let unreached_faults = schedule.unreached_faults(world.chooser().unused());
    let has_faults = !schedule.faults.is_empty();
    if exit == Exit::Clean && has_faults && unreached_faults.len() == schedule.faults.len() {
        notes += "no fault of the schedule came up: the run tests nothing of it\n";
        exit = Exit::Other;
    }
    print(args, &finished, &notes);
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
    let Selection { node, request, from_ms, to_ms, .. } = args.selection;
    let from = from_ms.unwrap_or(Micros::ZERO);
    let to = to_ms.unwrap_or(Micros::MAX);
    Trace::new(Filter { node, request, span: Some((from, to)) }, args.json)
}

/// A run that is over.
struct FinishedRun {
    outcome: RunOutcome,
    trace: Trace,
    /// The states of the nodes that a violation concerns.
    states: String,
}

fn finish<P, C>(world: &mut WorldOf<P, (Trace, P::Checker), C>) -> FinishedRun
where
    P: Protocol,
    C: Chooser,
{
    let (outcome, trace) = Trace::of_run(world);
    let states = match &outcome.violation {
        Some(violation) => trace.states_at(world, violation),
        None => String::new(),
    };
    FinishedRun { outcome, trace, states }
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

fn print(args: &Replay, finished: &FinishedRun, notes: &str) {
    let FinishedRun { outcome, trace, states } = finished;
    let Selection { only, hide, all, .. } = &args.selection;
    // A program that reads JSON expects everything that it has not excluded.
    let show = Show::all(*all || args.json).kinds(only, hide);
    let reason = outcome.violation.as_ref().map_or("", |violation| violation.reason.as_str());
    let shown = trace.shown(&show, reason);
    warn_of_unknown_kinds(&show, trace);
    if shown.lines().is_empty() {
        eprintln!("no line of the trace matches the filters");
    }
    let verdict = verdict_line(outcome.violation.as_ref(), outcome.judged_until.as_ref());
    let print = format!("{:016x}", outcome.fingerprint);
    if args.json {
        let trace = shown.text("--all");
        let notes: Vec<_> = notes.lines().collect();
        let tail = serde_json::json!({"verdict": verdict, "fingerprint": print, "notes": notes});
        say::text(format_args!("{trace}{tail}\n"));
        return;
    }
    let mut text = colour::trace(&shown);
    text += &shown.left_out("--all");
    text += &colour::verdict(&verdict, outcome.violation.is_some());
    text += &format!("\n{notes}{states}fingerprint {print}\n");
    colour::print(args.color, &text);
}

/// Names the kinds that no line has.
fn warn_of_unknown_kinds(show: &Show, trace: &Trace) {
    let (unknown, known) = trace.unknown_kinds(show);
    let known: Vec<_> = known.into_iter().collect();
    for kind in unknown {
        eprintln!("no line has the kind {kind}; there are {}", known.join(", "));
    }
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
