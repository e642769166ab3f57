//! The machine that a node runs on: disk, clock, and the state of its process.

use stormglass_node::{About, Effect, Node, NodeId};

use super::clock::Clock;
use crate::chooser::EffectPoint;
use crate::disk::Disk;

/// A machine; `node` is `None` while its process is down.
#[derive(Clone, Debug)]
pub(super) struct Host<N> {
    pub(super) node: Option<N>,
    /// Boots so far, the present incarnation included; 0 before the first.
    pub(super) incarnation: u32,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    /// The time of the queued wake event, in microseconds; `u64::MAX` if there is none.
    pub(super) wake_at_us: u64,
    /// Events of this node are postponed to this time (P4).
    pub(super) paused_until_us: u64,
    /// Every write before this time fails (D8).
    pub(super) writes_fail_until_us: u64,
    /// What the last append of this incarnation was about: a coordinate such as "1st sync after
    /// Prepared c1.4" refers to it.
    pub(super) last_appended: Option<About>,
    /// Effects performed in this incarnation, but for reports and halts.
    pub(super) effects_performed: u32,
    /// Barriers issued in this incarnation.
    pub(super) barriers: u32,
    /// Whether every barrier of this incarnation's boot has completed: a crash before that is P5.
    pub(super) boot_complete: bool,
    /// Whether the last boot was refused: the node is not booted again.
    pub(super) boot_refused: bool,
}

impl<N: Node> Default for Host<N> {
    fn default() -> Self {
        Host {
            node: None,
            incarnation: 0,
            disk: Disk::default(),
            clock: Clock::default(),
            wake_at_us: u64::MAX,
            paused_until_us: 0,
            writes_fail_until_us: 0,
            last_appended: None,
            effects_performed: 0,
            barriers: 0,
            boot_complete: false,
            boot_refused: false,
        }
    }
}

impl<N: Node> Host<N> {
    /// The point of this effect, as the chooser sees it.
    #[inline]
    pub(super) fn effect_point<'a>(
        &'a self,
        node: NodeId,
        ordinal: u32,
        effect: &'a Effect<N>,
    ) -> EffectPoint<'a, N> {
        EffectPoint {
            node,
            incarnation: self.incarnation,
            ordinal,
            disk: &self.disk,
            effect,
            after: self.last_appended,
        }
    }
}
