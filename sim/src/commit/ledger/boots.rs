//! Crashes and what comes after: W6, W7, W8, W10.

use stormglass::commit::{Client, Decision, Record, State, Turn};
use stormglass::{FileId, NodeId, ReadDisk, codec};

use super::records::expect_reads;
use super::replays::{claim_alike, claim_the_same, read_back};
use super::{Ledger, Track};
use crate::commit::row::Mark;
use crate::commit::workload::says_what_it_has_seen;
use crate::disk::{CutReport, Disk, NameLoss};
use crate::oracle::Broken;

impl Ledger {
    pub(super) fn on_crash(&mut self, node: NodeId) {
        self.rows.crash(node);
        let track = &mut self.nodes[usize::from(node.0)];
        track.spoke = false;
        track.forget(&mut self.spare);
    }

    /// W8: nothing is dropped because of a snapshot that is not durable, contents and name. To remove what is not there
    /// drops nothing.
    pub(super) fn on_remove(&mut self, node: NodeId, file: FileId, disk: &Disk) -> Result<(), Broken> {
        if disk.len(file).is_none() {
            return Ok(());
        }
        let snapshots = disk.files().into_iter().filter(|file| matches!(file, FileId::Snapshot(_)));
        let (FileId::Wal(_) | FileId::Snapshot(_), Some(newest)) = (file, snapshots.max()) else {
            return Ok(());
        };
        if number(file) >= number(newest) {
            let why = format!("{node} drops {file}, which {newest} needs or is");
            return Err(Broken::safety("W8 OnlyWhatIsCoveredIsDropped", why));
        }
        if disk.is_durable(newest, disk.len(newest).unwrap_or(0)) {
            return Ok(());
        }
        let why = format!("{node} drops {file}, and a power cut now would leave no {newest} in its stead");
        Err(Broken::safety("W8 SnapshotIsDurableBeforeDrop", why))
    }

    pub(super) fn on_power_cut(&mut self, node: NodeId, report: &CutReport) {
        let renamed = report.names.iter().filter(|loss| matches!(loss, NameLoss::Rename { .. })).count();
        self.counts.lost_renames += renamed as u64;
        let track = self.track(node);
        track.replay.forget();
        track.torn |= report.tore_a_record();
        track.torn_before_intact |= report.kept_a_record_behind_a_lost_one();
        self.on_crash(node);
    }

    /// W10: the node says something. For the first time in this life? Then its boot must have become durable: what the
    /// worst power cut would leave is read back, and must be a prefix of what this node has ever appended, at
    /// least up to the last completed sync, under a life that was never spoken of before. Says whether judging goes on.
    #[inline]
    pub(super) fn on_speech(&mut self, node: NodeId, disk: &Disk) -> Result<bool, Broken> {
        if self.track(node).spoke { Ok(true) } else { self.on_first_speech(node, disk) }
    }

    #[cold]
    fn on_first_speech(&mut self, node: NodeId, disk: &Disk) -> Result<bool, Broken> {
        let found = self.track(node).replay.take();
        let state = read_back(node, &disk.durable()).map_err(|error| {
            if let Err(broken) = claim_the_same(node, found.as_ref(), disk) {
                return broken;
            }
            let why = format!("{node} speaks, and a power cut now would keep it from starting: {error}");
            Broken::safety("W10 SilentUntilTheBootIsDurable", why)
        })?;
        let track = self.track(node);
        if state.incarnation <= track.life {
            let why = format!("{node} speaks, and a power cut now would make it use {} again", track.life);
            return Err(Broken::safety("W10 SilentUntilTheBootIsDurable", why));
        }
        let kept = self.judge_found(node, &state)?;
        claim_alike(node, found.as_ref(), &state)?;
        if self.beyond_promise {
            return Ok(false);
        }
        self.track(node).history.begin_life(kept);
        self.begin_life(node, state)?;
        Ok(true)
    }

    fn begin_life(&mut self, node: NodeId, state: State) -> Result<(), Broken> {
        self.counts.boots_in_doubt += u64::from(!state.prepared.is_empty());
        let evicted =
            |client: &Client| client.floor > Turn::default() && !says_what_it_has_seen(client.client);
        self.counts.evicted += u64::from(state.clients.iter().any(evicted));
        for prepared in &state.prepared {
            let row = self.rows.row(prepared.tx);
            row.know(prepared.part.participants().iter().copied());
            row.prepare(node, Mark::Durable);
        }
        for known in &state.outcomes {
            self.decide(node, known.tx, known.decision)?;
        }
        for committing in &state.committing {
            let row = self.rows.row(committing.tx);
            row.commit = Mark::Durable;
            row.committed = true;
            self.on_committed_name(node, committing.tx, Some(committing.name))?;
        }
        for client in &state.clients {
            for (turn, tx) in &client.committed {
                let row = self.rows.row(*tx);
                row.committed = true;
                let name = row.name.filter(|name| name.serial == turn.serial);
                self.on_committed_name(node, *tx, name)?;
            }
        }
        let track = self.track(node);
        let torn = (std::mem::take(&mut track.torn), std::mem::take(&mut track.torn_before_intact));
        self.counts.torn_tails += u64::from(torn.0);
        self.counts.torn_before_intact += u64::from(torn.1);
        let track = self.track(node);
        track.spoke = true;
        track.life = state.incarnation;
        let held = state.prepared.iter().map(|prepared| (prepared.tx, prepared.part.ops().to_vec()));
        track.held.clear();
        track.held.extend(held);
        track.values.clear();
        track.values.extend(state.values.iter().map(|(key, value)| (*key, *value)));
        track.expected.clear();
        for prepared in &state.prepared {
            // Its locks have kept what it reads.
            expect_reads(track, prepared.tx, prepared.part.ops());
        }
        track.base = state;
        track.log.clear();
        track.durable = 0;
        Ok(())
    }
}

fn number(file: FileId) -> Option<u32> {
    match file {
        FileId::Wal(number) | FileId::Snapshot(number) => Some(number),
        FileId::Scratch => None,
    }
}

/// W6, W7: what is found is the fold of the first so many records, all that were durable among them. Says how many.
pub(super) fn claim_prefix(node: NodeId, track: &Track, found: &State) -> Result<usize, Broken> {
    let mut model = track.base.clone();
    for (count, payload) in track.log.iter().enumerate() {
        if count >= track.durable && same(&model, found) {
            return Ok(count);
        }
        let record = codec::decode::<Record>(payload).expect("it was decoded when it was appended");
        model.apply(node, record);
    }
    if same(&model, found) {
        return Ok(track.log.len());
    }
    let (all, durable) = (track.log.len(), track.durable);
    let why = format!(
        "{node} recovered a state that is no prefix of its {all} records ({durable} durable): {}",
        difference(&model, found)
    );
    Err(Broken::safety("W6 RecoveredIsAPrefix", why))
}

/// Whether what is found is the fold of the first so many records, durable or not.
pub(super) fn is_some_prefix(node: NodeId, track: &Track, found: &State) -> bool {
    let mut model = track.base.clone();
    for payload in track.log.iter() {
        if same(&model, found) {
            return true;
        }
        model.apply(node, codec::decode::<Record>(payload).expect("it was decoded when it was appended"));
    }
    same(&model, found)
}

/// Whether two states are the same, but for what may be forgotten: outcomes that have ended, and names that are
/// seen or too many.
fn same(model: &State, found: &State) -> bool {
    model.values == found.values
        && model.prepared == found.prepared
        && model.committing == found.committing
        && outcomes(model, found).eq(outcomes(found, found))
        && names(model, found) == names(found, found)
}

fn outcomes<'a>(of: &'a State, found: &'a State) -> impl Iterator<Item = (stormglass::TxId, Decision)> + 'a {
    let ended = |tx: stormglass::TxId| {
        let by = found.ended.iter().find(|ended| ended.coordinator == tx.coordinator);
        by.is_some_and(|ended| ended.contains(stormglass::commit::Position::of(tx)))
    };
    of.outcomes.iter().filter(move |known| !ended(known.tx)).map(|known| (known.tx, known.decision))
}

fn names(of: &State, found: &State) -> Vec<(u64, stormglass::commit::Turn, stormglass::TxId)> {
    let floor = |client: u64| {
        let known = found.clients.iter().find(|known| known.client == client);
        known.map(|known| known.floor).unwrap_or_default()
    };
    let all = of
        .clients
        .iter()
        .flat_map(|known| known.committed.iter().map(move |(turn, tx)| (known.client, *turn, *tx)));
    all.filter(|(client, turn, _)| *turn > floor(*client)).collect()
}

fn difference(model: &State, found: &State) -> String {
    if model.values != found.values {
        return format!("values {:?}, not {:?}", found.values, model.values);
    }
    if model.prepared != found.prepared {
        let list = |state: &State| state.prepared.iter().map(|p| p.tx.to_string()).collect::<Vec<_>>();
        return format!("prepared {:?}, not {:?}", list(found), list(model));
    }
    if model.committing != found.committing {
        let list = |state: &State| state.committing.iter().map(|c| c.tx.to_string()).collect::<Vec<_>>();
        return format!("committing {:?}, not {:?}", list(found), list(model));
    }
    if names(model, found) != names(found, found) {
        return format!("names {:?}, not {:?}", names(found, found), names(model, found));
    }
    format!("outcomes {:?}, not {:?}", found.outcomes, model.outcomes)
}
