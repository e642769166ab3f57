//! Whenever something could go more than one way, the world names the point and asks a chooser; it never draws a
//! random number itself. Every point has a benign answer: `None`.

mod recording;
mod scripted;
mod seeded;

pub use recording::Recording;
pub use scripted::Scripted;
pub use seeded::Seeded;

use stormglass::{About, DiskOp, Effect, Node, NodeId};

use crate::disk::Disk;
use crate::fault::{
    BarrierFault, Crash, EffectName, Endpoint, MessageFault, Skew, TimedFault, WriteFault,
};

/// What a chooser wants to be asked about, in one run. What it has nothing to say about is not even put into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultClasses {
    /// [`Chooser::message`].
    pub messages: bool,
    /// [`Chooser::crash`].
    pub crashes: bool,
    /// [`Chooser::barrier`].
    pub barriers: bool,
    /// [`Chooser::write`].
    pub writes: bool,
}

impl FaultClasses {
    /// About everything.
    pub const ALL: FaultClasses =
        FaultClasses { messages: true, crashes: true, barriers: true, writes: true };
    /// About nothing: the sky is clear.
    pub const NOTHING: FaultClasses =
        FaultClasses { messages: false, crashes: false, barriers: false, writes: false };
}

/// Decides what goes wrong.
pub trait Chooser {
    /// What it may have something to say about. Asked once, before anything else; whatever it leaves out is benign.
    fn fault_classes(&self) -> FaultClasses {
        FaultClasses::ALL
    }
    /// What happens at given times. Asked once, before anything else happens.
    fn timed_faults(&mut self) -> Vec<(u64, TimedFault)>;
    /// A message is sent.
    fn message(&mut self, at: &SendPoint) -> Option<MessageFault>;
    /// An effect has been performed: does the process end here?
    fn crash<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<Crash>;
    /// A barrier was issued.
    fn barrier<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<BarrierFault>;
    /// Something is about to be written.
    fn write<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<WriteFault>;
    /// A life begins: how wrong is its clock?
    fn skew(&mut self, node: NodeId, incarnation: u32) -> Skew;
}

/// The point at which a message is sent.
#[derive(Clone, Copy, Debug)]
pub struct SendPoint {
    /// Who sends.
    pub from: Endpoint,
    /// To whom.
    pub to: Endpoint,
    /// A dense number of this directed link.
    pub link: u32,
    /// Which message on this link, from 0.
    pub ordinal: u32,
    /// What it is about.
    pub about: About,
    /// How many messages are under way on this link.
    pub queued: u32,
}

/// The point at which an effect is performed. The deed's name is worked out only for choosers that want it.
#[derive(Clone, Copy, Debug)]
pub struct EffectPoint<'a, N: Node> {
    /// Who.
    pub node: NodeId,
    /// In which life, counted by the world from 1.
    pub incarnation: u32,
    /// Which deed of that life, from 0.
    pub ordinal: u32,
    /// The node's disk: after the effect for a crash, before it for what may befall the effect itself.
    pub disk: &'a Disk,
    /// The effect.
    pub effect: &'a Effect<N>,
    /// The last append of this life so far.
    pub after: Option<About>,
}

impl<N: Node> EffectPoint<'_, N>
where
    N::Message: stormglass::Label,
{
    /// Whether there is unsynced work on the disk: that is where the bugs are.
    pub fn in_flight(&self) -> bool {
        self.disk.in_flight()
    }

    /// The effect by name; `None` for reports and halts, which are never counted.
    pub fn effect_name(&self) -> Option<EffectName> {
        use stormglass::Label;
        Some(match self.effect {
            Effect::Send { to, message } => EffectName::Send(message.about(), *to),
            Effect::Reply { id, .. } => EffectName::Reply(*id),
            Effect::Disk(op) => match op {
                DiskOp::Append { about, .. } => EffectName::Append(*about),
                DiskOp::Sync { .. } => EffectName::Sync(self.after),
                DiskOp::SyncDir { .. } => EffectName::SyncDir(self.after),
                DiskOp::Rename { .. } => EffectName::Rename(self.after),
                DiskOp::Remove { .. } => EffectName::Remove(self.after),
                DiskOp::Truncate { .. } => EffectName::Truncate(self.after),
            },
            Effect::Report(_) | Effect::Halt(_) => return None,
        })
    }
}

/// The chooser of a run without faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Chooser for NoFaults {
    fn fault_classes(&self) -> FaultClasses {
        FaultClasses::NOTHING
    }
    fn timed_faults(&mut self) -> Vec<(u64, TimedFault)> {
        Vec::new()
    }
    fn message(&mut self, _at: &SendPoint) -> Option<MessageFault> {
        None
    }
    fn crash<N: Node>(&mut self, _at: &EffectPoint<'_, N>) -> Option<Crash> {
        None
    }
    fn barrier<N: Node>(&mut self, _at: &EffectPoint<'_, N>) -> Option<BarrierFault> {
        None
    }
    fn write<N: Node>(&mut self, _at: &EffectPoint<'_, N>) -> Option<WriteFault> {
        None
    }
    fn skew(&mut self, _node: NodeId, _life: u32) -> Skew {
        Skew::default()
    }
}
