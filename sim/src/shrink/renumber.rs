//! The same fault in a cluster whose nodes, clients and requests have other numbers.

use stormglass_node::{About, NodeId, RequestId, Subject};

use crate::disk::{AppendName, Survival};
use crate::fault::{
    Crash, CrashKind, EffectAt, EffectName, Endpoint, Fault, MessageAt, TimedFault,
};

/// Maps old numbers to new ones; `None` if the node or client is removed.
pub(super) struct Renumbering<'a> {
    pub(super) node: &'a dyn Fn(NodeId) -> Option<NodeId>,
    pub(super) client: &'a dyn Fn(u32) -> Option<u32>,
    pub(super) request: &'a dyn Fn(RequestId) -> RequestId,
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

impl Renumbering<'_> {
    /// The renumbered fault; `None` if it names a removed node or client.
    pub(super) fn fault(&self, fault: &Fault) -> Option<Fault> {
        Some(match fault {
            Fault::Message(at, fault) => {
                let from = self.end(at.from)?;
                let to = self.end(at.to)?;
                let about = self.about(at.about);
                Fault::Message(MessageAt { from, to, about, nth: at.nth }, *fault)
            }
            Fault::Crash(at, crash) => Fault::Crash(self.effect_at(at)?, self.crash(crash)),
            Fault::Barrier(at, fault) => Fault::Barrier(self.effect_at(at)?, *fault),
            Fault::Write(at, fault) => Fault::Write(self.effect_at(at)?, *fault),
            Fault::Skew { node, incarnation, skew } => {
                Fault::Skew { node: (self.node)(*node)?, incarnation: *incarnation, skew: *skew }
            }
            Fault::At(at_us, timed_fault) => Fault::At(*at_us, self.timed_fault(timed_fault)?),
        })
    }

    fn end(&self, end: Endpoint) -> Option<Endpoint> {
        match end {
            Endpoint::Node(node) => (self.node)(node).map(Endpoint::Node),
            Endpoint::Client(client) => (self.client)(client).map(Endpoint::Client),
        }
    }

    fn subject(&self, subject: Option<Subject>) -> Option<Subject> {
        subject.map(|subject| match subject {
            Subject::Request(id) => Subject::Request((self.request)(id)),
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
            EffectName::Send(about, to) => EffectName::Send(self.about(*about), (self.node)(*to)?),
            EffectName::Append(about) => EffectName::Append(self.about(*about)),
            EffectName::Sync(after) => EffectName::Sync(self.preceding_append(*after)),
            EffectName::SyncDir(after) => EffectName::SyncDir(self.preceding_append(*after)),
            EffectName::Rename(after) => EffectName::Rename(self.preceding_append(*after)),
            EffectName::Remove(after) => EffectName::Remove(self.preceding_append(*after)),
            EffectName::Truncate(after) => EffectName::Truncate(self.preceding_append(*after)),
            EffectName::Reply(id) => EffectName::Reply((self.request)(*id)),
        };
        Some(EffectAt { node: (self.node)(at.node)?, effect_name, ..*at })
    }

    fn append_name(&self, at: &AppendName) -> AppendName {
        AppendName { subject: self.subject(at.subject), ..at.clone() }
    }

    fn crash(&self, crash: &Crash) -> Crash {
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
        Crash { how, ..crash.clone() }
    }

    fn partition_side(&self, ends: &[Endpoint]) -> Option<Vec<Endpoint>> {
        let ends: Vec<Endpoint> = ends.iter().filter_map(|end| self.end(*end)).collect();
        (!ends.is_empty()).then_some(ends)
    }

    fn timed_fault(&self, timed_fault: &TimedFault) -> Option<TimedFault> {
        Some(match timed_fault {
            TimedFault::Cut { from, to, for_us } => {
                let from = self.partition_side(from)?;
                let to = self.partition_side(to)?;
                TimedFault::Cut { from, to, for_us: *for_us }
            }
            TimedFault::Clog { from, to, for_us, swizzle } => {
                let from = self.end(*from)?;
                let to = self.end(*to)?;
                TimedFault::Clog { from, to, for_us: *for_us, swizzle: *swizzle }
            }
            TimedFault::Pause { node, for_us } => {
                TimedFault::Pause { node: (self.node)(*node)?, for_us: *for_us }
            }
            TimedFault::ClockJump { node, by_us } => {
                TimedFault::ClockJump { node: (self.node)(*node)?, by_us: *by_us }
            }
            TimedFault::Crash { node, crash } => {
                TimedFault::Crash { node: (self.node)(*node)?, crash: self.crash(crash) }
            }
        })
    }
}
