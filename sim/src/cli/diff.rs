//! The command `diff`: where the traces of two runs first differ.

use std::path::Path;

use super::args::Diff;
use super::source::{self, Source};
use super::{Exit, say};
use crate::profile::Setup;
use crate::protocol::Protocol;
use crate::replay::{record, replay_world};
use crate::trace::{Filter, Trace};

/// How many common lines are shown before the difference, and how many lines of each run after it.
// Enough lines to see which step led to the difference, few enough for one screen.
const BEFORE: usize = 5;
const AFTER: usize = 8;

/// Runs both and shows the first difference, with its context.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Diff) -> Result<Exit, Exit> {
    let setup = args.run_args.setup(protocol);
    // With one seed among the two the options still apply to that one.
    if [&args.one, &args.other].iter().all(|target| Path::new(target).is_file()) {
        source::reject_options_for_file(&args.one, &args.run_args)?;
    }
    let one = traced(protocol, &setup, &args.one)?;
    let other = traced(protocol, &setup, &args.other)?;
    let a: Vec<&str> = one.lines().collect();
    let b: Vec<&str> = other.lines().collect();
    // Only the first difference is shown: after it two runs have little in common.
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    if same == a.len() && same == b.len() {
        text += &format!("identical: {same} lines\n");
    } else {
        text += &format!("identical for {same} lines, then different\n\n");
        a[same.saturating_sub(BEFORE)..same].iter().for_each(|line| text += &format!("  {line}\n"));
        text += &format!("--- {}\n", args.one);
        a[same..].iter().take(AFTER).for_each(|line| text += &format!("- {line}\n"));
        text += &format!("+++ {}\n", args.other);
        b[same..].iter().take(AFTER).for_each(|line| text += &format!("+ {line}\n"));
    }
    say::text(format_args!("{text}"));
    Ok(if same == a.len() && same == b.len() { Exit::Clean } else { Exit::Other })
}

fn traced<P: Protocol>(protocol: &P, setup: &Setup, target: &str) -> Result<String, Exit> {
    let schedule = match source::of(protocol, target)? {
        Source::Seed(seed) => record(protocol, setup, seed).1,
        Source::File(schedule) => *schedule,
    };
    let mut world =
        // Complete lists: two runs may differ in an operation that an abbreviated line leaves out.
        replay_world(protocol, &schedule, Trace::new(Filter::default(), false).unabridged());
    let verdict = world
        .run()
        .violation
        .map_or("clean".to_string(), |violation| format!("VIOLATED {violation}"));
    Ok(format!("{}{verdict}\n", world.checker().0.text()))
}
