//! The coordinates of a run: its effects, messages and barriers by name. With them a crash at a
//! time becomes a crash after an effect, a partition becomes lost messages, and a power cut gets
//! the names of the unsynced appends.

use std::collections::{BTreeMap, BTreeSet};

use stormglass_node::{About, DiskOp, Effect, Label, Micros, Node, NodeId, RequestId, Subject};

use crate::chooser::EffectPoint;
use crate::disk::AppendName;
use crate::fault::{EffectAt, EffectName, Endpoint, MessageAt};
use crate::property::{Checker, ClientFact, Fact, Observation, ProcessFact, RunFact, Violation};

/// A checker that reports no violation and records coordinates. It records nothing after the fault
/// phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunCoordinates {
    effects: BTreeMap<(NodeId, u32, EffectName), u32>,
    message_counts: BTreeMap<(Endpoint, Endpoint, About), u32>,
    last_appended: BTreeMap<NodeId, About>,
    /// For each append, the append before it in the same incarnation.
    previous_appends: BTreeMap<EffectAt, About>,
    last_effect: BTreeMap<NodeId, EffectAt>,
    /// In the order of their times.
    crashes: Vec<CrashPoint>,
    /// Every message, with the virtual time of its sending.
    messages: Vec<(Micros, MessageAt)>,
    /// Every barrier of the fault phase, in order.
    barriers: Vec<EffectAt>,
    /// Whether the fault phase is over.
    healed: bool,
    /// The nodes of which a second process runs (D17). Its effects have no coordinates, and its
    /// messages count with those of the first.
    with_second_process: BTreeSet<NodeId>,
    /// The request that the last fact with a subject was about. A run ends at its first violation,
    /// so in a failing run it is the request that the violation is about.
    last_request: Option<RequestId>,
}

/// The end of an incarnation by a crash.
#[derive(Clone, Debug)]
struct CrashPoint {
    at: Micros,
    node: NodeId,
    /// The last effect of the incarnation.
    after: Option<EffectAt>,
    /// The unsynced appends, in the order of writing. Empty for a kill.
    unsynced: Vec<AppendName>,
}

impl RunCoordinates {
    /// The coordinates of every effect, ordered by node, incarnation and name.
    pub(crate) fn effects(&self) -> Vec<EffectAt> {
        let all = self.effects.iter();
        all.flat_map(|(&(node, incarnation, effect_name), &count)| {
            (1..=count).map(move |nth| EffectAt { node, incarnation, effect_name, nth })
        })
        .collect()
    }

    /// Every message in the order of sending, with the virtual time of that.
    pub(crate) fn messages(&self) -> &[(Micros, MessageAt)] {
        &self.messages
    }

    /// When the client sent this request first; `None` if it did not during the fault phase.
    pub(super) fn request_sent_at(&self, id: RequestId) -> Option<Micros> {
        let first = self.messages.iter().find(|(_, message)| match message.about.subject {
            Some(Subject::Request(other)) => {
                matches!(message.from, Endpoint::Client(_))
                    && (other.client, other.serial) == (id.client, id.serial)
            }
            Some(Subject::Number(_)) | None => false,
        });
        first.map(|(at, _)| *at)
    }

    /// Every barrier in the order of issue.
    pub(crate) fn barriers(&self) -> &[EffectAt] {
        &self.barriers
    }

    /// The request that the violation is about; `None` if the run was about no request at all.
    pub(super) fn last_request(&self) -> Option<RequestId> {
        self.last_request
    }

    /// The last effects of the incarnations of `node` that a crash ended at this time.
    pub(super) fn effects_before_crash(
        &self,
        node: NodeId,
        at: Micros,
    ) -> impl Iterator<Item = EffectAt> {
        let here = self.crashes.iter().filter(move |crash| (crash.node, crash.at) == (node, at));
        here.filter_map(|crash| crash.after)
    }

    /// What a crash after this effect found unsynced, in the order of writing: empty if the run had
    /// no crash there, or a kill.
    pub(super) fn unsynced_at_crash(&self, after: EffectAt) -> &[AppendName] {
        let crash = self.crashes.iter().find(|crash| crash.after == Some(after));
        crash.map_or(&[], |crash| &crash.unsynced)
    }

    /// The append before this one, if this is an append and not the first one of its incarnation.
    pub(super) fn previous_append(&self, at: EffectAt) -> Option<About> {
        self.previous_appends.get(&at).copied()
    }

    fn record_message(&mut self, at: Micros, from: Endpoint, to: Endpoint, about: About) {
        let nth = self.message_counts.entry((from, to, about)).or_default();
        *nth += 1;
        self.messages.push((at, MessageAt { from, to, about, nth: *nth }));
    }

    fn record_effect<N: Node>(&mut self, observation: &Observation<'_, N>, effect: &Effect<N>) {
        let from = Endpoint::Node(observation.node);
        match effect {
            Effect::Send { to, message } => {
                self.record_message(observation.at, from, Endpoint::Node(*to), message.about())
            }
            Effect::Reply { id, response } => {
                let about = About { kind: response.kind(), subject: Some(Subject::Request(*id)) };
                self.record_message(observation.at, from, Endpoint::client_of(*id), about);
            }
            Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => {}
        }
        if !self.with_second_process.contains(&observation.node) {
            self.record_coordinate(observation, effect);
        }
    }

    fn record_coordinate<N: Node>(&mut self, observation: &Observation<'_, N>, effect: &Effect<N>) {
        let after = self.last_appended.get(&observation.node).copied();
        let point = EffectPoint {
            node: observation.node,
            incarnation: observation.incarnation,
            ordinal: 0,
            disks: observation.disks,
            effect,
            after,
        };
        let Some(effect_name) = point.effect_name() else { return };
        let nth = self
            .effects
            .entry((observation.node, observation.incarnation, effect_name))
            .or_default();
        *nth += 1;
        let at = EffectAt {
            node: observation.node,
            incarnation: observation.incarnation,
            effect_name,
            nth: *nth,
        };
        self.last_effect.insert(observation.node, at);
        match effect {
            Effect::Disk(DiskOp::Append { about, .. }) => {
                let previous = self.last_appended.insert(observation.node, *about);
                self.previous_appends.extend(previous.map(|previous| (at, previous)));
            }
            Effect::Disk(DiskOp::Sync { .. } | DiskOp::SyncDir { .. }) => self.barriers.push(at),
            Effect::Disk(
                DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. },
            )
            | Effect::Send { .. }
            | Effect::Reply { .. }
            | Effect::Report(_)
            | Effect::Halt(_) => {}
        }
    }
}

impl<N: Node> Checker<N> for RunCoordinates {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        self.last_request = observation.fact.request().or(self.last_request);
        if self.healed {
            return Ok(());
        }
        match observation.fact {
            Fact::Process(ProcessFact::SecondProcess(_)) => {
                self.with_second_process.insert(observation.node);
            }
            Fact::Process(ProcessFact::Resumed) => {
                self.with_second_process.remove(&observation.node);
            }
            // The coordinates at this node stay those of its first process.
            Fact::Process(_) if self.with_second_process.contains(&observation.node) => {}
            Fact::Process(ProcessFact::Boot) => {
                self.last_appended.remove(&observation.node);
                self.last_effect.remove(&observation.node);
            }
            Fact::Effect(effect, _) => self.record_effect(observation, effect),
            Fact::Client(ClientFact::Asked { id, request }) => {
                let about = About { kind: request.kind(), subject: Some(Subject::Request(*id)) };
                self.record_message(
                    observation.at,
                    Endpoint::client_of(*id),
                    Endpoint::Node(observation.node),
                    about,
                );
            }
            Fact::Process(ProcessFact::PowerCut(report)) => {
                let appends: Vec<About> =
                    report.appends.iter().map(|append| append.about).collect();
                let unsynced = appends.iter().enumerate().map(|(at, about)| {
                    let nth = appends[..at].iter().filter(|other| *other == about).count();
                    AppendName::new(*about, nth as u32)
                });
                self.record_crash(observation, unsynced.collect());
            }
            Fact::Process(ProcessFact::Killed(_)) => self.record_crash(observation, Vec::new()),
            Fact::Run(RunFact::Healed { .. }) => self.healed = true,
            Fact::Process(
                ProcessFact::Refused(_)
                | ProcessFact::Halted(_)
                | ProcessFact::Damaged(_)
                | ProcessFact::DiskChanged(_)
                | ProcessFact::Unreadable(_),
            )
            | Fact::Input(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Client(ClientFact::Answered { .. })
            | Fact::Run(RunFact::Recovered { .. } | RunFact::Ended) => {}
        }
        Ok(())
    }
}

impl RunCoordinates {
    fn record_crash<N: Node>(
        &mut self,
        observation: &Observation<'_, N>,
        unsynced: Vec<AppendName>,
    ) {
        let after = self.last_effect.get(&observation.node).copied();
        self.crashes.push(CrashPoint {
            at: observation.at,
            node: observation.node,
            after,
            unsynced,
        });
    }
}
