//! A protocol under test: a node, its clients, and its checkers.
//!
//! [`Protocol`] bundles them, as a value; hunts, replays, shrinks and the command line work on one.
//! [`Simulation`](crate::simulation::Simulation), the builder for tests, is a protocol.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use stormglass_node::{Links, Micros, Node, NodeId};

use crate::chooser::{Chooser, Seeded};
use crate::fault::{FaultKind, FaultKinds};
use crate::limits::RunLimits;
use crate::log_check::LogCheck;
use crate::plan::Plan;
use crate::profile::{Profile, Rates, Rng, Setup, draw_plan};
use crate::property::{Checker, Sometimes};
use crate::run_end::{Availability, RunEnd};
use crate::schedule::{Cursor, ParseError};
use crate::tally::Tally;
use crate::workload::{PlannedRequest, Workload};
use crate::world::{RunOutcome, World};

/// A node, a workload and checkers.
pub trait Protocol: Sync {
    /// The state machine.
    type Node: Node;
    /// A client's request, as a schedule lists it.
    type Request: ScheduledRequest;
    /// Its clients.
    type Workload: Workload<Self::Node>;
    /// Its properties.
    type Checker: Checker<Self::Node>;

    /// The name of the protocol, for help and reports.
    fn name(&self) -> &str;
    /// The command that starts this protocol's command line, without arguments. `None` for the path
    /// of the program.
    fn command(&self) -> Option<&str> {
        None
    }
    /// Every kind of message, request, response and record
    /// ([`Label::kind`](stormglass_node::Label::kind)), so that a typo in a schedule is an error
    /// and not a coordinate that is never reached. Empty to accept any word.
    fn kinds(&self) -> &[&'static str] {
        &[]
    }
    /// The names of its properties, so that a typo in a schedule is an error, too. Empty to accept
    /// any name.
    fn properties(&self) -> &[&'static str] {
        &[]
    }

    /// Profile and sizes where neither a test nor the command line says otherwise.
    fn setup(&self) -> Setup {
        Setup::default()
    }

    /// What a run may cost.
    fn limits(&self) -> RunLimits {
        RunLimits::default()
    }

    /// When a run ends: once no event is pending, by default.
    fn run_end(&self) -> RunEnd {
        RunEnd::Quiet
    }

    /// With so many nodes up, every request that a client has sent is answered in the end: the
    /// property `EveryRequestIsAnswered`. `None` by default, for no claim. The
    /// [workload](Workload::first_unanswered) knows which are not answered.
    fn answers_while(&self) -> Option<Availability> {
        None
    }

    /// The kinds of faults with which the protocol is tested: by default all that its profile
    /// draws. Hunts, shrinking and proptest inject no others; a schedule may.
    fn allowed_faults(&self) -> FaultKinds {
        FaultKinds::ALL
    }

    /// Whether a node detects that its disk is not as it left it, or that another process runs
    /// under its id (D13-D15, D17): few protocols can. Only then does the default profile have
    /// these faults. Profile `replaced-disk` always has them.
    fn detects_lost_history(&self) -> bool {
        false
    }

    /// The configuration of this node in this cluster.
    fn config(&self, plan: &Plan, node: NodeId) -> <Self::Node as Node>::Config;
    /// The planned requests, drawn from the seed. May adjust the plan (`recovery_timeout`, for
    /// example).
    fn requests(
        &self,
        setup: &Setup,
        plan: &mut Plan,
        rng: &mut Rng,
    ) -> Vec<PlannedRequest<Self::Request>>;
    /// Clients with exactly these requests.
    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<Self::Request>>) -> Self::Workload;
    /// The checkers of one run.
    fn checker(&self, plan: &Plan) -> Self::Checker;
    /// The checkers for event logs of real nodes. There was no end of a fault phase, and no probe.
    fn log_checker(&self, plan: &Plan) -> Self::Checker {
        self.checker(plan)
    }
    /// The check of event logs of real nodes, which the command line offers as `check-logs`. `None`
    /// by default: it needs events that can be read back, and a [`log_checker`](Self::log_checker)
    /// that is made for logs. A protocol that has both returns
    /// `Some(`[`check_logs`](crate::log_check::check_logs)`)`.
    fn log_check(&self) -> Option<LogCheck<Self>> {
        None
    }
    /// Adds the `sometimes` counters that depend on injected faults, besides those of checkers and
    /// clients.
    fn sometimes(&self, _tally: &Tally, _rows: &mut Sometimes) {}
    /// Resets the checkers for another run. Override it to reuse their memory.
    fn reset_checker(&self, checker: &mut Self::Checker, plan: &Plan) {
        *checker = self.checker(plan);
    }
    /// The protocol's benchmark, if it has one: runs one seed after another.
    fn bench(&self, _run: BenchRun) -> Option<Box<dyn FnMut(u64) -> BenchResult>> {
        None
    }
}

/// A client's request, as a schedule lists it: its text, and what shrinking may do to it. [`Json`]
/// is one for any value.
pub trait ScheduledRequest: Clone + Debug + Send + Sync {
    /// The request as a schedule of a cluster with this many nodes shows it: one line.
    fn write(&self, nodes: u16) -> String;
    /// Reads the output of [`write`](Self::write).
    ///
    /// # Errors
    /// If the text is no request.
    fn read(text: &mut Cursor<'_>) -> Result<Self, ParseError>;
    /// Every slightly simpler request, the simplest first. Shrinking tries each.
    fn simplifications(&self) -> Vec<Self> {
        Vec::new()
    }
    /// One request with the effect of two; `None` if there is none. Shrinking tries it in large
    /// schedules.
    fn merged(&self, _other: &Self) -> Option<Self> {
        None
    }
    /// The same request in a cluster with other node numbers; `None` if it needs a node that was
    /// removed.
    fn renumbered(&self, _new_id: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Self> {
        Some(self.clone())
    }
}

/// A request that a schedule shows as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T> ScheduledRequest for Json<T>
where
    T: Clone + Debug + Serialize + DeserializeOwned + Send + Sync,
{
    fn write(&self, _nodes: u16) -> String {
        serde_json::to_string(&self.0).expect("a request serialises to JSON")
    }
    fn read(text: &mut Cursor<'_>) -> Result<Self, ParseError> {
        text.json().map(Json)
    }
}

/// The size of a benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchRun {
    /// Nodes, all of which take part.
    pub nodes: u16,
    /// Transactions, one after another.
    pub txns: u32,
    /// Probability that a message is lost, in 65,536ths.
    pub lose: u32,
}

/// The result of one seed of a benchmark.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct BenchResult {
    pub outcome: RunOutcome,
    /// Transactions committed.
    pub committed: u64,
    /// Transactions aborted.
    pub aborted: u64,
    /// Virtual time until the last decision.
    pub virtual_time: Micros,
}

/// The world of a protocol with a checker and a chooser.
pub type WorldOf<P, K, C> = World<<P as Protocol>::Node, <P as Protocol>::Workload, K, C>;

/// Everything that a seed draws before the run starts.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DrawnRun<O> {
    pub plan: Plan,
    pub rates: Rates,
    pub requests: Vec<PlannedRequest<O>>,
    pub chooser: Seeded,
}

/// The configuration of each node in this cluster, in order.
pub fn configs<P: Protocol>(protocol: &P, plan: &Plan) -> Vec<<P::Node as Node>::Config> {
    (0..plan.nodes).map(|node| protocol.config(plan, NodeId(node))).collect()
}

/// Draws a run from its seed.
pub fn draw_run<P: Protocol>(protocol: &P, setup: &Setup, seed: u64) -> DrawnRun<P::Request> {
    let mut rng = Rng::new(seed);
    // The order of these draws is part of the meaning of a seed.
    let (mut plan, mut rates) = draw_plan(setup, &mut rng);
    if setup.profile == Profile::Swarm && !protocol.detects_lost_history() {
        rates.retain(FaultKinds::ALL.without(FaultKinds::LOST_HISTORY));
    }
    // The chooser draws at all rates and drops what is not allowed, so that the other faults of a
    // seed stay where they are.
    let drawn_rates = rates;
    let allowed = injected_faults(protocol);
    rates.retain(allowed);
    plan.retain_faults(allowed);
    let requests = protocol.requests(setup, &mut plan, &mut rng);
    let chooser = Seeded::new(&plan, drawn_rates, &mut rng).allowing(allowed);
    DrawnRun { plan, rates, requests, chooser }
}

/// The kinds of faults that can happen to a protocol and that it allows.
pub(crate) fn injected_faults<P: Protocol>(protocol: &P) -> FaultKinds {
    let allowed = protocol.allowed_faults();
    match P::Node::LINKS {
        Links::Datagrams => allowed,
        // A session has no copies (N3).
        Links::Sessions => allowed.without(FaultKind::MessageDuplication),
    }
}

/// Whether the protocol excludes every fault that the profile of these settings draws: such a hunt
/// would be one without faults, and would not say so.
pub(crate) fn excludes_all_faults<P: Protocol>(protocol: &P, setup: &Setup) -> bool {
    let of_profile = setup.profile.fault_kinds();
    !of_profile.is_empty() && of_profile.without(injected_faults(protocol)) == of_profile
}

/// A world that is ready to run a seed. `observer` checks each fact before the protocol's checker
/// does, so that it observes the violating fact.
pub fn world<P, C, T>(
    protocol: &P,
    drawn: DrawnRun<P::Request>,
    wrap: impl FnOnce(Seeded) -> C,
    observer: T,
) -> WorldOf<P, (T, P::Checker), C>
where
    P: Protocol,
    C: Chooser,
    T: Checker<P::Node>,
{
    let DrawnRun { plan, requests, chooser, .. } = drawn;
    let configs = configs(protocol, &plan);
    let clients = protocol.clients(&plan, requests);
    let checker = protocol.checker(&plan);
    // The observer first, so that it sees the fact at which the checker stops the run.
    let world = World::new(configs, plan, clients, (observer, checker), wrap(chooser));
    with_rules_of(protocol, world)
}

/// A world that ends its runs as the protocol says, and requires what it claims.
pub(crate) fn with_rules_of<P, T, C>(
    protocol: &P,
    world: WorldOf<P, (T, P::Checker), C>,
) -> WorldOf<P, (T, P::Checker), C>
where
    P: Protocol,
    C: Chooser,
    T: Checker<P::Node>,
{
    world
        .with_limits(protocol.limits())
        .ending(protocol.run_end())
        .requiring_answers(protocol.answers_while())
}
