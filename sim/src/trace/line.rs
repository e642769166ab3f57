//! What a line of a trace is: its kind, its look, and its place in the steps of nodes.

use stormglass_node::{DiskOp, Effect, Input, Label, Node};

use super::SentMessage;
use crate::property::{ClientFact, Fact, FaultFact, MessageId, ProcessFact};

/// The part that a line has in the steps of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The input of a step. Steps are counted from 1 over all nodes.
    Input { step: u32, is_wake: bool, arrived: Option<MessageId> },
    /// An effect of a step.
    Effect { step: u32, sent: Option<SentMessage> },
    /// The loss of this message.
    Loss(MessageId),
    /// Neither.
    Outside,
}

/// How a line looks in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    /// A request or a response, at its client.
    Client,
    /// A report, or what a node logs.
    Report,
    /// A fault, or a message that is lost.
    Fault,
    /// The end of a process, or a change of a disk.
    Crash,
    /// A phase of the run, and its verdict.
    Run,
}

/// The word that selects this fact in a trace.
pub(crate) fn kind_of<N: Node>(fact: &Fact<'_, N>) -> &'static str {
    match fact {
        Fact::Input(input) => match input {
            Input::Message { message, .. } => message.kind(),
            Input::Request { request, .. } => request.kind(),
            Input::Connected { .. } => "connected",
            Input::Disconnected { .. } => "disconnected",
            Input::DiskDone { .. } => "done",
            Input::Wake => "wake",
        },
        Fact::Effect(effect, _) => match effect {
            Effect::Send { message, .. } => message.kind(),
            Effect::Reply { response, .. } => response.kind(),
            Effect::Report(event) => event.kind(),
            Effect::Halt(_) => "halt",
            Effect::Disk(op) => match op {
                DiskOp::Append { about, .. } => about.kind,
                DiskOp::Truncate { .. } => "truncate",
                DiskOp::Rename { .. } => "rename",
                DiskOp::Remove { .. } => "remove",
                DiskOp::Sync { .. } => "sync",
                DiskOp::SyncDir { .. } => "sync-dir",
            },
        },
        Fact::Process(ProcessFact::Boot) => "boot",
        Fact::Process(_) => "process",
        Fact::Fault(FaultFact::Message { about, .. }) | Fact::Lost { about, .. } => about.kind,
        Fact::Fault(FaultFact::Barrier(_) | FaultFact::Write(_) | FaultFact::Timed(_)) => "fault",
        Fact::Client(ClientFact::Asked { request, .. }) => request.kind(),
        Fact::Client(ClientFact::Answered { response, .. }) => response.kind(),
        Fact::Run(_) => "run",
    }
}

pub(crate) fn look_of<N: Node>(fact: &Fact<'_, N>) -> Look {
    match fact {
        Fact::Input(_) | Fact::Process(ProcessFact::Boot) => Look::Plain,
        Fact::Effect(Effect::Report(_), _) => Look::Report,
        Fact::Effect(Effect::Halt(_), _) | Fact::Process(_) => Look::Crash,
        Fact::Effect(Effect::Send { .. } | Effect::Disk(_) | Effect::Reply { .. }, _) => {
            Look::Plain
        }
        Fact::Fault(_) | Fact::Lost { .. } => Look::Fault,
        Fact::Client(_) => Look::Client,
        Fact::Run(_) => Look::Run,
    }
}

pub(crate) fn shows_contents<N: Node>(fact: &Fact<'_, N>) -> bool {
    match fact {
        Fact::Input(Input::Message { .. } | Input::Request { .. })
        | Fact::Effect(Effect::Send { .. } | Effect::Reply { .. } | Effect::Report(_), _)
        | Fact::Client(_) => true,
        Fact::Input(
            Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::DiskDone { .. }
            | Input::Wake,
        )
        | Fact::Effect(Effect::Disk(_) | Effect::Halt(_), _)
        | Fact::Process(_)
        | Fact::Fault(_)
        | Fact::Lost { .. }
        | Fact::Run(_) => false,
    }
}
