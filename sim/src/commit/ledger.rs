//! The claims of two-phase commit, by their names in the specification of atomic commitment: AC1-AC5, W1-W11, I1-I5,
//! L1-L3.
//!
//! One row per transaction, updated once per event from what nodes do and what disks hold. Durability is judged at
//! the moment of sending: a record counts as durable when the disk says that it would survive the worst power cut.

mod boots;
mod damage;
mod finale;
mod history;
mod promises;
mod records;
mod replays;
mod weather;

use stormglass::commit::{Ended, Key, Message, Op, Outcome, Reads, Request, Response, State};
use stormglass::{DiskOp, Effect, FileId, Incarnation, Input, NodeId, RequestId, TxId};

use super::row::Rows;
use crate::oracle::{Broken, Fact, Judge, Seen, Sometimes};
use crate::plan::Plan;
use crate::sorted::Sorted;

/// A measure of hunts: how close L1 came to breaking.
const SHARE: &str = "thousandths of the liveness bound used (L1)";

/// All claims of atomic commitment in one pass.
#[derive(Clone, Debug)]
pub struct Ledger {
    plan: Plan,
    rows: Rows,
    nodes: Vec<Track>,
    /// What became of each request, as far as it shows.
    names: Sorted<RequestId, Told>,
    cleared_us: Option<u64>,
    /// The greatest share of the liveness bound that was used, in thousandths.
    share_permille: u64,
    counts: Counts,
    /// Whether clients probe in the end.
    probes: bool,
    /// Whether nothing has gone wrong yet, and timeouts are long enough (AC4).
    calm: bool,
    /// A promise was lost in a way that no node could have noticed (D10): nothing more is judged.
    beyond_promise: bool,
    /// Empty lists of operations, kept for their memory.
    spare: Vec<Vec<Op>>,
    /// COMMIT records so far: their order is that of the decisions.
    decisions: u32,
    /// Used again for its memory.
    spans: Vec<history::Span>,
}

/// One node, as seen from outside.
#[derive(Clone, Debug, Default)]
struct Track {
    /// Log records that are appended and not durable, in order.
    undurable: Vec<Undurable>,
    /// Whether this life has said anything yet: then its boot must have been durable.
    spoke: bool,
    /// A barrier has failed, and this life knows it.
    failed: bool,
    /// The greatest life that was ever spoken of.
    life: Incarnation,
    /// The state with which this life began, and what it has appended since: the log as it must be found again.
    base: State,
    log: Payloads,
    /// How many of `log` are durable. `durable <= log.len()`
    durable: usize,
    /// Undecided and prepared here: these hold locks.
    held: Vec<(TxId, Vec<Op>)>,
    /// The values after everything that is appended.
    values: Values,
    /// Which transaction read and wrote what here (I4).
    history: history::History,
    /// What the reads of a transaction must have found here, if it reads.
    expected: Sorted<TxId, Reads>,
    /// What this life has read back (W9).
    replay: replays::Replay,
    /// What damage at rest its next life will find (D10).
    damage: damage::Damage,
    /// It has refused to start, and nobody tries again.
    refused: bool,
    boots: u32,
    /// What the power cuts since the last life left in the log, to be counted if the next life accepts it.
    torn: bool,
    torn_before_intact: bool,
    /// What coordinators have told it to be over. Who knows no more than that may stay silent (L2).
    heard: Vec<Ended>,
}

type Values = Sorted<Key, i64>;

/// The payloads of a log, one behind the other.
#[derive(Clone, Debug, Default)]
struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Payloads {
    fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[derive(Clone, Copy, Debug)]
struct Undurable {
    file: FileId,
    end: u64,
    tx: TxId,
    kind: stormglass::commit::RecordKind,
}

/// What is known of one request.
#[derive(Clone, Debug, Default)]
struct Told {
    committed: Option<TxId>,
    told_committed: bool,
    told_aborted: bool,
    /// Its client still wanted to know after the clearing.
    asked_late: bool,
    /// When it was first asked, and its client first told that it is committed, in true time; 0 for never.
    asked_us: u64,
    answered_us: u64,
    /// What it reads, if anything, in the client's order: the nodes of its `Get`s.
    reads: Option<std::sync::Arc<[Op]>>,
}

/// What was sometimes seen.
#[derive(Clone, Debug, Default)]
struct Counts {
    commits: u64,
    aborts: Aborts,
    resolved_by_coordinator: u64,
    resolved_by_peer: u64,
    boots_in_doubt: u64,
    torn_tails: u64,
    torn_before_intact: u64,
    lost_renames: u64,
    failed_syncs: u64,
    full_disks: u64,
    prepared_in_snapshot: u64,
    evicted: u64,
    justified: u64,
    unknown: u64,
    probes: u64,
    inquiries: u64,
    refusals: u64,
}

/// Requests of which a client was told that they are aborted, by the reason that it was first given.
#[derive(Clone, Debug, Default)]
struct Aborts {
    bound: u64,
    overflow: u64,
    conflict: u64,
    aborted_earlier: u64,
    timed_out: u64,
    restarted: u64,
    invalid: u64,
}

impl Ledger {
    /// Judges one run.
    pub fn new(plan: &Plan) -> Ledger {
        let mut ledger = Ledger {
            plan: plan.clone(),
            rows: Rows::default(),
            nodes: Vec::new(),
            names: Sorted::default(),
            cleared_us: None,
            share_permille: 0,
            counts: Counts::default(),
            probes: true,
            calm: true,
            beyond_promise: false,
            spare: Vec::new(),
            decisions: 0,
            spans: Vec::new(),
        };
        ledger.reset(plan);
        ledger
    }

    /// Judges another run in the same memory.
    pub fn reset(&mut self, plan: &Plan) {
        let nodes = usize::from(plan.nodes);
        self.plan.clone_from(plan);
        self.calm = weather::is_calm(plan);
        self.rows.reset(nodes);
        self.nodes.resize_with(nodes, Track::default);
        for track in &mut self.nodes {
            track.reset(&mut self.spare);
        }
        self.names.clear();
        (self.cleared_us, self.share_permille, self.counts) = (None, 0, Counts::default());
        (self.beyond_promise, self.decisions) = (false, 0);
    }

    /// For workloads that do not probe in the end, over nodes that are not configured as
    /// [`Commit`](super::Commit)'s are: the length of logs is not judged.
    pub fn without_probe(self) -> Ledger {
        Ledger { probes: false, ..self }
    }

    /// For runs whose faults are not all told: what only a run without any owes is not judged (AC4).
    pub fn in_unknown_weather(self) -> Ledger {
        Ledger { calm: false, ..self }
    }

    fn track(&mut self, node: NodeId) -> &mut Track {
        &mut self.nodes[usize::from(node.0)]
    }

    /// The greatest share of the liveness bound that was used, in thousandths.
    pub fn share_permille(&self) -> u64 {
        self.share_permille
    }
}

impl Track {
    fn reset(&mut self, spare: &mut Vec<Vec<Op>>) {
        self.forget(spare);
        self.spoke = false;
        self.life = Incarnation::default();
        self.base = State::default();
        self.log.clear();
        self.durable = 0;
        self.values.clear();
        self.history.clear();
        (self.damage, self.refused, self.boots) = (damage::Damage::None, false, 0);
        (self.torn, self.torn_before_intact) = (false, false);
        self.replay = replays::Replay::default();
        self.heard.clear();
    }

    /// Whether this life began in doubt about `tx`, and still is.
    fn recovered_in_doubt(&self, tx: TxId) -> bool {
        let recovered = self.base.prepared.iter().any(|prepared| prepared.tx == tx);
        recovered && self.held.iter().any(|(held, _)| *held == tx)
    }

    /// What only this life knew is gone.
    fn forget(&mut self, spare: &mut Vec<Vec<Op>>) {
        self.undurable.clear();
        self.failed = false;
        spare.extend(self.held.drain(..).map(|(_, ops)| ops));
        self.expected.clear();
    }
}

/// Facts of any node that speaks the words of atomic commitment, be it whole or with a bug planted.
impl<N> Judge<N> for Ledger
where
    N: stormglass::Node<Message = Message, Request = Request, Response = Response>,
{
    #[inline(always)]
    fn judge(&mut self, seen: &Seen<'_, N>) -> Result<(), Broken> {
        let node = seen.node;
        if self.beyond_promise {
            return Ok(());
        }
        match &seen.fact {
            Fact::Effect(effect, bytes) => match effect {
                Effect::Disk(_) | Effect::Send { .. } | Effect::Reply { .. } if self.track(node).failed => {
                    let why = format!("{node} goes on after a barrier has failed");
                    Err(Broken::safety("W10 NothingAfterAFailure", why))
                }
                Effect::Disk(DiskOp::Append { file: file @ FileId::Wal(_), about, .. }) => {
                    if !self.on_speech(node, seen.disk)? || about.subject.is_none() {
                        return Ok(()); // Judged no further; or the head of a segment.
                    }
                    self.on_append(seen.at_us, node, *file, bytes, seen.disk)
                }
                Effect::Disk(DiskOp::Append { file: FileId::Scratch, .. }) => {
                    // A compaction, not the snapshot that every life begins with.
                    let track = self.track(node);
                    if !track.spoke {
                        return self.on_boot_writes(node, seen.disk);
                    }
                    let prepared = !track.held.is_empty();
                    self.counts.prepared_in_snapshot += u64::from(prepared);
                    Ok(())
                }
                Effect::Disk(DiskOp::Remove { file: FileId::Scratch }) => {
                    self.on_boot_writes(node, seen.disk)
                }
                Effect::Disk(DiskOp::Remove { file }) => self.on_remove(node, *file, seen.disk),
                Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => Ok(()),
                Effect::Send { to, message } => {
                    if !self.on_speech(node, seen.disk)? {
                        return Ok(());
                    }
                    self.count_what_the_dead_are_told(*to, message);
                    self.on_send(seen.at_us, node, message)
                }
                Effect::Reply { id, response } => {
                    if !self.on_speech(node, seen.disk)? {
                        return Ok(());
                    }
                    self.on_reply(node, *id, response)
                }
            },
            Fact::Input(input) => {
                match input {
                    Input::DiskDone { result, .. } => self.on_disk_done(node, result.is_ok(), seen.disk)?,
                    Input::Message { from, message } => self.on_message(node, *from, message),
                    Input::Request { .. } | Input::Wake => {}
                }
                Ok(())
            }
            Fact::Boot => {
                self.track(node).boots += 1;
                Ok(())
            }
            Fact::Refused(error) => self.on_refused(node, error, seen.disk),
            Fact::Killed(_) | Fact::Halted(_) => {
                self.calm = false;
                self.on_kill(node);
                Ok(())
            }
            Fact::PowerCut(report) => {
                self.calm = false;
                self.on_power_cut(node, report);
                Ok(())
            }
            Fact::Damaged(entry) => {
                self.on_damaged(node, entry);
                Ok(())
            }
            Fact::Cleared { .. } => {
                self.cleared_us = Some(seen.at_us);
                Ok(())
            }
            Fact::Answered { id, response } => {
                self.on_answer(seen.at_us, *id, response);
                Ok(())
            }
            Fact::Settled { quiet, files } => {
                self.on_settled(seen.at_us, *quiet)?;
                self.judge_logs(files)
            }
            Fact::Ended => self.on_ended(),
            Fact::MessageFault { .. }
            | Fact::Lost { .. }
            | Fact::BarrierFault(_)
            | Fact::WriteFault(_)
            | Fact::Weather(_) => {
                self.calm = false;
                Ok(())
            }
            Fact::Asked { id, request } => {
                self.on_asked(seen.at_us, *id, request);
                Ok(())
            }
        }
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        let counts = &self.counts;
        tally.add("commit", counts.commits);
        tally.add("abort: bound broken", counts.aborts.bound);
        tally.add("abort: overflow", counts.aborts.overflow);
        tally.add("abort: conflict", counts.aborts.conflict);
        tally.add("abort: aborted earlier by a participant", counts.aborts.aborted_earlier);
        tally.add("abort: timeout", counts.aborts.timed_out);
        tally.add("abort: coordinator restarted", counts.aborts.restarted);
        tally.add("abort: not a transaction", counts.aborts.invalid);
        tally.add("boot with transactions in doubt", counts.boots_in_doubt);
        tally.add("in doubt after a boot, resolved by the coordinator", counts.resolved_by_coordinator);
        tally.add("in doubt after a boot, resolved by a peer", counts.resolved_by_peer);
        tally.add("inquiry", counts.inquiries);
        tally.add("torn tail", counts.torn_tails);
        tally.add("torn tail with intact records behind it", counts.torn_before_intact);
        tally.add("lost rename", counts.lost_renames);
        tally.add("failed sync", counts.failed_syncs);
        tally.add("disk full", counts.full_disks);
        tally.add("snapshot with prepared transactions", counts.prepared_in_snapshot);
        tally.add("boot with names evicted by capacity", counts.evicted);
        tally.add("justified blocking", counts.justified);
        tally.add("unknown answered", counts.unknown);
        tally.add("probe committed", counts.probes);
        // Of profile `rotten` only: elsewhere it would be wrong.
        if counts.refusals > 0 {
            tally.add("refused to start: damaged", counts.refusals);
        }
        if self.beyond_promise {
            tally.add("damage like a torn tail, judged no further", 1);
        }
        tally.peak(SHARE, self.share_permille);
    }
}

impl Ledger {
    fn on_asked(&mut self, at_us: u64, id: RequestId, request: &Request) {
        let late = self.cleared_us.is_some();
        let told = self.names.or_default(id);
        told.asked_late |= late;
        let Request::Transact { ops, .. } = request else { return };
        if told.asked_us == 0 {
            told.asked_us = at_us;
            told.reads = (!ops.iter().all(Op::writes)).then(|| ops.clone());
        }
    }

    fn on_answer(&mut self, at_us: u64, id: RequestId, response: &Response) {
        match response.outcome {
            Outcome::Unknown => self.counts.unknown += 1,
            Outcome::Committed { .. } => {
                let told = self.names.or_default(id);
                if told.answered_us == 0 {
                    told.answered_us = at_us;
                }
            }
            Outcome::Aborted { .. } => {}
        }
    }
}
