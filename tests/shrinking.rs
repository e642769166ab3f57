//! What shrinking does beyond leaving out, shown with claims about the real node that are made to be broken.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stormglass::commit::{Action, CommitNode, Config, Key, Op, Request};
use stormglass::{NodeId, RequestId};
use stormglass_sim::commit::{Clients, Commit, Txn};
use stormglass_sim::oracle::{Broken, Fact, Judge, Seen};
use stormglass_sim::plan::Plan;
use stormglass_sim::play::{record, stage};
use stormglass_sim::profile::{Draw, Setup};
use stormglass_sim::protocol::{Of, Protocol};
use stormglass_sim::schedule::{Claim, Schedule};
use stormglass_sim::shrink::{Shrunk, Size, Watch, shrink};
use stormglass_sim::workload::Wish;

/// Two-phase commit under another claim.
struct Under<J>(PhantomData<fn() -> J>);

impl<J: Judge<CommitNode> + Clone + Default + Send + 'static> Protocol for Under<J> {
    const NAME: &'static str = "two-phase commit under another claim";
    type Node = CommitNode;
    type Order = Txn;
    type Workload = Clients;
    type Judge = J;

    fn config(plan: &Plan) -> Config {
        Commit::config(plan)
    }
    fn wishes(setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<Txn>> {
        Commit::wishes(setup, plan, draw)
    }
    fn clients(plan: &Plan, wishes: Vec<Wish<Txn>>) -> Clients {
        Commit::clients(plan, wishes)
    }
    fn judge(_: &Plan) -> J {
        J::default()
    }
    fn joined(one: &Txn, other: &Txn) -> Option<Txn> {
        Commit::joined(one, other)
    }
    fn renumbered(order: &Txn, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Txn> {
        Commit::renumbered(order, number)
    }
}

/// So many requests without any fault, 100 ms apart, each of a client of its own: `put n1/k1 1`, `put n1/k2 1`, ...
fn calm(count: u32) -> Schedule<Txn> {
    let (_, recorded) = record(&Of::<Commit>::new(), &Setup::default(), 0);
    let wish = |nth: u32| {
        let key = Key::new(&format!("k{nth}")).expect("short");
        let put = Op { node: NodeId(1), key, action: Action::Put(1) };
        Wish {
            id: RequestId { client: nth.into(), serial: 1, attempt: 0 },
            node: NodeId(0),
            after_us: 100_000 * u64::from(nth),
            what: Txn { ops: Arc::from([put]), stubborn: false },
        }
    };
    let mut plan = recorded.plan;
    (plan.nodes, plan.clients, plan.storm_us) = (2, count, 1_000_000);
    (plan.timing, plan.dead, plan.wire) = (Default::default(), Vec::new(), false);
    let wishes = (1..=count).map(wish).collect();
    Schedule { why: Vec::new(), claim: Claim::Holds(None), plan, wishes, faults: Vec::new() }
}

fn shrunk<J: Judge<CommitNode> + Clone + Default + Send + 'static>(schedule: &Schedule<Txn>) -> Shrunk<Txn> {
    let watch = Watch { stop: &AtomicBool::new(false), runs_max: 20_000, progress: &mut |_, _| {} };
    let shrunk = shrink(&Of::<Under<J>>::new(), schedule, watch).expect("the claim breaks");
    let again = stage(&Of::<Under<J>>::new(), &shrunk.schedule, ()).run().broken;
    assert_eq!(again.as_ref(), Some(&shrunk.broken), "what is said to break is what breaks");
    shrunk
}

/// Nobody asks for a third key while the storm lasts.
#[derive(Clone, Default)]
struct TwoKeysAtMost {
    keys: BTreeSet<Key>,
    cleared: bool,
}

impl Judge<CommitNode> for TwoKeysAtMost {
    fn judge(&mut self, seen: &Seen<'_, CommitNode>) -> Result<(), Broken> {
        self.cleared |= matches!(seen.fact, Fact::Cleared { .. });
        if let (false, Fact::Asked { request: Request::Transact { ops, .. }, .. }) = (self.cleared, seen.fact)
        {
            self.keys.extend(ops.iter().map(|op| op.key));
        }
        if self.keys.len() < 3 { Ok(()) } else { Err(Broken::safety("TwoKeysAtMost", "three".to_string())) }
    }
}

/// No one request can be left out; that one asks for two keys is as good.
#[test]
fn two_requests_become_one_where_none_can_be_left_out() {
    let Shrunk { schedule, one_minimal, .. } = shrunk::<TwoKeysAtMost>(&calm(3));
    let mut ops: Vec<usize> = schedule.wishes.iter().map(|wish| wish.what.ops.len()).collect();
    ops.sort_unstable();
    assert_eq!((ops, one_minimal), (vec![1, 2], true));
}

/// Fewer than six requests are asked, and each is answered within a tenth of a second.
#[derive(Clone, Default)]
struct SwiftAndQuiet {
    asked: BTreeSet<RequestId>,
    /// And since when, in microseconds.
    waiting: Vec<(RequestId, u64)>,
}

impl Judge<CommitNode> for SwiftAndQuiet {
    fn judge(&mut self, seen: &Seen<'_, CommitNode>) -> Result<(), Broken> {
        if let Fact::Asked { id, request: Request::Transact { .. } } = seen.fact {
            self.asked.insert(*id);
            self.waiting.push((*id, seen.at_us));
        }
        if let Fact::Answered { id, .. } = seen.fact {
            self.waiting.retain(|(asked, _)| asked != id);
        }
        let slow = self.waiting.iter().any(|(_, at_us)| seen.at_us > at_us + 100_000);
        if self.asked.len() < 6 && !slow {
            Ok(())
        } else {
            Err(Broken::safety("SwiftAndQuiet", "no".to_string()))
        }
    }
}

/// Six requests of which none can be left out; but one that comes late, or too early, breaks the same claim.
#[test]
fn a_long_story_is_told_afresh_in_a_short_one() {
    let Shrunk { schedule, before, one_minimal, .. } = shrunk::<SwiftAndQuiet>(&calm(6));
    let after = Size::of(&schedule);
    assert_eq!((before.faults, before.requests), (0, 6));
    assert!(after.faults <= 1 && after.requests == 1 && one_minimal, "{after}: {schedule:?}");
}

/// Ctrl-C keeps the best so far, and what is left to try is not tried.
#[test]
fn a_shrink_that_is_to_stop_stops() {
    let (stop, mut stopped_at) = (AtomicBool::new(false), None);
    let mut progress = |runs, _| {
        stop.store(true, Ordering::Relaxed);
        stopped_at.get_or_insert(runs);
    };
    let watch = Watch { stop: &stop, runs_max: 20_000, progress: &mut progress };
    let shrunk = shrink(&Of::<Under<SwiftAndQuiet>>::new(), &calm(8), watch).expect("the claim breaks");
    let stopped_at = stopped_at.expect("there is something to leave out");
    assert!(shrunk.runs <= stopped_at + 5, "{} runs, and {stopped_at} when it was told to stop", shrunk.runs);
    assert!(!shrunk.one_minimal);
}
