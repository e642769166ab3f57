//! Changes to a commit node that preserve what it does: a driver around it that reports more, wakes it more often, sends
//! in another order, writes longer records. They measure how long a schedule keeps its meaning, and a seed does not.

mod node;

use std::fmt;

use stormglass::{Node, NodeId, RequestId};

use crate::chooser::Chooser;
use crate::oracle::Judge;
use crate::plan::Plan;
use crate::play::stage;
use crate::profile::{Draw, Setup};
use crate::protocol::{Scene, drawn_in, world_in};
use crate::schedule::{Cursor, Problem, Schedule};
use crate::shrink::Witness;
use crate::workload::{Wish, Workload};
use crate::world::World;
pub use node::{CommitLike, Edited};

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Display` says of each what it is")]
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
    /// Every change, but for none at all.
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
            Edit::None => "no change",
            Edit::MoreReports => "an additional report in each step",
            Edit::NoReports => "no reports at all",
            Edit::MoreWakes => "an additional timer that does nothing",
            Edit::EarlyWakes => "wakes before the deadline",
            Edit::LateWakes => "wakes a millisecond after the deadline",
            Edit::OtherEntropy => "another random draw at boot",
            Edit::LongerRecords => "longer keys: records of another size",
            Edit::OtherSendOrder => "sends to different nodes in another order",
            Edit::RepliesFirst => "answers before messages",
            Edit::AcksTwice => "each Ack sent twice",
            Edit::InquiriesTwice => "each Inquire sent twice",
            Edit::AnswersTwice => "each answer given twice",
            Edit::MoreMessages => "an additional harmless message before each",
            Edit::MoreBarriers => "each barrier made twice",
            Edit::OtherBarrierNumbers => "barriers numbered otherwise",
            Edit::OtherSerials => "transactions numbered otherwise",
            Edit::NeedlessRemovals => "an additional removal of a file that is not there",
        })
    }
}

/// A scene whose nodes are changed.
#[derive(Clone, Copy, Debug)]
pub struct EditedScene<S> {
    /// The scene as it was.
    pub scene: S,
    /// What is changed.
    pub edit: Edit,
}

impl<S> Scene for EditedScene<S>
where
    S: Scene,
    S::Node: CommitLike,
    S::Workload: Workload<Edited<S::Node>>,
    S::Judge: Judge<Edited<S::Node>>,
{
    type Node = Edited<S::Node>;
    type Order = S::Order;
    type Workload = S::Workload;
    type Judge = S::Judge;

    fn name(&self) -> &str {
        self.scene.name()
    }
    fn kinds(&self) -> &[&'static str] {
        self.scene.kinds()
    }
    fn claims(&self) -> &[&'static str] {
        self.scene.claims()
    }
    fn config(&self, plan: &Plan) -> (<S::Node as Node>::Config, Edit) {
        (self.scene.config(plan), self.edit)
    }
    fn wishes(&self, setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<S::Order>> {
        self.scene.wishes(setup, plan, draw)
    }
    fn clients(&self, plan: &Plan, wishes: Vec<Wish<S::Order>>) -> S::Workload {
        self.scene.clients(plan, wishes)
    }
    fn judge(&self, plan: &Plan) -> S::Judge {
        self.scene.judge(plan)
    }
    fn write_order(&self, order: &S::Order, nodes: u16) -> String {
        self.scene.write_order(order, nodes)
    }
    fn read_order(&self, text: &mut Cursor<'_>) -> Result<S::Order, Problem> {
        self.scene.read_order(text)
    }
    fn simpler(&self, order: &S::Order) -> Vec<S::Order> {
        self.scene.simpler(order)
    }
    fn joined(&self, one: &S::Order, other: &S::Order) -> Option<S::Order> {
        self.scene.joined(one, other)
    }

    fn renumbered(&self, order: &S::Order, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<S::Order> {
        self.scene.renumbered(order, number)
    }
}

/// What became of a schedule, and of the seed that it came from, when the node was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlived {
    /// The change.
    pub edit: Edit,
    /// What the schedule then shows.
    pub schedule: Shown,
    /// What the seed then shows.
    pub seed: Shown,
}

/// How much of a failure is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// The claim holds, or another one breaks.
    Nothing,
    /// The same claim breaks, over something else: another request.
    TheClaim,
    /// The same claim breaks about the same request.
    TheStory,
}

impl Shown {
    /// Whether the same claim still breaks.
    pub fn breaks(self) -> bool {
        self >= Shown::TheClaim
    }
}

/// For every change: what a schedule shows of this broken claim, and what the seed does that it came from.
pub fn outlived<S>(scene: S, schedule: &Schedule<S::Order>, seed: u64, claim: &str) -> Vec<Outlived>
where
    S: Scene + Copy,
    S::Node: CommitLike,
    S::Workload: Workload<Edited<S::Node>>,
    S::Judge: Judge<Edited<S::Node>>,
{
    let by_schedule = |edit| end(&mut stage(&EditedScene { scene, edit }, schedule, Witness::default()));
    let by_seed = |edit| {
        let scene = EditedScene { scene, edit };
        let drawn = drawn_in(&scene, &Setup::default(), seed);
        end(&mut world_in(&scene, drawn, |chooser| chooser, Witness::default()))
    };
    let (schedules, seeds) = (by_schedule(Edit::None), by_seed(Edit::None));
    let shown = |before: &End, after: &End| match after {
        (Some(broken), about) if *broken == claim => {
            if *about == before.1 {
                Shown::TheStory
            } else {
                Shown::TheClaim
            }
        }
        _ => Shown::Nothing,
    };
    let tried = |edit| {
        let (schedule, seed) = (by_schedule(edit), by_seed(edit));
        Outlived { edit, schedule: shown(&schedules, &schedule), seed: shown(&seeds, &seed) }
    };
    Edit::ALL.into_iter().map(tried).collect()
}

/// Which claim broke, and the request that the last fact was about.
type End = (Option<&'static str>, Option<RequestId>);

fn end<N, W, J, C>(glass: &mut World<N, W, (Witness, J), C>) -> End
where
    N: Node,
    W: Workload<N>,
    J: Judge<N>,
    C: Chooser,
{
    let broken = glass.run().broken;
    (broken.map(|broken| broken.claim), glass.judge().0.last_request)
}
