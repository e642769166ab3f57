//! A node that is neither `Clone` nor `Debug`, and whose events cannot be encoded, has every
//! feature: hunts, shrinking, replay, traces, and the comparison of two runs of a seed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::catch_unwind;

use stormglass_node::{
    About, Boot, BootError, DiskOp, Effect, FileId, Input, Label, Node, NodeId, OpId, Outbox, Time,
};
use stormglass_sim::determinism::compare_seed;
use stormglass_sim::profile::Setup;
use stormglass_sim::property::{Fact, Observation, Property, PropertyResult};
use stormglass_sim::protocol::{draw_run, world};
use stormglass_sim::simulation::Simulation;
use stormglass_sim::trace::{Filter, Trace};

/// What the node has, and cannot copy or print: a library's state machine, for example.
struct Opaque(u64);

thread_local! {
    /// State outside of the node, which shows in its events and nowhere else. It stays 0 unless a
    /// test lets the nodes count.
    static COUNTED: Cell<u64> = const { Cell::new(0) };
    static COUNTS: Cell<u64> = const { Cell::new(0) };
}

/// Hands out tickets. It replies before its sync has completed, which is its bug.
struct Tickets {
    file: FileId,
    last: Opaque,
}

/// An event without serde and `Clone`.
#[derive(Debug, Label)]
struct HandedOut(#[expect(dead_code, reason = "its text shows it")] u64);

/// Not `Clone` either.
struct Unclonable(u16);

impl Node for Tickets {
    type Config = Unclonable;
    type Message = ();
    type Request = ();
    type Response = u64;
    type Event = HandedOut;

    fn boot(
        config: &Unclonable,
        boot: Boot<'_>,
        out: &mut Outbox<Self>,
    ) -> Result<Self, BootError> {
        assert!(boot.id.0 < config.0, "the configuration is that of this cluster");
        let files = boot.contents()?;
        let last = files.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
        let file = match files.last() {
            Some((FileId::Wal(number), _)) => FileId::Wal(number + 1),
            _ => FileId::Wal(0),
        };
        out.append(file, About { kind: "Start", subject: None }, &vec![0; last]);
        out.disk(DiskOp::Sync { op: OpId(0), file });
        out.disk(DiskOp::SyncDir { op: OpId(1) });
        Ok(Tickets { file, last: Opaque(last as u64) })
    }

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        if let Input::Request { id, .. } = input {
            self.last.0 += 1;
            out.append(self.file, About { kind: "Ticket", subject: None }, &[0]);
            out.disk(DiskOp::Sync { op: OpId(1 + self.last.0), file: self.file });
            out.report(HandedOut(self.last.0 + COUNTED.get()));
            out.reply(id, self.last.0);
            COUNTED.set(COUNTED.get() + COUNTS.get());
        }
    }

    fn write_state(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "the last ticket is {}", self.last.0)
    }
}

#[derive(Clone, Default)]
struct NoTicketTwice(BTreeSet<(NodeId, u64)>);

impl Property<Tickets> for NoTicketTwice {
    const NAME: &'static str = "NoTicketTwice";
    fn on(&mut self, observation: &Observation<'_, Tickets>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { response, .. }, _) = observation.fact else {
            return Ok(());
        };
        if self.0.insert((observation.node, *response)) {
            return Ok(());
        }
        Err(format!("{} hands out ticket {response} twice", observation.node))
    }
}

fn simulation() -> Simulation<Tickets> {
    Simulation::with_config(|plan| Unclonable(plan.nodes)).requests(20, |rng| (rng.node(), ()))
}

#[test]
fn a_node_without_clone_and_debug_is_hunted_shrunk_and_replayed() {
    let hunt = || simulation().property(NoTicketTwice::default()).seeds(100).check();
    let panic = catch_unwind(hunt).expect_err("the bug is found");
    let message = panic.downcast_ref::<String>().expect("a text");
    assert!(message.starts_with("Tickets violates NoTicketTwice"), "{message}");
    assert!(message.contains("after 1st reply"), "it is shrunk: {message}");
}

#[test]
fn a_world_shows_what_a_node_says_of_its_state() {
    let simulation = simulation().property(NoTicketTwice::default()).nodes(1);
    let setup = Setup { nodes: Some(1), ..Setup::default() };
    let mut world = world(&simulation, draw_run(&simulation, &setup, 0), |chooser| chooser, ());
    assert_eq!(world.state(NodeId(0)), "", "before its boot");
    assert!(world.run().violation.is_none(), "no fault hits seed 0: choose another one");
    let text = world.state(NodeId(0));
    assert!(text.starts_with("the last ticket is "), "{text}");
    assert!(format!("{world:?}").contains("nodes: 1"));
}

#[test]
fn an_event_without_an_encoding_is_a_line_of_the_trace() {
    let simulation = simulation().property(NoTicketTwice::default());
    let setup = Setup { nodes: Some(1), ..Setup::default() };
    for json in [false, true] {
        let trace = Trace::new(Filter::default(), json);
        let drawn = draw_run(&simulation, &setup, 0);
        let mut world = world(&simulation, drawn, |chooser| chooser, trace);
        world.run();
        let text = world.checker().0.text();
        assert!(text.contains("report    HandedOut"), "{text}");
    }
}

#[test]
fn two_runs_that_differ_in_an_event_alone_are_told_apart() {
    let simulation = simulation().property(NoTicketTwice::default());
    assert_eq!(compare_seed(&simulation, &Setup::default(), 0, || {}), None);
    COUNTS.set(1);
    let found = compare_seed(&simulation, &Setup::default(), 0, || {});
    COUNTS.set(0);
    let first = found.and_then(|found| found.first).expect("the runs differ");
    let one = first.one.expect("a fact");
    assert!(one.contains("HandedOut("), "the difference is in the contents: {one}");
}
