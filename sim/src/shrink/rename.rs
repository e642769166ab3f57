//! The same fault in a cluster whose nodes, clients and requests bear other names.

use stormglass::{About, NodeId, RequestId, Subject};

use crate::disk::{AppendName, Survival};
use crate::fault::{Crash, CrashKind, Deed, DeedAt, End, Fault, MessageAt, Weather};

/// New names for old ones; `None` for what is gone.
pub(super) struct Names<'a> {
    pub(super) node: &'a dyn Fn(NodeId) -> Option<NodeId>,
    pub(super) client: &'a dyn Fn(u32) -> Option<u32>,
    pub(super) request: &'a dyn Fn(RequestId) -> RequestId,
}

/// The same fault if `life` of `node` had not ended where it did.
pub(super) fn a_life_earlier(fault: &mut Fault, node: NodeId, life: u32) {
    let (whose, which) = match fault {
        Fault::Crash(at, _) | Fault::Barrier(at, _) | Fault::Write(at, _) => (at.node, &mut at.life),
        Fault::Skew { node, life, .. } => (*node, life),
        Fault::Message(..) | Fault::At(..) => return,
    };
    if whose == node && *which > life {
        *which -= 1;
    }
}

impl Names<'_> {
    /// `None` if it speaks of somebody who is gone.
    pub(super) fn fault(&self, fault: &Fault) -> Option<Fault> {
        Some(match fault {
            Fault::Message(at, fault) => {
                let (from, to) = (self.end(at.from)?, self.end(at.to)?);
                Fault::Message(MessageAt { from, to, about: self.about(at.about), nth: at.nth }, *fault)
            }
            Fault::Crash(at, crash) => Fault::Crash(self.deed_at(at)?, self.crash(crash)),
            Fault::Barrier(at, fault) => Fault::Barrier(self.deed_at(at)?, *fault),
            Fault::Write(at, fault) => Fault::Write(self.deed_at(at)?, *fault),
            Fault::Skew { node, life, skew } => {
                Fault::Skew { node: (self.node)(*node)?, life: *life, skew: *skew }
            }
            Fault::At(at_us, weather) => Fault::At(*at_us, self.weather(weather)?),
        })
    }

    fn end(&self, end: End) -> Option<End> {
        match end {
            End::Node(node) => (self.node)(node).map(End::Node),
            End::Client(client) => (self.client)(client).map(End::Client),
        }
    }

    fn subject(&self, subject: Option<Subject>) -> Option<Subject> {
        subject.map(|subject| match subject {
            Subject::Request(id) => Subject::Request((self.request)(id)),
            Subject::Serial(serial) => Subject::Serial(serial),
        })
    }

    fn about(&self, about: About) -> About {
        About { subject: self.subject(about.subject), ..about }
    }

    fn deed_at(&self, at: &DeedAt) -> Option<DeedAt> {
        let after = |after: &Option<About>| after.map(|about| self.about(about));
        let deed = match &at.deed {
            Deed::Send(about, to) => Deed::Send(self.about(*about), (self.node)(*to)?),
            Deed::Append(about) => Deed::Append(self.about(*about)),
            Deed::Sync(about) => Deed::Sync(after(about)),
            Deed::SyncDir(about) => Deed::SyncDir(after(about)),
            Deed::Rename(about) => Deed::Rename(after(about)),
            Deed::Remove(about) => Deed::Remove(after(about)),
            Deed::Truncate(about) => Deed::Truncate(after(about)),
            Deed::Reply(id) => Deed::Reply((self.request)(*id)),
        };
        Some(DeedAt { node: (self.node)(at.node)?, deed, ..*at })
    }

    fn crash(&self, crash: &Crash) -> Crash {
        let named = |at: &AppendName| AppendName { subject: self.subject(at.subject), ..at.clone() };
        let how = match &crash.how {
            CrashKind::PowerCut(Survival::AllBut(at)) => CrashKind::PowerCut(Survival::AllBut(named(at))),
            CrashKind::PowerCut(Survival::Torn { at, how, hole }) => {
                CrashKind::PowerCut(Survival::Torn { at: named(at), how: *how, hole: *hole })
            }
            CrashKind::PowerCut(
                Survival::None | Survival::All | Survival::Prefix(_) | Survival::Subset { .. },
            )
            | CrashKind::Kill { .. } => crash.how.clone(),
        };
        Crash { how, ..crash.clone() }
    }

    fn weather(&self, weather: &Weather) -> Option<Weather> {
        let side = |ends: &[End]| -> Option<Vec<End>> {
            let ends: Vec<End> = ends.iter().filter_map(|end| self.end(*end)).collect();
            (!ends.is_empty()).then_some(ends)
        };
        Some(match weather {
            Weather::Cut { from, to, for_us } => {
                Weather::Cut { from: side(from)?, to: side(to)?, for_us: *for_us }
            }
            Weather::Clog { from, to, for_us, swizzle } => {
                let (from, to) = (self.end(*from)?, self.end(*to)?);
                Weather::Clog { from, to, for_us: *for_us, swizzle: *swizzle }
            }
            Weather::Pause { node, for_us } => Weather::Pause { node: (self.node)(*node)?, for_us: *for_us },
            Weather::Jump { node, by_us } => Weather::Jump { node: (self.node)(*node)?, by_us: *by_us },
            Weather::Crash { node, crash } => {
                Weather::Crash { node: (self.node)(*node)?, crash: self.crash(crash) }
            }
        })
    }
}
