//! A strategy for each family of faults. Whatever shrinks, shrinks to an earlier place, a shorter
//! time and a simpler fault.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use stormglass_node::{DiskError, Micros, NodeId};

use crate::disk::Survival;
use crate::fault::{
    BarrierFault, Crash, CrashKind, EffectAt, EffectName, Endpoint, Fault, FaultKind, FaultKinds,
    MessageAt, MessageFault, Skew, TimedFault, WriteFault,
};
use crate::plan::Plan;
use crate::ratio::{Permille, Ppm};
use crate::shrink::RunCoordinates;
use crate::workload::ClientId;

/// Faults that happen together.
type Group = BoxedStrategy<Vec<Fault>>;

/// The families of these kinds that can happen at these coordinates, with their weights.
pub(super) fn families(
    coordinates: &RunCoordinates,
    plan: &Plan,
    kinds: FaultKinds,
) -> Vec<(u32, Group)> {
    let messages: Vec<MessageAt> = coordinates.messages().iter().map(|(_, at)| *at).collect();
    let effects = coordinates.effects();
    let writes = effects.iter().copied().filter(|at| is_write(at.effect_name)).collect();
    let barriers = coordinates.barriers().to_vec();
    // Messages and crashes most often: they have the most coordinates.
    let mut families = vec![
        (4, one(message(messages, kinds))),
        (4, one(crash(effects, kinds))),
        (2, one(barrier(barriers, kinds))),
        (1, one(write(writes, kinds))),
        (1, one(skew(plan.nodes, kinds))),
    ];
    let timed = Timed::new(coordinates, plan);
    families.push((2, timed.partition(kinds)));
    families.extend(timed.others(kinds).into_iter().map(|family| (1, one(Some(family)))));
    families.into_iter().filter_map(|(weight, family)| Some((weight, family?))).collect()
}

fn one(family: Option<BoxedStrategy<Fault>>) -> Option<Group> {
    family.map(|family| family.prop_map(|fault| vec![fault]).boxed())
}

/// One of the strategies whose kind is among `kinds`; `None` if there is none.
fn one_of<T: std::fmt::Debug + 'static>(
    kinds: FaultKinds,
    strategies: Vec<(FaultKind, BoxedStrategy<T>)>,
) -> Option<Union<BoxedStrategy<T>>> {
    let allowed = strategies.into_iter().filter(|(kind, _)| kinds.contains(*kind));
    let allowed: Vec<_> = allowed.map(|(_, strategy)| strategy).collect();
    (!allowed.is_empty()).then(|| Union::new(allowed))
}

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Micros> {
    range.prop_map(Micros::from_millis)
}

fn message(at: Vec<MessageAt>, kinds: FaultKinds) -> Option<BoxedStrategy<Fault>> {
    let fault = one_of(
        kinds,
        vec![
            (FaultKind::MessageLoss, Just(MessageFault::Lose).boxed()),
            (
                FaultKind::MessageDuplication,
                millis(1..400).prop_map(|after| MessageFault::Duplicate { after }).boxed(),
            ),
            (
                FaultKind::MessageDelay,
                millis(1..400).prop_map(|by| MessageFault::Delay { by }).boxed(),
            ),
        ],
    )?;
    if at.is_empty() {
        return None;
    }
    // The next one of its name as well: a fault may cause a message that the run without faults
    // does not have.
    let fault = (select(at), 0u32..2, fault).prop_map(|(at, offset, fault)| {
        Fault::Message(MessageAt { nth: at.nth + offset, ..at }, fault)
    });
    Some(fault.boxed())
}

fn crash(at: Vec<EffectAt>, kinds: FaultKinds) -> Option<BoxedStrategy<Fault>> {
    let kill = select([1000, 0, 500].map(permille).to_vec());
    let how = one_of(
        kinds,
        vec![
            (FaultKind::Kill, kill.prop_map(|keep| CrashKind::Kill { keep }).boxed()),
            (
                FaultKind::PowerCut,
                select(vec![Survival::None, Survival::All]).prop_map(CrashKind::PowerCut).boxed(),
            ),
            (
                FaultKind::PowerCut,
                (0u32..6).prop_map(|first| CrashKind::PowerCut(Survival::Prefix(first))).boxed(),
            ),
        ],
    )?;
    if at.is_empty() {
        return None;
    }
    let fault = (effect(at), how, millis(1..100)).prop_map(|(at, how, down)| {
        Fault::Crash(at, Crash { how, down_for: Some(down), at_rest: None })
    });
    Some(fault.boxed())
}

fn barrier(at: Vec<EffectAt>, kinds: FaultKinds) -> Option<BoxedStrategy<Fault>> {
    let fault = one_of(
        kinds,
        vec![
            (FaultKind::SlowDisk, millis(1..200).prop_map(|by| BarrierFault::Slow { by }).boxed()),
            (
                FaultKind::FailedSync,
                select(vec![DiskError::Io, DiskError::NoSpace])
                    .prop_map(BarrierFault::Fail)
                    .boxed(),
            ),
        ],
    )?;
    if at.is_empty() {
        return None;
    }
    Some((select(at), fault).prop_map(|(at, fault)| Fault::Barrier(at, fault)).boxed())
}

fn write(at: Vec<EffectAt>, kinds: FaultKinds) -> Option<BoxedStrategy<Fault>> {
    if at.is_empty() || !kinds.contains(FaultKind::FailedWrite) {
        return None;
    }
    // A failing device reports one error; a full disk stays full for a while.
    let error = prop_oneof![
        Just((DiskError::Io, Micros::ZERO)),
        millis(0..200).prop_map(|lasts| (DiskError::NoSpace, lasts)),
    ];
    let keep = select([0, 300, 900].map(permille).to_vec());
    let fault = (effect(at), error, keep)
        .prop_map(|(at, (error, lasts), keep)| Fault::Write(at, WriteFault { error, keep, lasts }));
    Some(fault.boxed())
}

fn is_write(effect: EffectName) -> bool {
    match effect {
        EffectName::Append(_)
        | EffectName::Rename(_)
        | EffectName::Remove(_)
        | EffectName::Truncate(_) => true,
        EffectName::Send(..)
        | EffectName::Sync(_)
        | EffectName::SyncDir(_)
        | EffectName::Reply(_) => false,
    }
}

/// The clock of one incarnation, from its boot on.
fn skew(nodes: u16, kinds: FaultKinds) -> Option<BoxedStrategy<Fault>> {
    let deviation = one_of(
        kinds,
        vec![
            (
                FaultKind::ClockOffset,
                millis(1..10_000).prop_map(|offset| Skew { offset, drift: Ppm::ZERO }).boxed(),
            ),
            (
                FaultKind::ClockDrift,
                drift().prop_map(|drift| Skew { offset: Micros::ZERO, drift }).boxed(),
            ),
        ],
    )?;
    let fault = (node(nodes), incarnation(), deviation)
        .prop_map(|(node, offset, skew)| Fault::Skew { node, incarnation: 1 + offset, skew });
    Some(fault.boxed())
}

/// Up to a tenth to either side, in thousandths, and never none.
fn drift() -> impl Strategy<Value = Ppm> {
    (1i32..=100, any::<bool>()).prop_map(|(thousandths, is_slow)| {
        let drift = if is_slow { -thousandths } else { thousandths };
        Ppm::new(drift * 1_000).expect("at most a tenth")
    })
}

/// A place among these, mostly in the incarnation of the run without faults: another one needs a
/// crash before it.
fn effect(at: Vec<EffectAt>) -> impl Strategy<Value = EffectAt> {
    (select(at), incarnation())
        .prop_map(|(at, offset)| EffectAt { incarnation: at.incarnation + offset, ..at })
}

/// How many incarnations later than without faults.
fn incarnation() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0u32), 1 => Just(1)]
}

fn node(nodes: u16) -> impl Strategy<Value = NodeId> {
    (0..nodes).prop_map(NodeId)
}

fn permille(share: u16) -> Permille {
    Permille::new(share).expect("at most 1000")
}

/// Faults at times.
struct Timed {
    nodes: u16,
    clients: u32,
    /// The times at which messages are sent in the run without faults, in whole milliseconds.
    times: Vec<Micros>,
}

impl Timed {
    fn new(coordinates: &RunCoordinates, plan: &Plan) -> Timed {
        let sent = coordinates.messages().iter().map(|(at, _)| Micros::from_millis(at.0 / 1_000));
        let mut times: Vec<Micros> = sent.collect();
        if times.is_empty() {
            // A protocol without clients, whose nodes are alone with their disks and clocks.
            times.extend((0..plan.fault_phase.0 / 1_000).map(Micros::from_millis));
        }
        times.sort();
        times.dedup();
        Timed { nodes: plan.nodes, clients: plan.clients, times }
    }

    fn at(&self, fault: impl Strategy<Value = TimedFault> + 'static) -> BoxedStrategy<Fault> {
        (select(self.times.clone()), fault).prop_map(|(at, fault)| Fault::At(at, fault)).boxed()
    }

    /// N6: some endpoints and all others, one-way or both ways.
    fn partition(&self, kinds: FaultKinds) -> Option<Group> {
        if !kinds.contains(FaultKind::Partition) {
            return None;
        }
        let nodes = (0..self.nodes).map(|id| Endpoint::Node(NodeId(id)));
        let clients = ClientId::all(self.clients).map(Endpoint::Client);
        let with_clients: Vec<Endpoint> = nodes.clone().chain(clients).collect();
        let mut sides = Vec::new();
        // Mostly the clients reach both sides: a node that is cut off and still serves is what
        // most partitions are about.
        for (weight, endpoints) in [(2, nodes.collect()), (1, with_clients)] {
            if endpoints.len() > 1 {
                sides.push((weight, cut_sides(endpoints).boxed()));
            }
        }
        if sides.is_empty() {
            return None;
        }
        let cut = (Union::new_weighted(sides), any::<bool>(), millis(1..1_000));
        let group =
            (select(self.times.clone()), cut).prop_map(|(at, ((from, to), both, duration))| {
                let back = TimedFault::Cut { from: to.clone(), to: from.clone(), duration };
                let mut faults = vec![Fault::At(at, TimedFault::Cut { from, to, duration })];
                if both {
                    faults.push(Fault::At(at, back));
                }
                faults
            });
        Some(group.boxed())
    }

    /// N5, P4, C3, C4, D9.
    fn others(&self, kinds: FaultKinds) -> Vec<BoxedStrategy<Fault>> {
        let mut families = Vec::new();
        let links = self.links();
        if kinds.contains(FaultKind::Clog) && !links.is_empty() {
            let clog = (select(links), millis(1..1_000)).prop_map(|((from, to), duration)| {
                TimedFault::Clog { from, to, duration, swizzle: false }
            });
            families.push(self.at(clog));
        }
        if kinds.contains(FaultKind::Pause) {
            let pause =
                self.spans(1_000).prop_map(|(node, duration)| TimedFault::Pause { node, duration });
            families.push(self.at(pause));
        }
        if kinds.contains(FaultKind::ClockJump) {
            let jump = self.spans(5_000).prop_map(|(node, by)| TimedFault::ClockJump { node, by });
            families.push(self.at(jump));
        }
        if kinds.contains(FaultKind::SlowDisk) {
            let hang = self
                .spans(5_000)
                .prop_map(|(node, duration)| TimedFault::DiskHang { node, duration });
            families.push(self.at(hang));
        }
        if kinds.contains(FaultKind::EarlyWake) {
            let wake = node(self.nodes).prop_map(|node| TimedFault::Wake { node });
            families.push(self.at(wake));
        }
        families
    }

    /// A node, and a time of at most so many milliseconds.
    fn spans(&self, longest: u64) -> impl Strategy<Value = (NodeId, Micros)> + use<> {
        (node(self.nodes), millis(1..longest))
    }

    /// Every link to a node: answers to clients are delayed by other faults as well.
    fn links(&self) -> Vec<(Endpoint, Endpoint)> {
        let nodes = (0..self.nodes).map(|id| Endpoint::Node(NodeId(id)));
        let clients = ClientId::all(self.clients).map(Endpoint::Client);
        let senders: Vec<Endpoint> = nodes.clone().chain(clients).collect();
        let links = nodes.flat_map(|to| senders.iter().map(move |from| (*from, to)));
        links.filter(|(from, to)| from != to).collect()
    }
}

/// One endpoint alone or any share of them, and the others. Neither side is empty.
fn cut_sides(endpoints: Vec<Endpoint>) -> impl Strategy<Value = (Vec<Endpoint>, Vec<Endpoint>)> {
    // Clients come last, and with 64 nodes stay on the side of the last of them.
    let counted = endpoints.len().min(63) as u32;
    let alone = (0..counted).prop_map(|index| 1u64 << index);
    let any_share = 1..(1u64 << counted) - 1;
    prop_oneof![alone, any_share].prop_map(move |here| {
        let mut sides = (Vec::new(), Vec::new());
        for (index, endpoint) in endpoints.iter().enumerate() {
            let is_here = index < 63 && here >> index & 1 == 1;
            if is_here { sides.0.push(*endpoint) } else { sides.1.push(*endpoint) }
        }
        sides
    })
}
