//! What a run did, in the names that coordinates are made of: where a crash at a time could be told as a crash after a
//! deed, which messages a partition lost, what a power cut found unsynced.

use std::collections::BTreeMap;

use stormglass::{About, DiskOp, Effect, Label, Node, NodeId, RequestId, Subject};

use crate::chooser::DeedPoint;
use crate::disk::AppendName;
use crate::fault::{Deed, DeedAt, End, MessageAt};
use crate::oracle::{Broken, Fact, Judge, Seen};
use crate::trace::concerns;

/// A judge that never breaks a claim and remembers coordinates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    deeds: BTreeMap<(NodeId, u32, Deed), u32>,
    sends: BTreeMap<(End, End, About), u32>,
    last_append: BTreeMap<NodeId, About>,
    /// What its life had appended last before each append.
    before: BTreeMap<DeedAt, About>,
    last_deed: BTreeMap<NodeId, DeedAt>,
    pub(crate) crashes: Vec<Ended>,
    /// Every message, and when it was sent.
    pub(crate) messages: Vec<(u64, MessageAt)>,
    /// Every barrier of the storm, in order.
    pub(crate) barriers: Vec<DeedAt>,
    pub(crate) cleared: bool,
    /// The request that the last fact with a subject was about. A run that breaks a claim ends there.
    pub(crate) last_request: Option<RequestId>,
}

/// How a life ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) at_us: u64,
    pub(crate) node: NodeId,
    /// The last thing that it did.
    pub(crate) after: Option<DeedAt>,
    /// What was not synced, in the order of its writing.
    pub(crate) unsynced: Vec<AppendName>,
}

impl Witness {
    /// Everything that was done, by name.
    pub(crate) fn deeds(&self) -> Vec<DeedAt> {
        let all = self.deeds.iter();
        all.flat_map(|(&(node, life, deed), &count)| {
            (1..=count).map(move |nth| DeedAt { node, life, deed, nth })
        })
        .collect()
    }

    /// What had been appended last before this, if it is an append and not the first one of its life.
    pub(crate) fn append_before(&self, at: DeedAt) -> Option<About> {
        self.before.get(&at).copied()
    }

    fn sent(&mut self, at_us: u64, from: End, to: End, about: About) {
        let nth = self.sends.entry((from, to, about)).or_default();
        *nth += 1;
        self.messages.push((at_us, MessageAt { from, to, about, nth: *nth }));
    }

    fn did<N: Node>(&mut self, seen: &Seen<'_, N>, effect: &Effect<N>) {
        let after = self.last_append.get(&seen.node).copied();
        let point =
            DeedPoint { node: seen.node, life: seen.life, ordinal: 0, disk: seen.disk, effect, after };
        let Some(deed) = point.deed() else { return };
        let nth = self.deeds.entry((seen.node, seen.life, deed)).or_default();
        *nth += 1;
        let at = DeedAt { node: seen.node, life: seen.life, deed, nth: *nth };
        self.last_deed.insert(seen.node, at);
        let from = End::Node(seen.node);
        match effect {
            Effect::Send { to, message } => self.sent(seen.at_us, from, End::Node(*to), message.about()),
            Effect::Reply { id, response } => {
                let about = About { kind: response.kind(), subject: Some(Subject::Request(*id)) };
                self.sent(seen.at_us, from, End::asker(*id), about);
            }
            Effect::Disk(DiskOp::Append { about, .. }) => {
                let before = self.last_append.insert(seen.node, *about);
                self.before.extend(before.map(|before| (at, before)));
            }
            Effect::Disk(DiskOp::Sync { .. } | DiskOp::SyncDir { .. }) => self.barriers.push(at),
            Effect::Disk(DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. })
            | Effect::Report(_)
            | Effect::Halt(_) => {}
        }
    }
}

impl<N: Node> Judge<N> for Witness {
    fn judge(&mut self, seen: &Seen<'_, N>) -> Result<(), Broken> {
        self.last_request = concerns(seen.fact).or(self.last_request);
        if self.cleared {
            return Ok(());
        }
        match seen.fact {
            Fact::Boot => {
                self.last_append.remove(&seen.node);
                self.last_deed.remove(&seen.node);
            }
            Fact::Effect(effect, _) => self.did(seen, effect),
            Fact::Asked { id, request } => {
                let about = About { kind: request.kind(), subject: Some(Subject::Request(*id)) };
                self.sent(seen.at_us, End::asker(*id), End::Node(seen.node), about);
            }
            Fact::PowerCut(report) => {
                let abouts: Vec<About> = report.appends.iter().map(|fate| fate.about).collect();
                let nth = |at: usize| abouts[..at].iter().filter(|about| **about == abouts[at]).count();
                let unsynced =
                    (0..abouts.len()).map(|at| AppendName::new(abouts[at], nth(at) as u32)).collect();
                self.ended(seen, unsynced);
            }
            Fact::Killed(_) => self.ended(seen, Vec::new()),
            Fact::Cleared { .. } => self.cleared = true,
            Fact::Refused(_)
            | Fact::Input(_)
            | Fact::Halted(_)
            | Fact::Damaged(_)
            | Fact::MessageFault { .. }
            | Fact::Lost { .. }
            | Fact::BarrierFault(_)
            | Fact::WriteFault(_)
            | Fact::Weather(_)
            | Fact::Answered { .. }
            | Fact::Settled { .. }
            | Fact::Ended => {}
        }
        Ok(())
    }
}

impl Witness {
    fn ended<N: Node>(&mut self, seen: &Seen<'_, N>, unsynced: Vec<AppendName>) {
        let after = self.last_deed.get(&seen.node).copied();
        self.crashes.push(Ended { at_us: seen.at_us, node: seen.node, after, unsynced });
    }
}
