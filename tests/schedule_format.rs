//! Every schedule reads back as it was written; every error has its line and column.

use std::borrow::Cow;

use proptest::prelude::*;
use stormglass::commit::{Action, Key, Op};
use stormglass_node::{About, DiskError, Micros, NodeId, RequestId, Subject};

use stormglass_commit_sim::{Commit, Txn};
use stormglass_sim::disk::{
    AppendName, CutPlace, Damage, DamageKind, FileChoice, FileLoss, FileRole, Holes, Survival, Tear,
};
use stormglass_sim::fault::Fault;
use stormglass_sim::fault::{
    AtRestFault, BarrierFault, Crash, CrashKind, EffectAt, EffectName, Endpoint, MessageAt,
    MessageFault, SecondDisk, Skew, TimedFault, WriteFault,
};
use stormglass_sim::plan::{Plan, Timing};
use stormglass_sim::schedule::{Expectation, Schedule};
use stormglass_sim::workload::{ClientId, PlannedRequest};
use stormglass_sim::{Permille, Ppm};

const PROTOCOL: Commit = Commit;

fn request_id() -> impl Strategy<Value = RequestId> {
    (1u64..=2, 1u32..9, 0u16..3).prop_map(|(client, serial, attempt)| RequestId {
        client,
        serial,
        attempt,
    })
}

fn about() -> impl Strategy<Value = About> {
    let kind = prop::sample::select(vec!["Vote", "Prepared", "Commit", "Header"]);
    let subject = prop_oneof![
        Just(None),
        request_id().prop_map(|id| Some(Subject::Request(id))),
        any::<u64>().prop_map(|number| Some(Subject::Number(number))),
    ];
    (kind, subject).prop_map(|(kind, subject)| About { kind, subject })
}

fn node() -> impl Strategy<Value = NodeId> {
    (0u16..3).prop_map(NodeId)
}

fn end() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        node().prop_map(Endpoint::Node),
        (1u32..=2).prop_map(|client| Endpoint::Client(ClientId(client)))
    ]
}

fn time() -> impl Strategy<Value = Micros> {
    // Up to 100 s, with any number of decimals.
    (0u64..100_000_000).prop_map(Micros)
}

fn permille() -> impl Strategy<Value = Permille> {
    (0u16..=1000).prop_map(|n| Permille::new(n).expect("at most 1000"))
}

fn barrier() -> impl Strategy<Value = EffectName> {
    prop_oneof![
        prop::option::of(about()).prop_map(EffectName::Sync),
        prop::option::of(about()).prop_map(EffectName::SyncDir)
    ]
}

fn write() -> impl Strategy<Value = EffectName> {
    prop_oneof![
        about().prop_map(EffectName::Append),
        prop::option::of(about()).prop_map(EffectName::Rename),
        prop::option::of(about()).prop_map(EffectName::Remove),
        prop::option::of(about()).prop_map(EffectName::Truncate),
    ]
}

fn effect_name() -> impl Strategy<Value = EffectName> {
    prop_oneof![
        (about(), node()).prop_map(|(about, to)| EffectName::Send(about, to)),
        write(),
        barrier(),
        request_id().prop_map(EffectName::Reply),
    ]
}

fn at(effect_name: impl Strategy<Value = EffectName>) -> impl Strategy<Value = EffectAt> {
    (node(), 1u32..5, effect_name, 1u32..200).prop_map(|(node, incarnation, effect_name, nth)| {
        EffectAt { node, incarnation, effect_name, nth }
    })
}

fn message_fault() -> impl Strategy<Value = MessageFault> {
    prop_oneof![
        Just(MessageFault::Lose),
        time().prop_map(|after| MessageFault::Duplicate { after }),
        time().prop_map(|by| MessageFault::Delay { by }),
        any::<u32>().prop_map(|bit| MessageFault::Flip { bit }),
        (0u32..9).prop_map(|victim| MessageFault::Evict { victim }),
    ]
}

fn holes() -> impl Strategy<Value = Holes> {
    prop::sample::select(vec![Holes::Zeros, Holes::Garbage, Holes::OldBlocks, Holes::Mixed])
}

fn survival() -> impl Strategy<Value = Survival> {
    let name = || {
        (about(), 0u32..4).prop_map(|(about, nth)| AppendName {
            kind: Cow::Borrowed(about.kind),
            subject: about.subject,
            nth,
        })
    };
    let tear = prop::sample::select(vec![Tear::Header, Tear::Half, Tear::LastSectorMissing]);
    prop_oneof![
        Just(Survival::None),
        Just(Survival::All),
        (0u32..20).prop_map(Survival::Prefix),
        name().prop_map(Survival::AllBut),
        (name(), tear, prop::option::of(holes())).prop_map(|(at, how, hole)| Survival::Torn {
            at,
            how,
            hole
        }),
        (any::<u64>(), permille(), any::<bool>(), holes())
            .prop_map(|(key, keep, tear, holes)| { Survival::Subset { key, keep, tear, holes } }),
    ]
}

fn role() -> impl Strategy<Value = FileRole> {
    prop::sample::select(vec![FileRole::Wal, FileRole::Snapshot, FileRole::Scratch])
}

fn file_choice() -> impl Strategy<Value = FileChoice> {
    (role(), 0u32..3).prop_map(|(role, nth_newest)| FileChoice { role, nth_newest })
}

fn file_loss() -> impl Strategy<Value = FileLoss> {
    let from =
        prop_oneof![permille().prop_map(CutPlace::Byte), permille().prop_map(CutPlace::Frame)];
    prop_oneof![
        (file_choice(), from).prop_map(|(file, from)| FileLoss::Tail { file, from }),
        file_choice().prop_map(FileLoss::File),
        (0u32..3).prop_map(|nth_newest| FileLoss::Generation { nth_newest }),
    ]
}

fn at_rest_fault() -> impl Strategy<Value = AtRestFault> {
    let kind = prop_oneof![
        (0u8..8).prop_map(DamageKind::FlippedBit),
        Just(DamageKind::ZeroedSector),
        permille().prop_map(|meant| DamageKind::WrongPlace { meant }),
        Just(DamageKind::NeverWritten),
    ];
    let damage = (role(), 0u32..3, permille(), kind)
        .prop_map(|(role, nth_newest, at, kind)| Damage { role, nth_newest, at, kind });
    prop_oneof![
        damage.prop_map(AtRestFault::Damaged),
        (1u32..5).prop_map(|incarnations_back| AtRestFault::Restored { incarnations_back }),
        node().prop_map(AtRestFault::OfNode),
        Just(AtRestFault::Emptied),
        file_loss().prop_map(AtRestFault::Lost),
        file_choice().prop_map(AtRestFault::Unreadable),
    ]
}

fn crash() -> impl Strategy<Value = Crash> {
    let how = prop_oneof![
        permille().prop_map(|keep| CrashKind::Kill { keep }),
        survival().prop_map(CrashKind::PowerCut),
    ];
    (how, prop::option::of(time()), prop::option::of(at_rest_fault()))
        .prop_map(|(how, down_for, at_rest)| Crash { how, down_for, at_rest })
}

fn timed_fault() -> impl Strategy<Value = TimedFault> {
    // A side may be empty: all endpoints may be on the other side of a random partition.
    let ends = || prop::collection::vec(end(), 0..4);
    prop_oneof![
        (ends(), ends(), time()).prop_map(|(from, to, duration)| TimedFault::Cut {
            from,
            to,
            duration
        }),
        (end(), end(), time(), any::<bool>()).prop_map(|(from, to, duration, swizzle)| {
            TimedFault::Clog { from, to, duration, swizzle }
        }),
        (node(), time()).prop_map(|(node, duration)| TimedFault::Pause { node, duration }),
        (node(), time()).prop_map(|(node, by)| TimedFault::ClockJump { node, by }),
        (node(), prop::sample::select(vec![SecondDisk::Empty, SecondDisk::Copy]), time())
            .prop_map(|(node, disk, duration)| TimedFault::SecondProcess { node, disk, duration }),
        node().prop_map(|node| TimedFault::Wake { node }),
        (node(), time()).prop_map(|(node, duration)| TimedFault::DiskHang { node, duration }),
        (node(), crash()).prop_map(|(node, crash)| TimedFault::Crash { node, crash }),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let error = || prop::sample::select(vec![DiskError::Io, DiskError::NoSpace]);
    let barrier_fault = prop_oneof![
        error().prop_map(BarrierFault::Fail),
        time().prop_map(|by| BarrierFault::Slow { by }),
        Just(BarrierFault::Lie),
    ];
    prop_oneof![
        // Beyond 113: the suffixes of 11 to 13 and of 111 to 113 are exceptions.
        (node(), end(), about(), 1u32..120, message_fault())
            .prop_filter("a link has two ends", |(from, to, ..)| *to != Endpoint::Node(*from))
            .prop_map(|(from, to, about, nth, fault)| {
                Fault::Message(MessageAt { from: Endpoint::Node(from), to, about, nth }, fault)
            }),
        (at(effect_name()), crash()).prop_map(|(at, crash)| Fault::Crash(at, crash)),
        (at(barrier()), barrier_fault).prop_map(|(at, fault)| Fault::Barrier(at, fault)),
        (at(write()), error(), permille(), time()).prop_map(|(at, error, keep, lasts)| {
            Fault::Write(at, WriteFault { error, keep, lasts })
        }),
        (node(), 1u32..4, time(), -100_000i32..=100_000).prop_map(
            |(node, incarnation, offset, drift)| {
                Fault::Skew {
                    node,
                    incarnation,
                    skew: Skew { offset, drift: Ppm::new(drift).expect("at most a tenth") },
                }
            }
        ),
        (time(), timed_fault()).prop_map(|(at, timed_fault)| Fault::At(at, timed_fault)),
    ]
}

fn txn() -> impl Strategy<Value = Txn> {
    let action = prop_oneof![
        any::<i64>().prop_map(Action::Put),
        Just(Action::Delete),
        Just(Action::Get),
        (any::<i64>(), any::<i64>()).prop_map(|(by, at_least)| Action::Add { by, at_least }),
    ];
    let op = ((0u16..4).prop_map(NodeId), "[a-z][a-z0-9.-]{0,8}", action)
        .prop_map(|(node, key, action)| Op { node, key: Key::new(&key).expect("short"), action });
    (prop::collection::vec(op, 1..4), any::<bool>())
        .prop_map(|(ops, stubborn)| Txn { ops: ops.into(), stubborn })
}

fn schedule() -> impl Strategy<Value = Schedule<Txn>> {
    let expectation = prop_oneof![
        Just(Expectation::NoViolation(None)),
        Just(Expectation::NoViolation(Some("W1 PreparedIsDurableBeforeYes".into()))),
        Just(Expectation::Violation("AC1 DecisionsAgree".into())),
    ];
    let note = prop::collection::vec("([a-z]{1,5} #?){0,5}[a-z.]{1,5}", 0..3);
    let requests = prop::collection::vec((node(), time(), txn()), 0..4);
    let reboot_time = (1..1_000_000u64).prop_map(Micros);
    let timing = (prop::option::of(any::<u64>()), time(), time(), reboot_time);
    let faults = prop::collection::vec(fault(), 0..8);
    (
        expectation,
        note,
        requests,
        timing,
        prop::collection::vec(node(), 0..2),
        any::<bool>(),
        faults,
    )
        .prop_map(
            |(
                expectation,
                note,
                requests,
                (key, low, more, reboot_time),
                permanently_down,
                encode_messages,
                faults,
            )| {
                let base = Plan::base(3, 2);
                let timing = Timing {
                    key,
                    latency: (low, low + more),
                    latency_tail: more,
                    reboot_time,
                    ..base.timing
                };
                let plan = Plan {
                    timing,
                    permanently_down,
                    encode_messages,
                    fault_phase: Micros(1) + low,
                    log_bytes: 1 + more.0,
                    ..base
                };
                let planned = |(at, (node, after, request))| {
                    let at = u32::try_from(at).expect("few");
                    let id =
                        RequestId { client: u64::from(1 + at % 2), serial: 1 + at, attempt: 0 };
                    PlannedRequest { id, node, after, request }
                };
                let requests = requests.into_iter().enumerate().map(planned).collect();
                Schedule { note, expectation, plan, requests, faults }
            },
        )
}

proptest! {
    #[test]
    fn written_schedule_reads_back_unchanged(schedule in schedule()) {
        let text = schedule.write(&PROTOCOL);
        let read = Schedule::read(&PROTOCOL, &text);
        prop_assert_eq!(read.as_ref(), Ok(&schedule), "{}", text);
    }

    #[test]
    fn reader_does_not_panic_on_any_text(schedule in schedule(), at in any::<prop::sample::Index>(), with in "\\PC{0,6}") {
        let mut text: Vec<char> = schedule.write(&PROTOCOL).chars().collect();
        let from = at.index(text.len());
        let to = (from + 3).min(text.len());
        text.splice(from..to, with.chars());
        let _any = Schedule::read(&PROTOCOL, &text.iter().collect::<String>());
    }
}

fn error_text(lines: &[&str]) -> String {
    Schedule::read(&PROTOCOL, &lines.join("\n")).expect_err("the schedule is invalid").to_string()
}

const CLUSTER: &str = "cluster 2 nodes, 1 client";

#[test]
fn parse_error_has_line_column_and_expectation() {
    // The empty line counts, so the line under test is the third.
    let of = |line: &str| error_text(&[CLUSTER, "", line]);
    assert_eq!(
        of("lose 1st Voet c1.1 from n1 to n0").split(", found").next(),
        Some(
            "line 3, column 10: expected Prepare, Vote, Commit, Abort, Ack, Inquire, Tell, Transact, Outcome, Committed, \
             Aborted, Unknown, Prepared, End, Header, Snapshot, Ready, Dropped, NotReady, \
             Hello, Welcome, Remember, Remembered, Refuse, Met, TornTail, Unconfirmed, PeerRefused or Refused"
        )
    );
    assert_eq!(
        of("lose 1st Vote c1.1 from n2 to n0"),
        "line 3, column 25: expected a node (n0 to n1), found `n2`"
    );
    assert_eq!(
        of("lose 1th Vote c1.1 from n1 to n0"),
        "line 3, column 6: expected an ordinal (1st, 2nd, 3rd, ...), found `1th`"
    );
    assert_eq!(
        of("lose 1st Vote c1.1 from n1"),
        "line 3, column 27: expected `to`, found the end of the line"
    );
    assert_eq!(
        of("lose Vote c1.1 from n1 to n0 twice"),
        "line 3, column 30: expected the end of the line, found `twice`"
    );
    assert_eq!(
        of("kill n1 after append Prepared c1.1: keeps 1001/1000, down 1 ms"),
        "line 3, column 43: expected a fraction in thousandths (0/1000 to 1000/1000), found `1001/1000`"
    );
    let at_rest = |fault: &str| {
        of(&format!("kill n1 after append Prepared c1.1: keeps 0/1000, down 1 ms, {fault}"))
    };
    assert_eq!(
        at_rest("empty"),
        "line 3, column 62: expected `damage`, `disk`, `cut`, `lose` or `unreadable`, found `empty`"
    );
    assert_eq!(
        at_rest("disk old"),
        "line 3, column 67: expected `empty`, `of` a node, or the age in incarnations (1 to 1000000), found `old`"
    );
    assert_eq!(
        at_rest("cut generation 0"),
        "line 3, column 66: expected `wal`, `snapshot` or `scratch`, found `generation`"
    );
    assert_eq!(
        of("delay Vote c1.1 from n1 to n0 by 1.0005 ms"),
        "line 3, column 34: expected a time in ms with at most three decimals, found `1.0005`"
    );
    assert_eq!(
        of("request c2.1 to n0: put k=1 @n0"),
        "line 3, column 9: expected a request of a client (c1.1, or of up to c1), found `c2.1`"
    );
    assert_eq!(
        of("request c1.1 to n0: put k=1 @n3"),
        "line 3, column 21: expected an operation at a node of the cluster (n0 to n1), found `put`"
    );
    assert_eq!(
        of("request c1.1 to n0: put k=x @n1"),
        "line 3, column 21: expected an operation (\"x\" is not a 64-bit integer), found `put`"
    );
    assert!(
        of("looose Vote")
            .starts_with("line 3, column 1: expected a line that begins with one of stormglass,")
    );
    assert_eq!(
        error_text(&["never-restarts n1"]),
        "line 1, column 1: expected a line `cluster 3 nodes, 1 client` before any request or fault, found `never-restarts`"
    );
    assert_eq!(
        error_text(&["expect no violation"]),
        "line 1, column 1: expected a line `cluster 3 nodes, 1 client`, found the end of the file"
    );
    assert_eq!(
        error_text(&["cluster 65 nodes, 1 client"]),
        "line 1, column 9: expected how many nodes (1 to 64), found `65`"
    );
}

#[test]
fn unknown_property_and_repeated_line_are_errors() {
    let of = |line| error_text(&["stormglass 2", CLUSTER, line]);
    assert_eq!(
        of("expect no violation of W1 PreparedBeforeYes"),
        "line 3, column 24: expected the name of a property: W1 PreparedIsDurableBeforeYes, found `W1`"
    );
    assert!(
        of("expect violation of W99 Nope")
            .starts_with("line 3, column 21: expected the name of a property: AC1 ")
    );
    assert_eq!(
        error_text(&[CLUSTER, "fault-phase 100 ms", "fault-phase 200 ms"]),
        "line 3, column 1: expected at most one line `fault-phase`, found `fault-phase`"
    );
    let both = ["expect no violation", "expect violation of NodeNeverPanics"];
    assert_eq!(
        error_text(&[CLUSTER, both[0], both[1]]),
        "line 3, column 1: expected at most one line `expect`, found `expect`"
    );
}

#[test]
fn format_1_is_refused_with_the_replacement() {
    let version = error_text(&["stormglass 1", CLUSTER]);
    assert!(version.starts_with("line 1, column 12: expected `2`, the version of this format;"));
    assert!(version.contains("storm -> fault-phase"), "{version}");
    assert_eq!(
        error_text(&[CLUSTER, "storm 100 ms"]),
        "line 2, column 1: expected `fault-phase`, which replaces `storm` of format 1, found `storm`"
    );
    assert_eq!(
        error_text(&[CLUSTER, "sync-lies n1 life 2 at sync before any append"]),
        "line 2, column 14: expected `incarnation`, which replaces `life` of format 1, found `life`"
    );
}

#[test]
fn omitted_lines_take_their_defaults() {
    let text = [
        "# a comment",
        CLUSTER,
        "request c1.1 to n0: put k=1 @n1   # another",
        "lose Vote c1.1 from n1 to n0",
        "latency 0.5 to 5 ms",
    ];
    let schedule = Schedule::read(&PROTOCOL, &text.join("\n")).expect("the schedule is valid");
    assert_eq!(schedule.plan, Plan::base(2, 1));
    let Fault::Message(at, MessageFault::Lose) = &schedule.faults[0] else { panic!("a loss") };
    assert_eq!(at.nth, 1);
}

/// The syntax of earlier versions, in which the node comes first.
#[test]
fn operations_with_the_node_first_are_still_read() {
    let read = |line: &str| {
        let schedule = Schedule::read(&PROTOCOL, &format!("{CLUSTER}\n{line}\n"));
        schedule.map(|schedule| schedule.requests[0].request.clone())
    };
    let earlier = "request c1.1 to n0: stubborn, put n0/k 7, add n1/a0 -5 at least -60, add n1/a0 5, \
                   get absent-n2/hot, delete n1/k";
    let present = "request c1.1 to n0: stubborn, put k=7 @n0, add a0=-5>=-60 @n1, add a0=5 @n1, \
                   get hot @absent-n2, delete k @1";
    assert_eq!(read(earlier), read(present));
    assert_eq!(read(present).map(|request| request.ops.len()), Ok(5));
    let error = error_text(&[CLUSTER, "request c1.1 to n0: put n3/k 1"]);
    assert!(error.contains("expected a node (n0 to n1) and a key"), "{error}");
}

#[test]
fn parse_error_column_counts_non_ascii_characters() {
    assert_eq!(
        error_text(&[CLUSTER, "fault-phase 130 µs"]),
        "line 2, column 17: expected `ms`, `us` or `s`, found `µs`"
    );
    assert!(error_text(&[CLUSTER, "ïo"]).ends_with("found `ïo`"));
    // A word of a megabyte must not become a message of a megabyte.
    assert!(error_text(&[CLUSTER, &"x".repeat(1_000_000)]).len() < 1_000);
    let marked = format!("\u{feff}{CLUSTER}");
    assert_eq!(Schedule::read(&PROTOCOL, &marked).map(|schedule| schedule.plan.nodes), Ok(2));
}

/// A client sends its requests in the order of their serials. Another order is an error of the
/// file, not of the protocol.
#[test]
fn request_serials_of_a_client_must_increase() {
    let request_id = |number: &str| format!("request c1.{number} to n0: put k=1 @n0");
    let numbered = |number| error_text(&[CLUSTER, &request_id(number)]);
    let expected =
        "line 2, column 9: expected a request of number 1 to 1000000000, like c1.4, found";
    assert!(numbered("0").starts_with(expected), "{}", numbered("0"));
    assert!(numbered("4294967295").starts_with(expected), "{}", numbered("4294967295"));
    assert_eq!(
        error_text(&[CLUSTER, &request_id("2"), &request_id("1")]),
        "line 3, column 9: expected a request of c1 with a number above that of c1.2, found `c1.1`"
    );
    let alone = error_text(&[CLUSTER, "expect no violation of ReadsReturnTheLastWrite"]);
    assert!(
        alone.contains("expected the name of a property: I4 ReadsReturnTheLastWrite, found"),
        "{alone}"
    );
}
