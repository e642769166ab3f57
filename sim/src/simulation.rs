//! Simulations in `#[test]`: a node, requests, properties, in ten lines.
//!
//! [`Simulation`] runs many seeds; the first that violates a property is shrunk, and the panic
//! message holds the property, the schedule, the trace, and the commands that run it again and save
//! it. Five environment variables change that:
//!
//! | variable | meaning |
//! |---|---|
//! | `STORMGLASS_SEED=17` | this seed only |
//! | `STORMGLASS_SEEDS=100000` | this many seeds instead of the test's number |
//! | `STORMGLASS_SECONDS=60` | the seeds that are finished in this wall time |
//! | `STORMGLASS_REPLAY=FILE` | this schedule instead of any seed |
//! | `STORMGLASS_SAVE=DIR` | write the schedule of a failure there |
//!
//! The [guide](crate::guide) builds one from an empty crate.

#[cfg(feature = "proptest")]
mod cases;
mod environment;
mod report;

use std::fmt;

use stormglass_node::{Micros, Node, NodeId, RequestId};

#[cfg(feature = "proptest")]
pub use cases::{check_faults, faults, proptest_config};
pub use report::{check, replay};

use crate::limits::RunLimits;
use crate::plan::Plan;
use crate::profile::{Profile, Rng, Setup};
use crate::property::{Checker, Property, PropertyChecker};
use crate::protocol::{Json, Protocol};
use crate::workload::{ClientId, PlannedRequest, RetryingClients};

/// Draws a request, and the node that receives it.
type RequestGenerator<N> = Box<dyn Fn(&mut Rng) -> (NodeId, <N as Node>::Request) + Send + Sync>;

/// The configuration for a cluster of that size.
type Configure<N> = Box<dyn Fn(&Plan) -> <N as Node>::Config + Send + Sync>;

/// Builds a simulation for a test. Each client sends one request after another, and resends it
/// until it is answered.
pub struct Simulation<N: Node, C = ()> {
    config: Configure<N>,
    generate_request: Option<RequestGenerator<N>>,
    setup: Setup,
    retry_after: Micros,
    checker: C,
    seeds: u64,
    limits: RunLimits,
    detects_lost_history: bool,
}

impl<N: Node> Simulation<N> {
    /// A simulation of nodes with this configuration.
    pub fn new(config: N::Config) -> Self
    where
        N::Config: Send + Sync + 'static,
    {
        Simulation::with_config(move |_| config.clone())
    }

    /// A simulation of nodes whose configuration depends on the size of the cluster.
    pub fn with_config(config: impl Fn(&Plan) -> N::Config + Send + Sync + 'static) -> Self {
        // A default for protocols that do not mention it; builder methods override it.
        let setup = Setup { txns: Some(20), ..Setup::default() };
        Simulation {
            config: Box::new(config),
            generate_request: None,
            setup,
            // Longer than a request with a sync takes without faults, so that clients resend only
            // what was lost or is slow.
            retry_after: Micros::from_millis(20),
            checker: (),
            // Some tenths of a second for most protocols. Rare bugs need more: `STORMGLASS_SEEDS`.
            seeds: 1_000,
            limits: RunLimits::default(),
            detects_lost_history: false,
        }
    }
}

impl<N: Node, C> Simulation<N, C> {
    /// The number of nodes, 1 to 64. By default each seed draws its own number.
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
    pub fn retry_after(mut self, interval: Micros) -> Self {
        assert!(
            interval >= Micros::from_millis(1),
            "the retry interval of a client is at least 1,000 us, not {}",
            interval.0
        );
        self.retry_after = interval;
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

    /// Adds a property.
    #[must_use]
    pub fn property<P: Property<N>>(self, property: P) -> Simulation<N, (C, PropertyChecker<P>)> {
        let Simulation {
            config,
            generate_request,
            setup,
            retry_after,
            checker,
            seeds,
            limits,
            detects_lost_history,
        } = self;
        Simulation {
            config,
            generate_request,
            setup,
            retry_after,
            checker: (checker, PropertyChecker(property)),
            seeds,
            limits,
            detects_lost_history,
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

    fn setup(&self) -> Setup {
        self.setup
    }

    fn limits(&self) -> RunLimits {
        self.limits
    }

    fn detects_lost_history(&self) -> bool {
        self.detects_lost_history
    }

    fn config(&self, plan: &Plan) -> N::Config {
        (self.config)(plan)
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
        _plan: &Plan,
        requests: Vec<PlannedRequest<Json<N::Request>>>,
    ) -> RetryingClients<N> {
        let requests = requests.into_iter().map(|planned| planned.map(|Json(request)| request));
        RetryingClients::new(requests.collect(), self.retry_after)
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
