//! What hunts and checks report of what they have seen.

use stormglass_node::{Boot, BootError, Effect, Input, Node, Outbox, ReadDisk, Time};

use super::{AllIsWell, Copier, NobodyWaits, copiers, couriers, panic_message};
use crate::coverage::Coverage;
use crate::hunt::{HuntOptions, HuntReport, Progress, hunt};
use crate::property::{Checker, Fact, Observation, Property, PropertyResult, RunFact};
use crate::protocol::Protocol;
use crate::simulation::Simulation;

fn run<N, C>(simulation: &Simulation<N, C>, seeds: u64, jobs: usize) -> HuntReport
where
    N: Node,
    N::Request: Send + Sync,
    C: Checker<N> + Sync,
{
    let options = HuntOptions { jobs, ..HuntOptions::new(simulation.setup(), 0..=seeds - 1) };
    hunt(simulation, &options, &Progress::default())
}

/// Looks at reports, of which no node here makes any.
#[derive(Clone)]
struct ReportsAreTrue;

impl<N: Node> Property<N> for ReportsAreTrue {
    const NAME: &'static str = "ReportsAreTrue";
    fn on(&mut self, observation: &Observation<'_, N>) -> PropertyResult {
        let Fact::Effect(Effect::Report(_), _) = observation.fact else { return Ok(()) };
        Err("a false report".to_string())
    }
}

fn count(counts: &[crate::coverage::KindCount], kind: &str) -> (u64, u64) {
    let found = counts.iter().find(|count| count.kind == kind);
    found.map_or((0, 0), |count| (count.made, count.arrived))
}

#[test]
fn kinds_are_counted_with_what_was_made_and_what_arrived() {
    let report = run(&copiers().property(AllIsWell), 64, 1);
    let coverage = &report.coverage;
    assert_eq!(coverage.runs(), 64);
    let (sent, received) = count(coverage.messages(), "Copy");
    assert!(received > 0 && received < sent, "{coverage:?}");
    // Of all seeds, so the two counts are of the same facts.
    assert_eq!(count(coverage.requests(), "Nothing").0, report.tally.requests);
    assert_eq!(count(coverage.responses(), "Number").1, report.tally.answers);
    assert_eq!(received, report.tally.delivered);
    let (starts, _) = count(coverage.records(), "Start");
    assert_eq!(starts, coverage.facts().find(|(fact, _)| *fact == "boot").map_or(0, |(_, n)| n));
    assert!(coverage.reports().is_empty());
    let never: Vec<_> = coverage.never_seen(&["Copy", "Number", "Copied"]).collect();
    assert_eq!(never, ["report", "truncate", "rename", "remove", "Copied"]);
}

#[test]
fn some_seeds_are_counted_whatever_the_number_of_threads() {
    let simulation = copiers().property(AllIsWell);
    let one = run(&simulation, 640, 1);
    // The first 64, and one in 32 of the others.
    assert_eq!(one.coverage.runs(), 64 + 18);
    let three = run(&simulation, 640, 3);
    assert_eq!(three.coverage, one.coverage);
}

/// Counting observes, and changes nothing: the seeds of the first block are all counted, and have
/// the results that they have alone.
#[test]
fn counted_runs_have_the_fingerprints_of_others() {
    let simulation = copiers().property(AllIsWell).property(AnswersAreOnDisk);
    let hunted = run(&simulation, 64, 1);
    let mut folded = crate::hash::Fingerprint::default();
    let mut block = crate::hash::Fingerprint::default();
    for seed in 0..64 {
        let drawn = crate::protocol::draw_run(&simulation, &simulation.setup(), seed);
        let mut world = crate::protocol::world(&simulation, drawn, |chooser| chooser, ());
        block.fold(world.run().fingerprint);
    }
    folded.fold(block.value());
    assert_eq!(hunted.fingerprint, Some(folded.value()));
}

#[test]
fn a_property_that_looks_at_something_objects_to_altered_facts() {
    let objects = |coverage: &Coverage, name| {
        let found = coverage.properties().iter().find(|property| property.name == name);
        let property = found.unwrap_or_else(|| panic!("{name} is challenged: {coverage:?}"));
        assert_eq!(property.runs, 8, "{property:?}");
        property.objected_in > 0
    };
    // One that waits for the end, and one of the disk.
    let waits = couriers().only(crate::fault::FaultKinds::CLOCKS);
    let waits = run(&waits.property(NobodyWaits::default()), 16, 1);
    assert!(waits.failures.is_empty() && objects(&waits.coverage, "NobodyWaits"));
    let copies = copiers().property(AllIsWell).property(ReportsAreTrue).property(AnswersAreOnDisk);
    let copies = run(&copies, 16, 1);
    assert!(copies.failures.is_empty(), "{:?}", copies.failures);
    assert!(objects(&copies.coverage, "AnswersAreOnDisk"));
    assert!(!objects(&copies.coverage, "AllIsWell"));
    assert!(!objects(&copies.coverage, "ReportsAreTrue"), "nobody reports");
    let names: Vec<_> = copies.coverage.without_objection().map(|found| found.name).collect();
    assert_eq!(names, ["AllIsWell", "ReportsAreTrue"]);
}

/// What a node answers is durable: it has a file at that moment.
#[derive(Clone)]
struct AnswersAreOnDisk;

impl Property<Copier> for AnswersAreOnDisk {
    const NAME: &'static str = "AnswersAreOnDisk";
    fn on(&mut self, observation: &Observation<'_, Copier>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { .. }, _) = observation.fact else { return Ok(()) };
        if observation.disk.durable().files().is_empty() {
            return Err("nothing is durable".to_string());
        }
        Ok(())
    }
}

/// Numbers are small, and so are all that are answered: only a flipped bit makes a large one.
#[derive(Clone)]
struct NumbersAreSmall;

impl Property<Copier> for NumbersAreSmall {
    const NAME: &'static str = "NumbersAreSmall";
    fn on(&mut self, observation: &Observation<'_, Copier>) -> PropertyResult {
        match observation.fact {
            Fact::Effect(Effect::Reply { response: 10.., .. }, _) => Err("large".to_string()),
            Fact::Input(_)
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Client(_)
            | Fact::Run(_) => Ok(()),
        }
    }
}

#[test]
fn a_bound_on_contents_objects_to_a_flipped_bit() {
    let report = run(&copiers().property(NumbersAreSmall), 8, 1);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.coverage.without_objection().count(), 0);
}

/// A panic at an altered fact is an objection, and no violation.
#[test]
fn a_property_that_cannot_handle_an_altered_fact_looks_at_it() {
    let report = run(&copiers().property(PanicsAtTheEnd::default()), 16, 1);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.coverage.without_objection().count(), 0);
}

/// Panics if the end of the run comes before its recovery.
#[derive(Clone, Default)]
struct PanicsAtTheEnd(bool);

impl Property<Copier> for PanicsAtTheEnd {
    const NAME: &'static str = "PanicsAtTheEnd";
    fn on(&mut self, observation: &Observation<'_, Copier>) -> PropertyResult {
        match observation.fact {
            Fact::Run(RunFact::Healed { .. }) => self.0 = true,
            Fact::Run(RunFact::Ended) => assert!(self.0, "it has not healed"),
            Fact::Input(_)
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Client(_)
            | Fact::Run(RunFact::Recovered { .. }) => {}
        }
        Ok(())
    }
}

/// Does nothing at all.
struct Idle;

impl Node for Idle {
    type Config = ();
    type Message = ();
    type Request = ();
    type Response = ();
    type Event = ();
    fn boot(_: &(), _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        Ok(Idle)
    }
    fn step(&mut self, _: Time, _: Input<Self>, _: &mut Outbox<Self>) {}
}

#[test]
fn a_check_of_nodes_that_do_nothing_fails() {
    let idle = Simulation::<Idle>::new(()).requests(0, |rng| (rng.node(), ())).property(AllIsWell);
    let message = panic_message(|| idle.seeds(20).check());
    assert!(message.contains("in 20 seeds no node has sent, written, answered"), "{message}");
}

#[test]
fn the_report_is_a_few_lines() {
    let report = run(&copiers().nodes(2).property(ReportsAreTrue), 64, 1);
    let lines = report.coverage.lines(&["Copy", "Vote"]);
    assert_eq!(lines[0], "seen in 64 seeds, of each kind:");
    let starts =
        ["messages  Copy ", "requests  Nothing ", "answers   Number ", "records   Request "];
    for (line, start) in lines[1..5].iter().zip(starts) {
        assert!(line.trim_start().starts_with(start), "{line}");
    }
    assert_eq!(lines[5], "  reports   none");
    assert_eq!(lines[6], "  never     report, truncate, rename, remove, Vote");
    assert!(
        lines[7].starts_with("  ReportsAreTrue objects to altered facts in 0 of 8 seeds"),
        "{}",
        lines[7]
    );
    assert!(lines[8].starts_with("note: ReportsAreTrue accepts the answers of"), "{}", lines[8]);
    assert_eq!(lines.len(), 9);
}
