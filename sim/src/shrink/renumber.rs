//! The same schedule, and the same faults, with other numbers for nodes, clients and requests.

use stormglass_node::{About, NodeId, RequestId, Subject};

use crate::disk::{AppendName, Survival};
use crate::fault::{
    AtRestFault, Crash, CrashKind, EffectAt, EffectName, Endpoint, Fault, MessageAt, MessageFault,
    TimedFault,
};
use crate::protocol::ScheduledRequest;
use crate::schedule::Schedule;
use crate::workload::ClientId;

/// Maps old numbers to new ones.
pub(super) struct Renumbering(Change);

enum Change {
    /// The nodes above it move down by one.
    NodeRemoved(NodeId),
    /// The clients above it move down by one.
    ClientRemoved(ClientId),
    /// The requests of each client, here all of them in the schedule, get the serials 1, 2, 3, ...
    SerialsFromOne(Vec<RequestId>),
}

impl Renumbering {
    /// Removes a node, its faults and the operations at it.
    pub(super) fn without_node(removed: NodeId) -> Renumbering {
        Renumbering(Change::NodeRemoved(removed))
    }

    /// Removes a client, which must have no requests, and its faults.
    pub(super) fn without_client(removed: ClientId) -> Renumbering {
        Renumbering(Change::ClientRemoved(removed))
    }

    /// Numbers the requests of each client 1, 2, 3, ... `None` if they have these numbers already.
    pub(super) fn serials_from_one<O>(schedule: &Schedule<O>) -> Option<Renumbering> {
        let ids: Vec<RequestId> = schedule.requests.iter().map(|planned| planned.id).collect();
        let in_order = ids.iter().all(|id| new_serial(&ids, *id) == Some(id.serial));
        (!in_order).then_some(Renumbering(Change::SerialsFromOne(ids)))
    }

    /// The renumbered schedule. A request that needs a removed node is left out.
    pub(super) fn schedule<O: ScheduledRequest>(&self, schedule: &Schedule<O>) -> Schedule<O> {
        let mut next = schedule.clone();
        match &self.0 {
            Change::NodeRemoved(_) => {
                next.plan.nodes -= 1;
                let down = schedule.plan.permanently_down.iter();
                next.plan.permanently_down = down.filter_map(|node| self.node(*node)).collect();
                next.requests.clear();
                for planned in &schedule.requests {
                    let Some(request) = planned.request.renumbered(&|id| self.node(id)) else {
                        continue;
                    };
                    let mut planned = planned.clone();
                    planned.request = request;
                    // Requests to the removed node go to the first one.
                    planned.node = self.node(planned.node).unwrap_or(NodeId(0));
                    next.requests.push(planned);
                }
            }
            Change::ClientRemoved(_) => next.plan.clients -= 1,
            Change::SerialsFromOne(_) => {}
        }
        for planned in &mut next.requests {
            planned.id = self.request(planned.id);
        }
        next.faults = self.faults(&schedule.faults);
        next
    }

    /// The renumbered faults, without those that name a removed node or client.
    pub(super) fn faults(&self, faults: &[Fault]) -> Vec<Fault> {
        faults.iter().filter_map(|fault| self.fault(fault)).collect()
    }

    fn node(&self, node: NodeId) -> Option<NodeId> {
        match &self.0 {
            Change::NodeRemoved(removed) if node == *removed => None,
            // A node outside the cluster (an invalid request) gets a number that is still outside.
            Change::NodeRemoved(removed) if node > *removed => Some(NodeId(node.0 - 1)),
            Change::NodeRemoved(_) | Change::ClientRemoved(_) | Change::SerialsFromOne(_) => {
                Some(node)
            }
        }
    }

    fn client(&self, client: ClientId) -> Option<ClientId> {
        match &self.0 {
            Change::ClientRemoved(removed) if client == *removed => None,
            Change::ClientRemoved(removed) if client > *removed => Some(ClientId(client.0 - 1)),
            Change::NodeRemoved(_) | Change::ClientRemoved(_) | Change::SerialsFromOne(_) => {
                Some(client)
            }
        }
    }

    pub(super) fn request(&self, id: RequestId) -> RequestId {
        match &self.0 {
            Change::NodeRemoved(_) => id,
            Change::ClientRemoved(removed) => {
                RequestId { client: id.client - u64::from(id.client > u64::from(*removed)), ..id }
            }
            Change::SerialsFromOne(ids) => match new_serial(ids, id) {
                Some(serial) => RequestId { serial, ..id },
                // The request is no longer in the schedule: a number that no other request gets.
                None => RequestId { serial: id.serial.saturating_add(1_000_000), ..id },
            },
        }
    }

    /// `None` if it names a removed node or client.
    fn fault(&self, fault: &Fault) -> Option<Fault> {
        Some(match fault {
            Fault::Message(at, fault) => {
                let from = self.end(at.from)?;
                let to = self.end(at.to)?;
                let about = self.about(at.about);
                let fault = match fault {
                    // None names a node, a client or a request.
                    MessageFault::Lose
                    | MessageFault::Duplicate { .. }
                    | MessageFault::Delay { .. }
                    | MessageFault::Flip { .. }
                    | MessageFault::Evict { .. } => *fault,
                };
                Fault::Message(MessageAt { from, to, about, nth: at.nth }, fault)
            }
            Fault::Crash(at, crash) => Fault::Crash(self.effect_at(at)?, self.crash(crash)?),
            Fault::Barrier(at, fault) => Fault::Barrier(self.effect_at(at)?, *fault),
            Fault::Write(at, fault) => Fault::Write(self.effect_at(at)?, *fault),
            Fault::Skew { node, incarnation, skew } => {
                Fault::Skew { node: self.node(*node)?, incarnation: *incarnation, skew: *skew }
            }
            Fault::At(at, timed_fault) => Fault::At(*at, self.timed_fault(timed_fault)?),
        })
    }

    fn end(&self, end: Endpoint) -> Option<Endpoint> {
        match end {
            Endpoint::Node(node) => self.node(node).map(Endpoint::Node),
            Endpoint::Client(client) => self.client(client).map(Endpoint::Client),
        }
    }

    fn subject(&self, subject: Option<Subject>) -> Option<Subject> {
        subject.map(|subject| match subject {
            Subject::Request(id) => Subject::Request(self.request(id)),
            Subject::Number(number) => Subject::Number(number),
        })
    }

    fn about(&self, about: About) -> About {
        About { subject: self.subject(about.subject), ..about }
    }

    fn preceding_append(&self, append: Option<About>) -> Option<About> {
        append.map(|about| self.about(about))
    }

    fn effect_at(&self, at: &EffectAt) -> Option<EffectAt> {
        let effect_name = match &at.effect_name {
            EffectName::Send(about, to) => EffectName::Send(self.about(*about), self.node(*to)?),
            EffectName::Append(about) => EffectName::Append(self.about(*about)),
            EffectName::Sync(after) => EffectName::Sync(self.preceding_append(*after)),
            EffectName::SyncDir(after) => EffectName::SyncDir(self.preceding_append(*after)),
            EffectName::Rename(after) => EffectName::Rename(self.preceding_append(*after)),
            EffectName::Remove(after) => EffectName::Remove(self.preceding_append(*after)),
            EffectName::Truncate(after) => EffectName::Truncate(self.preceding_append(*after)),
            EffectName::Reply(id) => EffectName::Reply(self.request(*id)),
        };
        Some(EffectAt { node: self.node(at.node)?, effect_name, ..*at })
    }

    fn append_name(&self, at: &AppendName) -> AppendName {
        AppendName { subject: self.subject(at.subject), ..at.clone() }
    }

    /// `None` if it names a removed node.
    fn crash(&self, crash: &Crash) -> Option<Crash> {
        let how = match &crash.how {
            CrashKind::PowerCut(Survival::AllBut(at)) => {
                CrashKind::PowerCut(Survival::AllBut(self.append_name(at)))
            }
            CrashKind::PowerCut(Survival::Torn { at, how, hole }) => {
                let at = self.append_name(at);
                CrashKind::PowerCut(Survival::Torn { at, how: *how, hole: *hole })
            }
            CrashKind::PowerCut(
                Survival::None | Survival::All | Survival::Prefix(_) | Survival::Subset { .. },
            )
            | CrashKind::Kill { .. } => crash.how.clone(),
        };
        let at_rest = match crash.at_rest {
            Some(AtRestFault::OfNode(node)) => Some(AtRestFault::OfNode(self.node(node)?)),
            // Files are chosen by age and incarnations counted back.
            None
            | Some(
                AtRestFault::Damaged(_)
                | AtRestFault::Restored { .. }
                | AtRestFault::Emptied
                | AtRestFault::Lost(_)
                | AtRestFault::Unreadable(_),
            ) => crash.at_rest,
        };
        Some(Crash { how, down_for: crash.down_for, at_rest })
    }

    fn partition_side(&self, ends: &[Endpoint]) -> Option<Vec<Endpoint>> {
        let ends: Vec<Endpoint> = ends.iter().filter_map(|end| self.end(*end)).collect();
        (!ends.is_empty()).then_some(ends)
    }

    fn timed_fault(&self, timed_fault: &TimedFault) -> Option<TimedFault> {
        Some(match timed_fault {
            TimedFault::Cut { from, to, duration } => {
                let from = self.partition_side(from)?;
                let to = self.partition_side(to)?;
                TimedFault::Cut { from, to, duration: *duration }
            }
            TimedFault::Clog { from, to, duration, swizzle } => {
                let from = self.end(*from)?;
                let to = self.end(*to)?;
                TimedFault::Clog { from, to, duration: *duration, swizzle: *swizzle }
            }
            TimedFault::Pause { node, duration } => {
                TimedFault::Pause { node: self.node(*node)?, duration: *duration }
            }
            TimedFault::ClockJump { node, by } => {
                TimedFault::ClockJump { node: self.node(*node)?, by: *by }
            }
            TimedFault::SecondProcess { node, disk, duration } => TimedFault::SecondProcess {
                node: self.node(*node)?,
                disk: *disk,
                duration: *duration,
            },
            TimedFault::DiskHang { node, duration } => {
                TimedFault::DiskHang { node: self.node(*node)?, duration: *duration }
            }
            TimedFault::Wake { node } => TimedFault::Wake { node: self.node(*node)? },
            TimedFault::Crash { node, crash } => {
                TimedFault::Crash { node: self.node(*node)?, crash: self.crash(crash)? }
            }
        })
    }
}

/// The position of a request among those of its client, from 1; `None` if it is not one of `ids`.
fn new_serial(ids: &[RequestId], id: RequestId) -> Option<u32> {
    let of_client = ids.iter().filter(|other| other.client == id.client);
    let serials: Vec<u32> = of_client.map(|other| other.serial).collect();
    let earlier = serials.iter().filter(|serial| **serial <= id.serial);
    serials.contains(&id.serial).then(|| earlier.count() as u32)
}

/// Adapts a fault to a run without the crash that ended `incarnation` of `node`: the later
/// incarnations of the node have numbers that are lower by one.
pub(super) fn shift_to_earlier_incarnation(fault: &mut Fault, node: NodeId, incarnation: u32) {
    let (fault_node, fault_incarnation) = match fault {
        Fault::Crash(at, _) | Fault::Barrier(at, _) | Fault::Write(at, _) => {
            (at.node, &mut at.incarnation)
        }
        Fault::Skew { node, incarnation, .. } => (*node, incarnation),
        Fault::Message(..) | Fault::At(..) => return,
    };
    if fault_node == node && *fault_incarnation > incarnation {
        *fault_incarnation -= 1;
    }
}
