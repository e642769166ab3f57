//! Turns lines into facts: performs every disk operation again on the simulator's disk, and runs
//! the protocol's checkers.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stormglass_node::journal::{EntryBody, EntryOf, FileSummary};
use stormglass_node::{
    About, DiskError, DiskOp, Effect, FileId, HaltReason, Input, Micros, Node, NodeId, OpId,
    Outbox, ReadDisk,
};

use super::{LogCheckError, LogCheckReport};
use crate::disk::{Disk, KillReport};
use crate::plan::Plan;
use crate::property::{Checker, Fact, Observation, ProcessFact, RunFact, Violation};
use crate::protocol::Protocol;
use crate::run_end::RecoveryEnd;

/// The guarantee of a kill, which every boot checks.
const KILL_PROPERTY: &str = "K1 KilledLogIsAPrefix";

pub(super) struct LogReplayer<'a, P: Protocol> {
    protocol: &'a P,
    checker: P::Checker,
    hosts: Vec<ReplayedNode>,
    /// The disk of each node, in order.
    disks: Vec<Disk>,
    empty_incarnations: BTreeSet<(NodeId, u32)>,
    report: LogCheckReport,
    outbox: Outbox<P::Node>,
}

/// One node, replayed up to the current line.
#[derive(Default)]
struct ReplayedNode {
    incarnation: u32,
    alive: bool,
    /// It ended cleanly.
    stopped: bool,
    barriers: BTreeSet<OpId>,
    failed: Option<DiskError>,
    at: Micros,
}

type LineResult = Result<Result<(), Violation>, LogCheckError>;

impl<'a, P: Protocol> LogReplayer<'a, P> {
    /// For the logs of this many nodes, some of whose incarnations have no lines.
    pub(super) fn new(
        protocol: &'a P,
        nodes: u16,
        empty_incarnations: BTreeSet<(NodeId, u32)>,
    ) -> LogReplayer<'a, P> {
        let plan = Plan {
            // There is no fault phase in a log: the checkers must not expect one to end.
            fault_phase: Micros::ZERO,
            recovery_timeout: Micros::ZERO,
            encode_messages: true,
            ..Plan::base(nodes, 1)
        };
        LogReplayer {
            protocol,
            checker: protocol.log_checker(&plan),
            hosts: (0..nodes).map(|_| ReplayedNode::default()).collect(),
            disks: (0..nodes).map(|_| Disk::default()).collect(),
            empty_incarnations,
            report: LogCheckReport::default(),
            outbox: Outbox::default(),
        }
    }

    /// Checks one line. A log is an input like any other: if a checker panics on it, the result is
    /// an error and not a panic.
    pub(super) fn on_line(&mut self, line: EntryOf<P::Node>, place: &str) -> LineResult {
        let node = line.node;
        let incarnation = line.incarnation;
        if usize::from(node.0) >= self.hosts.len() {
            let what = format!("no log belongs to {node}");
            return Err(LogCheckError::Line { place: place.to_owned(), what });
        }
        self.report.lines += 1;
        self.host(node).at = Micros(line.at_us);
        let outcome =
            // Nothing is used after a panic but the error: the replayer is dropped with it.
            catch_unwind(AssertUnwindSafe(|| self.check_line(node, incarnation, line.body, place)));
        outcome.unwrap_or_else(|_| {
            let what = "event is impossible for a node of this program and version".to_owned();
            Err(LogCheckError::Line { place: place.to_owned(), what })
        })
    }

    fn check_line(
        &mut self,
        node: NodeId,
        incarnation: u32,
        body: EntryBodyOf<P>,
        place: &str,
    ) -> LineResult {
        if let EntryBody::Boot { files } = body {
            return self.on_boot(node, incarnation, &files, place);
        }
        if !self.host(node).alive || self.host(node).incarnation != incarnation {
            return Err(incomplete(place, "the boot event of this incarnation is missing"));
        }
        let outcome = match body {
            EntryBody::Received { from, message, .. } => {
                self.on_input(node, Input::Message { from, message })
            }
            EntryBody::Requested { id, request } => {
                self.on_input(node, Input::Request { id, request })
            }
            EntryBody::Connected { peer } => self.on_input(node, Input::Connected { peer }),
            EntryBody::Disconnected { peer } => self.on_input(node, Input::Disconnected { peer }),
            EntryBody::Wake => self.on_input(node, Input::Wake),
            EntryBody::BarrierCompleted { op, result } => {
                let host = self.host(node);
                if !host.barriers.remove(&op) {
                    return Err(incomplete(place, "barrier completes but was never issued"));
                }
                // A halt does not name its reason in the log; it is that of the first barrier that
                // failed.
                host.failed = host.failed.or(result.err());
                // The simulated disk has no other errors.
                let result = self.disk(node).complete(op, result).and(result);
                self.on_input(node, Input::DiskDone { op, result })
            }
            EntryBody::Sent { to, message, .. } => {
                self.on_effect(node, Effect::Send { to, message })
            }
            EntryBody::Replied { id, response } => {
                self.on_effect(node, Effect::Reply { id, response })
            }
            EntryBody::Reported { event } => self.on_effect(node, Effect::Report(event)),
            EntryBody::Append { file, kind, subject, hex } => {
                let bytes =
                    hex.bytes().ok_or_else(|| incomplete(place, "odd number of hex digits"))?;
                let kind = self
                    .protocol
                    .kinds()
                    .iter()
                    .find(|known| **known == kind)
                    .copied()
                    // Kinds are `&'static str`, and a log may come from a later version with
                    // others.
                    .unwrap_or("Append");
                self.on_append(node, file, About { kind, subject }, &bytes)
            }
            EntryBody::Truncate { file, len } => {
                self.on_effect(node, Effect::Disk(DiskOp::Truncate { file, len }))
            }
            EntryBody::Rename { from, to } => {
                self.on_effect(node, Effect::Disk(DiskOp::Rename { from, to }))
            }
            EntryBody::Remove { file } => {
                self.on_effect(node, Effect::Disk(DiskOp::Remove { file }))
            }
            EntryBody::Sync { op, file } => {
                self.on_effect(node, Effect::Disk(DiskOp::Sync { op, file }))
            }
            EntryBody::SyncDir { op } => self.on_effect(node, Effect::Disk(DiskOp::SyncDir { op })),
            EntryBody::Halted { reason, protocol_failed } => {
                let reason = match self.host(node).failed {
                    _ if protocol_failed => HaltReason::ProtocolFailed(reason),
                    Some(error) => HaltReason::DiskFailed(error),
                    None => HaltReason::OperatorNeeded(reason),
                };
                let outcome = self.on_effect(node, Effect::Halt(reason.clone()));
                outcome
                    .and_then(|()| self.observe(node, &Fact::Process(ProcessFact::Halted(&reason))))
            }
            EntryBody::Stopped => {
                self.host(node).stopped = true;
                Ok(())
            }
            EntryBody::Boot { .. } => Ok(()),
        };
        Ok(outcome)
    }

    fn on_boot(
        &mut self,
        node: NodeId,
        incarnation: u32,
        files: &[FileSummary],
        place: &str,
    ) -> LineResult {
        let mut expected_incarnation = self.host(node).incarnation + 1;
        // A process that was killed before its first line was complete has left a log without an
        // event.
        while self.empty_incarnations.contains(&(node, expected_incarnation)) {
            expected_incarnation += 1;
        }
        let host = self.host(node);
        if incarnation != expected_incarnation {
            let what = format!("incarnation {expected_incarnation} of {node} is missing");
            return Err(incomplete(place, &what));
        }
        // The disk of the replay is empty, so no kill could explain these files.
        if host.incarnation == 0 && !files.is_empty() {
            let what = format!(
                "{node} starts its first logged incarnation with {}, which no log shows being \
                written: it ran before without `--events`; check a cluster in which every node \
                started with an empty data directory",
                describe_files(files)
            );
            return Err(incomplete(place, &what));
        }
        let in_driver_queue = self.disk(node).in_driver_queue();
        let Some(killed) = restart_from::<P::Node>(self.disk(node), files) else {
            let reason = format!(
                "{node} starts incarnation {incarnation} with {}; the previous incarnation had \
                {in_driver_queue} operations in the driver's queue, and no prefix of them produces \
                these files",
                describe_files(files)
            );
            return Ok(Err(Violation::safety(KILL_PROPERTY, reason)));
        };
        let host = self.host(node);
        host.incarnation = incarnation;
        host.alive = true;
        host.stopped = false;
        host.barriers.clear();
        host.failed = None;
        self.report.incarnations += 1;
        self.report.unperformed += (killed.in_driver_queue - killed.kept) as u64;
        if incarnation > 1
            && let Err(violation) = self.observe(node, &Fact::Process(ProcessFact::Killed(&killed)))
        {
            return Ok(Err(violation));
        }
        Ok(self.observe(node, &Fact::Process(ProcessFact::Boot)))
    }

    fn on_input(&mut self, node: NodeId, input: Input<P::Node>) -> Result<(), Violation> {
        self.observe(node, &Fact::Input(&input))
    }

    /// Checked before it is performed.
    fn on_effect(&mut self, node: NodeId, effect: Effect<P::Node>) -> Result<(), Violation> {
        self.observe(node, &Fact::Effect(&effect, &[]))?;
        if let Effect::Disk(op) = effect {
            self.disk(node).issue(&op, &[]);
            if let DiskOp::Sync { op, .. } | DiskOp::SyncDir { op } = op {
                self.host(node).barriers.insert(op);
            }
        }
        Ok(())
    }

    fn on_append(
        &mut self,
        node: NodeId,
        file: FileId,
        about: About,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let mut outbox = std::mem::take(&mut self.outbox);
        let op = append(&mut outbox, file, about, bytes);
        let outcome = self.observe(node, &Fact::Effect(&Effect::Disk(op), bytes));
        self.disk(node).issue(&op, bytes);
        outbox.clear();
        self.outbox = outbox;
        outcome
    }

    fn observe(&mut self, node: NodeId, fact: &Fact<'_, P::Node>) -> Result<(), Violation> {
        let host = &self.hosts[usize::from(node.0)];
        self.checker.check(&Observation {
            at: host.at,
            node,
            incarnation: host.incarnation,
            disk: &self.disks[usize::from(node.0)],
            disks: &self.disks,
            fact,
        })
    }

    fn host(&mut self, node: NodeId) -> &mut ReplayedNode {
        &mut self.hosts[usize::from(node.0)]
    }

    fn disk(&mut self, node: NodeId) -> &mut Disk {
        &mut self.disks[usize::from(node.0)]
    }

    /// Checks end-of-run properties if every node has ended cleanly.
    pub(super) fn end(&mut self) -> Result<(), Violation> {
        if self.unclean_nodes().next().is_some() {
            return Ok(());
        }
        self.observe(
            NodeId(0),
            &Fact::Run(RunFact::Recovered { how: RecoveryEnd::Quiet, files: &[] }),
        )?;
        self.observe(NodeId(0), &Fact::Run(RunFact::Ended))
    }

    fn unclean_nodes(&self) -> impl Iterator<Item = NodeId> {
        let hosts = (0u16..).map(NodeId).zip(&self.hosts);
        hosts.filter(|(_, host)| !host.stopped).map(|(node, _)| node)
    }

    pub(super) fn report(
        mut self,
        lost_messages: u64,
        violation: Option<(Violation, String)>,
    ) -> LogCheckReport {
        self.report.lost_messages = lost_messages;
        self.report.unclean_nodes = self.unclean_nodes().collect();
        self.checker.sometimes(&mut self.report.sometimes);
        self.report.violation = violation;
        self.report
    }
}

type EntryBodyOf<P> = EntryBody<
    <<P as Protocol>::Node as Node>::Message,
    <<P as Protocol>::Node as Node>::Request,
    <<P as Protocol>::Node as Node>::Response,
    <<P as Protocol>::Node as Node>::Event,
>;

/// The process died. Its disk becomes what the next incarnation has found, if a kill can leave
/// that: a prefix of the operations in flight, and perhaps a part of the first append after it.
fn restart_from<N: Node>(disk: &mut Disk, found: &[FileSummary]) -> Option<KillReport> {
    // From the longest prefix on: most kills cut nothing.
    for keep in (0..=disk.in_driver_queue()).rev() {
        let mut kept = disk.clone();
        let killed = kept.kill(keep);
        if matches_files(&kept, found) {
            *disk = kept;
            return Some(killed);
        }
        let mut one_more = disk.clone();
        // The operation after the prefix may have been cut in the middle, if it is an append.
        one_more.kill(keep + 1);
        if keep < killed.in_driver_queue && keep_partial_append::<N>(&mut kept, &one_more, found) {
            *disk = kept;
            return Some(killed);
        }
    }
    None
}

fn incomplete(place: &str, what: &str) -> LogCheckError {
    LogCheckError::Incomplete { place: place.to_owned(), what: what.to_owned() }
}

/// Whether a part of the append by which `more` is ahead of `disk` yields the files found.
fn keep_partial_append<N: Node>(disk: &mut Disk, more: &Disk, found: &[FileSummary]) -> bool {
    let grown = found.iter().find(|file| more.len(file.file) > disk.len(file.file));
    let Some(part) = grown.copied() else { return false };
    let have = disk.len(part.file).unwrap_or(0) as usize;
    let Ok(Some(whole)) = more.read(part.file) else { return false };
    let Some(piece) = usize::try_from(part.bytes).ok().and_then(|end| whole.get(have..end)) else {
        return false;
    };
    let mut outbox = Outbox::<N>::default();
    let op = append(&mut outbox, part.file, About { kind: "Append", subject: None }, piece);
    disk.issue(&op, piece);
    // The part counts as performed: it was read back at boot.
    disk.kill(usize::MAX);
    matches_files(disk, found)
}

fn append<N: Node>(outbox: &mut Outbox<N>, file: FileId, about: About, bytes: &[u8]) -> DiskOp {
    outbox.clear();
    outbox.append(file, about, bytes);
    match outbox.effects() {
        [Effect::Disk(op)] => *op,
        effects => panic!("an append must produce exactly one effect, got {effects:?}"),
    }
}

fn matches_files(disk: &Disk, found: &[FileSummary]) -> bool {
    let files = disk.files();
    files.len() == found.len()
        && files.iter().zip(found).all(|(file, found)| {
            *file == found.file
                && disk.len(*file) == Some(found.bytes)
                && disk
                    .read(*file)
                    .is_ok_and(|bytes| *found == FileSummary::new(*file, bytes.unwrap_or_default()))
        })
}

fn describe_files(files: &[FileSummary]) -> String {
    if files.is_empty() {
        return "nothing".to_owned();
    }
    let files = files.iter().map(|found| format!("{} of {} B", found.file, found.bytes));
    files.collect::<Vec<_>>().join(", ")
}
