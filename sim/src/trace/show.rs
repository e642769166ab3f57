//! Which lines of a trace are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use stormglass_node::NodeId;

use super::Trace;
use super::line::{Look, Place, RecordedLine};
use super::routine::routine_messages;
use crate::named::Named;

/// The lines of a trace that are shown: by default all but the routine of the cluster, which is
/// wakes that nothing follows from, and heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// Only lines of these kinds; of all kinds if empty. A kind is that of a message, request,
    /// response, record or event (`Vote`), or the verb of another line (`wake`, `done`, `sync`,
    /// `boot`, `fault`, `run`).
    pub only: Vec<String>,
    /// No lines of these kinds.
    pub hide: Vec<String>,
    /// Also the routine.
    pub routine: bool,
}

/// The lines of a trace that are shown.
pub(crate) struct ShownTrace<'a> {
    pub(crate) lines: Vec<ShownLine<'a>>,
    /// How many routine lines of each kind are left out.
    left_out: BTreeMap<&'static str, usize>,
}

pub(crate) struct ShownLine<'a> {
    /// Without its end.
    pub(crate) text: &'a str,
    pub(crate) node: NodeId,
    pub(crate) look: Look,
    /// Whether it shows the contents of a message, a request, a response or a report.
    pub(crate) shows_contents: bool,
}

impl ShownTrace<'_> {
    /// How many lines are left out, of which kinds, and `how` they are shown; empty if none are.
    pub(crate) fn left_out(&self, how: &str) -> String {
        let count: usize = self.left_out.values().sum();
        if count == 0 {
            return String::new();
        }
        // The most frequent first.
        let mut kinds: Vec<_> = self.left_out.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let kinds: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let lines = if count == 1 { "line is" } else { "lines are" };
        format!(
            "... {count} routine {lines} left out ({}); {how} shows all ...\n",
            kinds.join(", ")
        )
    }

    /// The lines, and the note on what is left out.
    pub(crate) fn text(&self, how: &str) -> String {
        let mut text = String::new();
        for line in &self.lines {
            writeln!(text, "{}", line.text).expect("writing to a string");
        }
        text + &self.left_out(how)
    }
}

impl Trace {
    /// The lines that are shown. A kind that `reason` mentions, the reason of a violation, is no
    /// routine, and the last step is always shown.
    pub(crate) fn shown(&self, show: &Show, reason: &str) -> ShownTrace<'_> {
        let routine = if show.routine { BTreeSet::new() } else { routine_messages(&self.lines) };
        let named = Named::of(reason);
        let mut is_kept = vec![false; self.lines.len()];
        let mut steps_shown = BTreeSet::new();
        let last_step = self.lines.iter().rev().find_map(|line| step_of(line.place));
        // Backwards, as an input is shown for the sake of its effects.
        for (line, is_kept) in self.lines.iter().zip(&mut is_kept).rev() {
            let is_routine = match line.place {
                Place::Effect { sent, .. } => sent.is_some_and(|sent| routine.contains(&sent.id)),
                Place::Input { step, is_wake, arrived } => {
                    let may_be = is_wake || arrived.is_some_and(|id| routine.contains(&id));
                    may_be && !steps_shown.contains(&step)
                }
                Place::Loss(id) => routine.contains(&id),
                Place::Outside => false,
            };
            let is_last = step_of(line.place).is_some_and(|step| Some(step) == last_step);
            *is_kept = show.routine || is_last || named.has_kind(line.kind) || !is_routine;
            if *is_kept && let Some(step) = step_of(line.place) {
                steps_shown.insert(step);
            }
        }
        let mut shown = ShownTrace { lines: Vec::new(), left_out: BTreeMap::new() };
        let mut start = 0;
        for (line, is_kept) in self.lines.iter().zip(is_kept) {
            let text = self.text[start..line.end].trim_end_matches('\n');
            start = line.end;
            if show.hide.iter().any(|kind| line.kind.eq_ignore_ascii_case(kind)) {
                continue;
            }
            let is_selected = show.only.iter().any(|kind| line.kind.eq_ignore_ascii_case(kind));
            // What is asked for by its name is shown, routine or not.
            if is_selected || show.only.is_empty() && is_kept {
                let shows_contents = line.shows_contents;
                let &RecordedLine { node, look, .. } = line;
                shown.lines.push(ShownLine { text, node, look, shows_contents });
            } else if show.only.is_empty() {
                *shown.left_out.entry(line.kind).or_default() += 1;
            }
        }
        shown
    }

    /// The kinds of all lines, for a selection of kinds that has matched none.
    pub(crate) fn kinds(&self) -> BTreeSet<&'static str> {
        self.lines.iter().map(|line| line.kind).collect()
    }
}

fn step_of(place: Place) -> Option<u32> {
    match place {
        Place::Input { step, .. } | Place::Effect { step, .. } => Some(step),
        Place::Loss(_) | Place::Outside => None,
    }
}
