//! What of a fact goes into the fingerprint: when, where, kinds, subjects, faults, and every byte that is written. Of what a
//! message says only the kind: what follows from the rest shows in the next record or message.

use stormglass::{About, DiskError, DiskOp, Effect, Input, Label, Node, NodeId, RequestId, Subject};

use crate::fault::{BarrierFault, End, MessageFault, WriteFault};
use crate::mix::{Fingerprint, mix};
use crate::oracle::Fact;

/// Folds a fact into a fingerprint: integers only, never the text of a `Debug`.
#[inline(always)]
pub(crate) fn fold<N: Node>(print: &mut Fingerprint, at_us: u64, node: NodeId, fact: &Fact<'_, N>) {
    let (tag, word) = of(fact, print);
    print.fold((at_us << 16) ^ u64::from(node.0));
    print.fold(word ^ (u64::from(tag) << 56));
}

/// A tag and a word for a fact. Long contents are folded into `print` directly.
#[inline(always)]
fn of<N: Node>(fact: &Fact<'_, N>, print: &mut Fingerprint) -> (u8, u64) {
    match fact {
        Fact::Input(input) => match input {
            // What arrives is what was sent; that was folded in when it was sent.
            Input::Message { from, .. } => (1, from.0.into()),
            Input::Request { id, .. } => (2, name(*id)),
            Input::DiskDone { op, result } => (3, op.0 ^ (u64::from(result.is_err()) << 48)),
            Input::Wake => (4, 0),
        },
        Fact::Effect(effect, bytes) => match effect {
            Effect::Send { to, message } => (5, about(message.about()) ^ (u64::from(to.0) << 40)),
            Effect::Disk(op) => (6, disk_op(op, bytes, print)),
            Effect::Reply { id, response } => (7, about(response.about()) ^ name(*id)),
            Effect::Report(event) => (8, about(event.about())),
            Effect::Halt(_) => (9, 0),
        },
        Fact::Boot => (10, 0),
        Fact::Refused(_) => (11, 0),
        Fact::Killed(report) => (12, report.digest()),
        Fact::PowerCut(report) => (13, report.digest()),
        Fact::Halted(_) => (14, 0),
        Fact::Damaged(_) => (15, 0),
        Fact::MessageFault { from, to, about: of, fault } => {
            (16, about(*of) ^ mix(end(*from), end(*to)) ^ message_fault(*fault))
        }
        Fact::Lost { from, to, about: of, .. } => (17, about(*of) ^ mix(end(*from), end(*to))),
        Fact::BarrierFault(fault) => (18, barrier_fault(*fault)),
        Fact::WriteFault(fault) => (19, write_fault(*fault)),
        Fact::Weather(_) => (20, 0),
        Fact::Asked { id, request } => (21, about(request.about()) ^ name(*id)),
        Fact::Answered { id, response } => (22, about(response.about()) ^ name(*id)),
        Fact::Cleared { .. } => (23, 0),
        Fact::Settled { quiet, .. } => (24, u64::from(*quiet)),
        Fact::Ended => (25, 0),
    }
}

#[inline]
fn disk_op(op: &DiskOp, bytes: &[u8], print: &mut Fingerprint) -> u64 {
    match op {
        DiskOp::Append { about: of, .. } => {
            print.fold_bytes(bytes);
            about(*of)
        }
        DiskOp::Truncate { len, .. } => (1 << 50) ^ len,
        DiskOp::Rename { .. } => 2 << 50,
        DiskOp::Remove { .. } => 3 << 50,
        DiskOp::Sync { op, .. } => (4 << 50) ^ op.0,
        DiskOp::SyncDir { op } => (5 << 50) ^ op.0,
    }
}

fn message_fault(fault: MessageFault) -> u64 {
    match fault {
        MessageFault::Lose => 1 << 40,
        MessageFault::Duplicate { after_us } => (2 << 40) ^ after_us,
        MessageFault::Delay { by_us } => (3 << 40) ^ by_us,
        MessageFault::Flip { bit } => (4 << 40) ^ u64::from(bit),
        MessageFault::Evict { victim } => (5 << 40) ^ u64::from(victim),
    }
}

fn barrier_fault(fault: BarrierFault) -> u64 {
    match fault {
        BarrierFault::Fail(error) => (1 << 40) ^ disk_error(error),
        BarrierFault::Slow { by_us } => (2 << 40) ^ by_us,
        BarrierFault::Lie => 3 << 40,
    }
}

fn write_fault(fault: WriteFault) -> u64 {
    let WriteFault { error, keep_permille, lasts_us } = fault;
    disk_error(error) ^ mix(keep_permille.into(), lasts_us)
}

fn disk_error(error: DiskError) -> u64 {
    match error {
        DiskError::Io => 1,
        DiskError::NoSpace => 2,
    }
}

fn end(end: End) -> u64 {
    match end {
        End::Node(node) => node.0.into(),
        End::Client(client) => (1 << 32) | u64::from(client),
    }
}

#[inline]
fn about(about: About) -> u64 {
    let subject = match about.subject {
        None => 0,
        Some(Subject::Request(id)) => name(id),
        Some(Subject::Serial(serial)) => !serial,
    };
    word(about.kind.as_bytes()) ^ subject.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Length, beginning and end of a word of a few letters.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u32::from_le_bytes(*first), u32::from_le_bytes(*last)),
        _ => bytes.iter().fold((0, 0), |(_, all), byte| (0, all << 8 | u32::from(*byte))),
    };
    (u64::from(last) << 32 | u64::from(first)).rotate_left(bytes.len() as u32)
}

#[inline]
fn name(id: RequestId) -> u64 {
    (id.client << 44) ^ (u64::from(id.serial) << 12) ^ u64::from(id.attempt)
}
