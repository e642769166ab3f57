//! One fault of each rule of the network, the process and the clock, alone in fair weather: exactly what the rule says
//! happens, nothing else, and its counter says so. (The disk's rules have theirs in `sim/src/disk/tests`.)

use std::sync::Arc;

use stormglass::commit::{Action, CommitNode};
use stormglass::{About, DiskError, NodeId, Subject};
use stormglass_sim::chooser::{Chooser, Scripted, Seeded, SendPoint};
use stormglass_sim::commit::workload::Wish;
use stormglass_sim::commit::{Clients, Commit, Ledger};
use stormglass_sim::disk::Survival;
use stormglass_sim::fault::{
    BarrierFault, Crash, CrashKind, Deed, DeedAt, End, Fault, MessageAt, MessageFault, Weather, WriteFault,
};
use stormglass_sim::plan::{Plan, Timing};
use stormglass_sim::profile::{Draw, Rates};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::tally::{Rule, Tally};
use stormglass_sim::trace::{Filter, Trace};
use stormglass_sim::world::World;

use crate::rig::{C1_1, op, plan, wish};

const N0: End = End::Node(NodeId(0));
const N1: End = End::Node(NodeId(1));
const N2: End = End::Node(NodeId(2));

/// What happened, and how often which rule bit.
struct Seen {
    text: String,
    tally: Tally,
}

impl Seen {
    /// When this happened, each time, in microseconds; the probe at the end aside.
    fn times(&self, what: &str) -> Vec<u64> {
        let lines = self.text.lines().filter_map(|line| line.trim_start().split_once("  "));
        let those = lines.filter(|(_, rest)| rest.starts_with(what) && !rest.contains(PROBE));
        those.map(|(at, _)| at.replace('.', "").parse().expect("a time in milliseconds")).collect()
    }

    fn first(&self, what: &str) -> u64 {
        *self.times(what).first().unwrap_or_else(|| panic!("no `{what}` in\n{}", self.text))
    }

    /// Only these rules bit, so often.
    fn bit(&self, rules: &[(Rule, u64)]) {
        let bit = Rule::TABLE.iter().map(|(rule, ..)| (*rule, self.tally.of(*rule))).filter(|row| row.1 > 0);
        assert_eq!(bit.collect::<Vec<_>>(), rules, "{}", self.text);
    }
}

/// One transaction over n0, n1 and n2, in fair weather but for these faults. No claim breaks, every fault comes up.
fn see(faults: &[Fault]) -> Seen {
    see_in(plan(3), &everybody(), faults)
}

fn everybody() -> Vec<Wish> {
    let ops: Vec<_> = (0..3).map(|node| op(node, Action::Put(7))).collect();
    vec![wish(&ops)]
}

fn see_in(plan: Plan, wishes: &[Wish], faults: &[Fault]) -> Seen {
    let clients = Clients::new(plan.nodes, plan.clients, wishes.to_vec());
    let filter = Filter { node: None, request: None, span_us: None };
    let judge = (Trace::new(filter, false), Ledger::new(&plan));
    let config = Commit::config(&plan);
    let mut world: World<CommitNode, _, _, _> =
        World::new(config, plan, clients, judge, Scripted::new(faults));
    let ending = world.run();
    let text = world.judge().0.text().to_string();
    assert_eq!(ending.broken, None, "{text}");
    assert_eq!(world.chooser().unused().next(), None, "{text}");
    Seen { text, tally: ending.tally }
}

fn about(kind: &'static str) -> About {
    About { kind, subject: Some(Subject::Request(C1_1)) }
}

fn prepare(nth: u32, fault: MessageFault) -> Fault {
    Fault::Message(MessageAt { from: N0, to: N1, about: about("Prepare"), nth }, fault)
}

fn crash_after(life: u32, deed: Deed, how: CrashKind) -> Fault {
    let at = DeedAt { node: NodeId(1), life, deed, nth: 1 };
    Fault::Crash(at, Crash { how, down_us: Some(20_000), damage: None })
}

/// What the client asks when all is over.
const PROBE: &str = "c1.1001";
const SENT: &str = "n0  -> n1     Prepare";
const CAME: &str = "n1  <- n0     Prepare";
/// Base timing: a message between nodes takes as long.
const BASE_US: u64 = 500;
const FLIP: MessageFault = MessageFault::Flip { bit: 77 };

#[test]
fn fair_weather_bites_nobody() {
    let seen = see(&[]);
    assert_eq!(seen.times(CAME), [seen.first(SENT) + BASE_US]);
    seen.bit(&[]);
}

#[test]
fn n1_a_delayed_message_is_overtaken_and_arrives_all_the_same() {
    let seen = see(&[prepare(1, MessageFault::Delay { by_us: 70_000 })]);
    let sent = seen.times(SENT);
    assert_eq!(
        seen.times(CAME),
        [sent[1] + BASE_US, sent[0] + BASE_US + 70_000],
        "the repetition comes first"
    );
    seen.bit(&[(Rule::N1, 1)]);
}

#[test]
fn n1_the_tail_is_exponential_and_ends_with_the_storm() {
    let tailed = |tail_us| {
        let timing = Timing { key: Some(1), latency_us: (500, 500), tail_us, ..Timing::default() };
        see_in(Plan { timing, ..plan(3) }, &everybody(), &[])
    };
    let (seen, calm) = (tailed(4_000), tailed(0));
    assert!(seen.first(CAME) > seen.first(SENT) + BASE_US);
    assert!(seen.tally.of(Rule::N1) > 0);
    assert_eq!((calm.first(CAME), calm.tally.of(Rule::N1)), (calm.first(SENT) + BASE_US, 0));
}

#[test]
fn n2_a_lost_message_never_arrives() {
    let seen = see(&[prepare(1, MessageFault::Lose)]);
    let sent = seen.times(SENT);
    assert_eq!(seen.times(CAME), [sent[1] + BASE_US], "the repetition alone");
    seen.bit(&[(Rule::N2, 1)]);
}

#[test]
fn n3_a_duplicate_has_a_delay_of_its_own() {
    let seen = see(&[prepare(1, MessageFault::Duplicate { after_us: 40_000 })]);
    let sent = seen.first(SENT);
    assert_eq!(seen.times(SENT).len(), 1, "said once");
    assert_eq!(seen.times(CAME), [sent + BASE_US, sent + 40_000]);
    seen.bit(&[(Rule::N3, 1)]);
    assert_eq!(seen.tally.duplicates, 1);
}

#[test]
fn n4_whichever_bit_is_flipped_the_receiver_drops_the_message() {
    for bit in (0..2_000).step_by(7) {
        let seen =
            see_in(Plan { wire: true, ..plan(3) }, &everybody(), &[prepare(1, MessageFault::Flip { bit })]);
        assert_eq!(seen.times(CAME), [seen.times(SENT)[1] + BASE_US], "bit {bit}: the repetition alone");
        seen.bit(&[(Rule::N4, 1)]);
    }
}

/// What clients and nodes say to each other travels as bytes, too.
#[test]
fn n4_a_damaged_request_or_answer_is_dropped_and_the_client_asks_again() {
    let between = |from, to, kind| MessageAt { from, to, about: about(kind), nth: 1 };
    let client = End::Client(1);
    let asked = "n0  <- c1     Transact c1.1";
    let flip = |at| see_in(Plan { wire: true, ..plan(3) }, &everybody(), &[Fault::Message(at, FLIP)]);
    let (request, answer) = (between(client, N0, "Transact"), between(N0, client, "Committed"));
    let (request, answer, fair) = (flip(request), flip(answer), see(&[]));
    assert!(request.first(asked) > fair.first(asked), "the first never came: {}", request.text);
    let again = |seen: &Seen| seen.times("n0  <- c1     Outcome c1.1").len();
    assert_eq!((again(&answer), again(&fair)), (1, 0), "the answer never came: {}", answer.text);
    request.bit(&[(Rule::N4, 1)]);
    answer.bit(&[(Rule::N4, 1)]);
}

#[test]
fn n5_a_clogged_link_holds_everything_and_lets_go() {
    let (for_us, swizzle) = (90_000, false);
    let seen = see(&[Fault::At(5_000, Weather::Clog { from: N0, to: N1, for_us, swizzle })]);
    assert_eq!(seen.times(SENT).len(), 2);
    assert_eq!(seen.times(CAME), [95_000, 95_000], "both when it lets go");
    assert_eq!(
        seen.first("n2  <- n0     Prepare"),
        seen.first("n0  -> n2     Prepare") + BASE_US,
        "that link alone"
    );
    seen.bit(&[(Rule::N5, 2)]);
}

#[test]
fn n6_a_partition_loses_what_crosses_it_one_way() {
    let cut = Weather::Cut { from: vec![N0], to: vec![N1], for_us: 30_000 };
    let seen = see(&[Fault::At(5_000, cut)]);
    let sent = seen.times(SENT);
    assert_eq!(seen.times(CAME), [sent[1] + BASE_US], "lost once, repeated after it has healed");
    seen.bit(&[(Rule::N6, 1)]);
    assert_eq!(seen.tally.one_way, 1);
    // The other way round nothing of this transaction is lost before the vote.
    let back = Weather::Cut { from: vec![N1], to: vec![N0], for_us: 30_000 };
    let seen = see(&[Fault::At(5_000, back)]);
    assert_eq!(seen.first(CAME), seen.first(SENT) + BASE_US);
    assert_eq!(seen.first("n1  -> n0     Vote"), seen.first(CAME) + 100);
    assert!(seen.times("n0  <- n1     Vote").iter().all(|at| *at > 35_000));
}

#[test]
fn n6_clients_are_cut_off_too_and_a_symmetric_partition_is_no_one_way() {
    let (here, there) = (vec![End::Client(1)], vec![N0, N1, N2]);
    let for_us = 20_000;
    let out = Weather::Cut { from: here.clone(), to: there.clone(), for_us };
    let back = Weather::Cut { from: there, to: here, for_us };
    let seen = see(&[Fault::At(5_000, out), Fault::At(5_000, back)]);
    assert!(seen.first("n0  <- c1") > 25_000, "its first request was lost");
    assert_eq!((seen.tally.of(Rule::N6), seen.tally.one_way), (1, 0));
}

#[test]
fn n7_a_swizzle_lets_go_in_another_order() {
    let clog = |to, for_us| Weather::Clog { from: N0, to, for_us, swizzle: true };
    let seen = see(&[Fault::At(5_000, clog(N1, 40_000)), Fault::At(6_000, clog(N2, 20_000))]);
    assert_eq!((seen.first(CAME), seen.first("n2  <- n0     Prepare")), (45_000, 26_000));
    seen.bit(&[(Rule::N7, 2)]);
}

/// A random half, one by one: in some storms everybody or nobody, and the first to be clogged need not be let go first.
#[test]
fn n7_swizzles_are_drawn_for_some_nodes_and_in_both_orders() {
    let (mut sizes, mut in_order, mut out_of_order) = ([0; 6], 0, 0);
    for seed in 0..200 {
        let rates = Rates { swizzles: 1, ..Rates::default() };
        let weather = Seeded::new(&plan(5), rates, &mut Draw::new(seed)).weather();
        let span = |(at, weather): &(u64, Weather)| match weather {
            Weather::Clog { for_us, swizzle: true, .. } => Some((*at, at + for_us)),
            Weather::Clog { .. } | Weather::Cut { .. } | Weather::Pause { .. } | Weather::Jump { .. } => None,
            Weather::Crash { .. } => None,
        };
        // All links of one node have the same span, and no other node's.
        let mut spans: Vec<(u64, u64)> = weather.iter().filter_map(span).collect();
        spans.sort_unstable();
        spans.dedup();
        sizes[spans.len()] += 1;
        if spans.windows(2).all(|pair| pair[0].1 <= pair[1].1) { in_order += 1 } else { out_of_order += 1 }
    }
    assert!(sizes.iter().filter(|times| **times > 0).count() >= 3, "{sizes:?}");
    assert!(in_order > 0 && out_of_order > 50, "{in_order} {out_of_order}");
}

#[test]
fn n8_a_full_queue_loses_one_of_the_queued_messages() {
    let clog = Weather::Clog { from: N0, to: N1, for_us: 90_000, swizzle: false };
    let seen = see(&[Fault::At(5_000, clog), prepare(2, MessageFault::Evict { victim: 0 })]);
    assert_eq!(seen.times(SENT).len(), 2);
    assert_eq!(seen.times(CAME), [95_000], "one of two");
    seen.bit(&[(Rule::N5, 2), (Rule::N8, 1)]);
}

#[test]
fn n8_a_queue_is_full_at_its_limit_and_not_before() {
    let rates = Rates { queue_max: 3, ..Rates::default() };
    let mut chooser = Seeded::new(&plan(3), rates, &mut Draw::new(1));
    let point = |queued| SendPoint { from: N0, to: N1, link: 1, ordinal: 9, about: about("Vote"), queued };
    assert_eq!(chooser.message(&point(2)), None);
    assert!(matches!(chooser.message(&point(3)), Some(MessageFault::Evict { victim: 0..=2 })));
}

/// PREPARED is written and its sync under way when the process dies: what had reached the page cache is read back.
#[test]
fn p1_a_kill_keeps_a_prefix_in_the_page_cache() {
    let killed = |keep_permille| {
        let after = Deed::Sync(Some(about("Prepared")));
        see(&[crash_after(1, after, CrashKind::Kill { keep_permille })])
    };
    let (none, all) = (killed(0), killed(1000));
    assert!(none.text.contains("Ready life 2, 0 in doubt") && all.text.contains("Ready life 2, 1 in doubt"));
    for seen in [none, all] {
        assert_eq!((seen.tally.of(Rule::P1), seen.tally.of(Rule::P2), seen.tally.boots), (1, 0, 4));
        assert_eq!(seen.times("n1  boot")[1], seen.first("n1  KILLED") + 20_000);
    }
}

/// The same moment, and the moment after the sync has completed.
#[test]
fn p2_a_power_cut_keeps_what_was_synced_for_sure() {
    let none = || CrashKind::PowerCut(Survival::None);
    let unsynced = see(&[crash_after(1, Deed::Sync(Some(about("Prepared"))), none())]);
    let synced = see(&[crash_after(1, Deed::Send(about("Vote"), NodeId(0)), none())]);
    assert!(unsynced.text.contains("Ready life 2, 0 in doubt"), "{}", unsynced.text);
    assert!(synced.text.contains("Ready life 2, 1 in doubt"), "{}", synced.text);
    for seen in [unsynced, synced] {
        assert_eq!((seen.tally.of(Rule::P1), seen.tally.of(Rule::P2)), (0, 1));
    }
}

#[test]
fn p3_all_lose_power_at_once() {
    let cut = |node| {
        let crash = Crash { how: CrashKind::PowerCut(Survival::None), down_us: Some(5_000), damage: None };
        Fault::At(11_000, Weather::Crash { node: NodeId(node), crash })
    };
    let seen = see(&[cut(0), cut(1), cut(2)]);
    for node in 0..3 {
        assert_eq!(seen.times(&format!("n{node}  POWER CUT")), [11_000]);
        assert_eq!(seen.times(&format!("n{node}  boot"))[1], 16_000);
    }
    assert_eq!((seen.tally.of(Rule::P2), seen.tally.of(Rule::P3)), (3, 1));
    assert_eq!(see(&[cut(0), cut(1)]).tally.of(Rule::P3), 0, "not all");
}

#[test]
fn p4_a_paused_node_does_nothing_while_time_passes_for_the_others() {
    let seen = see(&[Fault::At(5_000, Weather::Pause { node: NodeId(1), for_us: 40_000 })]);
    assert_eq!(seen.first(CAME), 45_000);
    assert_eq!(seen.first("n2  <- n0     Prepare"), seen.first(SENT) + BASE_US);
    seen.bit(&[(Rule::P4, 1)]);
}

#[test]
fn p5_a_boot_is_cut_short_and_the_next_one_recovers_the_same() {
    let snapshot = About { kind: "Snapshot", subject: None };
    let cut = |life, deed| crash_after(life, deed, CrashKind::PowerCut(Survival::None));
    let seen = see(&[cut(1, Deed::Send(about("Vote"), NodeId(0))), cut(2, Deed::Sync(Some(snapshot)))]);
    assert_eq!((seen.tally.of(Rule::P5), seen.tally.boots), (1, 5));
    assert!(seen.text.contains("1 in doubt"), "what was promised before both crashes");
}

#[test]
fn p6_a_node_that_is_dead_never_comes_back() {
    let cleared = 500_000;
    let seen = see_in(Plan { dead: vec![NodeId(2)], ..plan(3) }, &everybody(), &[]);
    assert_eq!(seen.tally.of(Rule::P6), 1);
    assert_eq!(seen.times("n2  boot").len(), 1);
    assert!(seen.times("n2  <-").iter().chain(&seen.times("n2  ->")).all(|at| *at < cleared));
}

/// D8: not appends alone. The snapshot of the first life cannot be given its name; the node halts at the barrier that
/// would have made that durable, and the next life begins anew.
#[test]
fn d8_a_rename_that_fails_halts_the_node_at_the_next_barrier() {
    let snapshot = About { kind: "Snapshot", subject: None };
    let at = DeedAt { node: NodeId(1), life: 1, deed: Deed::Rename(Some(snapshot)), nth: 1 };
    let full = WriteFault { error: DiskError::NoSpace, keep_permille: 0, lasts_us: 0 };
    let seen = see(&[Fault::Write(at, full)]);
    assert_eq!((seen.tally.of(Rule::D8), seen.tally.boots), (1, 4), "{}", seen.text);
    assert!(seen.first("n1  HALT") < seen.times("n1  boot")[1], "{}", seen.text);
}

/// The disk knows no time, so this one is told here.
#[test]
fn d9_a_slow_sync_takes_longer_and_succeeds() {
    let at = DeedAt { node: NodeId(1), life: 1, deed: Deed::Sync(Some(about("Prepared"))), nth: 1 };
    let seen = see(&[Fault::Barrier(at, BarrierFault::Slow { by_us: 30_000 })]);
    assert_eq!(seen.first("n1  -> n0     Vote"), seen.first(CAME) + 30_100);
    assert_eq!(seen.first("n2  -> n0     Vote"), seen.first(CAME) + 100, "its disk is as fast as ever");
    seen.bit(&[(Rule::D9, 1)]);
}

/// A second client, so that something is asked after the fault: whoever crashes must be as good as new.
#[test]
fn after_every_crash_the_cluster_commits_again() {
    let again = Wish { client: 2, serial: 1, think_us: 200_000, ..everybody()[0].clone() };
    let ops: Arc<_> = again.ops.clone();
    let wishes = [everybody()[0].clone(), Wish { ops, ..again }];
    let cut = crash_after(1, Deed::Append(about("Prepared")), CrashKind::PowerCut(Survival::All));
    let seen = see_in(Plan { clients: 2, ..plan(3) }, &wishes, &[cut]);
    assert_eq!(seen.times("n0  -> c2     Committed c2.1").len(), 1, "{}", seen.text);
}
