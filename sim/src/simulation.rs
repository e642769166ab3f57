//! Simulations in `#[test]`: a node, requests, properties, in ten lines.
//!
//! [`Simulation`] runs many seeds; the first that violates a property is shrunk, and the panic
//! message holds the property, the schedule, the trace, and the commands that run it again and save
//! it. Six environment variables change that:
//!
//! | variable | meaning |
//! |---|---|
//! | `STORMGLASS_SEED=17` | this seed only |
//! | `STORMGLASS_SEEDS=100000` | this many seeds instead of the test's number |
//! | `STORMGLASS_SECONDS=60` | the seeds that are finished in this wall time |
//! | `STORMGLASS_REPLAY=FILE` | this schedule instead of any seed |
//! | `STORMGLASS_SAVE=DIR` | write the schedule of a failure there |
//! | `STORMGLASS_TRACE=all` | show heartbeats and wakes, too, in the trace of a failure |
//!
//! The [guide](crate::guide) builds one from an empty crate.

#[cfg(feature = "proptest")]
mod cases;
mod environment;
mod report;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use stormglass_node::{Micros, Node, NodeId, RequestId};

#[cfg(feature = "proptest")]
pub use cases::{check_faults, faults, proptest_config};
#[cfg(feature = "cli")]
pub(crate) use report::verdict_line;
pub use report::{check, replay, trace};

use crate::fault::FaultKinds;
use crate::limits::RunLimits;
use crate::plan::Plan;
use crate::profile::{Profile, Rng, Setup};
use crate::property::{Checker, Property, PropertyChecker};
use crate::protocol::{Json, Protocol};
use crate::run_end::{Availability, RunEnd};
use crate::workload::{AnsweredBy, ClientBehaviour, ClientId, PlannedRequest, RetryingClients};

/// Draws a request, and the node that receives it.
type RequestGenerator<N> = Box<dyn Fn(&mut Rng) -> (NodeId, <N as Node>::Request) + Send + Sync>;

/// The configuration of a node in a cluster of that size.
type Configure<N> = Box<dyn Fn(&Plan, NodeId) -> <N as Node>::Config + Send + Sync>;

/// Builds a simulation for a test. Each client sends one request after another, and resends it
/// until it is answered.
pub struct Simulation<N: Node, C = ()> {
    config: Configure<N>,
    generate_request: Option<RequestGenerator<N>>,
    setup: Setup,
    behaviour: Arc<ClientBehaviour<N>>,
    run_end: RunEnd,
    answers_while: Option<Availability>,
    checker: C,
    seeds: u64,
    limits: RunLimits,
    detects_lost_history: bool,
    allowed_faults: FaultKinds,
    command: Option<String>,
}

impl<N: Node> Simulation<N> {
    /// A simulation of nodes with this configuration.
    pub fn new(config: N::Config) -> Self
    where
        N::Config: Clone + Send + Sync + 'static,
    {
        Simulation::with_config(move |_| config.clone())
    }

    /// A simulation of nodes whose configuration depends on the size of the cluster.
    pub fn with_config(config: impl Fn(&Plan) -> N::Config + Send + Sync + 'static) -> Self {
        Simulation::with_node_config(move |plan, _| config(plan))
    }

    /// A simulation of nodes each of which has a configuration of its own: nodes with other
    /// timeouts or roles, for example.
    pub fn with_node_config(
        config: impl Fn(&Plan, NodeId) -> N::Config + Send + Sync + 'static,
    ) -> Self {
        // A default for protocols that do not mention it; builder methods override it.
        let setup = Setup { txns: Some(20), ..Setup::default() };
        Simulation {
            config: Box::new(config),
            generate_request: None,
            setup,
            // Longer than a request with a sync takes without faults, so that clients resend only
            // what was lost or is slow.
            behaviour: Arc::new(ClientBehaviour::resending_after(Micros::from_millis(20))),
            run_end: RunEnd::Quiet,
            answers_while: None,
            checker: (),
            // Some tenths of a second for most protocols. Rare bugs need more: `STORMGLASS_SEEDS`.
            seeds: 1_000,
            limits: RunLimits::default(),
            detects_lost_history: false,
            allowed_faults: FaultKinds::ALL,
            command: None,
        }
    }
}

impl<N: Node, C> Simulation<N, C> {
    /// The number of nodes, 1 to 64. By default each seed draws its own number: 2 to 8, or in 1 of
    /// 50 seeds 33 to 64.
    ///
    /// # Panics
    /// If there are none, or more than 64.
    #[must_use]
    #[track_caller]
    pub fn nodes(mut self, nodes: u16) -> Self {
        assert!((1..=64).contains(&nodes), "a simulation has 1 to 64 nodes, not {nodes}");
        self.setup.nodes = Some(nodes);
        self
    }

    /// Each seed draws its number of nodes from this range, within 1 to 64.
    ///
    /// # Panics
    /// If the range is empty, or not within 1 to 64.
    #[must_use]
    #[track_caller]
    pub fn nodes_between(mut self, low: u16, high: u16) -> Self {
        assert!(
            1 <= low && low <= high && high <= 64,
            "a simulation has 1 to 64 nodes, not {low} to {high}"
        );
        self.setup.nodes_between = Some((low, high));
        self
    }

    /// The requests: `count` of them, each drawn by `generate_request`, spread over the fault
    /// phase.
    #[must_use]
    pub fn requests(
        mut self,
        count: u32,
        generate_request: impl Fn(&mut Rng) -> (NodeId, N::Request) + Send + Sync + 'static,
    ) -> Self {
        self.setup.txns = Some(count);
        self.generate_request = Some(Box::new(generate_request));
        self
    }

    /// How long a client waits for a response before it resends the request: 1 ms or more.
    /// 20 ms by default.
    ///
    /// # Panics
    /// If it is less: the run would consist of resends.
    #[must_use]
    #[track_caller]
    pub fn retry_after(self, interval: Micros) -> Self {
        assert!(
            interval >= Micros::from_millis(1),
            "the retry interval of a client is at least 1,000 us, not {}",
            interval.0
        );
        self.with_behaviour(|behaviour| behaviour.retry_after = interval)
    }

    /// A client whose request is not answered in time resends it to the next node, and its later
    /// ones, too: for clusters of which any node may answer.
    #[must_use]
    pub fn fail_over(self) -> Self {
        self.with_behaviour(|behaviour| behaviour.fails_over = true)
    }

    /// Where `node_of` returns a node, the response refers the client to that node: the client
    /// sends it the same request, and sends its later ones there, too. After as many redirects in a
    /// row as there are nodes it waits for its retry interval.
    #[must_use]
    pub fn follow_redirects(
        self,
        node_of: impl Fn(&N::Response) -> Option<NodeId> + Send + Sync + 'static,
    ) -> Self {
        self.with_behaviour(|behaviour| behaviour.redirect = Some(Box::new(node_of)))
    }

    /// Before a client sends a request for the first time, `adapt` may change it: it receives all
    /// earlier requests of the client with their answers, in order. A compare-and-swap, for
    /// example, takes the version that the last read has returned.
    #[must_use]
    pub fn adapt_requests(
        self,
        adapt: impl Fn(&mut N::Request, &[AnsweredBy<N>]) + Send + Sync + 'static,
    ) -> Self {
        self.with_behaviour(|behaviour| behaviour.adapt = Some(Box::new(adapt)))
    }

    /// After the recovery a client sends this request to each node, one after another, and the run
    /// ends once all are answered. Not in runs with nodes that are permanently down.
    #[must_use]
    pub fn probe(self, request: impl Fn(NodeId) -> N::Request + Send + Sync + 'static) -> Self {
        let simulation = self.with_behaviour(|behaviour| {
            behaviour.probe = Some(Box::new(request));
        });
        simulation.with_finishing_clients()
    }

    /// Claims that with so many nodes up every request that was sent is answered in the end: the
    /// property `EveryRequestIsAnswered`. The clients keep asking after the fault phase.
    #[must_use]
    pub fn every_request_is_answered(mut self, answers_while: Availability) -> Self {
        self.answers_while = Some(answers_while);
        self.with_finishing_clients()
    }

    /// When a run ends; by default [once no event is pending](RunEnd::Quiet). A cluster whose nodes
    /// send heartbeats is never quiet: its runs end once it [has settled](RunEnd::Settled), or
    /// [after some time](RunEnd::After). Otherwise each lasts for its whole
    /// [recovery timeout](Self::recovery_timeout).
    #[must_use]
    pub fn ends(mut self, run_end: RunEnd) -> Self {
        self.run_end = run_end;
        // A cluster settles when requests are answered, so the clients must ask until then.
        if run_end == RunEnd::Quiet { self } else { self.with_finishing_clients() }
    }

    fn with_finishing_clients(self) -> Self {
        self.with_behaviour(|behaviour| behaviour.finishes = true)
    }

    fn with_behaviour(mut self, change: impl FnOnce(&mut ClientBehaviour<N>)) -> Self {
        // Clients of runs share it; none runs while the simulation is built.
        change(Arc::get_mut(&mut self.behaviour).expect("the simulation is not running"));
        self
    }

    /// The number of clients, 1 to 64. By default each seed draws 1 to 4.
    ///
    /// # Panics
    /// If there are none, or more than 64.
    #[must_use]
    #[track_caller]
    pub fn clients(mut self, clients: u32) -> Self {
        assert!((1..=64).contains(&clients), "a simulation has 1 to 64 clients, not {clients}");
        self.setup.clients = Some(clients);
        self
    }

    /// The length of the fault phase, over which requests and faults are spread: 1 ms or more. By
    /// default each seed draws 0.3 to 1.5 s, and more if disks hang.
    ///
    /// # Panics
    /// If it is less.
    #[must_use]
    #[track_caller]
    pub fn fault_phase(mut self, length: Micros) -> Self {
        assert!(
            length >= Micros::from_millis(1),
            "a fault phase lasts at least 1,000 us, not {}",
            length.0
        );
        self.setup.fault_phase = Some(length);
        self
    }

    /// How long recovery and probe may last together after the fault phase, more than 0: 30 s of
    /// virtual time by default. A run that is not over by then ends, and with it the time in which
    /// its requests can be answered.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    #[track_caller]
    pub fn recovery_timeout(mut self, timeout: Micros) -> Self {
        assert!(timeout > Micros::ZERO, "a recovery takes some time");
        self.setup.recovery_timeout = Some(timeout);
        self
    }

    /// The fault profile; the swarm by default.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.setup.profile = profile;
        self
    }

    /// How many seeds [`check`](Self::check) runs, 1 or more; 1,000 by default.
    ///
    /// # Panics
    /// If it is 0: a test that runs nothing must not pass.
    #[must_use]
    #[track_caller]
    pub fn seeds(mut self, seeds: u64) -> Self {
        assert!(seeds > 0, "a check needs at least one seed");
        self.seeds = seeds;
        self
    }

    /// What a run may cost; [`RunLimits::default`] by default.
    #[must_use]
    pub fn limits(mut self, limits: RunLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The nodes detect that their disk is not as they left it, or that another process runs under
    /// their id: the default profile has these faults, too (D13, D14, D17).
    #[must_use]
    pub fn detects_lost_history(mut self) -> Self {
        self.detects_lost_history = true;
        self
    }

    /// Without these kinds of faults: for a protocol that is not meant to survive them. The other
    /// faults of each seed stay as they are. Repeated calls add up.
    ///
    /// ```
    /// # use stormglass_sim::{Boot, BootError, FaultKind, FaultKinds, Input, Node, Outbox, Time};
    /// # use stormglass_sim::Simulation;
    /// # #[derive(Clone, Debug)]
    /// # struct Counter;
    /// # impl Node for Counter {
    /// #     type Config = ();
    /// #     type Message = ();
    /// #     type Request = ();
    /// #     type Response = ();
    /// #     type Event = ();
    /// #     fn boot(_: &(), _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
    /// #         Ok(Counter)
    /// #     }
    /// #     fn step(&mut self, _: Time, _: Input<Self>, _: &mut Outbox<Self>) {}
    /// # }
    /// let simulation = Simulation::<Counter>::new(())
    ///     .without([FaultKind::MessageLoss, FaultKind::Partition])
    ///     .without(FaultKinds::CLOCKS);
    /// ```
    #[must_use]
    pub fn without(mut self, kinds: impl Into<FaultKinds>) -> Self {
        self.allowed_faults = self.allowed_faults.without(kinds);
        self
    }

    /// With these kinds of faults at most, of those that the [profile](Self::profile) draws. Ends
    /// the effect of earlier calls of this and of [`without`](Self::without).
    #[must_use]
    pub fn only(mut self, kinds: impl Into<FaultKinds>) -> Self {
        self.allowed_faults = kinds.into();
        self
    }

    /// The command that starts the command line of this simulation, without the arguments of
    /// `hunt` and the others: for a program with several simulations, whose reports shall print
    /// commands that can be pasted. By default the path of the program.
    ///
    /// ```
    /// # use stormglass_sim::{Boot, BootError, Input, Node, Outbox, Time};
    /// # use stormglass_sim::Simulation;
    /// # use stormglass_sim::protocol::Protocol;
    /// # struct Counter;
    /// # impl Node for Counter {
    /// #     type Config = ();
    /// #     type Message = ();
    /// #     type Request = ();
    /// #     type Response = ();
    /// #     type Event = ();
    /// #     fn boot(_: &(), _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
    /// #         Ok(Counter)
    /// #     }
    /// #     fn step(&mut self, _: Time, _: Input<Self>, _: &mut Outbox<Self>) {}
    /// # }
    /// let simulation = Simulation::<Counter>::new(()).command("counters broken");
    /// assert_eq!(Protocol::command(&simulation), Some("counters broken"));
    /// ```
    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn property<P: Property<N>>(self, property: P) -> Simulation<N, (C, PropertyChecker<P>)> {
        let Simulation {
            config,
            generate_request,
            setup,
            behaviour,
            run_end,
            answers_while,
            checker,
            seeds,
            limits,
            detects_lost_history,
            allowed_faults,
            command,
        } = self;
        Simulation {
            config,
            generate_request,
            setup,
            behaviour,
            run_end,
            answers_while,
            checker: (checker, PropertyChecker(property)),
            seeds,
            limits,
            detects_lost_history,
            allowed_faults,
            command,
        }
    }
}

impl<N, C> Simulation<N, C>
where
    N: Node,
    N::Request: Send + Sync,
    C: Checker<N> + Sync,
{
    /// Runs the seeds.
    ///
    /// # Panics
    /// If one violates a property: with the property, the shrunk schedule, its trace, and the
    /// commands that run it again and save it. Instead of that, if two runs of one seed differ:
    /// with the first fact that differs. Also if the test would check nothing: there are no
    /// requests ([`requests`](Self::requests), with 0 for a protocol without clients), none of them
    /// is ever answered, there is no property, or a [`sometimes`](Property::sometimes) counter
    /// stays at 0.
    #[track_caller]
    pub fn check(&self) {
        assert!(
            self.generate_request.is_some(),
            "the simulation has no requests: set them with `.requests(...)`"
        );
        check(self, &self.setup, self.seeds);
    }

    /// Runs a schedule.
    ///
    /// # Panics
    /// If it cannot be read, the run does not end as the schedule expects, or an entry of the
    /// schedule is not reached.
    #[track_caller]
    pub fn replay(&self, text: &str) {
        replay(self, text);
    }

    /// The trace of a schedule, as `replay` prints it, and as its last line how the run has ended:
    /// `clean`, or the violation. Made for a snapshot test, with `insta` for example: the text
    /// changes only if the run does.
    ///
    /// # Panics
    /// If the schedule cannot be read, or an entry of it is not reached.
    #[track_caller]
    pub fn trace(&self, text: &str) -> String {
        trace(self, text)
    }

    /// Lists of faults that can happen in the first seed of this simulation: a strategy for
    /// proptest. See [`faults`].
    #[cfg(feature = "proptest")]
    pub fn faults(
        &self,
    ) -> impl proptest::strategy::Strategy<Value = Vec<crate::fault::Fault>> + use<N, C> {
        faults(self, &self.setup)
    }

    /// Runs the first seed of this simulation with these faults: the body of a proptest property.
    ///
    /// # Errors
    /// If a property is violated: with the property, the faults as a schedule, its trace, and the
    /// commands that run it again and save it.
    #[cfg(feature = "proptest")]
    pub fn check_faults(
        &self,
        faults: &[crate::fault::Fault],
    ) -> Result<(), proptest::test_runner::TestCaseError> {
        check_faults(self, &self.setup, faults)
    }
}

impl<N, C> Protocol for Simulation<N, C>
where
    N: Node,
    N::Request: Send + Sync,
    C: Checker<N> + Sync,
{
    type Node = N;
    type Request = Json<N::Request>;
    type Workload = RetryingClients<N>;
    type Checker = C;

    /// The name of the node's type, without its path.
    fn name(&self) -> &str {
        let name = std::any::type_name::<N>();
        // The parameters of a generic type may contain paths as well.
        let path = name.split('<').next().unwrap_or(name);
        &name[path.rfind("::").map_or(0, |at| at + 2)..]
    }

    fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    fn setup(&self) -> Setup {
        self.setup
    }

    fn limits(&self) -> RunLimits {
        self.limits
    }

    fn run_end(&self) -> RunEnd {
        self.run_end
    }

    fn answers_while(&self) -> Option<Availability> {
        self.answers_while
    }

    fn detects_lost_history(&self) -> bool {
        self.detects_lost_history
    }

    fn allowed_faults(&self) -> FaultKinds {
        self.allowed_faults
    }

    fn config(&self, plan: &Plan, node: NodeId) -> N::Config {
        (self.config)(plan, node)
    }

    fn requests(
        &self,
        setup: &Setup,
        plan: &mut Plan,
        rng: &mut Rng,
    ) -> Vec<PlannedRequest<Json<N::Request>>> {
        let Some(generate_request) = &self.generate_request else { return Vec::new() };
        let count = setup.txns.or(self.setup.txns).unwrap_or(20);
        // On average a client's requests fill the fault phase.
        let interval = plan.fault_phase * u64::from(plan.clients) / u64::from(count.max(1));
        let planned = (0..count).map(|nth| {
            let (node, request) = generate_request(rng);
            let id = RequestId {
                // In turn, so that every client has about as many.
                client: ClientId(1 + nth % plan.clients).into(),
                serial: 1 + nth / plan.clients,
                attempt: 0,
            };
            PlannedRequest {
                id,
                node,
                after: Micros(rng.between(0, interval.0)),
                request: Json(request),
            }
        });
        planned.collect()
    }

    fn clients(
        &self,
        plan: &Plan,
        requests: Vec<PlannedRequest<Json<N::Request>>>,
    ) -> RetryingClients<N> {
        let requests = requests.into_iter().map(|planned| planned.map(|Json(request)| request));
        let behaviour = Arc::clone(&self.behaviour);
        RetryingClients::with_behaviour(requests.collect(), plan.nodes, behaviour)
    }

    fn checker(&self, _plan: &Plan) -> C {
        self.checker.clone()
    }
}

impl<N: Node, C> fmt::Debug for Simulation<N, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("setup", &self.setup)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}
