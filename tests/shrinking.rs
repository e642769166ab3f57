//! What shrinking does beyond removing entries, with properties of the real node that are meant to
//! be violated.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stormglass::commit::{Action, CommitNode, Config, Key, Op, Request};
use stormglass_commit_sim::{Clients, Commit, Txn};
use stormglass_node::{Micros, NodeId, RequestId};
use stormglass_sim::plan::Plan;
use stormglass_sim::profile::{Rng, Setup};
use stormglass_sim::property::{Checker, ClientFact, Fact, Observation, RunFact, Violation};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::replay::{record, replay_world};
use stormglass_sim::schedule::{Expectation, Schedule};
use stormglass_sim::shrink::{ScheduleSize, ShrinkControl, ShrinkReport, ShrinkScope, shrink};
use stormglass_sim::workload::PlannedRequest;

/// Two-phase commit with another property.
struct CommitCheckedBy<K>(PhantomData<fn() -> K>);

impl<K: Checker<CommitNode> + Clone + Default + Send + 'static> Protocol for CommitCheckedBy<K> {
    type Node = CommitNode;
    type Request = Txn;
    type Workload = Clients;
    type Checker = K;

    fn name(&self) -> &str {
        "two-phase commit with another property"
    }

    fn detects_lost_history(&self) -> bool {
        Commit.detects_lost_history()
    }
    fn config(&self, plan: &Plan, node: NodeId) -> Config {
        Commit.config(plan, node)
    }
    fn requests(&self, setup: &Setup, plan: &mut Plan, rng: &mut Rng) -> Vec<PlannedRequest<Txn>> {
        Commit.requests(setup, plan, rng)
    }
    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<Txn>>) -> Clients {
        Commit.clients(plan, requests)
    }
    fn checker(&self, _: &Plan) -> K {
        K::default()
    }
}

/// This many requests without any fault, 100 ms apart, each of a client of its own: `put k1=1 @n1`,
/// `put k2=1 @n1`, ...
fn fault_free_schedule(count: u32) -> Schedule<Txn> {
    // Any seed: its plan only provides the fields that are not set below.
    let (_, recorded) = record(&Commit, &Setup::default(), 0);
    let mut requests = Vec::new();
    for nth in 1..=count {
        let key = Key::new(&format!("k{nth}")).expect("short");
        let put = Op { node: NodeId(1), key, action: Action::Put(1) };
        requests.push(PlannedRequest {
            id: RequestId { client: nth.into(), serial: 1, attempt: 0 },
            node: NodeId(0),
            after: Micros::from_millis(100) * u64::from(nth),
            request: Txn { ops: Arc::from([put]), stubborn: false },
        });
    }
    let mut plan = recorded.plan;
    plan.nodes = 2;
    plan.clients = count;
    plan.fault_phase = Micros::from_secs(1);
    // Base timing and no faults, so that only the requests matter.
    plan.timing = Default::default();
    plan.permanently_down = Vec::new();
    plan.encode_messages = false;
    Schedule {
        note: Vec::new(),
        expectation: Expectation::NoViolation(None),
        plan,
        requests,
        faults: Vec::new(),
    }
}

fn shrunk<K: Checker<CommitNode> + Clone + Default + Send + 'static>(
    schedule: &Schedule<Txn>,
) -> ShrinkReport<Txn> {
    let control = ShrinkControl::new(ShrinkScope::any());
    let shrunk =
        shrink(&CommitCheckedBy::<K>(PhantomData), schedule, control).expect("a violated property");
    // The result is run once more, as the search must not report what it has not seen.
    let again =
        replay_world(&CommitCheckedBy::<K>(PhantomData), &shrunk.schedule, ()).run().violation;
    assert_eq!(again.as_ref(), Some(&shrunk.violation), "the replay has the reported violation");
    shrunk
}

/// No client requests a third key during the fault phase.
#[derive(Clone, Default)]
struct TwoKeysAtMost {
    keys: BTreeSet<Key>,
    healed: bool,
}

impl Checker<CommitNode> for TwoKeysAtMost {
    fn check(&mut self, observation: &Observation<'_, CommitNode>) -> Result<(), Violation> {
        // The final transaction touches every key, and is not meant here.
        self.healed |= matches!(observation.fact, Fact::Run(RunFact::Healed { .. }));
        if let Fact::Client(ClientFact::Asked { request: Request::Transact { ops, .. }, .. }) =
            observation.fact
            && !self.healed
        {
            self.keys.extend(ops.iter().map(|op| op.key));
        }
        if self.keys.len() < 3 {
            Ok(())
        } else {
            Err(Violation::safety("TwoKeysAtMost", "three".to_string()))
        }
    }
}

/// No request can be removed; one request of two keys violates the property as well.
#[test]
fn two_requests_are_merged_when_neither_can_be_removed() {
    let ShrinkReport { schedule, one_minimal, .. } =
        shrunk::<TwoKeysAtMost>(&fault_free_schedule(3));
    let mut ops: Vec<usize> =
        schedule.requests.iter().map(|planned| planned.request.ops.len()).collect();
    ops.sort_unstable();
    // Two of the three are merged; merging the third as well is no smaller.
    assert_eq!((ops, one_minimal), (vec![1, 2], true));
}

/// Fewer than six requests are sent, and each is answered within a tenth of a second.
#[derive(Clone, Default)]
struct FewFastRequests {
    asked: BTreeSet<RequestId>,
    /// With the time of the request.
    waiting: Vec<(RequestId, Micros)>,
}

impl Checker<CommitNode> for FewFastRequests {
    fn check(&mut self, observation: &Observation<'_, CommitNode>) -> Result<(), Violation> {
        if let Fact::Client(ClientFact::Asked { id, request: Request::Transact { .. } }) =
            observation.fact
        {
            self.asked.insert(*id);
            self.waiting.push((*id, observation.at));
        }
        if let Fact::Client(ClientFact::Answered { id, .. }) = observation.fact {
            self.waiting.retain(|(asked, _)| asked != id);
        }
        let slow =
            self.waiting.iter().any(|(_, at)| observation.at > *at + Micros::from_millis(100));
        if self.asked.len() < 6 && !slow {
            Ok(())
        } else {
            Err(Violation::safety("FewFastRequests", "no".to_string()))
        }
    }
}

/// Six requests of which none can be removed; but one that comes late, or too early, violates the
/// same property.
#[test]
fn long_schedule_is_rebuilt_as_a_short_one() {
    let ShrinkReport { schedule, before, one_minimal, .. } =
        shrunk::<FewFastRequests>(&fault_free_schedule(6));
    let after = ScheduleSize::of(&schedule);
    assert_eq!((before.faults, before.requests), (0, 6));
    assert!(after.faults <= 1 && after.requests == 1 && one_minimal, "{after}: {schedule:?}");
}

/// Ctrl-C keeps the best schedule so far, and no further candidate is tried.
#[test]
fn shrink_stops_when_requested() {
    let stop = Arc::new(AtomicBool::new(false));
    let mut stopped_at = None;
    let control = ShrinkControl {
        stop: Arc::clone(&stop),
        progress: Box::new(|runs, _| {
            // In the middle of the shrink.
            if runs >= 20 {
                stop.store(true, Ordering::Relaxed);
                stopped_at.get_or_insert(runs);
            }
        }),
        ..ShrinkControl::new(ShrinkScope::any())
    };
    let shrunk =
        shrink(&CommitCheckedBy::<FewFastRequests>(PhantomData), &fault_free_schedule(8), control)
            .expect("the property is violated");
    let stopped_at = stopped_at.expect("there is an entry to remove");
    assert!(
        // Each pass looks at the run of the best schedule once before it notices.
        shrunk.runs <= stopped_at + 15,
        "{} runs, and {stopped_at} when the stop was requested",
        shrunk.runs
    );
    assert!(!shrunk.one_minimal);
}
