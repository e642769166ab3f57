//! The plan of a run: its size, its phases, and the timing that is not a fault.

use std::fmt;

use stormglass_node::{Micros, NodeId};

use crate::fault::{Endpoint, FaultKind, FaultKinds};
use crate::hash::{below, between, exponential, hash};

/// Everything about a run that is neither workload nor fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many nodes, 1 to 64.
    pub nodes: u16,
    /// How many clients, 1 to 64.
    pub clients: u32,
    /// Delays of messages, barriers and boots.
    pub timing: Timing,
    /// The length of the fault phase.
    pub fault_phase: Micros,
    /// How long after the fault phase the cluster may take to become quiescent.
    pub recovery_timeout: Micros,
    /// The length of a log at which it is compacted, in bytes, 1 or more: for protocols with a log.
    pub log_bytes: u64,
    /// Nodes that are not restarted when the fault phase ends.
    pub permanently_down: Vec<NodeId>,
    /// Whether every message travels as its encoded bytes (N4).
    pub encode_messages: bool,
}

impl Plan {
    /// Removes the faults that are not among `allowed`: very late messages and nodes that never
    /// restart. The fault phase stays as long as it was drawn for disks that hang.
    pub(crate) fn retain_faults(&mut self, allowed: FaultKinds) {
        if !allowed.contains(FaultKind::MessageDelay) {
            self.timing.latency_tail = Micros::ZERO;
        }
        if !allowed.contains(FaultKind::PermanentlyDown) {
            self.permanently_down.clear();
        }
    }
}

/// One line with all values and their units.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timing { latency, latency_tail, client_latency, sync_time, .. } = self.timing;
        write!(
            f,
            "nodes={} clients={} fault_phase_ms={}",
            self.nodes,
            self.clients,
            self.fault_phase.0 / 1000
        )?;
        write!(
            f,
            " recovery_timeout_ms={} latency_us={}..{}",
            self.recovery_timeout.0 / 1000,
            latency.0.0,
            latency.1.0
        )?;
        write!(
            f,
            " tail_us={} client_us={}..{}",
            latency_tail.0, client_latency.0.0, client_latency.1.0
        )?;
        write!(f, " sync_us={}..{} log_bytes={}", sync_time.0.0, sync_time.1.0, self.log_bytes)?;
        for node in &self.permanently_down {
            write!(f, " permanently_down={node}")?;
        }
        if self.encode_messages { f.write_str(" encode_messages=1") } else { Ok(()) }
    }
}

/// The default of [`Plan::log_bytes`].
// A few transactions: small enough for several compactions in a run.
pub const LOG_BYTES: u64 = 1_500;

impl Plan {
    /// A run of this many nodes and clients with base timing, half a second of faults, and up to
    /// four seconds of recovery.
    pub fn base(nodes: u16, clients: u32) -> Plan {
        Plan {
            nodes,
            clients,
            timing: Timing::default(),
            fault_phase: Micros::from_millis(500),
            recovery_timeout: Micros::from_secs(4),
            log_bytes: LOG_BYTES,
            permanently_down: Vec::new(),
            encode_messages: false,
        }
    }

    /// The dense number of a directed link, nodes first and then clients, and whether one end is a
    /// client.
    pub(crate) fn link(&self, from: Endpoint, to: Endpoint) -> (u32, bool) {
        let nodes = u32::from(self.nodes);
        let from = self.endpoint_index(from);
        let to = self.endpoint_index(to);
        // A table of all pairs, row by row; the diagonal is never used.
        (from * (nodes + self.clients) + to, from.max(to) >= nodes)
    }

    fn endpoint_index(&self, endpoint: Endpoint) -> u32 {
        match endpoint {
            Endpoint::Node(node) => u32::from(node.0),
            Endpoint::Client(client) => u32::from(self.nodes) + client.index() as u32,
        }
    }
}

/// Durations without faults: a stateless function of a key, a link or node, and an ordinal, so that
/// removing one fault re-times nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The key of all delays; `None` for base timing, each at its least.
    pub key: Option<u64>,
    /// Least and greatest delay of a message between nodes.
    pub latency: (Micros, Micros),
    /// Mean of the exponential tail on top (N1), during the fault phase; zero for none.
    pub latency_tail: Micros,
    /// Least and greatest delay between a client and a node.
    pub client_latency: (Micros, Micros),
    /// Least and greatest length of a barrier.
    pub sync_time: (Micros, Micros),
    /// Greatest time from the end of the fault phase, or from a halt, to a boot.
    pub reboot_time: Micros,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            key: None,
            // A wide range, so that messages on one link overtake each other without any fault.
            latency: (Micros(500), Micros(5_000)),
            latency_tail: Micros::ZERO,
            client_latency: (Micros(100), Micros(1_000)),
            sync_time: (Micros(100), Micros(2_000)),
            reboot_time: Micros::from_millis(50),
        }
    }
}

/// Each link has a stream of hash values of its own, numbered like the link. These are the streams
/// of barriers and of boots.
const BARRIER_DOMAIN: u64 = 1 << 40;
const BOOT_DOMAIN: u64 = 2 << 40;

impl Timing {
    #[inline]
    fn random(&self, stream: u64, ordinal: u32) -> u64 {
        match self.key {
            Some(key) => hash(key ^ (stream << 16), u64::from(ordinal)),
            // Base timing: `between` of zero is the lower bound.
            None => 0,
        }
    }

    /// The delay of the `ordinal`th message on a link.
    #[inline]
    pub fn delay(
        &self,
        link: u32,
        ordinal: u32,
        is_client_link: bool,
        faults_active: bool,
    ) -> Micros {
        let random = self.random(u64::from(link), ordinal);
        let (low, high) = if is_client_link { self.client_latency } else { self.latency };
        let base = Micros(between(random, low.0, high.0));
        if faults_active && self.latency_tail > Micros::ZERO && self.key.is_some() {
            // Other bits of the same hash: the tail must not depend on the base.
            base + Micros(exponential(random.rotate_left(32), self.latency_tail.0))
        } else {
            base
        }
    }

    /// The greatest usual delay of a message: without the tail, which is a fault (N1).
    #[inline]
    pub fn usual_delay_max(&self, is_client_link: bool) -> Micros {
        if is_client_link { self.client_latency.1 } else { self.latency.1 }
    }

    /// The length of the `ordinal`th barrier of an incarnation.
    #[inline]
    pub fn barrier_time(&self, node: NodeId, incarnation: u32, ordinal: u32) -> Micros {
        // 20 bits for the incarnation: no node boots a million times in a run.
        let stream = BARRIER_DOMAIN | (u64::from(node.0) << 20) | u64::from(incarnation);
        let (low, high) = self.sync_time;
        Micros(between(self.random(stream, ordinal), low.0, high.0))
    }

    /// The time from the end of the fault phase, or from a halt, to a node's boot.
    pub fn boot_delay(&self, node: NodeId, incarnation: u32) -> Micros {
        // At least 1: the boot is an event of its own, after the crash.
        let random = self.random(BOOT_DOMAIN | u64::from(node.0), incarnation);
        Micros(1 + below(random, self.reboot_time.0))
    }

    /// The entropy of an incarnation.
    pub fn entropy(&self, node: NodeId, incarnation: u32) -> u64 {
        hash(
            // Base timing has no key, but its nodes need entropy as well.
            self.key.unwrap_or(0) ^ BOOT_DOMAIN,
            (u64::from(node.0) << 32) | u64::from(incarnation),
        )
    }
}
