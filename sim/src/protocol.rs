//! What makes a protocol huntable: a node, clients who want something of it, and judges.
//!
//! A [`Protocol`] is a type and has the command line; a [`Scene`] is the same as a value, which is what hunts, replays
//! and shrinks work on. [`Storm`](crate::storm::Storm), the builder for tests, is a scene of its own.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use stormglass::{Node, NodeId};

use crate::chooser::{Chooser, Seeded};
use crate::oracle::{Judge, Sometimes};
use crate::plan::Plan;
use crate::profile::{Draw, Rates, Setup, draw};
use crate::schedule::{Cursor, Problem};
use crate::tally::Tally;
use crate::workload::{Wish, Workload};
use crate::world::{Ending, World};

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
    const CLAIMS: &'static [&'static str] = &[];
    /// The state machine.
    type Node: Node;
    /// What a client may want, as a schedule lists it. Often the node's request.
    type Order: Clone + Debug + Serialize + DeserializeOwned + Send + Sync;
    /// Its clients.
    type Workload: Workload<Self::Node>;
    /// The claims.
    type Judge: Judge<Self::Node>;

    /// What an operator would set for this cluster.
    fn config(plan: &Plan) -> <Self::Node as Node>::Config;
    /// An explicit list of wishes, drawn from the seed. May adjust the plan (`patience_us`, say).
    fn wishes(setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<Self::Order>>;
    /// Clients with exactly these wishes.
    fn clients(plan: &Plan, wishes: Vec<Wish<Self::Order>>) -> Self::Workload;
    /// The judges of one run.
    fn judge(plan: &Plan) -> Self::Judge;
    /// The judges of what real nodes have written down. There was no clearing, and nobody probes.
    fn judge_of_logs(plan: &Plan) -> Self::Judge {
        Self::judge(plan)
    }
    /// What of the storm itself should sometimes reach this protocol, beside what judges and clients name.
    fn sometimes(_tally: &Tally, _rows: &mut Sometimes) {}
    /// The same judges for another run: those that are worth it keep their memory.
    fn judge_again(judge: &mut Self::Judge, plan: &Plan) {
        *judge = Self::judge(plan);
    }

    /// An order as a schedule of a cluster of so many nodes shows it: one line, by default JSON.
    fn write_order(order: &Self::Order, _nodes: u16) -> String {
        to_json(order)
    }
    /// Reads what [`write_order`](Self::write_order) writes.
    ///
    /// # Errors
    /// Where it is not that, and what was expected.
    fn read_order(text: &mut Cursor<'_>) -> Result<Self::Order, Problem> {
        text.json()
    }
    /// Every way to want a little less, the boldest first. Shrinking tries each.
    fn simpler(_order: &Self::Order) -> Vec<Self::Order> {
        Vec::new()
    }
    /// One order that wants what two want; `None` if there is none. Shrinking tries it where there are many.
    fn joined(_one: &Self::Order, _other: &Self::Order) -> Option<Self::Order> {
        None
    }
    /// The same order in a cluster whose nodes bear other numbers; `None` if it needs one that is gone.
    fn renumbered(order: &Self::Order, _number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Self::Order> {
        Some(order.clone())
    }

    /// This protocol's benchmark, if it has one: runs one seed after another.
    fn bench(_run: BenchRun) -> Option<Box<dyn FnMut(u64) -> Benched>> {
        None
    }
}

/// A protocol as a value. See [`Protocol`] for what each of these is.
#[allow(missing_docs, reason = "each is that of `Protocol`")]
pub trait Scene: Sync {
    type Node: Node;
    type Order: Clone + Debug + Send + Sync;
    type Workload: Workload<Self::Node>;
    type Judge: Judge<Self::Node>;

    fn name(&self) -> &str;
    fn command(&self) -> Option<&str> {
        None
    }
    fn kinds(&self) -> &[&'static str] {
        &[]
    }
    fn claims(&self) -> &[&'static str] {
        &[]
    }
    fn config(&self, plan: &Plan) -> <Self::Node as Node>::Config;
    fn wishes(&self, setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<Self::Order>>;
    fn clients(&self, plan: &Plan, wishes: Vec<Wish<Self::Order>>) -> Self::Workload;
    fn judge(&self, plan: &Plan) -> Self::Judge;
    fn judge_of_logs(&self, plan: &Plan) -> Self::Judge {
        self.judge(plan)
    }
    fn sometimes(&self, _tally: &Tally, _rows: &mut Sometimes) {}
    fn judge_again(&self, judge: &mut Self::Judge, plan: &Plan) {
        *judge = self.judge(plan);
    }
    fn write_order(&self, order: &Self::Order, nodes: u16) -> String;
    /// # Errors
    /// Where it is none, and what was expected.
    fn read_order(&self, text: &mut Cursor<'_>) -> Result<Self::Order, Problem>;
    fn simpler(&self, _order: &Self::Order) -> Vec<Self::Order> {
        Vec::new()
    }
    fn joined(&self, _one: &Self::Order, _other: &Self::Order) -> Option<Self::Order> {
        None
    }
    fn bench(&self, _run: BenchRun) -> Option<Box<dyn FnMut(u64) -> Benched>> {
        None
    }
    fn renumbered(
        &self,
        order: &Self::Order,
        _number: &dyn Fn(NodeId) -> Option<NodeId>,
    ) -> Option<Self::Order> {
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
    type Order = P::Order;
    type Workload = P::Workload;
    type Judge = P::Judge;

    fn name(&self) -> &str {
        P::NAME
    }
    fn command(&self) -> Option<&str> {
        P::COMMAND
    }
    fn kinds(&self) -> &[&'static str] {
        P::KINDS
    }
    fn claims(&self) -> &[&'static str] {
        P::CLAIMS
    }
    fn config(&self, plan: &Plan) -> <P::Node as Node>::Config {
        P::config(plan)
    }
    fn wishes(&self, setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<P::Order>> {
        P::wishes(setup, plan, draw)
    }
    fn clients(&self, plan: &Plan, wishes: Vec<Wish<P::Order>>) -> P::Workload {
        P::clients(plan, wishes)
    }
    fn judge(&self, plan: &Plan) -> P::Judge {
        P::judge(plan)
    }
    fn judge_of_logs(&self, plan: &Plan) -> P::Judge {
        P::judge_of_logs(plan)
    }
    fn sometimes(&self, tally: &Tally, rows: &mut Sometimes) {
        P::sometimes(tally, rows);
    }
    fn judge_again(&self, judge: &mut P::Judge, plan: &Plan) {
        P::judge_again(judge, plan);
    }
    fn write_order(&self, order: &P::Order, nodes: u16) -> String {
        P::write_order(order, nodes)
    }
    fn read_order(&self, text: &mut Cursor<'_>) -> Result<P::Order, Problem> {
        P::read_order(text)
    }
    fn simpler(&self, order: &P::Order) -> Vec<P::Order> {
        P::simpler(order)
    }
    fn bench(&self, run: BenchRun) -> Option<Box<dyn FnMut(u64) -> Benched>> {
        P::bench(run)
    }
    fn joined(&self, one: &P::Order, other: &P::Order) -> Option<P::Order> {
        P::joined(one, other)
    }

    fn renumbered(&self, order: &P::Order, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<P::Order> {
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
pub struct Benched {
    /// How the run ended.
    pub ending: Ending,
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
pub struct Drawn<O> {
    /// Size and length.
    pub plan: Plan,
    /// How hard it blows.
    pub rates: Rates,
    /// What clients want.
    pub wishes: Vec<Wish<O>>,
    /// What goes wrong.
    pub chooser: Seeded,
}

/// Draws a run from its seed.
pub fn drawn<P: Protocol>(setup: &Setup, seed: u64) -> Drawn<P::Order> {
    drawn_in(&Of::<P>::new(), setup, seed)
}

/// Draws a run of a scene from its seed.
pub fn drawn_in<S: Scene>(scene: &S, setup: &Setup, seed: u64) -> Drawn<S::Order> {
    let mut source = Draw::new(seed);
    let (mut plan, rates) = draw(setup, &mut source);
    let wishes = scene.wishes(setup, &mut plan, &mut source);
    let chooser = Seeded::new(&plan, rates, &mut source);
    Drawn { plan, rates, wishes, chooser }
}

/// A world that is about to run a seed, watched by `watch` first, so that it sees what breaks a claim, and then by
/// the protocol's judge.
pub fn world<P, C, T>(
    drawn: Drawn<P::Order>,
    wrap: impl FnOnce(Seeded) -> C,
    watch: T,
) -> WorldOf<Of<P>, (T, P::Judge), C>
where
    P: Protocol,
    C: Chooser,
    T: Judge<P::Node>,
{
    world_in(&Of::<P>::new(), drawn, wrap, watch)
}

/// The same for a scene.
pub fn world_in<S, C, T>(
    scene: &S,
    drawn: Drawn<S::Order>,
    wrap: impl FnOnce(Seeded) -> C,
    watch: T,
) -> WorldOf<S, (T, S::Judge), C>
where
    S: Scene,
    C: Chooser,
    T: Judge<S::Node>,
{
    let Drawn { plan, wishes, chooser, .. } = drawn;
    let (config, clients, judge) = (scene.config(&plan), scene.clients(&plan, wishes), scene.judge(&plan));
    World::new(config, plan, clients, (watch, judge), wrap(chooser))
}
