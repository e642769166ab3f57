//! What makes a protocol huntable: a node, clients who want something of it, and judges.
//!
//! A [`Protocol`] is a type and has the command line; a [`Scene`] is the same as a value, which is what hunts, replays
//! and shrinks work on. [`Simulation`](crate::simulation::Simulation), the builder for tests, is a scene of its own.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use stormglass::{Node, NodeId};

use crate::chooser::{Chooser, Seeded};
use crate::plan::Plan;
use crate::profile::{Rates, Rng, Setup, rng};
use crate::property::{Checker, Sometimes};
use crate::schedule::{Cursor, ParseError};
use crate::tally::Tally;
use crate::workload::{PlannedRequest, Workload};
use crate::world::{RunOutcome, World};

/// A bundle of node, workload and judges: all that the command line needs (`cli::main`).
pub trait Protocol: Sized + 'static {
    /// The name of the protocol, for help and reports.
    const NAME: &'static str;
    /// What one types to run this protocol's command line, up to the first argument. `None` for the path under which
    /// it was started.
    const COMMAND: Option<&'static str> = None;
    /// Every kind of message, request, response and record ([`Label::kind`](stormglass::Label::kind)), so that a typo
    /// in a schedule is an error and not a coordinate that never comes up. Empty if any word is to be believed.
    const KINDS: &'static [&'static str] = &[];
    /// The names of its claims, so that a typo in a schedule is an error, too. Empty if any name is to be believed.
    const PROPERTIES: &'static [&'static str] = &[];
    /// The state machine.
    type Node: Node;
    /// What a client may want, as a schedule lists it. Often the node's request.
    type Request: Clone + Debug + Serialize + DeserializeOwned + Send + Sync;
    /// Its clients.
    type Workload: Workload<Self::Node>;
    /// The claims.
    type Checker: Checker<Self::Node>;

    /// What an operator would set for this cluster.
    fn config(plan: &Plan) -> <Self::Node as Node>::Config;
    /// An explicit list of wishes, drawn from the seed. May adjust the plan (`recovery_timeout_us`, say).
    fn requests(
        setup: &Setup,
        plan: &mut Plan,
        rng: &mut Rng,
    ) -> Vec<PlannedRequest<Self::Request>>;
    /// Clients with exactly these wishes.
    fn clients(plan: &Plan, requests: Vec<PlannedRequest<Self::Request>>) -> Self::Workload;
    /// The judges of one run.
    fn checker(plan: &Plan) -> Self::Checker;
    /// The judges of what real nodes have written down. There was no clearing, and nobody probes.
    fn log_checker(plan: &Plan) -> Self::Checker {
        Self::checker(plan)
    }
    /// What of the storm itself should sometimes reach this protocol, beside what judges and clients name.
    fn sometimes(_tally: &Tally, _rows: &mut Sometimes) {}
    /// The same judges for another run: those that are worth it keep their memory.
    fn reset_checker(checker: &mut Self::Checker, plan: &Plan) {
        *checker = Self::checker(plan);
    }

    /// An order as a schedule of a cluster of so many nodes shows it: one line, by default JSON.
    fn write_request(order: &Self::Request, _nodes: u16) -> String {
        to_json(order)
    }
    /// Reads what [`write_request`](Self::write_request) writes.
    ///
    /// # Errors
    /// Where it is not that, and what was expected.
    fn read_request(text: &mut Cursor<'_>) -> Result<Self::Request, ParseError> {
        text.json()
    }
    /// Every way to want a little less, the boldest first. Shrinking tries each.
    fn simplifications(_order: &Self::Request) -> Vec<Self::Request> {
        Vec::new()
    }
    /// One order that wants what two want; `None` if there is none. Shrinking tries it where there are many.
    fn merged(_one: &Self::Request, _other: &Self::Request) -> Option<Self::Request> {
        None
    }
    /// The same order in a cluster whose nodes bear other numbers; `None` if it needs one that is gone.
    fn renumbered(
        order: &Self::Request,
        _number: &dyn Fn(NodeId) -> Option<NodeId>,
    ) -> Option<Self::Request> {
        Some(order.clone())
    }

    /// This protocol's benchmark, if it has one: runs one seed after another.
    fn bench(_run: BenchRun) -> Option<Box<dyn FnMut(u64) -> BenchResult>> {
        None
    }
}

/// A protocol as a value. See [`Protocol`] for what each of these is.
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
    fn write_request(&self, order: &Self::Request, nodes: u16) -> String;
    /// # Errors
    /// Where it is none, and what was expected.
    fn read_request(&self, text: &mut Cursor<'_>) -> Result<Self::Request, ParseError>;
    fn simplifications(&self, _order: &Self::Request) -> Vec<Self::Request> {
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
        order: &Self::Request,
        _number: &dyn Fn(NodeId) -> Option<NodeId>,
    ) -> Option<Self::Request> {
        Some(order.clone())
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
    fn write_request(&self, order: &P::Request, nodes: u16) -> String {
        P::write_request(order, nodes)
    }
    fn read_request(&self, text: &mut Cursor<'_>) -> Result<P::Request, ParseError> {
        P::read_request(text)
    }
    fn simplifications(&self, order: &P::Request) -> Vec<P::Request> {
        P::simplifications(order)
    }
    fn bench(&self, run: BenchRun) -> Option<Box<dyn FnMut(u64) -> BenchResult>> {
        P::bench(run)
    }
    fn merged(&self, one: &P::Request, other: &P::Request) -> Option<P::Request> {
        P::merged(one, other)
    }

    fn renumbered(
        &self,
        order: &P::Request,
        number: &dyn Fn(NodeId) -> Option<NodeId>,
    ) -> Option<P::Request> {
        P::renumbered(order, number)
    }
}

/// An order as one line of JSON.
pub(crate) fn to_json<T: Serialize>(order: &T) -> String {
    serde_json::to_string(order).expect("what crosses the wire can be written as JSON")
}

/// How large a benchmark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchRun {
    /// Nodes, all of which take part.
    pub nodes: u16,
    /// Transactions, one after another.
    pub txns: u32,
    /// Chance that a message is lost, in 65,536ths.
    pub lose: u32,
}

/// What one seed of a benchmark has done.
#[derive(Clone, Debug)]
pub struct BenchResult {
    /// How the run ended.
    pub outcome: RunOutcome,
    /// Transactions committed.
    pub committed: u64,
    /// Transactions aborted.
    pub aborted: u64,
    /// Virtual time until the last decision, in microseconds.
    pub virtual_us: u64,
}

/// The world of a scene under some judge and some chooser.
pub type WorldOf<S, J, C> = World<<S as Scene>::Node, <S as Scene>::Workload, J, C>;

/// Everything that a seed has drawn before its first moment.
#[derive(Clone, Debug)]
pub struct DrawnRun<O> {
    /// Size and length.
    pub plan: Plan,
    /// How hard it blows.
    pub rates: Rates,
    /// What clients want.
    pub requests: Vec<PlannedRequest<O>>,
    /// What goes wrong.
    pub chooser: Seeded,
}

/// Draws a run from its seed.
pub fn drawn<P: Protocol>(setup: &Setup, seed: u64) -> DrawnRun<P::Request> {
    draw_run_in(&Of::<P>::new(), setup, seed)
}

/// Draws a run of a scene from its seed.
pub fn draw_run_in<S: Scene>(scene: &S, setup: &Setup, seed: u64) -> DrawnRun<S::Request> {
    let mut source = Rng::new(seed);
    let (mut plan, rates) = rng(setup, &mut source);
    let requests = scene.requests(setup, &mut plan, &mut source);
    let chooser = Seeded::new(&plan, rates, &mut source);
    DrawnRun { plan, rates, requests, chooser }
}

/// A world that is about to run a seed, watched by `observer` first, so that it sees what breaks a claim, and then by
/// the protocol's judge.
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
