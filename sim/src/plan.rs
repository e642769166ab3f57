//! The plan of a run: its size, its phases, and the timing that is not a fault.

use std::fmt;

use stormglass_node::NodeId;

use crate::fault::Endpoint;
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
    /// The length of the fault phase, in microseconds.
    pub fault_phase_us: u64,
    /// How long after the fault phase the cluster may take to become quiescent, in microseconds.
    pub recovery_timeout_us: u64,
    /// The length of a log at which it is compacted, in bytes, 1 or more: for protocols with a log.
    pub log_bytes: u64,
    /// Nodes that are not restarted when the fault phase ends.
    pub permanently_down: Vec<NodeId>,
    /// Whether every message travels as its encoded bytes (N4).
    pub encode_messages: bool,
}

/// One line with all values and their units.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timing { latency_us, tail_us, client_us, sync_us, .. } = self.timing;
        write!(
            f,
            "nodes={} clients={} fault_phase_ms={}",
            self.nodes,
            self.clients,
            self.fault_phase_us / 1000
        )?;
        write!(
            f,
            " recovery_timeout_ms={} latency_us={}..{}",
            self.recovery_timeout_us / 1000,
            latency_us.0,
            latency_us.1
        )?;
        write!(f, " tail_us={tail_us} client_us={}..{}", client_us.0, client_us.1)?;
        write!(f, " sync_us={}..{} log_bytes={}", sync_us.0, sync_us.1, self.log_bytes)?;
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
            fault_phase_us: 500_000,
            recovery_timeout_us: 4_000_000,
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
            Endpoint::Client(client) => u32::from(self.nodes) + client - 1,
        }
    }
}

/// Durations without faults: a stateless function of a key, a link or node, and an ordinal, so that
/// removing one fault re-times nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The key of all delays; `None` for base timing, each at its least.
    pub key: Option<u64>,
    /// Least and greatest delay of a message between nodes, in microseconds.
    pub latency_us: (u64, u64),
    /// Mean of the exponential tail on top (N1), in microseconds, during the fault phase; 0 for
    /// none.
    pub tail_us: u64,
    /// Least and greatest delay between a client and a node, in microseconds.
    pub client_us: (u64, u64),
    /// Least and greatest length of a barrier, in microseconds.
    pub sync_us: (u64, u64),
    /// Greatest time from the end of the fault phase, or from a halt, to a boot, in microseconds.
    pub reboot_us: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            key: None,
            latency_us: (500, 5_000),
            tail_us: 0,
            client_us: (100, 1_000),
            sync_us: (100, 2_000),
            reboot_us: 50_000,
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
    pub fn delay_us(
        &self,
        link: u32,
        ordinal: u32,
        is_client_link: bool,
        faults_active: bool,
    ) -> u64 {
        let random = self.random(u64::from(link), ordinal);
        let (low, high) = if is_client_link { self.client_us } else { self.latency_us };
        let base = between(random, low, high);
        if faults_active && self.tail_us > 0 && self.key.is_some() {
            // Other bits of the same hash: the tail must not depend on the base.
            base + exponential(random.rotate_left(32), self.tail_us)
        } else {
            base
        }
    }

    /// The greatest usual delay of a message, in microseconds: without the tail, which is a fault
    /// (N1).
    #[inline]
    pub fn usual_us_max(&self, is_client_link: bool) -> u64 {
        if is_client_link { self.client_us.1 } else { self.latency_us.1 }
    }

    /// The length of the `ordinal`th barrier of an incarnation.
    #[inline]
    pub fn barrier_us(&self, node: NodeId, incarnation: u32, ordinal: u32) -> u64 {
        let stream = BARRIER_DOMAIN | (u64::from(node.0) << 20) | u64::from(incarnation);
        between(self.random(stream, ordinal), self.sync_us.0, self.sync_us.1)
    }

    /// The time from the end of the fault phase, or from a halt, to a node's boot.
    pub fn boot_us(&self, node: NodeId, incarnation: u32) -> u64 {
        // At least 1: the boot is an event of its own, after the crash.
        1 + below(self.random(BOOT_DOMAIN | u64::from(node.0), incarnation), self.reboot_us)
    }

    /// The entropy of an incarnation.
    pub fn entropy(&self, node: NodeId, incarnation: u32) -> u64 {
        hash(
            self.key.unwrap_or(0) ^ BOOT_DOMAIN,
            (u64::from(node.0) << 32) | u64::from(incarnation),
        )
    }
}
