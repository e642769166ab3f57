//! What a node runs on.

use stormglass::{About, Effect, Node, NodeId};

use super::clock::Clock;
use crate::chooser::DeedPoint;
use crate::disk::Disk;

/// A machine with, now and then, a process on it.
#[derive(Clone, Debug)]
pub(super) struct Host<N> {
    pub(super) node: Option<N>,
    /// Lives begun, the present one included.
    pub(super) life: u32,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    /// The time of the wake that is in the queue, `u64::MAX` if there is none.
    pub(super) armed_us: u64,
    pub(super) paused_until_us: u64,
    /// Until when every write fails (D8).
    pub(super) broken_until_us: u64,
    pub(super) last_append: Option<About>,
    pub(super) deeds: u32,
    pub(super) barriers: u32,
    /// Whether this life has got through its boot (all barriers of it have completed): a crash before that is P5.
    pub(super) booted: bool,
    /// Whether the last boot was refused: nobody tries again.
    pub(super) refused: bool,
}

impl<N: Node> Default for Host<N> {
    fn default() -> Self {
        Host {
            node: None,
            life: 0,
            disk: Disk::default(),
            clock: Clock::default(),
            armed_us: u64::MAX,
            paused_until_us: 0,
            broken_until_us: 0,
            last_append: None,
            deeds: 0,
            barriers: 0,
            booted: false,
            refused: false,
        }
    }
}

impl<N: Node> Host<N> {
    /// Where the chooser is asked.
    #[inline]
    pub(super) fn point<'a>(&'a self, node: NodeId, ordinal: u32, effect: &'a Effect<N>) -> DeedPoint<'a, N> {
        DeedPoint { node, life: self.life, ordinal, disk: &self.disk, effect, after: self.last_append }
    }
}
