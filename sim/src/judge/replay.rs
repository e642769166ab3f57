//! Facts out of lines: every disk operation once more, on the simulator's disk, and the protocol's judges over it all.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stormglass::journal::{Found, LineOf, What};
use stormglass::{
    About, DiskError, DiskOp, Effect, FileId, HaltReason, Input, Node, NodeId, OpId, Outbox, ReadDisk,
};

use super::merge::Merge;
use super::{JudgeError, Report};
use crate::disk::{Disk, KillReport};
use crate::oracle::{Broken, Fact, Judge, Seen};
use crate::plan::{Plan, Timing};
use crate::protocol::Scene;

/// What every kill must leave behind.
const KILL_CLAIM: &str = "P1 AKillKeepsAPrefix";

pub(super) struct Replay<'a, S: Scene> {
    scene: &'a S,
    judge: S::Judge,
    hosts: Vec<Host>,
    mute: BTreeSet<(NodeId, u32)>,
    report: Report,
    outbox: Outbox<S::Node>,
}

/// One node, as far as it has come.
#[derive(Default)]
struct Host {
    disk: Disk,
    life: u32,
    alive: bool,
    /// It ended by itself, with nothing left to do.
    stopped: bool,
    barriers: BTreeSet<OpId>,
    failed: Option<DiskError>,
    at_us: u64,
}

type Verdict = Result<Result<(), Broken>, JudgeError>;

impl<'a, S: Scene> Replay<'a, S> {
    /// For the logs of so many nodes, of which some lives say nothing.
    pub(super) fn new(scene: &'a S, nodes: u16, mute: BTreeSet<(NodeId, u32)>) -> Replay<'a, S> {
        let plan = Plan {
            nodes,
            clients: 1,
            timing: Timing::default(),
            storm_us: 0,
            patience_us: 0,
            log_bytes: crate::plan::LOG_BYTES,
            dead: Vec::new(),
            wire: true,
        };
        Replay {
            scene,
            judge: scene.judge_of_logs(&plan),
            hosts: (0..nodes).map(|_| Host::default()).collect(),
            mute,
            report: Report::default(),
            outbox: Outbox::default(),
        }
    }

    /// Judges one line. A log is an input like any other: if a judge cannot make sense of it at all, that is said, and
    /// not a panic.
    pub(super) fn on(&mut self, line: LineOf<S::Node>, place: &str) -> Verdict {
        let nonsense = |what: String| JudgeError::Line { place: place.to_owned(), what };
        let (node, life, at_us) = (line.node, line.life, line.at_us);
        if usize::from(node.0) >= self.hosts.len() {
            return Err(nonsense(format!("there is no log that begins with {node}")));
        }
        self.report.lines += 1;
        self.host(node).at_us = at_us;
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge(node, life, line.what, place)));
        judged.unwrap_or_else(|_| Err(nonsense("no node of this program and version does this".to_owned())))
    }

    fn judge(&mut self, node: NodeId, life: u32, what: WhatOf<S>, place: &str) -> Verdict {
        if let What::Boot { files } = what {
            return self.on_boot(node, life, &files, place);
        }
        if let What::Weather { .. } = what {
            return Ok(Ok(()));
        }
        let missing = |what: &str| JudgeError::Incomplete { place: place.to_owned(), what: what.to_owned() };
        if !self.host(node).alive || self.host(node).life != life {
            return Err(missing("the beginning of this life is missing"));
        }
        let judged = match what {
            What::Received { from, message, .. } => self.on_input(node, Input::Message { from, message }),
            What::Asked { id, request } => self.on_input(node, Input::Request { id, request }),
            What::Wake => self.on_input(node, Input::Wake),
            What::Done { op, result } => {
                let host = self.host(node);
                if !host.barriers.remove(&op) {
                    return Err(missing("the barrier that completes here was never issued"));
                }
                host.failed = host.failed.or(result.err());
                // The disk that is modelled knows of no errors but these.
                let result = host.disk.complete(op, result).and(result);
                self.on_input(node, Input::DiskDone { op, result })
            }
            What::Sent { to, message, .. } => self.on_effect(node, Effect::Send { to, message }),
            What::Replied { id, response } => self.on_effect(node, Effect::Reply { id, response }),
            What::Reported { event } => self.on_effect(node, Effect::Report(event)),
            What::Append { file, kind, subject, hex } => {
                let bytes = hex.bytes().ok_or_else(|| missing("half a byte is missing"))?;
                let kind =
                    self.scene.kinds().iter().find(|known| **known == kind).copied().unwrap_or("Append");
                self.on_append(node, file, About { kind, subject }, &bytes)
            }
            What::Truncate { file, len } => {
                self.on_effect(node, Effect::Disk(DiskOp::Truncate { file, len }))
            }
            What::Rename { from, to } => self.on_effect(node, Effect::Disk(DiskOp::Rename { from, to })),
            What::Remove { file } => self.on_effect(node, Effect::Disk(DiskOp::Remove { file })),
            What::Sync { op, file } => self.on_effect(node, Effect::Disk(DiskOp::Sync { op, file })),
            What::SyncDir { op } => self.on_effect(node, Effect::Disk(DiskOp::SyncDir { op })),
            What::Halted { .. } => {
                let reason = HaltReason::DiskFailed(self.host(node).failed.unwrap_or(DiskError::Io));
                let judged = self.on_effect(node, Effect::Halt(reason));
                judged.and_then(|()| self.see(node, &Fact::Halted(reason)))
            }
            What::Stopped => {
                self.host(node).stopped = true;
                Ok(())
            }
            What::Boot { .. } | What::Weather { .. } => Ok(()),
        };
        Ok(judged)
    }

    fn on_boot(&mut self, node: NodeId, life: u32, files: &[Found], place: &str) -> Verdict {
        let mut due = self.host(node).life + 1;
        while self.mute.contains(&(node, due)) {
            due += 1;
        }
        let host = self.host(node);
        if life != due {
            let what = format!("life {due} of {node} is missing");
            return Err(JudgeError::Incomplete { place: place.to_owned(), what });
        }
        if host.life == 0 && !files.is_empty() {
            let what = format!(
                "{node} begins its first life of these logs from {}, which nobody has seen it write: it ran without \
                `--events` before; judge a cluster whose nodes all began with an empty data directory",
                list(files)
            );
            return Err(JudgeError::Incomplete { place: place.to_owned(), what });
        }
        let unsettled = host.disk.unsettled();
        let Some(killed) = host.die(files) else {
            let why = format!(
                "{node} begins life {life} from {}; the life before had {unsettled} operations under way, \
                and no prefix of them leaves that",
                list(files)
            );
            return Ok(Err(Broken::safety(KILL_CLAIM, why)));
        };
        (host.life, host.alive, host.stopped) = (life, true, false);
        host.barriers.clear();
        host.failed = None;
        self.report.lives += 1;
        self.report.unperformed += (killed.unsettled - killed.kept) as u64;
        if life > 1
            && let Err(broken) = self.see(node, &Fact::Killed(&killed))
        {
            return Ok(Err(broken));
        }
        Ok(self.see(node, &Fact::Boot))
    }

    fn on_input(&mut self, node: NodeId, input: Input<S::Node>) -> Result<(), Broken> {
        self.see(node, &Fact::Input(&input))
    }

    /// Judged before it is performed.
    fn on_effect(&mut self, node: NodeId, effect: Effect<S::Node>) -> Result<(), Broken> {
        self.see(node, &Fact::Effect(&effect, &[]))?;
        if let Effect::Disk(op) = effect {
            let host = self.host(node);
            host.disk.issue(&op, &[]);
            if let DiskOp::Sync { op, .. } | DiskOp::SyncDir { op } = op {
                host.barriers.insert(op);
            }
        }
        Ok(())
    }

    fn on_append(&mut self, node: NodeId, file: FileId, about: About, bytes: &[u8]) -> Result<(), Broken> {
        let mut outbox = std::mem::take(&mut self.outbox);
        let op = append(&mut outbox, file, about, bytes);
        let judged = self.see(node, &Fact::Effect(&Effect::Disk(op), bytes));
        self.host(node).disk.issue(&op, bytes);
        outbox.clear();
        self.outbox = outbox;
        judged
    }

    fn see(&mut self, node: NodeId, fact: &Fact<'_, S::Node>) -> Result<(), Broken> {
        let host = &self.hosts[usize::from(node.0)];
        self.judge.judge(&Seen { at_us: host.at_us, node, life: host.life, disk: &host.disk, fact })
    }

    fn host(&mut self, node: NodeId) -> &mut Host {
        &mut self.hosts[usize::from(node.0)]
    }

    /// If everybody has ended cleanly, what must hold in the end must hold.
    pub(super) fn end(&mut self) -> Result<(), Broken> {
        if self.cut_short().next().is_some() {
            return Ok(());
        }
        self.see(NodeId(0), &Fact::Settled { quiet: true, files: &[] })?;
        self.see(NodeId(0), &Fact::Ended)
    }

    fn cut_short(&self) -> impl Iterator<Item = NodeId> {
        let hosts = (0u16..).map(NodeId).zip(&self.hosts);
        hosts.filter(|(_, host)| !host.stopped).map(|(node, _)| node)
    }

    pub(super) fn report(mut self, merge: &Merge<S::Node>, broken: Option<(Broken, String)>) -> Report {
        self.report.lost_letters = merge.lost_letters();
        self.report.cut_short = self.cut_short().collect();
        self.judge.sometimes(&mut self.report.sometimes);
        self.report.broken = broken;
        self.report
    }
}

type WhatOf<S> = What<
    <<S as Scene>::Node as Node>::Message,
    <<S as Scene>::Node as Node>::Request,
    <<S as Scene>::Node as Node>::Response,
    <<S as Scene>::Node as Node>::Event,
>;

impl Host {
    /// The process died. Its disk is as the next life has found it, if a kill can leave that: a prefix of what was
    /// under way, and of the first append behind it perhaps a part.
    fn die(&mut self, found: &[Found]) -> Option<KillReport> {
        for keep in (0..=self.disk.unsettled()).rev() {
            let mut kept = self.disk.clone();
            let killed = kept.kill(keep);
            if looks_like(&kept, found) {
                self.disk = kept;
                return Some(killed);
            }
            let mut one_more = self.disk.clone();
            one_more.kill(keep + 1);
            if keep < killed.unsettled && keep_part(&mut kept, &one_more, found) {
                self.disk = kept;
                return Some(killed);
            }
        }
        None
    }
}

/// Whether a part of the append by which `more` is ahead of `disk` makes it look as it was found.
fn keep_part(disk: &mut Disk, more: &Disk, found: &[Found]) -> bool {
    let grown = |file: &&Found| more.len(file.file) > disk.len(file.file);
    let Some(part) = found.iter().find(grown).copied() else { return false };
    let have = disk.len(part.file).unwrap_or(0) as usize;
    let Ok(Some(whole)) = more.read(part.file) else { return false };
    let Some(piece) = usize::try_from(part.bytes).ok().and_then(|end| whole.get(have..end)) else {
        return false;
    };
    let mut outbox = Outbox::<stormglass::commit::CommitNode>::default();
    let op = append(&mut outbox, part.file, About { kind: "Append", subject: None }, piece);
    disk.issue(&op, piece);
    disk.kill(usize::MAX);
    looks_like(disk, found)
}

fn append<N: Node>(outbox: &mut Outbox<N>, file: FileId, about: About, bytes: &[u8]) -> DiskOp {
    outbox.clear();
    outbox.append(file, about, bytes);
    match outbox.effects() {
        [Effect::Disk(op)] => *op,
        effects => panic!("one append makes one effect, not {effects:?}"),
    }
}

fn looks_like(disk: &Disk, found: &[Found]) -> bool {
    let files = disk.files();
    files.len() == found.len()
        && files.iter().zip(found).all(|(file, found)| {
            *file == found.file
                && disk.len(*file) == Some(found.bytes)
                && disk.read(*file).is_ok_and(|bytes| *found == Found::new(*file, bytes.unwrap_or_default()))
        })
}

fn list(files: &[Found]) -> String {
    let one = |found: &Found| format!("{} of {} B", found.file, found.bytes);
    if files.is_empty() { "nothing".to_owned() } else { files.iter().map(one).collect::<Vec<_>>().join(", ") }
}
