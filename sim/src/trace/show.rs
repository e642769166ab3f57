//! Which lines of a trace are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use stormglass_node::NodeId;

use super::line::{Look, Place};
use super::routine::routine_messages;
use super::{RecordedLine, Trace};
use crate::named::Named;

/// The lines of a trace that are shown: by default all but the routine of the cluster, which is
/// wakes that nothing follows from, and heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Show {
    /// Only lines of these kinds; of all kinds if empty. A kind is that of a message, request,
    /// response, record or event (`Vote`), or the verb of another line (`wake`, `done`, `sync`,
    /// `boot`, `fault`, `run`).
    only: Vec<String>,
    /// No lines of these kinds.
    hide: Vec<String>,
    /// Also the routine.
    routine: bool,
}

impl Show {
    /// Everything, or everything but the routine.
    pub(crate) fn all(routine: bool) -> Show {
        Show { routine, ..Show::default() }
    }

    /// Only, or without, lines of these kinds.
    #[cfg(feature = "cli")]
    pub(crate) fn kinds(self, only: &[String], hide: &[String]) -> Show {
        Show { only: only.to_vec(), hide: hide.to_vec(), ..self }
    }
}

/// The lines of a trace that are shown.
pub(crate) struct ShownTrace<'a> {
    lines: Vec<ShownLine<'a>>,
    /// How many routine lines of each kind are left out.
    left_out: BTreeMap<&'static str, usize>,
}

pub(crate) struct ShownLine<'a> {
    text: &'a str,
    node: NodeId,
    #[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only a terminal has colours"))]
    look: Look,
    /// Whether it shows the contents of a message, a request, a response or a report.
    shows_contents: bool,
}

impl ShownLine<'_> {
    /// The text, without the end of the line.
    pub(crate) fn text(&self) -> &str {
        self.text
    }

    #[cfg(feature = "cli")]
    pub(crate) fn look(&self) -> Look {
        self.look
    }

    /// Whether it concerns anything that this sentence names.
    pub(crate) fn concerns(&self, named: &Named) -> bool {
        named.is_concerned_by(self.text, self.node, self.shows_contents)
    }
}

impl<'a> ShownTrace<'a> {
    pub(crate) fn lines(&self) -> &[ShownLine<'a>] {
        &self.lines
    }

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

    /// The kinds of a selection that no line has, most likely misspelt; and those that there are.
    #[cfg(feature = "cli")]
    pub(crate) fn unknown_kinds<'s>(
        &self,
        show: &'s Show,
    ) -> (Vec<&'s str>, BTreeSet<&'static str>) {
        let known: BTreeSet<&str> = self.lines.iter().map(|line| line.kind).collect();
        let selected = show.only.iter().chain(&show.hide).map(String::as_str);
        let unknown = selected.filter(|kind| !known.iter().any(|it| it.eq_ignore_ascii_case(kind)));
        (unknown.collect(), known)
    }
}

fn step_of(place: Place) -> Option<u32> {
    match place {
        Place::Input { step, .. } | Place::Effect { step, .. } => Some(step),
        Place::Loss(_) | Place::Outside => None,
    }
}
