//! The kinds of faults that a test can exclude.

use std::fmt;

use stormglass_node::Micros;

use super::{AtRestFault, BarrierFault, CrashKind, Fault, MessageFault, TimedFault};
use crate::ratio::Ppm;
use crate::tally::Rule;

/// A kind of fault that a protocol may be tested without. Each has the id of its
/// [rule](FaultKind::rule) in `docs/faults.md`.
///
/// What follows from a fault belongs to its kind: torn writes (D1 to D6) to a power cut, and a
/// crash during a boot (P5) or a barrier (D12) to a crash of either kind. A message to a node that
/// is down is lost, whether or not [`MessageLoss`](FaultKind::MessageLoss) is excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// N1: a message takes longer than usual, from an exponential tail to very long.
    MessageDelay,
    /// N2: a message is lost.
    MessageLoss,
    /// N3: a message arrives twice.
    MessageDuplication,
    /// N4: a bit of a message is flipped (profile `garbled`).
    MessageCorruption,
    /// N5: a link holds its messages for a while.
    Clog,
    /// N6: messages between two sides are lost for a while.
    Partition,
    /// N7: half of the nodes are clogged one by one, and released in another order.
    Swizzle,
    /// N8: a link holds only a few messages, and a full one loses one of them.
    FullQueue,
    /// P1: a process is killed.
    Kill,
    /// P2: a node loses power.
    PowerCut,
    /// P3: all nodes lose power at once. Excluded together with [`PowerCut`](Self::PowerCut).
    ClusterPowerCut,
    /// P4: a node pauses.
    Pause,
    /// P6: a node loses power at the end of the fault phase, and never boots again.
    PermanentlyDown,
    /// C1: the clock of an incarnation is ahead.
    ClockOffset,
    /// C2: the clock of an incarnation is too fast or too slow.
    ClockDrift,
    /// C3: a clock jumps forward.
    ClockJump,
    /// C4: a node is woken before its deadline.
    EarlyWake,
    /// D7: a sync fails.
    FailedSync,
    /// D8: a write fails, since the disk is full or broken. A process that never learns of it is
    /// killed at the end of the fault phase.
    FailedWrite,
    /// D9: a sync takes long, or a disk hangs for seconds.
    SlowDisk,
    /// D10: bytes at rest are damaged (profile `bit-rot`).
    DamageAtRest,
    /// D11: a sync reports success and does nothing (profile `lying-disk`).
    LyingSync,
    /// D13: a disk is replaced by an older copy, or by the one of another node.
    ReplacedDisk,
    /// D14: a disk loses all files.
    EmptiedDisk,
    /// D15: a disk loses a file or the end of one (profile `replaced-disk`).
    LostFile,
    /// D16: a boot cannot read a file.
    UnreadableFile,
    /// D17: a second process runs under the id of a node.
    SecondProcess,
}

impl FaultKind {
    /// Every kind, in the order of the rules.
    pub const ALL: [FaultKind; 27] = [
        FaultKind::MessageDelay,
        FaultKind::MessageLoss,
        FaultKind::MessageDuplication,
        FaultKind::MessageCorruption,
        FaultKind::Clog,
        FaultKind::Partition,
        FaultKind::Swizzle,
        FaultKind::FullQueue,
        FaultKind::Kill,
        FaultKind::PowerCut,
        FaultKind::ClusterPowerCut,
        FaultKind::Pause,
        FaultKind::PermanentlyDown,
        FaultKind::ClockOffset,
        FaultKind::ClockDrift,
        FaultKind::ClockJump,
        FaultKind::EarlyWake,
        FaultKind::FailedSync,
        FaultKind::FailedWrite,
        FaultKind::SlowDisk,
        FaultKind::DamageAtRest,
        FaultKind::LyingSync,
        FaultKind::ReplacedDisk,
        FaultKind::EmptiedDisk,
        FaultKind::LostFile,
        FaultKind::UnreadableFile,
        FaultKind::SecondProcess,
    ];

    /// The rule of the fault model that counts these faults.
    pub fn rule(self) -> Rule {
        match self {
            FaultKind::MessageDelay => Rule::MessageDelayed,
            FaultKind::MessageLoss => Rule::MessageLost,
            FaultKind::MessageDuplication => Rule::MessageDuplicated,
            FaultKind::MessageCorruption => Rule::MessageCorrupted,
            FaultKind::Clog => Rule::LinkClogged,
            FaultKind::Partition => Rule::Partitioned,
            FaultKind::Swizzle => Rule::Swizzled,
            FaultKind::FullQueue => Rule::QueueOverflow,
            FaultKind::Kill => Rule::ProcessKilled,
            FaultKind::PowerCut => Rule::PowerCut,
            FaultKind::ClusterPowerCut => Rule::ClusterPowerCut,
            FaultKind::Pause => Rule::NodePaused,
            FaultKind::PermanentlyDown => Rule::NeverRestarts,
            FaultKind::ClockOffset => Rule::ClockOffset,
            FaultKind::ClockDrift => Rule::ClockDrift,
            FaultKind::ClockJump => Rule::ClockJump,
            FaultKind::EarlyWake => Rule::EarlyWake,
            FaultKind::FailedSync => Rule::SyncFailed,
            FaultKind::FailedWrite => Rule::WriteFailed,
            FaultKind::SlowDisk => Rule::SlowBarrier,
            FaultKind::DamageAtRest => Rule::DamageAtRest,
            FaultKind::LyingSync => Rule::LyingSync,
            FaultKind::ReplacedDisk => Rule::DiskReplaced,
            FaultKind::EmptiedDisk => Rule::DiskEmptied,
            FaultKind::LostFile => Rule::FileLost,
            FaultKind::UnreadableFile => Rule::FileUnreadable,
            FaultKind::SecondProcess => Rule::SecondProcess,
        }
    }

    /// The kinds of an entry of a schedule: mostly one. A crash may be followed by a fault of the
    /// disk, and a clock may have an offset and a drift.
    pub(crate) fn of(fault: &Fault) -> impl Iterator<Item = FaultKind> + use<> {
        let kinds = match fault {
            Fault::Message(_, fault) => [Some(FaultKind::of_message(*fault)), None],
            Fault::Barrier(_, fault) => [Some(FaultKind::of_barrier(*fault)), None],
            Fault::Write(..) => [Some(FaultKind::FailedWrite), None],
            Fault::Skew { skew, .. } => [
                (skew.offset > Micros::ZERO).then_some(FaultKind::ClockOffset),
                (skew.drift != Ppm::ZERO).then_some(FaultKind::ClockDrift),
            ],
            Fault::Crash(_, crash) | Fault::At(_, TimedFault::Crash { crash, .. }) => {
                let at_rest = crash.at_rest.map(FaultKind::of_disk_at_rest);
                [Some(FaultKind::of_crash(&crash.how)), at_rest]
            }
            Fault::At(_, fault) => [Some(FaultKind::of_timed(fault)), None],
        };
        kinds.into_iter().flatten()
    }

    pub(crate) fn of_message(fault: MessageFault) -> FaultKind {
        match fault {
            MessageFault::Lose => FaultKind::MessageLoss,
            MessageFault::Duplicate { .. } => FaultKind::MessageDuplication,
            MessageFault::Delay { .. } => FaultKind::MessageDelay,
            MessageFault::Flip { .. } => FaultKind::MessageCorruption,
            MessageFault::Evict { .. } => FaultKind::FullQueue,
        }
    }

    pub(crate) fn of_barrier(fault: BarrierFault) -> FaultKind {
        match fault {
            BarrierFault::Fail(_) => FaultKind::FailedSync,
            BarrierFault::Slow { .. } => FaultKind::SlowDisk,
            BarrierFault::Lie => FaultKind::LyingSync,
        }
    }

    pub(crate) fn of_crash(how: &CrashKind) -> FaultKind {
        match how {
            CrashKind::Kill { .. } => FaultKind::Kill,
            CrashKind::PowerCut(_) => FaultKind::PowerCut,
        }
    }

    pub(crate) fn of_timed(fault: &TimedFault) -> FaultKind {
        match fault {
            TimedFault::Cut { .. } => FaultKind::Partition,
            TimedFault::Clog { swizzle: false, .. } => FaultKind::Clog,
            TimedFault::Clog { swizzle: true, .. } => FaultKind::Swizzle,
            TimedFault::Pause { .. } => FaultKind::Pause,
            TimedFault::ClockJump { .. } => FaultKind::ClockJump,
            TimedFault::SecondProcess { .. } => FaultKind::SecondProcess,
            TimedFault::DiskHang { .. } => FaultKind::SlowDisk,
            TimedFault::Wake { .. } => FaultKind::EarlyWake,
            TimedFault::Crash { crash, .. } => FaultKind::of_crash(&crash.how),
        }
    }

    pub(crate) fn of_disk_at_rest(fault: AtRestFault) -> FaultKind {
        match fault {
            AtRestFault::Damaged(_) => FaultKind::DamageAtRest,
            AtRestFault::Restored { .. } | AtRestFault::OfNode(_) => FaultKind::ReplacedDisk,
            AtRestFault::Emptied => FaultKind::EmptiedDisk,
            AtRestFault::Lost(_) => FaultKind::LostFile,
            AtRestFault::Unreadable(_) => FaultKind::UnreadableFile,
        }
    }
}

/// A set of [kinds of faults](FaultKind).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FaultKinds(u32);

impl FaultKinds {
    /// No fault.
    pub const NONE: FaultKinds = FaultKinds(0);
    /// Every kind.
    pub const ALL: FaultKinds = FaultKinds::of(&FaultKind::ALL);
    /// N1 to N8.
    pub const NETWORK: FaultKinds = FaultKinds::of(&[
        FaultKind::MessageDelay,
        FaultKind::MessageLoss,
        FaultKind::MessageDuplication,
        FaultKind::MessageCorruption,
        FaultKind::Clog,
        FaultKind::Partition,
        FaultKind::Swizzle,
        FaultKind::FullQueue,
    ]);
    /// P1, P2, P3 and P6.
    pub const CRASHES: FaultKinds = FaultKinds::of(&[
        FaultKind::Kill,
        FaultKind::PowerCut,
        FaultKind::ClusterPowerCut,
        FaultKind::PermanentlyDown,
    ]);
    /// Pauses (P4) and C1 to C4.
    pub const CLOCKS: FaultKinds = FaultKinds::of(&[
        FaultKind::Pause,
        FaultKind::ClockOffset,
        FaultKind::ClockDrift,
        FaultKind::ClockJump,
        FaultKind::EarlyWake,
    ]);
    /// D7 to D9: disks that fail, are full or slow.
    pub const DISK: FaultKinds =
        FaultKinds::of(&[FaultKind::FailedSync, FaultKind::FailedWrite, FaultKind::SlowDisk]);
    /// D13, D14, D15 and D17: a node is not what it was.
    pub(crate) const LOST_HISTORY: FaultKinds = FaultKinds::of(&[
        FaultKind::ReplacedDisk,
        FaultKind::EmptiedDisk,
        FaultKind::LostFile,
        FaultKind::SecondProcess,
    ]);

    const fn of(kinds: &[FaultKind]) -> FaultKinds {
        let mut bits = 0;
        let mut at = 0;
        // Iterators are not available in constants.
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u32;
            at += 1;
        }
        FaultKinds(bits)
    }

    /// Whether it has this kind.
    pub const fn contains(self, kind: FaultKind) -> bool {
        self.0 >> kind as u32 & 1 == 1
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These kinds and those.
    #[must_use]
    pub fn with(self, kinds: impl Into<FaultKinds>) -> FaultKinds {
        FaultKinds(self.0 | kinds.into().0)
    }

    /// These kinds but for those.
    #[must_use]
    pub fn without(self, kinds: impl Into<FaultKinds>) -> FaultKinds {
        FaultKinds(self.0 & !kinds.into().0)
    }

    /// Each kind, in the order of the rules.
    pub fn iter(self) -> impl Iterator<Item = FaultKind> {
        FaultKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl From<FaultKind> for FaultKinds {
    fn from(kind: FaultKind) -> FaultKinds {
        FaultKinds::of(&[kind])
    }
}

impl<const N: usize> From<[FaultKind; N]> for FaultKinds {
    fn from(kinds: [FaultKind; N]) -> FaultKinds {
        FaultKinds::of(&kinds)
    }
}

impl FromIterator<FaultKind> for FaultKinds {
    fn from_iter<I: IntoIterator<Item = FaultKind>>(kinds: I) -> FaultKinds {
        kinds.into_iter().fold(FaultKinds::NONE, FaultKinds::with)
    }
}

impl fmt::Debug for FaultKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
