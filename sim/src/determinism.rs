//! Runs of one seed that differ: a node that depends on something besides its inputs.
//!
//! A hunt runs a share of its seeds twice and compares the runs, contents included. When two
//! differ, nothing that a hunt, a replay or a shrink says about the node is reliable, so this is
//! reported instead of any violation, with the first fact that differs.

use std::fmt;

use stormglass_node::{Micros, Node};

use crate::chooser::Chooser;
use crate::profile::Setup;
use crate::property::{Checker, Observation, Violation};
use crate::protocol::{Protocol, WorldOf};
use crate::replay::{replay_world, seed_world};
use crate::schedule::Schedule;
use crate::trace::{Filter, Trace};
use crate::world::RunOutcome;

/// How many pairs of runs are recorded to see a difference again.
// A node that takes one of two ways at random shows it within these with probability 99.99 %.
const PAIRS_MAX: u32 = 16;
/// How often a failing seed or schedule is run before it is taken for deterministic.
// A run ends at its violation, so runs that differ later end alike: a node that takes one of two
// ways before it does all the same in 12 runs with probability 0.05 %.
const RUNS_OF_A_FAILURE: u32 = 12;
/// How many facts of a run are recorded.
// Some hundred bytes each, and most runs have a few thousand.
const FACTS_MAX: usize = 200_000;

/// Two runs of one seed or schedule that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nondeterminism {
    /// What was run twice: `seed 17`.
    pub origin: String,
    /// The first fact that differs; `None` if the difference was seen once and not again.
    pub first: Option<Difference>,
}

/// The first fact in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// True time since the beginning of the run.
    pub at: Micros,
    /// The number of facts before it, which are the same in both runs.
    pub same: usize,
    /// The fact in one run; `None` if that run has ended.
    pub one: Option<String>,
    /// The fact in the other run.
    pub other: Option<String>,
}

impl fmt::Display for Nondeterminism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not deterministic: ", self.origin)?;
        match &self.first {
            None => writeln!(
                f,
                "two runs of it differed once; in {PAIRS_MAX} more pairs, the first {FACTS_MAX} \
                 facts were equal"
            )?,
            Some(Difference { at, same, one, other }) => {
                writeln!(f, "two runs of it differ at {at} ms, after {same} equal facts")?;
                writeln!(f, "  one run    {}", one.as_deref().unwrap_or("has ended"))?;
                writeln!(f, "  the other  {}", other.as_deref().unwrap_or("has ended"))?;
            }
        }
        f.write_str(
            "a node may depend on its inputs alone: on no clock, no random number besides \
             `Boot::entropy`, no order of a hash map, and no state outside of it",
        )
    }
}

/// Runs a seed several times, each time after `begin_run`. `None` if all runs are equal.
pub fn compare_seed<P: Protocol>(
    protocol: &P,
    setup: &Setup,
    seed: u64,
    mut begin_run: impl FnMut(),
) -> Option<Nondeterminism> {
    let differ = runs_differ(|| {
        begin_run();
        run_with_contents::<P, _>(seed_world(protocol, setup, seed, ()))
    });
    differ.then(|| explain_seed(protocol, setup, seed, begin_run))
}

/// Runs a seed twice: the outcome of the first run, and the difference if there is one.
#[cfg(feature = "cli")]
pub(crate) fn run_seed_twice<P: Protocol>(
    protocol: &P,
    setup: &Setup,
    seed: u64,
) -> (RunOutcome, Option<Nondeterminism>) {
    let first = run_with_contents::<P, _>(seed_world(protocol, setup, seed, ()));
    let second = run_with_contents::<P, _>(seed_world(protocol, setup, seed, ()));
    let differ = are_different(&first, &second);
    (first, differ.then(|| explain_seed(protocol, setup, seed, || {})))
}

/// Runs a schedule several times. `None` if all runs are equal.
pub fn compare_schedule<P: Protocol>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
    origin: &str,
) -> Option<Nondeterminism> {
    runs_differ(|| run_with_contents::<P, _>(replay_world(protocol, schedule, ()))).then(|| {
        explain(origin.to_string(), || {
            let mut world = replay_world(protocol, schedule, FactLog::default());
            world.run();
            world.checker().0.clone()
        })
    })
}

fn runs_differ(mut run: impl FnMut() -> RunOutcome) -> bool {
    let first = run();
    (1..RUNS_OF_A_FAILURE).any(|_| are_different(&first, &run()))
}

fn run_with_contents<P: Protocol, C: Chooser>(
    mut world: WorldOf<P, ((), P::Checker), C>,
) -> RunOutcome {
    world.hash_contents();
    world.run()
}

/// Whether two runs of one seed differ.
pub(crate) fn are_different(one: &RunOutcome, other: &RunOutcome) -> bool {
    one.fingerprint != other.fingerprint
        || one.contents != other.contents
        || one.violation != other.violation
}

/// The first fact in which two runs of this seed differ. Two have differed already.
pub(crate) fn explain_seed<P: Protocol>(
    protocol: &P,
    setup: &Setup,
    seed: u64,
    mut begin_run: impl FnMut(),
) -> Nondeterminism {
    explain(format!("seed {seed}"), || {
        begin_run();
        let mut world = seed_world(protocol, setup, seed, FactLog::default());
        world.run();
        world.checker().0.clone()
    })
}

fn explain(origin: String, mut run: impl FnMut() -> FactLog) -> Nondeterminism {
    // Not with the runs that differed, as these were not recorded.
    for _ in 0..PAIRS_MAX {
        let one = run();
        let other = run();
        let first = first_difference(&one, &other);
        if first.is_some() {
            return Nondeterminism { origin, first };
        }
    }
    Nondeterminism { origin, first: None }
}

fn first_difference(one: &FactLog, other: &FactLog) -> Option<Difference> {
    let same = one.facts.iter().zip(&other.facts).take_while(|(one, other)| one == other).count();
    let one = one.facts.get(same);
    let other = other.facts.get(same);
    let at = one.into_iter().chain(other).map(|fact| fact.at).min()?;
    let by_line = one.map(RecordedFact::line_and_time) != other.map(RecordedFact::line_and_time);
    let one = one.map(|fact| fact.show(by_line));
    let other = other.map(|fact| fact.show(by_line));
    Some(Difference { at, same, one, other })
}

/// A checker that is never violated and records every fact.
#[derive(Clone, Debug, Default)]
struct FactLog {
    facts: Vec<RecordedFact>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RecordedFact {
    at: Micros,
    /// As a trace shows it, without the time.
    line: String,
    /// All of it, for two facts with the same line.
    contents: String,
}

impl RecordedFact {
    fn line_and_time(&self) -> (Micros, &str) {
        (self.at, &self.line)
    }

    /// Its line, or all of it if the line does not tell two facts apart.
    fn show(&self, by_line: bool) -> String {
        let text = if by_line { &self.line } else { &self.contents };
        format!("{} ms  {text}", self.at)
    }
}

impl<N: Node> Checker<N> for FactLog {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        if self.facts.len() == FACTS_MAX {
            return Ok(());
        }
        let mut trace = Trace::new(Filter::default(), false).unabridged();
        trace.check(observation)?;
        // The time stands before the line, in a column of its own.
        let line = trace.text().trim().split_once("  ").map_or("", |(_, line)| line).to_string();
        let contents = format!("{} {:?}", observation.node, observation.fact);
        self.facts.push(RecordedFact { at: observation.at, line, contents });
        Ok(())
    }

    fn properties(&self) -> usize {
        0
    }
}
