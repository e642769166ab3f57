//! What makes a protocol huntable: a node, clients who want something of it, and judges.

use stormglass::Node;

use crate::chooser::{Chooser, Seeded};
use crate::oracle::{Judge, Sometimes};
use crate::plan::Plan;
use crate::profile::{Draw, Rates, Setup, draw};
use crate::tally::Tally;
use crate::workload::Workload;
use crate::world::{Ending, World};

/// A bundle of node, workload and judges: all that the command line needs (`cli::main`).
pub trait Protocol: Sized + 'static {
    /// The name of the protocol, for help and reports.
    const NAME: &'static str;
    /// What one types to run this protocol's command line, up to the first argument. `None` for the path under which
    /// it was started.
    const COMMAND: Option<&'static str> = None;
    /// The state machine.
    type Node: Node;
    /// Its clients.
    type Workload: Workload<Self::Node>;
    /// The claims.
    type Judge: Judge<Self::Node>;

    /// What an operator would set for this cluster.
    fn config(plan: &Plan) -> <Self::Node as Node>::Config;
    /// An explicit list of requests, drawn from the seed. May adjust the plan (`patience_us`, say).
    fn workload(setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Self::Workload;
    /// The judges of one run.
    fn judge(plan: &Plan) -> Self::Judge;
    /// What of the storm itself should sometimes reach this protocol, beside what judges and clients name.
    fn sometimes(_tally: &Tally, _rows: &mut Sometimes) {}
    /// The same judges for another run: those that are worth it keep their memory.
    fn judge_again(judge: &mut Self::Judge, plan: &Plan) {
        *judge = Self::judge(plan);
    }
    /// This protocol's benchmark, if it has one: runs one seed after another.
    fn bench(_run: BenchRun) -> Option<Box<dyn FnMut(u64) -> Benched>> {
        None
    }
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

/// The world of a protocol under some chooser and some judge.
pub type WorldOf<P, J, C> = World<<P as Protocol>::Node, <P as Protocol>::Workload, J, C>;

/// Everything that a seed has drawn before its first moment.
#[derive(Clone, Debug)]
pub struct Drawn<W> {
    /// Size and length.
    pub plan: Plan,
    /// How hard it blows.
    pub rates: Rates,
    /// What clients want.
    pub workload: W,
    /// What goes wrong.
    pub chooser: Seeded,
}

/// Draws a run from its seed.
pub fn drawn<P: Protocol>(setup: &Setup, seed: u64) -> Drawn<P::Workload> {
    let mut source = Draw::new(seed);
    let (mut plan, rates) = draw(setup, &mut source);
    let workload = P::workload(setup, &mut plan, &mut source);
    let chooser = Seeded::new(&plan, rates, &mut source);
    Drawn { plan, rates, workload, chooser }
}

/// A world that is about to run a seed, watched by `watch` first, so that it sees what breaks a claim, and then by
/// the protocol's judge.
pub fn world<P, C, T>(
    drawn: Drawn<P::Workload>,
    wrap: impl FnOnce(Seeded) -> C,
    watch: T,
) -> WorldOf<P, (T, P::Judge), C>
where
    P: Protocol,
    C: Chooser,
    T: Judge<P::Node>,
{
    let judge = P::judge(&drawn.plan);
    World::new(P::config(&drawn.plan), drawn.plan, drawn.workload, (watch, judge), wrap(drawn.chooser))
}
