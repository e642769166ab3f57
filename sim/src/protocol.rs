//! A protocol under test: a node, its clients, and its checkers.
//!
//! A [`Protocol`] is a type and has the command line; a [`Scene`] is the same as a value, on which
//! hunts, replays and shrinks work. [`Simulation`](crate::simulation::Simulation), the builder for
//! tests, is a scene of its own.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use stormglass_node::{Node, NodeId};

use crate::chooser::{Chooser, Seeded};
use crate::plan::Plan;
use crate::profile::{Rates, Rng, Setup, draw_plan};
use crate::property::{Checker, Sometimes};
use crate::schedule::{Cursor, ParseError};
use crate::tally::Tally;
use crate::workload::{PlannedRequest, Workload};
use crate::world::{RunOutcome, World};

/// A node, a workload and checkers: all that the command line needs (`cli::main`).
pub trait Protocol: Sized + 'static {
    /// The name of the protocol, for help and reports.
    const NAME: &'static str;
    /// The command that starts this protocol's command line, without arguments. `None` for the path
    /// of the program.
    const COMMAND: Option<&'static str> = None;
    /// Every kind of message, request, response and record
    /// ([`Label::kind`](stormglass_node::Label::kind)), so that a typo in a schedule is an error
    /// and not a coordinate that is never reached. Empty to accept any word.
    const KINDS: &'static [&'static str] = &[];
    /// The names of its properties, so that a typo in a schedule is an error, too. Empty to accept
    /// any name.
    const PROPERTIES: &'static [&'static str] = &[];
    /// The state machine.
    type Node: Node;
    /// A client's request, as a schedule lists it. Often the node's request.
    type Request: Clone + Debug + Serialize + DeserializeOwned + Send + Sync;
    /// Its clients.
    type Workload: Workload<Self::Node>;
    /// Its properties.
    type Checker: Checker<Self::Node>;

    /// The node's configuration in this cluster.
    fn config(plan: &Plan) -> <Self::Node as Node>::Config;
    /// The planned requests, drawn from the seed. May adjust the plan (`recovery_timeout_us`, for
    /// example).
    fn requests(
        setup: &Setup,
        plan: &mut Plan,
        rng: &mut Rng,
    ) -> Vec<PlannedRequest<Self::Request>>;
    /// Clients with exactly these requests.
    fn clients(plan: &Plan, requests: Vec<PlannedRequest<Self::Request>>) -> Self::Workload;
    /// The checkers of one run.
    fn checker(plan: &Plan) -> Self::Checker;
    /// The checkers for event logs of real nodes. There was no end of a fault phase, and no probe.
    fn log_checker(plan: &Plan) -> Self::Checker {
        Self::checker(plan)
    }
    /// Adds the `sometimes` counters that depend on injected faults, besides those of checkers and
    /// clients.
    fn sometimes(_tally: &Tally, _rows: &mut Sometimes) {}
    /// Resets the checkers for another run. Override it to reuse their memory.
    fn reset_checker(checker: &mut Self::Checker, plan: &Plan) {
        *checker = Self::checker(plan);
    }

    /// A request as a schedule of a cluster with this many nodes shows it: one line, by default
    /// JSON.
    fn write_request(request: &Self::Request, _nodes: u16) -> String {
        to_json(request)
    }
    /// Reads the output of [`write_request`](Self::write_request).
    ///
    /// # Errors
    /// If the text is no request.
    fn read_request(text: &mut Cursor<'_>) -> Result<Self::Request, ParseError> {
        text.json()
    }
    /// Every slightly simpler request, the simplest first. Shrinking tries each.
    fn simplifications(_request: &Self::Request) -> Vec<Self::Request> {
        Vec::new()
    }
    /// One request with the effect of two; `None` if there is none. Shrinking tries it in large
    /// schedules.
    fn merged(_one: &Self::Request, _other: &Self::Request) -> Option<Self::Request> {
        None
    }
    /// The same request in a cluster with other node numbers; `None` if it needs a node that was
    /// removed.
    fn renumbered(
        request: &Self::Request,
        _new_id: &dyn Fn(NodeId) -> Option<NodeId>,
    ) -> Option<Self::Request> {
        Some(request.clone())
    }

    /// The protocol's benchmark, if it has one: runs one seed after another.
    fn bench(_run: BenchRun) -> Option<Box<dyn FnMut(u64) -> BenchResult>> {
        None
    }
}

/// A protocol as a value. [`Protocol`] documents the methods.
#[allow(missing_docs, reason = "each is that of `Protocol`")]
pub trait Scene: Sync {
    type Node: Node;
    type Request: Clone + Debug + Send + Sync;
    type Workload: Workload<Self::Node>;
    type Checker: Checker<Self::Node>;

    fn name(&self) -> &str;
    fn command(&self) -> Option<&str> {
        None
    }
    fn kinds(&self) -> &[&'static str] {
        &[]
    }
    fn properties(&self) -> &[&'static str] {
        &[]
    }
    fn config(&self, plan: &Plan) -> <Self::Node as Node>::Config;
    fn requests(
        &self,
        setup: &Setup,
        plan: &mut Plan,
        rng: &mut Rng,
    ) -> Vec<PlannedRequest<Self::Request>>;
    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<Self::Request>>) -> Self::Workload;
    fn checker(&self, plan: &Plan) -> Self::Checker;
    fn log_checker(&self, plan: &Plan) -> Self::Checker {
        self.checker(plan)
    }
    fn sometimes(&self, _tally: &Tally, _rows: &mut Sometimes) {}
    fn reset_checker(&self, checker: &mut Self::Checker, plan: &Plan) {
        *checker = self.checker(plan);
    }
    fn write_request(&self, request: &Self::Request, nodes: u16) -> String;
    /// # Errors
    /// If the text is no request.
    fn read_request(&self, text: &mut Cursor<'_>) -> Result<Self::Request, ParseError>;
    fn simplifications(&self, _request: &Self::Request) -> Vec<Self::Request> {
        Vec::new()
    }
    fn merged(&self, _one: &Self::Request, _other: &Self::Request) -> Option<Self::Request> {
        None
    }
    fn bench(&self, _run: BenchRun) -> Option<Box<dyn FnMut(u64) -> BenchResult>> {
        None
    }
    fn renumbered(
        &self,
        request: &Self::Request,
        _new_id: &dyn Fn(NodeId) -> Option<NodeId>,
    ) -> Option<Self::Request> {
        Some(request.clone())
    }
}

/// The [`Scene`] of a [`Protocol`].
#[derive(Debug)]
pub struct Of<P>(PhantomData<fn() -> P>);

impl<P> Of<P> {
    /// This protocol, as a value.
    pub const fn new() -> Self {
        Of(PhantomData)
    }
}

impl<P> Clone for Of<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Of<P> {}

impl<P> Default for Of<P> {
    fn default() -> Self {
        Of::new()
    }
}

impl<P: Protocol> Scene for Of<P> {
    type Node = P::Node;
    type Request = P::Request;
    type Workload = P::Workload;
    type Checker = P::Checker;

    fn name(&self) -> &str {
        P::NAME
    }
    fn command(&self) -> Option<&str> {
        P::COMMAND
    }
    fn kinds(&self) -> &[&'static str] {
        P::KINDS
    }
    fn properties(&self) -> &[&'static str] {
        P::PROPERTIES
    }
    fn config(&self, plan: &Plan) -> <P::Node as Node>::Config {
        P::config(plan)
    }
    fn requests(
        &self,
        setup: &Setup,
        plan: &mut Plan,
        rng: &mut Rng,
    ) -> Vec<PlannedRequest<P::Request>> {
        P::requests(setup, plan, rng)
    }
    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<P::Request>>) -> P::Workload {
        P::clients(plan, requests)
    }
    fn checker(&self, plan: &Plan) -> P::Checker {
        P::checker(plan)
    }
    fn log_checker(&self, plan: &Plan) -> P::Checker {
        P::log_checker(plan)
    }
    fn sometimes(&self, tally: &Tally, rows: &mut Sometimes) {
        P::sometimes(tally, rows);
    }
    fn reset_checker(&self, checker: &mut P::Checker, plan: &Plan) {
        P::reset_checker(checker, plan);
    }
    fn write_request(&self, request: &P::Request, nodes: u16) -> String {
        P::write_request(request, nodes)
    }
    fn read_request(&self, text: &mut Cursor<'_>) -> Result<P::Request, ParseError> {
        P::read_request(text)
    }
    fn simplifications(&self, request: &P::Request) -> Vec<P::Request> {
        P::simplifications(request)
    }
    fn bench(&self, run: BenchRun) -> Option<Box<dyn FnMut(u64) -> BenchResult>> {
        P::bench(run)
    }
    fn merged(&self, one: &P::Request, other: &P::Request) -> Option<P::Request> {
        P::merged(one, other)
    }

    fn renumbered(
        &self,
        request: &P::Request,
        new_id: &dyn Fn(NodeId) -> Option<NodeId>,
    ) -> Option<P::Request> {
        P::renumbered(request, new_id)
    }
}

/// A value as one line of JSON.
pub(crate) fn to_json<T: Serialize>(request: &T) -> String {
    serde_json::to_string(request).expect("a request serialises to JSON")
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
    /// Virtual time until the last decision, in microseconds.
    pub virtual_us: u64,
}

/// The world of a scene with a checker and a chooser.
pub type WorldOf<S, K, C> = World<<S as Scene>::Node, <S as Scene>::Workload, K, C>;

/// Everything that a seed draws before the run starts.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DrawnRun<O> {
    pub plan: Plan,
    pub rates: Rates,
    pub requests: Vec<PlannedRequest<O>>,
    pub chooser: Seeded,
}

/// Draws a run from its seed.
pub fn draw_run<P: Protocol>(setup: &Setup, seed: u64) -> DrawnRun<P::Request> {
    draw_run_in(&Of::<P>::new(), setup, seed)
}

/// Draws a run of a scene from its seed.
pub fn draw_run_in<S: Scene>(scene: &S, setup: &Setup, seed: u64) -> DrawnRun<S::Request> {
    let mut rng = Rng::new(seed);
    let (mut plan, rates) = draw_plan(setup, &mut rng);
    let requests = scene.requests(setup, &mut plan, &mut rng);
    let chooser = Seeded::new(&plan, rates, &mut rng);
    DrawnRun { plan, rates, requests, chooser }
}

/// A world that is ready to run a seed. `observer` checks each fact before the protocol's checker
/// does, so that it observes the violating fact.
pub fn world<P, C, T>(
    drawn: DrawnRun<P::Request>,
    wrap: impl FnOnce(Seeded) -> C,
    observer: T,
) -> WorldOf<Of<P>, (T, P::Checker), C>
where
    P: Protocol,
    C: Chooser,
    T: Checker<P::Node>,
{
    world_in(&Of::<P>::new(), drawn, wrap, observer)
}

/// The same for a scene.
pub fn world_in<S, C, T>(
    scene: &S,
    drawn: DrawnRun<S::Request>,
    wrap: impl FnOnce(Seeded) -> C,
    observer: T,
) -> WorldOf<S, (T, S::Checker), C>
where
    S: Scene,
    C: Chooser,
    T: Checker<S::Node>,
{
    let DrawnRun { plan, requests, chooser, .. } = drawn;
    let (config, clients, checker) =
        (scene.config(&plan), scene.clients(&plan, requests), scene.checker(&plan));
    World::new(config, plan, clients, (observer, checker), wrap(chooser))
}
