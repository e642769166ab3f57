//! The part of a fact that enters the fingerprint: time, node, kind, subject, fault, and every byte
//! that is written. Of a message only the kind: its contents show in the next record or message,
//! and [`ContentHash`] has them for runs that are compared.

use std::fmt::Debug;

use serde::Serialize;
use stormglass_node::{
    About, DiskError, DiskOp, Effect, Input, Label, Micros, Node, NodeId, RequestId, Subject, codec,
};

use crate::fault::{BarrierFault, Endpoint, MessageFault, WriteFault};
use crate::hash::{Fingerprint, hash};
use crate::property::{ClientFact, Fact, FaultFact, ProcessFact, RunFact};
use crate::run_end::RecoveryEnd;

/// Folds a fact into a fingerprint: integers only, never `Debug` text.
#[inline(always)]
pub(crate) fn fold_fact<N: Node>(
    fingerprint: &mut Fingerprint,
    at: Micros,
    node: NodeId,
    fact: &Fact<'_, N>,
) {
    let (tag, value) = hash_fact(fact, fingerprint);
    // 16 bits for the node: the time keeps 48, almost nine years of microseconds.
    fingerprint.fold((at.0 << 16) ^ u64::from(node.0));
    fingerprint.fold(value ^ (u64::from(tag) << 56));
}

/// The contents of facts that [`fold_fact`] reduces to their kind. Two runs of one seed differ here
/// also where a node says another thing at the same time: the time of day, in a response.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContentHash {
    fingerprint: Fingerprint,
    buffer: Vec<u8>,
}

impl ContentHash {
    /// Folds in what this fact says, as it would be on a wire.
    // Cold: only the few runs that are compared are hashed like this.
    #[cold]
    pub(crate) fn fold<N: Node>(&mut self, fact: &Fact<'_, N>) {
        let ContentHash { fingerprint, buffer } = self;
        buffer.clear();
        match fact {
            Fact::Input(Input::Message { message, .. })
            | Fact::Effect(Effect::Send { message, .. }, _) => append_contents(message, buffer),
            Fact::Input(Input::Request { request, .. }) => append_contents(request, buffer),
            Fact::Client(ClientFact::Asked { request, .. }) => append_contents(*request, buffer),
            Fact::Effect(Effect::Reply { response, .. }, _) => append_contents(response, buffer),
            Fact::Client(ClientFact::Answered { response, .. }) => {
                append_contents(*response, buffer);
            }
            // An event need not have an encoding.
            Fact::Effect(Effect::Report(event), _) => append_debug_text(event, buffer),
            // The bytes of an append are part of the fingerprint, the names of files are not.
            Fact::Effect(Effect::Disk(op), _) => match op {
                DiskOp::Append { file, .. }
                | DiskOp::Truncate { file, .. }
                | DiskOp::Remove { file }
                | DiskOp::Sync { file, .. } => append_contents(file, buffer),
                DiskOp::Rename { from, to } => append_contents(&(from, to), buffer),
                DiskOp::SyncDir { .. } => return,
            },
            Fact::Effect(Effect::Halt(reason), _) => buffer.extend(reason.to_string().bytes()),
            Fact::Input(
                Input::Connected { .. }
                | Input::Disconnected { .. }
                | Input::DiskDone { .. }
                | Input::Wake,
            )
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Run(_) => return,
            Fact::Process(fact) => match fact {
                ProcessFact::Refused(error) => buffer.extend(error.to_string().bytes()),
                ProcessFact::Boot
                | ProcessFact::Halted(_)
                | ProcessFact::Killed(_)
                | ProcessFact::PowerCut(_)
                | ProcessFact::Damaged(_)
                | ProcessFact::DiskChanged(_)
                | ProcessFact::Unreadable(_)
                | ProcessFact::SecondProcess(_)
                | ProcessFact::Resumed => return,
            },
        }
        fingerprint.fold_bytes(buffer);
    }

    pub(crate) fn value(&self) -> u64 {
        self.fingerprint.value()
    }
}

/// The encoding of a value; its `Debug` text, if its type cannot be encoded.
fn append_contents<T: Serialize + Debug>(value: &T, buffer: &mut Vec<u8>) {
    if codec::try_encode_into(value, buffer).is_err() {
        append_debug_text(value, buffer);
    }
}

fn append_debug_text(value: &impl Debug, buffer: &mut Vec<u8>) {
    buffer.extend(format!("{value:?}").bytes());
}

/// A tag and a number for a fact. Long contents are folded into `fingerprint` directly.
#[inline(always)]
fn hash_fact<N: Node>(fact: &Fact<'_, N>, fingerprint: &mut Fingerprint) -> (u8, u64) {
    match fact {
        Fact::Input(input) => match input {
            // A received message was folded in when it was sent.
            Input::Message { from, .. } => (1, from.0.into()),
            Input::Request { id, .. } => (2, hash_request(*id)),
            Input::DiskDone { op, result } => (3, op.0 ^ (u64::from(result.is_err()) << 48)),
            Input::Wake => (4, 0),
            Input::Connected { peer } => (30, peer.0.into()),
            Input::Disconnected { peer } => (31, peer.0.into()),
        },
        Fact::Effect(effect, bytes) => match effect {
            Effect::Send { to, message } => {
                (5, hash_about(message.about()) ^ (u64::from(to.0) << 40))
            }
            Effect::Disk(op) => (6, hash_disk_op(op, bytes, fingerprint)),
            Effect::Reply { id, response } => (7, hash_about(response.about()) ^ hash_request(*id)),
            Effect::Report(event) => (8, hash_about(event.about())),
            Effect::Halt(_) => (9, 0),
        },
        Fact::Process(fact) => hash_process_fact(fact),
        Fact::Fault(fact) => hash_fault_fact(fact),
        Fact::Lost { from, to, about: of, .. } => {
            (17, hash_about(*of) ^ hash(hash_endpoint(*from), hash_endpoint(*to)))
        }
        Fact::Client(fact) => match fact {
            ClientFact::Asked { id, request } => {
                (21, hash_about(request.about()) ^ hash_request(*id))
            }
            ClientFact::Answered { id, response } => {
                (22, hash_about(response.about()) ^ hash_request(*id))
            }
        },
        Fact::Run(fact) => match fact {
            RunFact::Healed { .. } => (23, 0),
            RunFact::Recovered { how, .. } => (
                24,
                match how {
                    RecoveryEnd::TimedOut => 0,
                    RecoveryEnd::Quiet => 1,
                    RecoveryEnd::Settled => 2,
                    RecoveryEnd::Elapsed => 3,
                },
            ),
            RunFact::Ended => (25, 0),
        },
    }
}

#[inline]
fn hash_process_fact(fact: &ProcessFact<'_>) -> (u8, u64) {
    match fact {
        ProcessFact::Boot => (10, 0),
        ProcessFact::Refused(_) => (11, 0),
        ProcessFact::Killed(report) => (12, report.digest()),
        ProcessFact::PowerCut(report) => (13, report.digest()),
        // The reason is that of the failed barrier, which has been folded in as an input.
        ProcessFact::Halted(_) => (14, 0),
        ProcessFact::Damaged(_) => (15, 0),
        ProcessFact::DiskChanged(change) => (26, change.digest()),
        ProcessFact::Unreadable(_) => (27, 0),
        ProcessFact::SecondProcess(disk) => (28, *disk as u64),
        ProcessFact::Resumed => (29, 0),
    }
}

#[inline]
fn hash_fault_fact(fact: &FaultFact<'_>) -> (u8, u64) {
    match fact {
        FaultFact::Message { from, to, about: of, fault, .. } => (
            16,
            hash_about(*of)
                ^ hash(hash_endpoint(*from), hash_endpoint(*to))
                ^ hash_message_fault(*fault),
        ),
        FaultFact::Barrier(fault) => (18, hash_barrier_fault(*fault)),
        FaultFact::Write(fault) => (19, hash_write_fault(*fault)),
        FaultFact::Timed(_) => (20, 0),
    }
}

#[inline]
fn hash_disk_op(op: &DiskOp, bytes: &[u8], fingerprint: &mut Fingerprint) -> u64 {
    match op {
        DiskOp::Append { about: of, .. } => {
            fingerprint.fold_bytes(bytes);
            hash_about(*of)
        }
        // The kind of the operation lies above every length and every number of a barrier.
        DiskOp::Truncate { len, .. } => (1 << 50) ^ len,
        DiskOp::Rename { .. } => 2 << 50,
        DiskOp::Remove { .. } => 3 << 50,
        DiskOp::Sync { op, .. } => (4 << 50) ^ op.0,
        DiskOp::SyncDir { op } => (5 << 50) ^ op.0,
    }
}

fn hash_message_fault(fault: MessageFault) -> u64 {
    match fault {
        // The kind lies above every time: 2^40 microseconds are twelve days.
        MessageFault::Lose => 1 << 40,
        MessageFault::Duplicate { after } => (2 << 40) ^ after.0,
        MessageFault::Delay { by } => (3 << 40) ^ by.0,
        MessageFault::Flip { bit } => (4 << 40) ^ u64::from(bit),
        MessageFault::Evict { victim } => (5 << 40) ^ u64::from(victim),
    }
}

fn hash_barrier_fault(fault: BarrierFault) -> u64 {
    match fault {
        BarrierFault::Fail(error) => (1 << 40) ^ hash_disk_error(error),
        BarrierFault::Slow { by } => (2 << 40) ^ by.0,
        BarrierFault::Lie => 3 << 40,
    }
}

fn hash_write_fault(fault: WriteFault) -> u64 {
    let WriteFault { error, keep, lasts } = fault;
    hash_disk_error(error) ^ hash(keep.get().into(), lasts.0)
}

fn hash_disk_error(error: DiskError) -> u64 {
    match error {
        DiskError::Io => 1,
        DiskError::NoSpace => 2,
    }
}

fn hash_endpoint(end: Endpoint) -> u64 {
    match end {
        Endpoint::Node(node) => node.0.into(),
        Endpoint::Client(client) => (1 << 32) | u64::from(client),
    }
}

#[inline]
fn hash_about(about: About) -> u64 {
    let subject = match about.subject {
        None => 0,
        Some(Subject::Request(id)) => hash_request(id),
        // Inverted, so that the number 0 differs from no subject at all.
        Some(Subject::Number(number)) => !number,
    };
    // The multiplication spreads the subject over all bits; kinds fill the rest.
    hash_kind(about.kind.as_bytes()) ^ subject.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Length, beginning and end of a short word.
#[inline]
fn hash_kind(bytes: &[u8]) -> u64 {
    let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u32::from_le_bytes(*first), u32::from_le_bytes(*last)),
        // Fewer than four letters, as `Ack` and `End` have, fit one number.
        _ => bytes.iter().fold((0, 0), |(_, all), byte| (0, all << 8 | u32::from(*byte))),
    };
    (u64::from(last) << 32 | u64::from(first)).rotate_left(bytes.len() as u32)
}

#[inline]
fn hash_request(id: RequestId) -> u64 {
    // Simulated clients are few and make few attempts, so the three do not overlap.
    (id.client << 44) ^ (u64::from(id.serial) << 12) ^ u64::from(id.attempt)
}
