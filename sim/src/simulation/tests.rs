//! Small protocols, and what the builder and its reports say about them.

#[cfg(feature = "proptest")]
mod cases;
mod coverage;
mod excluded;

use std::collections::BTreeSet;
use std::sync::Arc;

use stormglass_node::{
    About, Boot, BootError, DiskOp, Effect, FileId, HaltReason, Input, Label, Node, NodeId, OpId,
    Outbox, RequestId, Subject, Time,
};

use super::Simulation;
use crate::hunt::{HuntOptions, Progress, failing_seed_with_small_cluster, hunt};
use crate::plan::Plan;
use crate::property::{Fact, Observation, ProcessFact, Property, PropertyResult, RunFact};
use crate::protocol::{Protocol, draw_run};

/// Copies each request to the next node, which confirms it; then the client has its answer. It
/// never resends a copy, except to a node that has booted: it survives crashes, but no lost
/// message.
#[derive(Clone, Debug)]
struct Courier {
    id: NodeId,
    nodes: u16,
    waiting: Option<RequestId>,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
enum Letter {
    Booted,
    Copy(RequestId),
    Copied(RequestId),
}

impl Label for Letter {
    fn kind(&self) -> &'static str {
        match self {
            Letter::Booted => "Booted",
            Letter::Copy(_) => "Copy",
            Letter::Copied(_) => "Copied",
        }
    }
    fn subject(&self) -> Option<Subject> {
        match self {
            Letter::Booted => None,
            Letter::Copy(id) | Letter::Copied(id) => Some(Subject::Request(*id)),
        }
    }
}

impl Courier {
    fn next(&self) -> NodeId {
        NodeId((self.id.0 + 1) % self.nodes)
    }
}

impl Node for Courier {
    type Config = u16;
    type Message = Letter;
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot(nodes: &u16, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        for other in (0..*nodes).map(NodeId).filter(|other| *other != boot.id) {
            out.send(other, Letter::Booted);
        }
        Ok(Courier { id: boot.id, nodes: *nodes, waiting: None })
    }

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.waiting.is_none() => {
                self.waiting = Some(id);
                out.send(self.next(), Letter::Copy(id));
            }
            Input::Message { from, message: Letter::Copy(id) } => {
                out.send(from, Letter::Copied(id));
            }
            Input::Message { message: Letter::Copied(id), .. } if self.waiting == Some(id) => {
                self.waiting = None;
                out.reply(id, ());
            }
            Input::Message { from, message: Letter::Booted } if from == self.next() => {
                if let Some(id) = self.waiting {
                    out.send(from, Letter::Copy(id));
                }
            }
            Input::Request { .. }
            | Input::Message { .. }
            | Input::DiskDone { .. }
            | Input::Wake
            | Input::Connected { .. }
            | Input::Disconnected { .. } => {}
        }
    }
}

/// Once the cluster is quiescent, no node waits for another.
#[derive(Clone, Default)]
struct NobodyWaits(Vec<NodeId>);

impl Property<Courier> for NobodyWaits {
    const NAME: &'static str = "NobodyWaits";
    const LIVENESS: bool = true;
    fn on(&mut self, observation: &Observation<'_, Courier>) -> PropertyResult {
        match observation.fact {
            Fact::Effect(Effect::Send { message: Letter::Copy(_), .. }, _) => {
                self.0.push(observation.node);
            }
            Fact::Effect(Effect::Reply { .. }, _) | Fact::Process(ProcessFact::Boot) => {
                self.0.retain(|node| *node != observation.node);
            }
            Fact::Run(RunFact::Recovered { .. }) => {
                if let Some(node) = self.0.first() {
                    return Err(format!("{node} waits for ever"));
                }
            }
            Fact::Input(_)
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Client(_)
            | Fact::Run(_) => {}
        }
        Ok(())
    }
}

/// Writes each request, copies it to all others, and replies. It has a use for every fault.
#[derive(Clone, Debug)]
struct Copier {
    id: NodeId,
    nodes: u16,
    file: FileId,
    /// The barriers in flight, and the request to be answered after them.
    barriers: u32,
    waiting: Option<RequestId>,
}

impl Copier {
    fn write(&mut self, kind: &'static str, subject: Option<Subject>, out: &mut Outbox<Self>) {
        out.append(self.file, About { kind, subject }, &[1]);
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
        out.disk(DiskOp::SyncDir { op: OpId(1) });
        self.barriers = 2;
    }
}

impl Node for Copier {
    type Config = u16;
    type Message = Letter;
    type Request = ();
    type Response = u64;
    type Event = ();

    fn boot(nodes: &u16, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let file = match boot.contents()?.last() {
            Some((FileId::Wal(number), _)) => FileId::Wal(number + 1),
            _ => FileId::Wal(0),
        };
        let mut node = Copier { id: boot.id, nodes: *nodes, file, barriers: 0, waiting: None };
        node.write("Start", None, out);
        Ok(node)
    }

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.barriers == 0 => {
                self.waiting = Some(id);
                self.write("Request", Some(Subject::Request(id)), out);
            }
            Input::DiskDone { result: Ok(()), .. } => {
                self.barriers -= 1;
                if let Some(id) = self.waiting.take_if(|_| self.barriers == 0) {
                    for other in (0..self.nodes).map(NodeId).filter(|other| *other != self.id) {
                        out.send(other, Letter::Copy(id));
                    }
                    out.reply(id, 0);
                }
            }
            Input::DiskDone { result: Err(error), .. } => out.halt(HaltReason::DiskFailed(error)),
            Input::Request { .. }
            | Input::Message { .. }
            | Input::Wake
            | Input::Connected { .. }
            | Input::Disconnected { .. } => {}
        }
    }
}

/// Never violated.
#[derive(Clone)]
struct AllIsWell;

impl<N: Node> Property<N> for AllIsWell {
    const NAME: &'static str = "AllIsWell";
    fn on(&mut self, _: &Observation<'_, N>) -> PropertyResult {
        Ok(())
    }
}

fn couriers() -> Simulation<Courier> {
    Simulation::with_config(|plan: &Plan| plan.nodes).requests(20, |rng| (rng.node(), ()))
}

fn copiers() -> Simulation<Copier> {
    Simulation::with_config(|plan: &Plan| plan.nodes).requests(10, |rng| (rng.node(), ()))
}

#[test]
fn each_seed_draws_its_number_of_nodes_from_a_range() {
    let simulation = couriers().nodes_between(3, 7);
    let nodes_of = |seed| draw_run(&simulation, &simulation.setup(), seed).plan.nodes;
    let drawn: BTreeSet<u16> = (0..200).map(nodes_of).collect();
    assert_eq!(Vec::from_iter(drawn), [3, 4, 5, 6, 7]);
}

#[test]
#[should_panic = "a simulation has 1 to 64 nodes, not 7 to 3"]
fn empty_range_of_nodes_is_rejected() {
    let _ = couriers().nodes_between(7, 3);
}

#[test]
fn failing_seed_with_a_large_cluster_is_replaced_by_one_with_a_small_cluster() {
    let simulation = couriers().property(NobodyWaits::default());
    let setup = simulation.setup();
    let options = HuntOptions { keep_going: true, ..HuntOptions::new(setup, 0..=999) };
    let failures = hunt(&simulation, &options, &Progress::default()).failures;
    let nodes_of = |seed| draw_run(&simulation, &setup, seed).plan.nodes;
    let (large, small): (Vec<u64>, Vec<u64>) =
        failures.iter().map(|(seed, _)| *seed).partition(|seed| nodes_of(*seed) > 16);
    let replacement = |seed| {
        failing_seed_with_small_cluster(&simulation, &setup, seed, &Arc::default(), |_| {})
            .map(|(seed, violation)| (seed, violation.property))
    };
    let first_after = |seed| small.iter().copied().find(|small| *small > seed);
    assert!(large.len() >= 2, "{large:?}");
    for seed in large.into_iter().take(2) {
        assert_eq!(replacement(seed), first_after(seed).map(|seed| (seed, "NobodyWaits")));
    }
    assert_eq!(replacement(small[0]), None);
}

/// The panic message of a check.
fn panic_message(check: impl FnOnce()) -> String {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
    let panic = outcome.expect_err("the check fails");
    match panic.downcast_ref::<String>() {
        Some(message) => message.clone(),
        None => (*panic.downcast_ref::<&str>().expect("a text")).to_string(),
    }
}
