//! Edits to a commit node that preserve its protocol: a wrapper that reports more, wakes the node
//! more often, sends in another order or writes longer records. They measure how often a schedule
//! still reproduces a violation after an edit, compared with its seed.

mod node;

use std::fmt;

use stormglass_commit_sim::AtomicCommitChecker;
use stormglass_commit_sim::checker::CommitLike;
use stormglass_node::{Node, NodeId, RequestId};

pub use node::Edited;
use stormglass_sim::chooser::Chooser;
use stormglass_sim::plan::Plan;
use stormglass_sim::profile::{Rng, Setup};
use stormglass_sim::property::{Checker, Observation, Violation};
use stormglass_sim::protocol::{Protocol, draw_run, world};
use stormglass_sim::replay::replay_world;
use stormglass_sim::schedule::Schedule;
use stormglass_sim::workload::{PlannedRequest, Workload};
use stormglass_sim::world::World;

/// One edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Display` describes each")]
pub enum Edit {
    None,
    MoreReports,
    NoReports,
    MoreWakes,
    EarlyWakes,
    LateWakes,
    OtherEntropy,
    LongerRecords,
    OtherSendOrder,
    RepliesFirst,
    AcksTwice,
    InquiriesTwice,
    AnswersTwice,
    MoreMessages,
    MoreBarriers,
    OtherBarrierNumbers,
    OtherSerials,
    NeedlessRemovals,
}

impl Edit {
    /// Every edit except [`Edit::None`].
    pub const ALL: [Edit; 17] = [
        Edit::MoreReports,
        Edit::NoReports,
        Edit::MoreWakes,
        Edit::EarlyWakes,
        Edit::LateWakes,
        Edit::OtherEntropy,
        Edit::LongerRecords,
        Edit::OtherSendOrder,
        Edit::RepliesFirst,
        Edit::AcksTwice,
        Edit::InquiriesTwice,
        Edit::AnswersTwice,
        Edit::MoreMessages,
        Edit::MoreBarriers,
        Edit::OtherBarrierNumbers,
        Edit::OtherSerials,
        Edit::NeedlessRemovals,
    ];
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Edit::None => "no edit",
            Edit::MoreReports => "an additional report in each step",
            Edit::NoReports => "no reports at all",
            Edit::MoreWakes => "an additional timer that does nothing",
            Edit::EarlyWakes => "wakes before the deadline",
            Edit::LateWakes => "wakes a millisecond after the deadline",
            Edit::OtherEntropy => "another random draw at boot",
            Edit::LongerRecords => "longer keys: records of another size",
            Edit::OtherSendOrder => "sends to different nodes in another order",
            Edit::RepliesFirst => "replies before messages",
            Edit::AcksTwice => "each Ack sent twice",
            Edit::InquiriesTwice => "each Inquire sent twice",
            Edit::AnswersTwice => "each reply sent twice",
            Edit::MoreMessages => "an additional harmless message before each",
            Edit::MoreBarriers => "each barrier issued twice",
            Edit::OtherBarrierNumbers => "barriers with other numbers",
            Edit::OtherSerials => "transactions with other serials",
            Edit::NeedlessRemovals => "an additional removal of a nonexistent file",
        })
    }
}

/// A protocol whose nodes are edited.
#[derive(Clone, Copy, Debug)]
pub struct EditedProtocol<P> {
    /// The protocol of the unedited nodes.
    pub protocol: P,
    /// The edit of every node.
    pub edit: Edit,
}

impl<P> Protocol for EditedProtocol<P>
where
    P: Protocol<Checker = AtomicCommitChecker>,
    P::Node: CommitLike,
    P::Workload: Workload<Edited<P::Node>>,
{
    type Node = Edited<P::Node>;
    type Request = P::Request;
    type Workload = P::Workload;
    type Checker = AtomicCommitChecker;

    fn name(&self) -> &str {
        self.protocol.name()
    }

    fn detects_lost_history(&self) -> bool {
        self.protocol.detects_lost_history()
    }
    fn kinds(&self) -> &[&'static str] {
        self.protocol.kinds()
    }
    fn properties(&self) -> &[&'static str] {
        self.protocol.properties()
    }
    fn config(&self, plan: &Plan, node: NodeId) -> (<P::Node as Node>::Config, Edit) {
        (self.protocol.config(plan, node), self.edit)
    }
    fn requests(
        &self,
        setup: &Setup,
        plan: &mut Plan,
        rng: &mut Rng,
    ) -> Vec<PlannedRequest<P::Request>> {
        self.protocol.requests(setup, plan, rng)
    }
    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<P::Request>>) -> P::Workload {
        self.protocol.clients(plan, requests)
    }
    fn checker(&self, plan: &Plan) -> AtomicCommitChecker {
        let checker = self.protocol.checker(plan);
        match self.edit {
            Edit::LongerRecords => checker.with_edited_operations(),
            Edit::AcksTwice | Edit::InquiriesTwice | Edit::MoreMessages => {
                checker.with_additional_messages()
            }
            Edit::None
            | Edit::MoreReports
            | Edit::NoReports
            | Edit::MoreWakes
            | Edit::EarlyWakes
            | Edit::LateWakes
            | Edit::OtherEntropy
            | Edit::OtherSendOrder
            | Edit::RepliesFirst
            | Edit::AnswersTwice
            | Edit::MoreBarriers
            | Edit::OtherBarrierNumbers
            | Edit::OtherSerials
            | Edit::NeedlessRemovals => checker,
        }
    }
}

/// What a schedule, and the seed that it came from, reproduce with an edited node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EditResult {
    /// The edit of every node.
    pub edit: Edit,
    /// What a replay of the schedule reproduces.
    pub schedule: Reproduction,
    /// What a run of the seed reproduces.
    pub seed: Reproduction,
}

/// How much of a violation a run reproduces, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reproduction {
    /// The property holds, or another one is violated.
    Nothing,
    /// The same property is violated, but by another request.
    SameProperty,
    /// The same property is violated by the same request.
    SameRequest,
}

impl Reproduction {
    /// Whether the same property is still violated.
    pub fn reproduces(self) -> bool {
        self >= Reproduction::SameProperty
    }

    fn of(property: &str, before: &RunEnd, after: &RunEnd) -> Reproduction {
        if after.0 != Some(property) {
            Reproduction::Nothing
        } else if after.1 == before.1 {
            Reproduction::SameRequest
        } else {
            Reproduction::SameProperty
        }
    }
}

/// For every edit: whether the schedule, and the seed that it came from, still reproduce the
/// violation of this property.
pub fn try_edits<P>(
    protocol: P,
    schedule: &Schedule<P::Request>,
    seed: u64,
    property: &str,
) -> Vec<EditResult>
where
    P: Protocol<Checker = AtomicCommitChecker> + Copy,
    P::Node: CommitLike,
    P::Workload: Workload<Edited<P::Node>>,
{
    // Through the same wrapper, so that only the edit differs.
    let unedited = EditedProtocol { protocol, edit: Edit::None };
    let schedule_end = unedited.replay(schedule);
    let seed_end = unedited.run_seed(seed);
    let mut results = Vec::new();
    for edit in Edit::ALL {
        let edited = EditedProtocol { protocol, edit };
        results.push(EditResult {
            edit,
            schedule: Reproduction::of(property, &schedule_end, &edited.replay(schedule)),
            seed: Reproduction::of(property, &seed_end, &edited.run_seed(seed)),
        });
    }
    results
}

impl<P> EditedProtocol<P>
where
    P: Protocol<Checker = AtomicCommitChecker>,
    P::Node: CommitLike,
    P::Workload: Workload<Edited<P::Node>>,
{
    fn replay(&self, schedule: &Schedule<P::Request>) -> RunEnd {
        run_to_end(&mut replay_world(self, schedule, LastRequest::default()))
    }

    fn run_seed(&self, seed: u64) -> RunEnd {
        let drawn = draw_run(self, &Setup::default(), seed);
        run_to_end(&mut world(self, drawn, |chooser| chooser, LastRequest::default()))
    }
}

/// Records the request that the last fact was about. A run ends at its first violation, so in a
/// failing run it is the request that the violation is about.
#[derive(Clone, Copy, Debug, Default)]
struct LastRequest(Option<RequestId>);

impl<N: Node> Checker<N> for LastRequest {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        self.0 = observation.fact.request().or(self.0);
        Ok(())
    }
}

/// The violated property, and the request that the last fact was about.
type RunEnd = (Option<&'static str>, Option<RequestId>);

fn run_to_end<N, W, K, C>(world: &mut World<N, W, (LastRequest, K), C>) -> RunEnd
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    let violation = world.run().violation;
    (violation.map(|violation| violation.property), world.checker().0.0)
}
