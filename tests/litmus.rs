//! One fault of each rule of the network and the process, alone: exactly the effect that
//! `docs/faults.md` describes happens, no other, and its counter shows it. (The rules of the clock
//! are tested in `clocks.rs`, those of the disk in `sim/src/disk/tests`.)

use std::sync::Arc;

use stormglass::commit::{Action, CommitNode};
use stormglass_commit_sim::workload::ClientRequest;
use stormglass_commit_sim::{AtomicCommitChecker, Clients, Commit};
use stormglass_node::{About, DiskError, Micros, NodeId, Subject};
use stormglass_sim::Permille;
use stormglass_sim::chooser::{Chooser, Scripted, Seeded, SendPoint};
use stormglass_sim::disk::{CutPlace, FileChoice, FileLoss, FileRole, Survival};
use stormglass_sim::fault::{
    AtRestFault, BarrierFault, Crash, CrashKind, EffectAt, EffectName, Endpoint, Fault, MessageAt,
    MessageFault, SecondDisk, TimedFault, WriteFault,
};
use stormglass_sim::plan::{Plan, Timing};
use stormglass_sim::profile::{Rates, Rng};
use stormglass_sim::property::Violation;
use stormglass_sim::protocol::configs;
use stormglass_sim::tally::{Rule, Tally};
use stormglass_sim::trace::{Filter, Trace};
use stormglass_sim::workload::ClientId;
use stormglass_sim::world::World;

use crate::rig::{C1_1, client_request, op, plan};

/// The newest log segment.
const NEWEST_LOG: FileChoice = FileChoice { role: FileRole::Wal, nth_newest: 0 };
const NODE_0: Endpoint = Endpoint::Node(NodeId(0));
const NODE_1: Endpoint = Endpoint::Node(NodeId(1));
const NODE_2: Endpoint = Endpoint::Node(NodeId(2));

/// The trace of a run, and the counters of the rules.
struct TracedRun {
    text: String,
    tally: Tally,
}

impl TracedRun {
    /// The times of an event, in microseconds, apart from those of the probe.
    fn times(&self, event: &str) -> Vec<u64> {
        let lines = self.text.lines().filter_map(|line| line.trim_start().split_once("  "));
        let those =
            lines.filter(|(_, rest)| rest.starts_with(event) && !rest.contains(PROBE_REQUEST));
        those.map(|(at, _)| at.replace('.', "").parse().expect("a time in milliseconds")).collect()
    }

    fn first(&self, event: &str) -> u64 {
        *self.times(event).first().unwrap_or_else(|| panic!("no `{event}` in\n{}", self.text))
    }

    /// Asserts that exactly these rules were applied, this often.
    fn assert_hits(&self, rules: &[(Rule, u64)]) {
        let hits = Rule::TABLE
            .iter()
            .map(|(rule, ..)| (*rule, self.tally.hits(*rule)))
            .filter(|count| count.1 > 0);
        assert_eq!(hits.collect::<Vec<_>>(), rules, "{}", self.text);
    }
}

/// One transaction over n0, n1 and n2 with these faults and no others. No property is violated,
/// every fault is reached.
fn trace_run(faults: &[Fault]) -> TracedRun {
    trace_run_of(plan(3), &put_on_every_node(), faults)
}

fn put_on_every_node() -> Vec<ClientRequest> {
    let ops: Vec<_> = (0..3).map(|node| op(node, Action::Put(7))).collect();
    vec![client_request(&ops)]
}

fn trace_run_of(plan: Plan, requests: &[ClientRequest], faults: &[Fault]) -> TracedRun {
    let (run, violation) = trace_any_run(plan, requests, faults);
    assert_eq!(violation, None, "{}", run.text);
    run
}

/// The same for a run that may violate a property.
fn trace_any_run(
    plan: Plan,
    requests: &[ClientRequest],
    faults: &[Fault],
) -> (TracedRun, Option<Violation>) {
    let clients = Clients::new(&plan, requests.to_vec());
    let filter = Filter { node: None, request: None, span: None };
    let checker = (Trace::new(filter, false), AtomicCommitChecker::new(&plan));
    let configs = configs(&Commit, &plan);
    let mut world: World<CommitNode, _, _, _> =
        World::new(configs, plan, clients, checker, Scripted::new(faults));
    let outcome = world.run();
    let text = world.checker().0.text().to_string();
    assert_eq!(world.chooser().unused().next(), None, "{text}");
    (TracedRun { text, tally: outcome.tally }, outcome.violation)
}

fn about(kind: &'static str) -> About {
    About { kind, subject: Some(Subject::Request(C1_1)) }
}

fn prepare(nth: u32, fault: MessageFault) -> Fault {
    Fault::Message(MessageAt { from: NODE_0, to: NODE_1, about: about("Prepare"), nth }, fault)
}

fn crash_after(incarnation: u32, effect_name: EffectName, how: CrashKind) -> Fault {
    let at = EffectAt { node: NodeId(1), incarnation, effect_name, nth: 1 };
    Fault::Crash(at, Crash { how, down_for: Some(Micros::from_millis(20)), at_rest: None })
}

fn kill_and_change_disk(incarnation: u32, effect_name: EffectName, at_rest: AtRestFault) -> Fault {
    let at = EffectAt { node: NodeId(1), incarnation, effect_name, nth: 1 };
    let how = CrashKind::Kill { keep: Permille::ALL };
    let down_for = Some(Micros::from_millis(20));
    Fault::Crash(at, Crash { how, down_for, at_rest: Some(at_rest) })
}

/// The client's probe.
const PROBE_REQUEST: &str = "c1.1001";
const PREPARE_SENT: &str = "n0  -> n1     Prepare";
const PREPARE_RECEIVED: &str = "n1  <- n0     Prepare";
/// The delay of a message between nodes with base timing.
const BASE_US: u64 = 500;
const FLIP: MessageFault = MessageFault::Flip { bit: 77 };

#[test]
fn run_without_faults_hits_no_rule() {
    let run = trace_run(&[]);
    assert_eq!(run.times(PREPARE_RECEIVED), [run.first(PREPARE_SENT) + BASE_US]);
    run.assert_hits(&[]);
}

#[test]
fn n1_delayed_message_arrives_after_its_retransmission() {
    // Prepare is repeated after about 50 ms, so the repetition overtakes the delayed one.
    let run = trace_run(&[prepare(1, MessageFault::Delay { by: Micros::from_millis(70) })]);
    let sent = run.times(PREPARE_SENT);
    assert_eq!(
        run.times(PREPARE_RECEIVED),
        [sent[1] + BASE_US, sent[0] + BASE_US + 70_000],
        "the retransmission arrives first"
    );
    run.assert_hits(&[(Rule::MessageDelayed, 1)]);
}

#[test]
fn n1_latency_tail_ends_with_the_fault_phase() {
    let tailed = |latency_tail| {
        // A tail needs a key. With equal bounds for the rest, every deviation is the tail's.
        let timing = Timing {
            key: Some(1),
            latency: (Micros(500), Micros(500)),
            latency_tail,
            ..Timing::default()
        };
        let mut requests = put_on_every_node();
        // By then all nodes serve.
        requests[0].think_time = Micros::from_millis(100);
        trace_run_of(Plan { timing, ..plan(3) }, &requests, &[])
    };
    let run = tailed(Micros::from_millis(4));
    let without_tail = tailed(Micros::ZERO);
    assert!(run.first(PREPARE_RECEIVED) > run.first(PREPARE_SENT) + BASE_US);
    assert!(run.tally.hits(Rule::MessageDelayed) > 0);
    assert_eq!(
        (without_tail.first(PREPARE_RECEIVED), without_tail.tally.hits(Rule::MessageDelayed)),
        (without_tail.first(PREPARE_SENT) + BASE_US, 0)
    );
}

#[test]
fn n2_a_lost_message_never_arrives() {
    let run = trace_run(&[prepare(1, MessageFault::Lose)]);
    let sent = run.times(PREPARE_SENT);
    assert_eq!(run.times(PREPARE_RECEIVED), [sent[1] + BASE_US], "only the retransmission arrives");
    run.assert_hits(&[(Rule::MessageLost, 1)]);
}

#[test]
fn n3_duplicate_message_has_its_own_delay() {
    let run = trace_run(&[prepare(1, MessageFault::Duplicate { after: Micros::from_millis(40) })]);
    let sent = run.first(PREPARE_SENT);
    assert_eq!(run.times(PREPARE_SENT).len(), 1, "sent once");
    assert_eq!(run.times(PREPARE_RECEIVED), [sent + BASE_US, sent + 40_000]);
    run.assert_hits(&[(Rule::MessageDuplicated, 1)]);
    assert_eq!(run.tally.duplicates, 1);
}

#[test]
fn n4_receiver_drops_a_message_with_any_bit_flipped() {
    // Steps of seven hit every bit of a byte in turn; beyond the end of the frame the index wraps.
    for bit in (0..2_000).step_by(7) {
        let run = trace_run_of(
            Plan { encode_messages: true, ..plan(3) },
            &put_on_every_node(),
            &[prepare(1, MessageFault::Flip { bit })],
        );
        assert_eq!(
            run.times(PREPARE_RECEIVED),
            [run.times(PREPARE_SENT)[1] + BASE_US],
            "bit {bit}: only the retransmission arrives"
        );
        run.assert_hits(&[(Rule::MessageCorrupted, 1)]);
    }
}

/// Messages between clients and nodes travel as bytes, too.
#[test]
fn n4_client_retries_after_a_corrupted_request_or_response() {
    let between = |from, to, kind| MessageAt { from, to, about: about(kind), nth: 1 };
    let client = Endpoint::Client(ClientId(1));
    let asked = "n0  <- c1     Transact c1.1";
    let flip = |at| {
        trace_run_of(
            Plan { encode_messages: true, ..plan(3) },
            &put_on_every_node(),
            &[Fault::Message(at, FLIP)],
        )
    };
    let request = flip(between(client, NODE_0, "Transact"));
    let answer = flip(between(NODE_0, client, "Committed"));
    let fault_free = trace_run(&[]);
    assert!(
        request.first(asked) > fault_free.first(asked),
        "the first request was not delivered: {}",
        request.text
    );
    let again = |run: &TracedRun| run.times("n0  <- c1     Outcome c1.1").len();
    assert_eq!(
        (again(&answer), again(&fault_free)),
        (1, 0),
        "the answer was not delivered: {}",
        answer.text
    );
    request.assert_hits(&[(Rule::MessageCorrupted, 1)]);
    answer.assert_hits(&[(Rule::MessageCorrupted, 1)]);
}

#[test]
fn n5_clogged_link_delivers_its_messages_when_released() {
    // From 5 to 95 ms: Prepare is sent at about 10 ms, repeated 50 ms later, and held both times.
    let clog = TimedFault::Clog {
        from: NODE_0,
        to: NODE_1,
        duration: Micros::from_millis(90),
        swizzle: false,
    };
    let run = trace_run(&[Fault::At(Micros::from_millis(5), clog)]);
    assert_eq!(run.times(PREPARE_SENT).len(), 2);
    assert_eq!(run.times(PREPARE_RECEIVED), [95_000, 95_000], "both when the link is released");
    assert_eq!(
        run.first("n2  <- n0     Prepare"),
        run.first("n0  -> n2     Prepare") + BASE_US,
        "only that link is clogged"
    );
    run.assert_hits(&[(Rule::LinkClogged, 2)]);
}

#[test]
fn n6_one_way_partition_loses_messages_in_one_direction() {
    // From 5 to 35 ms: the first Prepare is lost, and its repetition after 50 ms is not.
    let cut =
        TimedFault::Cut { from: vec![NODE_0], to: vec![NODE_1], duration: Micros::from_millis(30) };
    let run = trace_run(&[Fault::At(Micros::from_millis(5), cut)]);
    let sent = run.times(PREPARE_SENT);
    assert_eq!(
        run.times(PREPARE_RECEIVED),
        [sent[1] + BASE_US],
        "lost once, retransmitted after the partition has healed"
    );
    run.assert_hits(&[(Rule::Partitioned, 1)]);
    assert_eq!(run.tally.one_way, 1);
    // In the other direction no message of this transaction is lost before the vote.
    let back =
        TimedFault::Cut { from: vec![NODE_1], to: vec![NODE_0], duration: Micros::from_millis(30) };
    let run = trace_run(&[Fault::At(Micros::from_millis(5), back)]);
    assert_eq!(run.first(PREPARE_RECEIVED), run.first(PREPARE_SENT) + BASE_US);
    // 100 us: the sync of PREPARED with base timing.
    assert_eq!(run.first("n1  -> n0     Vote"), run.first(PREPARE_RECEIVED) + 100);
    assert!(run.times("n0  <- n1     Vote").iter().all(|at| *at > 35_000));
}

#[test]
fn n6_partition_cuts_off_clients_and_symmetric_cuts_are_not_one_way() {
    let here = vec![Endpoint::Client(ClientId(1))];
    let there = vec![NODE_0, NODE_1, NODE_2];
    let duration = Micros::from_millis(20);
    // Two cuts at the same time, one in each direction, are a symmetric partition.
    let out = TimedFault::Cut { from: here.clone(), to: there.clone(), duration };
    let back = TimedFault::Cut { from: there, to: here, duration };
    let run = trace_run(&[
        Fault::At(Micros::from_millis(5), out),
        Fault::At(Micros::from_millis(5), back),
    ]);
    // The client asks at 10 ms, within the cut, and again when it has waited for an answer in vain.
    assert!(run.first("n0  <- c1") > 25_000, "its first request was lost");
    assert_eq!((run.tally.hits(Rule::Partitioned), run.tally.one_way), (1, 0));
}

#[test]
fn n7_swizzled_links_are_released_in_another_order() {
    // n1 is clogged from 5 to 45 ms and n2 from 6 to 26 ms: the first one is released last.
    let clog = |to, duration| TimedFault::Clog { from: NODE_0, to, duration, swizzle: true };
    let run = trace_run(&[
        Fault::At(Micros::from_millis(5), clog(NODE_1, Micros::from_millis(40))),
        Fault::At(Micros::from_millis(6), clog(NODE_2, Micros::from_millis(20))),
    ]);
    assert_eq!((run.first(PREPARE_RECEIVED), run.first("n2  <- n0     Prepare")), (45_000, 26_000));
    run.assert_hits(&[(Rule::Swizzled, 2)]);
}

/// A random half, one by one: in some runs all nodes or none, and the first clogged need not be the
/// first released.
#[test]
fn n7_swizzles_affect_some_nodes_and_release_in_both_orders() {
    // By the number of clogged nodes: none of them to all five.
    let mut sizes = [0; 6];
    let mut in_order = 0;
    let mut out_of_order = 0;
    for seed in 0..200 {
        let rates = Rates { swizzles: 1, ..Rates::default() };
        let timed_faults = Seeded::new(&plan(5), rates, &mut Rng::new(seed)).timed_faults();
        let span = |(at, timed_fault): &(Micros, TimedFault)| {
            let TimedFault::Clog { duration, swizzle: true, .. } = timed_fault else { return None };
            Some((*at, *at + *duration))
        };
        // All links of one node have the same span, and no other node's.
        let mut spans: Vec<(Micros, Micros)> = timed_faults.iter().filter_map(span).collect();
        spans.sort_unstable();
        spans.dedup();
        sizes[spans.len()] += 1;
        if spans.windows(2).all(|pair| pair[0].1 <= pair[1].1) {
            in_order += 1
        } else {
            out_of_order += 1
        }
    }
    assert!(sizes.iter().filter(|times| **times > 0).count() >= 3, "{sizes:?}");
    // A swizzle of one node or none counts as in order; of several nodes, few are released in
    // order.
    assert!(in_order > 0 && out_of_order > 50, "{in_order} {out_of_order}");
}

#[test]
fn n8_a_full_queue_loses_one_of_the_queued_messages() {
    let clog = TimedFault::Clog {
        from: NODE_0,
        to: NODE_1,
        duration: Micros::from_millis(90),
        swizzle: false,
    };
    // The clog keeps the first Prepare in flight until the second is sent, which evicts it.
    let run = trace_run(&[
        Fault::At(Micros::from_millis(5), clog),
        prepare(2, MessageFault::Evict { victim: 0 }),
    ]);
    assert_eq!(run.times(PREPARE_SENT).len(), 2);
    assert_eq!(run.times(PREPARE_RECEIVED), [95_000], "one of two");
    run.assert_hits(&[(Rule::LinkClogged, 2), (Rule::QueueOverflow, 1)]);
}

#[test]
fn n8_a_queue_is_full_at_its_limit_and_not_before() {
    let rates = Rates { queue_max: 3, ..Rates::default() };
    let mut chooser = Seeded::new(&plan(3), rates, &mut Rng::new(1));
    let point = |queued| SendPoint {
        from: NODE_0,
        to: NODE_1,
        link: 1,
        ordinal: 9,
        about: about("Vote"),
        queued,
    };
    // All other rates are 0, so nothing else happens to a message.
    assert_eq!(chooser.message(&point(2)), None);
    assert!(matches!(chooser.message(&point(3)), Some(MessageFault::Evict { victim: 0..=2 })));
}

/// The process dies when PREPARED is written and its sync is pending: what had reached the page
/// cache is read back.
#[test]
fn p1_process_kill_keeps_a_prefix_of_the_page_cache() {
    let killed = |keep| {
        let after = EffectName::Sync(Some(about("Prepared")));
        trace_run(&[crash_after(1, after, CrashKind::Kill { keep })])
    };
    let none = killed(Permille::ZERO);
    let all = killed(Permille::ALL);
    assert!(
        none.text.contains("Ready incarnation 2, 0 in doubt")
            && all.text.contains("Ready incarnation 2, 1 in doubt")
    );
    for run in [none, all] {
        assert_eq!(
            // Three nodes boot at the beginning, and one of them after the kill.
            (run.tally.hits(Rule::ProcessKilled), run.tally.hits(Rule::PowerCut), run.tally.boots),
            (1, 0, 4)
        );
        assert_eq!(run.times("n1  boot")[1], run.first("n1  KILLED") + 20_000);
    }
}

/// The same moment, and the moment after the sync has completed.
#[test]
fn p2_power_cut_keeps_synced_records() {
    let none = || CrashKind::PowerCut(Survival::None);
    let unsynced = trace_run(&[crash_after(1, EffectName::Sync(Some(about("Prepared"))), none())]);
    let synced = trace_run(&[crash_after(1, EffectName::Send(about("Vote"), NodeId(0)), none())]);
    assert!(unsynced.text.contains("Ready incarnation 2, 0 in doubt"), "{}", unsynced.text);
    assert!(synced.text.contains("Ready incarnation 2, 1 in doubt"), "{}", synced.text);
    for run in [unsynced, synced] {
        assert_eq!((run.tally.hits(Rule::ProcessKilled), run.tally.hits(Rule::PowerCut)), (0, 1));
    }
}

#[test]
fn p3_cluster_power_cut_hits_every_node_at_once() {
    let cut = |node| {
        let crash = Crash {
            how: CrashKind::PowerCut(Survival::None),
            down_for: Some(Micros::from_millis(5)),
            at_rest: None,
        };
        // 1 ms after the request: Prepare has arrived, and nothing is decided.
        Fault::At(Micros::from_millis(11), TimedFault::Crash { node: NodeId(node), crash })
    };
    let run = trace_run(&[cut(0), cut(1), cut(2)]);
    for node in 0..3 {
        assert_eq!(run.times(&format!("n{node}  POWER CUT")), [11_000]);
        assert_eq!(run.times(&format!("n{node}  boot"))[1], 16_000);
    }
    assert_eq!((run.tally.hits(Rule::PowerCut), run.tally.hits(Rule::ClusterPowerCut)), (3, 1));
    assert_eq!(trace_run(&[cut(0), cut(1)]).tally.hits(Rule::ClusterPowerCut), 0, "not all");
}

#[test]
fn p4_paused_node_handles_no_input() {
    let run = trace_run(&[Fault::At(
        Micros::from_millis(5),
        TimedFault::Pause { node: NodeId(1), duration: Micros::from_millis(40) },
    )]);
    // 5 ms and 40 ms: what arrives in the pause is handled at its end.
    assert_eq!(run.first(PREPARE_RECEIVED), 45_000);
    assert_eq!(run.first("n2  <- n0     Prepare"), run.first(PREPARE_SENT) + BASE_US);
    run.assert_hits(&[(Rule::NodePaused, 1)]);
}

#[test]
fn p5_boot_after_a_crash_during_boot_recovers_the_same_state() {
    let snapshot = About { kind: "Snapshot", subject: None };
    let cut = |incarnation, effect_name| {
        crash_after(incarnation, effect_name, CrashKind::PowerCut(Survival::None))
    };
    let run = trace_run(&[
        cut(1, EffectName::Send(about("Vote"), NodeId(0))),
        cut(2, EffectName::Sync(Some(snapshot))),
    ]);
    // Three boots at the beginning and one after each crash, of which the second falls into a boot.
    assert_eq!((run.tally.hits(Rule::CrashDuringBoot), run.tally.boots), (1, 5));
    assert!(run.text.contains("1 in doubt"), "the Yes vote of before both crashes");
}

#[test]
fn p6_permanently_down_node_never_restarts() {
    // The default fault phase: until its end n2 works like the others.
    let healed_us = 500_000;
    let run = trace_run_of(
        Plan { permanently_down: vec![NodeId(2)], ..plan(3) },
        &put_on_every_node(),
        &[],
    );
    assert_eq!(run.tally.hits(Rule::NeverRestarts), 1);
    assert_eq!(run.times("n2  boot").len(), 1);
    assert!(run.times("n2  <-").iter().chain(&run.times("n2  ->")).all(|at| *at < healed_us));
}

/// D8: not appends alone. The snapshot of the first incarnation cannot be renamed; the node halts
/// at the barrier that would have made the name durable, and the next incarnation begins anew.
#[test]
fn d8_failed_rename_halts_the_node_at_the_next_barrier() {
    let snapshot = About { kind: "Snapshot", subject: None };
    let at = EffectAt {
        node: NodeId(1),
        incarnation: 1,
        effect_name: EffectName::Rename(Some(snapshot)),
        nth: 1,
    };
    let full = WriteFault { error: DiskError::NoSpace, keep: Permille::ZERO, lasts: Micros::ZERO };
    let run = trace_run(&[Fault::Write(at, full)]);
    assert_eq!((run.tally.hits(Rule::WriteFailed), run.tally.boots), (1, 4), "{}", run.text);
    assert!(run.first("n1  HALT") < run.times("n1  boot")[1], "{}", run.text);
}

/// The disk has no time, so this rule is tested here.
#[test]
fn d9_a_slow_sync_takes_longer_and_succeeds() {
    let at = EffectAt {
        node: NodeId(1),
        incarnation: 1,
        effect_name: EffectName::Sync(Some(about("Prepared"))),
        nth: 1,
    };
    let run = trace_run(&[Fault::Barrier(at, BarrierFault::Slow { by: Micros::from_millis(30) })]);
    // 30 ms of the fault, and the 100 us of every sync.
    assert_eq!(run.first("n1  -> n0     Vote"), run.first(PREPARE_RECEIVED) + 30_100);
    assert_eq!(
        run.first("n2  -> n0     Vote"),
        run.first(PREPARE_RECEIVED) + 100,
        "only the sync of n1 is slow"
    );
    run.assert_hits(&[(Rule::SlowBarrier, 1)]);
}

#[test]
fn d9_disk_that_hangs_completes_its_barriers_afterwards() {
    let hang = |ms| {
        let duration = Micros::from_millis(ms);
        Fault::At(Micros::from_millis(5), TimedFault::DiskHang { node: NodeId(1), duration })
    };
    // From 5 ms for 45 ms: the request is sent at 10 ms.
    let run = trace_run(&[hang(45)]);
    assert_eq!(run.first("n1  -> n0     Vote"), 50_000);
    assert_eq!(run.first("n2  -> n0     Vote"), run.first(PREPARE_RECEIVED) + 100);
    // The sync of PREPARED.
    run.assert_hits(&[(Rule::SlowBarrier, 1)]);
    // For longer than the fault phase: it ends with that, after the transaction has timed out.
    let run = trace_run(&[hang(10_000)]);
    assert!(run.text.contains("Aborted c1.1"), "{}", run.text);
    // A power cut ends it.
    let cut = CrashKind::PowerCut(Survival::None);
    let run =
        trace_run(&[hang(10_000), crash_after(1, EffectName::Append(about("Prepared")), cut)]);
    // The boot has a sync and a sync of the directory, 100 us each.
    let booted = run.times("n1  boot")[1] + 200;
    assert!(run.times("n1  -> n0     Hello as incarnation 2").contains(&booted), "{}", run.text);
}

/// A second client, so that there is a request after the fault: a crashed node must work like a new
/// one.
#[test]
fn after_every_crash_the_cluster_commits_again() {
    // By 200 ms n1 has booted again, 20 ms after its crash, and the vote timeout of the first
    // transaction is over.
    let again = ClientRequest {
        client: ClientId(2),
        serial: 1,
        think_time: Micros::from_millis(200),
        ..put_on_every_node()[0].clone()
    };
    let ops: Arc<_> = again.ops.clone();
    let requests = [put_on_every_node()[0].clone(), ClientRequest { ops, ..again }];
    let cut =
        crash_after(1, EffectName::Append(about("Prepared")), CrashKind::PowerCut(Survival::All));
    let run = trace_run_of(Plan { clients: 2, ..plan(3) }, &requests, &[cut]);
    assert_eq!(run.times("n0  -> c2     Committed c2.1").len(), 1, "{}", run.text);
}

/// The boot of an incarnation has written something, and has had no visible effect yet.
fn boot_snapshot_appended() -> EffectName {
    EffectName::Append(About { kind: "Snapshot", subject: None })
}

/// 1. n1 votes and is killed.
/// 2. It is killed again during its second boot, and the disk is replaced by the backup of before.
/// 3. It boots from what the second boot had found, in doubt. Nothing durable is missing.
#[test]
fn d13_restored_disk_has_the_files_of_an_earlier_boot() {
    let voted = EffectName::Send(about("Vote"), NodeId(0));
    let killed = crash_after(1, voted, CrashKind::Kill { keep: Permille::ALL });
    let restored = |incarnations_back| {
        let at_rest = AtRestFault::Restored { incarnations_back };
        let restored = kill_and_change_disk(2, boot_snapshot_appended(), at_rest);
        trace_run(&[killed.clone(), restored])
    };
    let run = restored(1);
    let change = "n1  DISK      the files are those that incarnation 2 found at its boot";
    assert_eq!(run.times(change).len(), 1, "{}", run.text);
    // It is the second one of number 2, and peers that have met the first refuse it.
    assert_eq!((run.tally.hits(Rule::DiskReplaced), run.tally.boots), (1, 5));
    // The first boot found no files, which is another rule, and there is none before.
    assert_eq!(restored(2).tally.hits(Rule::DiskReplaced), 0);
    assert_eq!(restored(9).tally.hits(Rule::DiskReplaced), 0);
}

/// n1 has committed and is killed, and boots with the disk of the coordinator.
#[test]
fn d13_disk_of_another_node_has_its_files() {
    let acked = EffectName::Send(about("Ack"), NodeId(0));
    let fault = kill_and_change_disk(1, acked, AtRestFault::OfNode(NodeId(0)));
    let (run, violation) = trace_any_run(plan(3), &put_on_every_node(), &[fault]);
    assert_eq!(run.times("n1  DISK      the files are those of n0").len(), 1, "{}", run.text);
    assert_eq!(run.tally.hits(Rule::DiskReplaced), 1);
    assert_eq!(violation, None, "{}", run.text);
    let refused = "n1  REFUSED   to start: the files are those of n0, this is n1";
    assert_eq!(run.times(refused).len(), 1, "{}", run.text);
}

#[test]
fn d13_backups_are_made_only_in_runs_that_can_need_them() {
    let seeded = |rates| Seeded::new(&plan(3), rates, &mut Rng::new(1)).fault_classes().backups;
    assert!(!seeded(Rates { damage: 65_536, empty_disk: 65_536, ..Rates::default() }));
    assert!(seeded(Rates { replace_disk: 1, ..Rates::default() }));
    assert!(!seeded(Rates { second_processes_empty: 1, ..Rates::default() }));
    assert!(seeded(Rates { second_processes_copy: 1, ..Rates::default() }));
    let scripted = |at_rest| {
        let fault = kill_and_change_disk(1, boot_snapshot_appended(), at_rest);
        Scripted::new(&[fault]).fault_classes().backups
    };
    assert!(!scripted(AtRestFault::Emptied));
    assert!(scripted(AtRestFault::Restored { incarnations_back: 1 }));
}

/// n1 is killed during its first boot and loses what it has written: it boots as if for the first
/// time.
#[test]
fn d14_node_with_an_emptied_disk_boots_without_files() {
    let run = trace_run(&[kill_and_change_disk(1, boot_snapshot_appended(), AtRestFault::Emptied)]);
    assert_eq!(run.times("n1  DISK      all files are gone").len(), 1, "{}", run.text);
    assert_eq!((run.tally.hits(Rule::DiskEmptied), run.tally.boots), (1, 4));
    assert!(run.text.contains("Ready incarnation 1, 0 in doubt"), "{}", run.text);
}

/// n1 votes, is killed, and loses its snapshot: it refuses to boot, and stays down.
#[test]
fn d15_node_without_its_snapshot_refuses_to_boot() {
    let voted = EffectName::Send(about("Vote"), NodeId(0));
    let snapshot = FileChoice { role: FileRole::Snapshot, nth_newest: 0 };
    let at_rest = AtRestFault::Lost(FileLoss::File(snapshot));
    let run = trace_run(&[kill_and_change_disk(1, voted, at_rest)]);
    assert_eq!(run.times("n1  DISK      gone: snapshot.1").len(), 1, "{}", run.text);
    assert_eq!(run.times("n1  REFUSED").len(), 1, "{}", run.text);
    assert_eq!((run.tally.hits(Rule::FileLost), run.tally.boots), (1, 4));
}

/// n1 votes and is killed, and its log is cut where its last record begins: the vote is gone, and
/// nothing in the file shows it. A cut at a byte leaves a part of the record.
#[test]
fn d15_log_cut_at_a_frame_lacks_whole_records() {
    for (from, lost) in [
        (CutPlace::Frame(Permille::ALL), " B are gone"),
        (CutPlace::Byte(Permille::ALL), " 1 B are gone"),
    ] {
        let voted = EffectName::Send(about("Vote"), NodeId(0));
        let at_rest = AtRestFault::Lost(FileLoss::Tail { file: NEWEST_LOG, from });
        let fault = kill_and_change_disk(1, voted, at_rest);
        let (run, violation) = trace_any_run(plan(3), &put_on_every_node(), &[fault]);
        // The node itself does not notice it, but the coordinator has its vote.
        assert_eq!(violation, None, "{}", run.text);
        assert!(run.text.contains("the end of the log is lost"), "{}", run.text);
        assert!(run.first("n1  DISK      wal.1 ends at byte ") > 0);
        assert!(run.text.contains(lost), "{}", run.text);
        assert_eq!(run.tally.hits(Rule::FileLost), 1);
    }
}

/// n1 votes, is killed, and cannot read its log at the next boot. It refuses that boot; the one
/// after it finds the vote.
#[test]
fn d16_node_boots_once_its_log_can_be_read() {
    let voted = EffectName::Send(about("Vote"), NodeId(0));
    let at_rest = AtRestFault::Unreadable(NEWEST_LOG);
    let run = trace_run(&[kill_and_change_disk(1, voted, at_rest)]);
    assert_eq!(run.times("n1  DISK      wal.1 cannot be read").len(), 1, "{}", run.text);
    let refused = run.first("n1  REFUSED   to start: wal.1 cannot be read: input/output error");
    let boots = run.times("n1  boot");
    assert!(boots.len() == 3 && boots[1] == refused && boots[2] > refused, "{}", run.text);
    assert!(run.text.contains("Ready incarnation 2, 1 in doubt"), "{}", run.text);
    assert_eq!(run.tally.hits(Rule::FileUnreadable), 1);
}

fn second_process(at_ms: u64, disk: SecondDisk, duration_ms: u64) -> Fault {
    let duration = Micros::from_millis(duration_ms);
    let timed_fault = TimedFault::SecondProcess { node: NodeId(1), disk, duration };
    Fault::At(Micros::from_millis(at_ms), timed_fault)
}

/// A second process under the id of n1 runs for a while after the transaction, and nothing reaches
/// it. The first one goes on as incarnation 1. Once it is killed, its next boot is the third of the
/// simulator, and the second that the node counts.
#[test]
fn d17_first_process_goes_on_where_it_was_set_aside() {
    let how = CrashKind::Kill { keep: Permille::ALL };
    let crash = Crash { how, down_for: Some(Micros::from_millis(20)), at_rest: None };
    let crash = TimedFault::Crash { node: NodeId(1), crash };
    let killed = Fault::At(Micros::from_millis(400), crash);
    let run = trace_run(&[second_process(300, SecondDisk::Empty, 30), killed]);
    assert_eq!(run.times("n1  SECOND"), [300_000]);
    // Its peers refuse it.
    assert!(run.text.contains("of which the data directory knows nothing"), "{}", run.text);
    assert_eq!(run.times("n1  RESUMED"), run.times("n1  HALTED"));
    assert_eq!((run.times("n1  HALTED").len(), run.times("n1  KILLED")), (1, vec![400_000]));
    assert_eq!(run.times("n1  boot"), [0, 300_000, 420_000]);
    let ready = |incarnation| run.times(&format!("n1  report    Ready incarnation {incarnation}"));
    assert_eq!((ready(1).len(), ready(2).len(), ready(3).len()), (1, 1, 0), "{}", run.text);
    run.assert_hits(&[(Rule::ProcessKilled, 1), (Rule::SecondProcess, 1)]);
}

/// Two transactions over all nodes, 200 ms apart.
fn two_puts_on_every_node() -> Vec<ClientRequest> {
    let mut requests = put_on_every_node();
    let think_time = Micros::from_millis(200);
    requests.push(ClientRequest { serial: 2, think_time, ..requests[0].clone() });
    requests
}

/// What arrives at n1 while the second process runs arrives there. That serves nobody; and n1 votes
/// on the next copy of the message, once the first process goes on.
#[test]
fn d17_messages_reach_the_process_that_runs() {
    let received = "n1  <- n0     Prepare c1.2";
    let without = trace_run_of(plan(3), &two_puts_on_every_node(), &[]).first(received);
    let timed_fault = TimedFault::SecondProcess {
        node: NodeId(1),
        disk: SecondDisk::Empty,
        duration: Micros::from_millis(1),
    };
    let fault = Fault::At(Micros(without - 500), timed_fault);
    let run = trace_run_of(plan(3), &two_puts_on_every_node(), &[fault]);
    let resumed = run.first("n1  RESUMED");
    assert_eq!((run.first(received), resumed), (without, without + 500), "{}", run.text);
    assert!(run.times("n1  report    NotReady").contains(&without), "{}", run.text);
    assert!(run.times(received)[1] > resumed && run.first("n1  -> n0     Vote c1.2") > resumed);
    assert_eq!(run.tally.hits(Rule::SecondProcess), 1);
}

/// The first process is set aside while PREPARED is synced: the barrier completes when it goes on.
#[test]
fn d17_completed_barrier_waits_for_the_first_process() {
    let without = trace_run_of(plan(3), &two_puts_on_every_node(), &[]);
    let synced = without.first("n1  append    wal.1  Prepared c1.2") + 50;
    let timed_fault = TimedFault::SecondProcess {
        node: NodeId(1),
        disk: SecondDisk::Empty,
        // So short that its peers have not refused it.
        duration: Micros::from_millis(1),
    };
    let fault = Fault::At(Micros(synced), timed_fault);
    let run = trace_run_of(plan(3), &two_puts_on_every_node(), &[fault]);
    assert_eq!(without.first("n1  -> n0     Vote c1.2"), synced + 50);
    assert_eq!(run.first("n1  RESUMED"), synced + 1_000);
    assert_eq!(run.first("n1  -> n0     Vote c1.2"), synced + 1_000, "{}", run.text);
}

/// n1 votes and is killed. A copy of its disk from before its second boot has the vote, and one
/// from before its first boot has no files.
#[test]
fn d17_copy_has_the_files_of_before_the_present_boot() {
    let voted = EffectName::Send(about("Vote"), NodeId(0));
    let killed = crash_after(1, voted, CrashKind::Kill { keep: Permille::ALL });
    let copy = second_process(300, SecondDisk::Copy, 30);
    let requests = put_on_every_node();
    let run = trace_run_of(plan(3), &requests, &[killed, copy.clone()]);
    assert_eq!(run.tally.hits(Rule::SecondProcess), 1, "{}", run.text);
    // Both are the second incarnation of n1, and peers have met the first of them.
    assert_eq!(run.times("n1  report    Ready incarnation 2, 1 in doubt").len(), 1, "{}", run.text);
    assert_eq!(run.times("n1  -> n0     Hello as incarnation 2").len(), 2, "{}", run.text);
    assert_eq!(trace_run(&[copy]).tally.hits(Rule::SecondProcess), 0, "no copy with files");
}

/// The history of one node's disk goes wrong, that of the others does not.
#[test]
fn d13_to_d17_concern_one_node() {
    let rates = Rates {
        history_node: Some(NodeId(2)),
        empty_disk: 65_536,
        second_processes_empty: 2,
        timed_crashes: 20,
        down_max: Micros(1),
        ..Rates::default()
    };
    let faults = Seeded::new(&plan(3), rates, &mut Rng::new(1)).timed_faults();
    let mut crashes = 0;
    let mut second_processes = 0;
    for (_, fault) in &faults {
        if let TimedFault::Crash { node, crash } = fault {
            let at_rest = (*node == NodeId(2)).then_some(AtRestFault::Emptied);
            assert_eq!(crash.at_rest, at_rest, "{node}");
            crashes += 1;
        }
        if let TimedFault::SecondProcess { node, .. } = fault {
            assert_eq!(*node, NodeId(2));
            second_processes += 1;
        }
    }
    // The others have rates of zero.
    assert_eq!((crashes, second_processes, faults.len()), (20, 2, 22));
}
