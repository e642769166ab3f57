//! Records facts with their causes.

use stormglass_node::{DiskOp, Effect, Input, Label, Node, NodeId};

use super::{CausalTrace, Index, Process, RecordedFact, Role, SubjectKey};
use crate::disk::DiskChange;
use crate::fault::{Endpoint, TimedFault};
use crate::property::{ClientFact, Fact, FaultFact, Observation, ProcessFact};
use crate::trace::{kind_of, line_of, shows_contents};

/// The causes of a fact.
#[derive(Default)]
struct Causes {
    direct: Vec<usize>,
    same_subject: Vec<usize>,
    memory: Vec<usize>,
}

impl CausalTrace {
    pub(super) fn record<N: Node>(&mut self, observation: &Observation<'_, N>) {
        let at = self.facts.len();
        let process = (observation.node, observation.incarnation);
        let mut causes = Causes::default();
        let arriving = self.arriving.take();
        let fact = observation.fact;
        let subjects = subjects_of(fact);
        if let Some(message) = arriving {
            causes.direct.extend(self.index.sent.get(&message));
        }
        match fact {
            Fact::Input(input) => self.index.input(process, input, kind_of(fact), &mut causes, at),
            Fact::Effect(effect, _) => self.index.effect(process, effect, &mut causes, at),
            Fact::Process(fact) => self.index.process(process, fact, &mut causes, at),
            Fact::Client(fact) => self.index.client(fact, &mut causes, at),
            Fact::Fault(FaultFact::Message { .. } | FaultFact::Barrier(_)) => {
                // The fact before it is that of the message, or of the barrier.
                causes.direct.extend(at.checked_sub(1));
            }
            Fact::Fault(FaultFact::Write(_) | FaultFact::Timed(_))
            | Fact::Lost { .. }
            | Fact::Run(_) => {}
        }
        let is_at_node = matches!(fact, Fact::Input(_) | Fact::Effect(..) | Fact::Process(_));
        if is_at_node {
            for key in &subjects {
                self.index.same_subject(process, *key, &mut causes, at);
            }
        }
        let before = self.index.before(process, fact, at);
        self.facts.push(RecordedFact {
            line: line_of(observation),
            node: observation.node,
            kind: kind_of(fact),
            subjects,
            role: role_of(observation),
            shows_contents: shows_contents(fact),
            direct: causes.direct,
            same_subject: causes.same_subject,
            memory: causes.memory,
            before,
        });
    }
}

impl Index {
    fn input<N: Node>(
        &mut self,
        process: Process,
        input: &Input<N>,
        kind: &'static str,
        causes: &mut Causes,
        at: usize,
    ) {
        match input {
            Input::DiskDone { op, .. } => causes.direct.extend(self.syncs.get(&(process, op.0))),
            // What has set the deadline is not known; most often the last input.
            Input::Wake => causes.memory.extend(self.last_input.get(&process)),
            Input::Message { .. }
            | Input::Request { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. } => {
                causes.memory.extend(self.of_kind.insert((process, kind), at));
                self.last_input.insert(process, at);
            }
        }
        // The first incarnation knows nothing that it has not received.
        causes.memory.extend(self.boot.get(&process).filter(|_| process.1 > 1));
        self.step.insert(process, at);
    }

    fn effect<N: Node>(
        &mut self,
        process: Process,
        effect: &Effect<N>,
        causes: &mut Causes,
        at: usize,
    ) {
        causes.direct.extend(self.step.get(&process));
        match effect {
            Effect::Disk(DiskOp::Append { .. }) => {
                self.appended.entry(process).or_default().push(at);
                self.last_append.insert(process, at);
            }
            Effect::Disk(DiskOp::Sync { op, .. }) => {
                // Of a group commit mostly the last record is what somebody waits for.
                let mut appended = self.appended.remove(&process).unwrap_or_default();
                causes.direct.extend(appended.pop());
                causes.memory.extend(appended);
                self.syncs.insert((process, op.0), at);
            }
            Effect::Disk(DiskOp::SyncDir { op }) => {
                self.syncs.insert((process, op.0), at);
            }
            Effect::Disk(
                DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. },
            )
            | Effect::Send { .. }
            | Effect::Reply { .. }
            | Effect::Report(_)
            | Effect::Halt(_) => {}
        }
    }

    fn process(
        &mut self,
        process: Process,
        fact: &ProcessFact<'_>,
        causes: &mut Causes,
        at: usize,
    ) {
        let node = process.0;
        match fact {
            ProcessFact::Boot => {
                causes.direct.extend(self.ended.remove(&node).unwrap_or_default());
                self.boot.insert(process, at);
                self.step.insert(process, at);
                // What the incarnation before it has written is what it reads.
                let earlier = (node, process.1.saturating_sub(1));
                causes.memory.extend(self.last_append.get(&earlier));
                // The search adds what that one has written about the subjects of the violation.
            }
            ProcessFact::Killed(_) | ProcessFact::PowerCut(_) | ProcessFact::Halted(_) => {
                self.ended.entry(node).or_default().push(at);
            }
            ProcessFact::Refused(_) | ProcessFact::Unreadable(_) => {
                causes.direct.extend(self.boot.get(&process));
                self.ended.entry(node).or_default().push(at);
            }
            ProcessFact::Damaged(_) | ProcessFact::SecondProcess(_) => {
                self.ended.entry(node).or_default().push(at);
            }
            ProcessFact::DiskChanged(change) => {
                let of = match change {
                    DiskChange::Restored { incarnation } => {
                        self.boot.get(&(node, *incarnation)).copied()
                    }
                    DiskChange::OfNode(other) => self.last_append_of(*other),
                    DiskChange::Emptied | DiskChange::CutShort { .. } | DiskChange::Lost(_) => None,
                };
                causes.memory.extend(of);
                self.ended.entry(node).or_default().push(at);
            }
            ProcessFact::Resumed => {
                causes.direct.extend(self.ended.remove(&node).unwrap_or_default());
            }
        }
    }

    fn last_append_of(&self, node: NodeId) -> Option<usize> {
        self.last_append.range((node, 0)..=(node, u32::MAX)).map(|(_, at)| *at).max()
    }

    fn client<N: Node>(&mut self, fact: &ClientFact<'_, N>, causes: &mut Causes, at: usize) {
        match fact {
            ClientFact::Asked { id, .. } => {
                let client = Endpoint::client_of(*id);
                let retried = self.asked.insert(SubjectKey::of_request(*id), at);
                causes.memory.extend(retried.or(self.answered.get(&client).copied()));
            }
            ClientFact::Answered { id, .. } => {
                self.answered.insert(Endpoint::client_of(*id), at);
            }
        }
    }

    /// The last fact with this subject in the same incarnation.
    fn same_subject(&mut self, process: Process, key: SubjectKey, causes: &mut Causes, at: usize) {
        let last = self.of_subject.insert((process, key), at);
        // The input of the present step is a direct cause already.
        causes.same_subject.extend(last.filter(|last| self.step.get(&process) != Some(last)));
    }

    /// The fact before this one in the same process or client; this one takes its place.
    fn before<N: Node>(
        &mut self,
        process: Process,
        fact: &Fact<'_, N>,
        at: usize,
    ) -> Option<usize> {
        match fact {
            Fact::Client(ClientFact::Asked { id, .. } | ClientFact::Answered { id, .. }) => {
                self.last_of_client.insert(Endpoint::client_of(*id), at)
            }
            Fact::Input(_)
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Fault(
                FaultFact::Message { .. } | FaultFact::Barrier(_) | FaultFact::Write(_),
            ) => self.last_of_process.insert(process, at),
            // Its effect on a process is not one of the fact, but of the time.
            Fact::Fault(FaultFact::Timed(_)) | Fact::Lost { .. } | Fact::Run(_) => None,
        }
    }
}

fn subjects_of<N: Node>(fact: &Fact<'_, N>) -> Vec<SubjectKey> {
    let mut keys: Vec<_> = fact.requests().into_iter().map(SubjectKey::of_request).collect();
    match fact {
        Fact::Input(Input::Message { message, .. })
        | Fact::Effect(Effect::Send { message, .. }, _) => {
            keys.extend(
                message.subject().into_iter().chain(message.further_subjects()).map(SubjectKey::of),
            );
        }
        Fact::Effect(Effect::Disk(DiskOp::Append { about, .. }), _) => {
            keys.extend(about.subject.map(SubjectKey::of));
        }
        Fact::Fault(FaultFact::Message { about, further, .. })
        | Fact::Lost { about, further, .. } => {
            keys.extend(about.subject.iter().chain(*further).copied().map(SubjectKey::of));
        }
        Fact::Input(_)
        | Fact::Effect(..)
        | Fact::Process(_)
        | Fact::Fault(_)
        | Fact::Client(_)
        | Fact::Run(_) => {}
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn role_of<N: Node>(observation: &Observation<'_, N>) -> Role {
    match observation.fact {
        Fact::Effect(Effect::Send { .. } | Effect::Reply { .. }, _)
        | Fact::Effect(Effect::Disk(DiskOp::Append { .. }), _) => Role::Output,
        Fact::Fault(FaultFact::Message { from, to, .. }) | Fact::Lost { from, to, .. } => {
            Role::Fault { nodes: Vec::new(), ends: vec![*from, *to], is_of_message: true }
        }
        Fact::Fault(FaultFact::Timed(fault)) => of_timed_fault(fault),
        Fact::Fault(FaultFact::Barrier(_) | FaultFact::Write(_)) => of_nodes(observation),
        Fact::Process(ProcessFact::Boot) => Role::Other,
        Fact::Process(_) => of_nodes(observation),
        Fact::Run(_) => Role::Run,
        Fact::Input(_)
        | Fact::Effect(Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_), _)
        | Fact::Client(_) => Role::Other,
    }
}

fn of_nodes<N: Node>(observation: &Observation<'_, N>) -> Role {
    Role::Fault { nodes: vec![observation.node], ends: Vec::new(), is_of_message: false }
}

fn of_timed_fault(fault: &TimedFault) -> Role {
    let mut nodes = Vec::new();
    let mut ends = Vec::new();
    match fault {
        TimedFault::Cut { from, to, .. } => ends.extend(from.iter().chain(to)),
        TimedFault::Clog { from, to, .. } => ends.extend([*from, *to]),
        TimedFault::Pause { node, .. }
        | TimedFault::ClockJump { node, .. }
        | TimedFault::SecondProcess { node, .. }
        | TimedFault::DiskHang { node, .. }
        | TimedFault::Wake { node }
        | TimedFault::Crash { node, .. } => nodes.push(*node),
    }
    Role::Fault { nodes, ends, is_of_message: false }
}
