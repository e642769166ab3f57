//! Storms in `#[test]`: a node, what clients want of it, claims, and ten lines.
//!
//! [`Simulation`] hunts so many seeds; the first that breaks a claim is shrunk, and the panic message holds the claim, the
//! schedule, the trace, and the commands that run it again and keep it. Four variables say otherwise:
//!
//! | variable | meaning |
//! |---|---|
//! | `STORMGLASS_SEED=17` | this seed only |
//! | `STORMGLASS_SEEDS=100000` | so many seeds instead of what the test says |
//! | `STORMGLASS_REPLAY=FILE` | this schedule instead of any seed |
//! | `STORMGLASS_SAVE=DIR` | write the schedule of a failure there |
//!
//! The [guide](crate::guide) builds one from nothing.

#[cfg(feature = "proptest")]
mod cases;
mod environment;
mod report;

use std::fmt;

use stormglass::{Node, NodeId, RequestId};

#[cfg(feature = "proptest")]
pub use cases::{config, faults, survives};
pub use report::{check, replay};

use crate::plan::Plan;
use crate::profile::{Profile, Rng, Setup};
use crate::property::{Checker, Property, PropertyChecker};
use crate::protocol::{Scene, to_json};
use crate::schedule::{Cursor, ParseError};
use crate::workload::{PlannedRequest, RetryingClients};

/// Draws a request, and the node that is asked.
type RequestGenerator<N> = Box<dyn Fn(&mut Rng) -> (NodeId, <N as Node>::Request) + Send + Sync>;

/// What an operator would set for a cluster of that size.
type Configure<N> = Box<dyn Fn(&Plan) -> <N as Node>::Config + Send + Sync>;

/// Builds a storm for a test. Each client asks one request after another, and repeats it until it is answered.
pub struct Simulation<N: Node, J = ()> {
    config: Configure<N>,
    generate_request: Option<RequestGenerator<N>>,
    setup: Setup,
    retry_us: u64,
    checker: J,
    seeds: u64,
}

impl<N: Node> Simulation<N> {
    /// A storm over nodes with this configuration.
    pub fn new(config: N::Config) -> Self
    where
        N::Config: Send + Sync + 'static,
    {
        Simulation::with(move |_| config.clone())
    }

    /// A storm over nodes whose configuration depends on the size of the cluster.
    pub fn with(config: impl Fn(&Plan) -> N::Config + Send + Sync + 'static) -> Self {
        let setup = Setup { txns: Some(20), ..Setup::default() };
        Simulation {
            config: Box::new(config),
            generate_request: None,
            setup,
            retry_us: 20_000,
            checker: (),
            seeds: 500,
        }
    }
}

impl<N: Node, J> Simulation<N, J> {
    /// So many nodes, 1 to 64; each seed draws its own number if this is not said.
    ///
    /// # Panics
    /// If there are none, or more than 64.
    #[must_use]
    #[track_caller]
    pub fn nodes(mut self, nodes: u16) -> Self {
        assert!((1..=64).contains(&nodes), "a storm has 1 to 64 nodes, not {nodes}");
        self.setup.nodes = Some(nodes);
        self
    }

    /// What clients want: `count` requests, each drawn by `generate_request`, spread over the storm.
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

    /// How long a client waits for an answer before it asks again, in microseconds, 1,000 or more. 20,000 if this is not
    /// said.
    ///
    /// # Panics
    /// If it is less: the storm would consist of questions.
    #[must_use]
    #[track_caller]
    pub fn retry_after(mut self, us: u64) -> Self {
        assert!(us >= 1_000, "a client waits for 1,000 us or more before it asks again, not {us}");
        self.retry_us = us;
        self
    }

    /// Which kind of storm; the swarm if this is not said.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.setup.profile = profile;
        self
    }

    /// How many seeds [`check`](Self::check) runs, 1 or more; 500 if this is not said.
    ///
    /// # Panics
    /// If it is none: a test that runs nothing must not pass.
    #[must_use]
    #[track_caller]
    pub fn seeds(mut self, seeds: u64) -> Self {
        assert!(seeds > 0, "a storm of no seeds shows nothing");
        self.seeds = seeds;
        self
    }

    /// One more claim.
    #[must_use]
    pub fn property<O: Property<N>>(self, property: O) -> Simulation<N, (J, PropertyChecker<O>)> {
        let Simulation { config, generate_request, setup, retry_us, checker, seeds } = self;
        Simulation {
            config,
            generate_request,
            setup,
            retry_us,
            checker: (checker, PropertyChecker(property)),
            seeds,
        }
    }
}

impl<N, J> Simulation<N, J>
where
    N: Node,
    N::Request: Send + Sync,
    J: Checker<N> + Sync,
{
    /// Runs the seeds.
    ///
    /// # Panics
    /// If one breaks a claim: with the claim, the shrunk schedule, its trace, and the commands that run it again and
    /// keep it. If none does, and it shows nothing: nobody has said what clients want
    /// ([`requests`](Self::requests), with 0 where a protocol has no clients), or an oracle's
    /// [`sometimes`](Property::sometimes) was never seen.
    #[track_caller]
    pub fn check(&self) {
        assert!(
            self.generate_request.is_some(),
            "nobody asks for anything: say with `.requests(...)` what clients want"
        );
        check(self, &self.setup, self.seeds);
    }

    /// Runs a schedule.
    ///
    /// # Panics
    /// If it cannot be read, or does not end as it says: `holds` must hold, `breaks NAME` must break that claim.
    #[track_caller]
    pub fn replay(&self, text: &str) {
        replay(self, text);
    }

    /// Lists of faults that can happen to this storm's first seed: a strategy for proptest. See [`faults`].
    #[cfg(feature = "proptest")]
    pub fn faults(
        &self,
    ) -> impl proptest::strategy::Strategy<Value = Vec<crate::fault::Fault>> + use<N, J> {
        faults(self, &self.setup)
    }

    /// Runs this storm's first seed under these faults: the body of a property.
    ///
    /// # Errors
    /// If a claim breaks: with the claim, the faults as a schedule, its trace, and how to run it again and keep it.
    #[cfg(feature = "proptest")]
    pub fn survives(
        &self,
        faults: &[crate::fault::Fault],
    ) -> Result<(), proptest::test_runner::TestCaseError> {
        survives(self, &self.setup, faults)
    }
}

impl<N, J> Scene for Simulation<N, J>
where
    N: Node,
    N::Request: Send + Sync,
    J: Checker<N> + Sync,
{
    type Node = N;
    type Request = N::Request;
    type Workload = RetryingClients<N>;
    type Checker = J;

    /// The name of the node's type, without its path.
    fn name(&self) -> &str {
        let name = std::any::type_name::<N>();
        let path = name.split('<').next().unwrap_or(name);
        &name[path.rfind("::").map_or(0, |at| at + 2)..]
    }

    fn config(&self, plan: &Plan) -> N::Config {
        (self.config)(plan)
    }

    fn requests(
        &self,
        setup: &Setup,
        plan: &mut Plan,
        rng: &mut Rng,
    ) -> Vec<PlannedRequest<N::Request>> {
        let Some(generate_request) = &self.generate_request else { return Vec::new() };
        let count = setup.txns.or(self.setup.txns).unwrap_or(20);
        let interval_us = plan.fault_phase_us * u64::from(plan.clients) / u64::from(count.max(1));
        let planned = |nth: u32| {
            let (node, what) = generate_request(rng);
            let id = RequestId {
                client: u64::from(1 + nth % plan.clients),
                serial: 1 + nth / plan.clients,
                attempt: 0,
            };
            PlannedRequest { id, node, after_us: rng.between(0, interval_us), what }
        };
        (0..count).map(planned).collect()
    }

    fn clients(
        &self,
        _plan: &Plan,
        requests: Vec<PlannedRequest<N::Request>>,
    ) -> RetryingClients<N> {
        RetryingClients::new(requests, self.retry_us)
    }

    fn checker(&self, _plan: &Plan) -> J {
        self.checker.clone()
    }

    fn write_request(&self, order: &N::Request, _nodes: u16) -> String {
        to_json(order)
    }

    fn read_request(&self, text: &mut Cursor<'_>) -> Result<N::Request, ParseError> {
        text.json()
    }
}

impl<N: Node, J> fmt::Debug for Simulation<N, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storm")
            .field("setup", &self.setup)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}
