//! A world built by hand: given requests and faults, base timing, and counts of messages and
//! records.

use std::collections::BTreeMap;
use std::sync::Arc;

use stormglass::commit::{Action, CommitNode, Key, Op};
use stormglass_commit_sim::workload::ClientRequest;
use stormglass_commit_sim::{AtomicCommitChecker, Clients, Commit};
use stormglass_node::{DiskOp, Effect, Label, Micros, Node, NodeId, RequestId, Subject};
use stormglass_sim::chooser::Scripted;
use stormglass_sim::fault::Fault;
use stormglass_sim::plan::Plan;
use stormglass_sim::property::{Checker, ClientFact, Fact, Observation, Violation};
use stormglass_sim::protocol::configs;
use stormglass_sim::workload::ClientId;
use stormglass_sim::world::{RunOutcome, World};

/// The messages, records and responses of request c1.1.
#[derive(Clone, Debug, Default)]
pub(crate) struct EffectCounts {
    pub sent: BTreeMap<&'static str, usize>,
    pub written: BTreeMap<&'static str, usize>,
    /// Of the records written, those that are forced: the same step requests a barrier for them.
    pub forced: BTreeMap<&'static str, usize>,
    /// The records of the present step.
    in_step: Vec<&'static str>,
    pub answered: Vec<&'static str>,
}

pub(crate) const C1_1: RequestId = RequestId { client: 1, serial: 1, attempt: 0 };

impl<N: Node> Checker<N> for EffectCounts {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        let is_request_c1_1 = |subject: Option<Subject>| subject == Some(Subject::Request(C1_1));
        if let Fact::Effect(Effect::Send { message, .. }, _) = observation.fact
            && is_request_c1_1(message.subject())
        {
            *self.sent.entry(message.kind()).or_default() += 1;
        }
        // An input begins the next step.
        if let Fact::Input(_) = observation.fact {
            self.in_step.clear();
        }
        if let Fact::Effect(Effect::Disk(DiskOp::Append { about, .. }), _) = observation.fact
            && is_request_c1_1(about.subject)
        {
            *self.written.entry(about.kind).or_default() += 1;
            self.in_step.push(about.kind);
        }
        if let Fact::Effect(Effect::Disk(DiskOp::Sync { .. }), _) = observation.fact {
            for kind in self.in_step.drain(..) {
                *self.forced.entry(kind).or_default() += 1;
            }
        }
        if let Fact::Client(ClientFact::Answered { id: C1_1, response }) = observation.fact {
            self.answered.push(response.kind());
        }
        Ok(())
    }
}

/// One node's operation on key `k`.
pub(crate) fn op(node: u16, action: Action) -> Op {
    Op { node: NodeId(node), key: Key::new("k").expect("short"), action }
}

/// An operation that its node refuses.
pub(crate) fn refused_op(node: u16) -> Op {
    op(node, Action::Add { by: -1, at_least: 0 })
}

/// A request of client 1 to node 0, after 10 ms.
pub(crate) fn client_request(ops: &[Op]) -> ClientRequest {
    let ops = Arc::from(ops);
    ClientRequest {
        client: ClientId(1),
        serial: 1,
        coordinator: NodeId(0),
        ops,
        // The nodes have booted by then, and are ready for requests.
        think_time: Micros::from_millis(10),
        stubborn: false,
    }
}

pub(crate) fn plan(nodes: u16) -> Plan {
    Plan::base(nodes, 1)
}

/// Runs these requests under these faults; every fault must be reached.
pub(crate) fn run(
    plan: Plan,
    requests: Vec<ClientRequest>,
    faults: &[Fault],
) -> (RunOutcome, EffectCounts) {
    let clients = Clients::new(&plan, requests);
    // All properties are checked beside the counts.
    let checker = (AtomicCommitChecker::new(&plan), EffectCounts::default());
    let configs = configs(&Commit, &plan);
    let mut world: World<CommitNode, _, _, _> =
        World::new(configs, plan, clients, checker, Scripted::new(faults));
    let outcome = world.run();
    let unused: Vec<_> = world.chooser().unused().collect();
    // A fault at a place that does not exist would make a test of nothing.
    assert!(unused.is_empty(), "not reached: {unused:?}");
    (outcome, world.checker().1.clone())
}

/// The same, and no property may be violated.
pub(crate) fn run_clean(
    plan: Plan,
    requests: Vec<ClientRequest>,
    faults: &[Fault],
) -> EffectCounts {
    let (outcome, counts) = run(plan, requests, faults);
    assert_eq!(outcome.violation, None);
    counts
}
