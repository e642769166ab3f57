//! What must have happened in the end: L1, L2, L3, AC5, W11, I5.

use stormglass::commit::{Decision, Message, Position};
use stormglass::{FileId, NodeId, TxId};

use super::history::{self, Span};
use super::{Ledger, Told};
use crate::commit::row::{Row, nodes};
use crate::commit::workload::accounts;
use crate::commit::{RETRY_US, VOTE_TIMEOUT_US};
use crate::oracle::Broken;

impl Ledger {
    /// L1: R + (T+r)/(1-rho) + 2D + 6s, counted from the clearing or from the beginning of the transaction, whichever
    /// is later. A tenth is the greatest drift there is.
    fn bound_us(&self) -> u64 {
        let timing = &self.plan.timing;
        let waits = (VOTE_TIMEOUT_US + RETRY_US.1) * 10 / 9;
        timing.reboot_us + waits + 2 * timing.latency_us.1 + 6 * timing.sync_us.1
    }

    /// A participant learns the decision: in time?
    pub(super) fn judge_time(&mut self, at_us: u64, node: NodeId, tx: TxId) -> Result<(), Broken> {
        let Some(cleared_us) = self.cleared_us.filter(|_| !self.mourns()) else { return Ok(()) };
        let bound = self.bound_us();
        let begun_us = self.rows.row(tx).begun_us.max(cleared_us);
        let took = at_us.saturating_sub(begun_us);
        self.share_permille = self.share_permille.max(took * 1000 / bound);
        if took > bound {
            let why = format!(
                "{node} learnt what became of {tx} {took} us after the clearing; the bound is {bound} us"
            );
            return Err(Broken::liveness("L1 DecidedInTime", why));
        }
        Ok(())
    }

    /// L1: forgotten by its coordinator a further r/(1-rho) + 2D + 4s later.
    pub(super) fn judge_forgetting(&mut self, at_us: u64, tx: TxId) -> Result<(), Broken> {
        let Some(cleared_us) = self.cleared_us.filter(|_| !self.mourns()) else { return Ok(()) };
        let timing = &self.plan.timing;
        let further_us = RETRY_US.1 * 10 / 9 + 2 * timing.latency_us.1 + 4 * timing.sync_us.1;
        let bound = self.bound_us() + further_us;
        let took = at_us.saturating_sub(self.rows.row(tx).begun_us.max(cleared_us));
        if took > bound {
            let why = format!("{tx} was forgotten {took} us after the clearing; the bound is {bound} us");
            return Err(Broken::liveness("L1 ForgottenInTime", why));
        }
        Ok(())
    }

    pub(super) fn count_what_the_dead_are_told(&mut self, to: NodeId, message: &Message) {
        if self.cleared_us.is_some()
            && matches!(message, Message::Commit { .. })
            && self.plan.dead.contains(&to)
        {
            self.rows.row(message.tx()).to_the_dead += 1;
        }
    }

    /// L2: what cannot be forgotten because somebody is dead costs no more than one message per r. (A few more at first,
    /// when the time between repetitions still grows; and clocks may run a tenth too fast.)
    fn judge_rate(&self, at_us: u64) -> Result<(), Broken> {
        let Some(cleared_us) = self.cleared_us else { return Ok(()) };
        let periods = (at_us - cleared_us) * 11 / 10 / RETRY_US.1;
        let most = (periods + 4) * self.plan.dead.len() as u64;
        match self.rows.iter().find(|row| u64::from(row.to_the_dead) > most) {
            Some(row) => {
                let (tx, told) = (row.tx, row.to_the_dead);
                let why = format!("the dead were told of {tx} {told} times, at most {most} are due");
                Err(Broken::liveness("L2 OneMessagePerRetry", why))
            }
            None => Ok(()),
        }
    }

    /// L1, AC5: everything is decided; L3: nothing happens any more by itself; L2: who is still in doubt has a reason.
    pub(super) fn on_settled(&mut self, at_us: u64, quiet: bool) -> Result<(), Broken> {
        if !quiet && !self.mourns() {
            // A node that has a deadline is one for whom something will happen.
            let why = "something still happens, long after the clearing";
            return Err(Broken::liveness("L3 QuietInTheEnd", why));
        }
        self.judge_rate(at_us)?;
        let mut justified = 0;
        for row in self.rows.iter() {
            let tx = row.tx;
            for node in nodes(row.in_doubt()).filter(|node| !self.is_dead(*node)) {
                if !self.is_dead(tx.coordinator) {
                    let why = format!("{node} is in doubt about {tx}, and its coordinator is alive");
                    return Err(Broken::liveness("L1 DecidedInTime", why));
                }
                if let Some(peer) = self.peer_who_knows(row, node) {
                    let why = format!("{node} is in doubt about {tx}, and {peer} is alive and knows");
                    return Err(Broken::liveness("L2 BlockingIsJustified", why));
                }
                justified += 1;
            }
        }
        self.counts.justified += justified;
        self.judge_answers(quiet)?;
        self.judge_total(quiet)
    }

    /// L1, AC5: whoever still asked after the clearing has been told what became of it.
    fn judge_answers(&self, quiet: bool) -> Result<(), Broken> {
        if !quiet || self.mourns() {
            return Ok(());
        }
        let waits = |told: &Told| told.asked_late && !told.told_committed && !told.told_aborted;
        match self.names.iter().find(|(_, told)| waits(told)) {
            None => Ok(()),
            Some((id, _)) => {
                let why = format!("the client of {id} asks again and again, and is never told");
                Err(Broken::liveness("L1 EveryClientIsAnswered", why))
            }
        }
    }

    /// I5: money is moved, never made: once all is decided, the accounts add up to nothing.
    fn judge_total(&self, quiet: bool) -> Result<(), Broken> {
        if !quiet || self.mourns() {
            return Ok(());
        }
        let of = |track: &super::Track| -> i64 { accounts().filter_map(|key| track.values.get(key)).sum() };
        match self.nodes.iter().map(of).sum::<i64>() {
            0 => Ok(()),
            total => {
                Err(Broken::safety("I5 TransfersKeepTheTotal", format!("the accounts add up to {total}")))
            }
        }
    }

    /// L3: logs are bounded. Whoever is quiet has no compaction under way, so one snapshot and one segment are left, no
    /// longer than what makes a node compact.
    pub(super) fn judge_logs(&self, files: &[(NodeId, FileId, u64)]) -> Result<(), Broken> {
        if !self.probes || self.beyond_promise {
            return Ok(());
        }
        for of_one in files.chunk_by(|a, b| a.0 == b.0) {
            let node = of_one[0].0;
            let kept = |wanted: fn(&FileId) -> bool| of_one.iter().filter(move |(_, file, _)| wanted(file));
            let log_bytes: u64 = kept(|file| matches!(file, FileId::Wal(_))).map(|(_, _, bytes)| bytes).sum();
            let snapshots = kept(|file| matches!(file, FileId::Snapshot(_))).count();
            if log_bytes > self.plan.log_bytes || snapshots > 1 || of_one.len() > 2 {
                let names: Vec<String> = of_one.iter().map(|(_, file, _)| file.to_string()).collect();
                let why = format!("{node} is quiet and keeps {}, {log_bytes} B of log", names.join(", "));
                return Err(Broken::liveness("L3 LogsAreBounded", why));
            }
        }
        Ok(())
    }

    fn peer_who_knows(&self, row: &Row, asker: NodeId) -> Option<NodeId> {
        let tx = row.tx;
        nodes(row.subordinates & row.settled()).find(|peer| {
            let mut heard = self.nodes[usize::from(peer.0)].heard.iter();
            let over =
                heard.any(|ended| ended.coordinator == tx.coordinator && ended.contains(Position::of(tx)));
            *peer != asker && !over && !self.is_dead(*peer)
        })
    }

    /// W11: what was promised to a client is there, everywhere; L1, AC5: and forgotten by its coordinator; L3: the probe has
    /// committed.
    pub(super) fn on_ended(&mut self) -> Result<(), Broken> {
        self.judge_order()?;
        if self.mourns() {
            return Ok(());
        }
        for row in self.rows.iter().filter(|row| row.committed) {
            let tx = row.tx;
            if let Some(node) = nodes(row.subordinates & !row.decided(Decision::Committed)).next() {
                let why = format!("{tx} is committed, but not at {node}");
                return Err(Broken::safety("W11 CommittedIsForEver", why));
            }
            if !row.ended && row.subordinates != 0 {
                let why =
                    format!("{tx} is committed and acknowledged, and its coordinator does not forget it");
                return Err(Broken::liveness("L1 ForgottenInTime", why));
            }
        }
        self.judge_probe()
    }

    /// I4: the committed transactions have an order that explains every read and write, and agrees with time.
    fn judge_order(&mut self) -> Result<(), Broken> {
        let mut spans = std::mem::take(&mut self.spans);
        spans.clear();
        for (name, told) in self.names.iter() {
            let Some(tx) = told.committed else { continue };
            let answered_us = if told.answered_us == 0 { u64::MAX } else { told.answered_us };
            let order = self.rows.row(tx).order;
            spans.push(Span { name, order, asked_us: told.asked_us, answered_us });
        }
        let mut against = history::against_time(&mut spans);
        let rows = &mut self.rows;
        let mut order = |tx| Some(rows.row(tx)).filter(|row| row.committed).map_or(0, |row| row.order);
        for track in &self.nodes {
            track.history.edges(&mut order, |(a, b)| against |= a > b);
        }
        let verdict = if against { self.judge_cycle(&spans) } else { Ok(()) };
        self.spans = spans;
        verdict
    }

    #[cold]
    fn judge_cycle(&mut self, spans: &[Span]) -> Result<(), Broken> {
        let mut edges = Vec::new();
        let rows = &mut self.rows;
        let mut order = |tx| Some(rows.row(tx)).filter(|row| row.committed).map_or(0, |row| row.order);
        for track in &self.nodes {
            track.history.edges(&mut order, |edge| edges.push(edge));
        }
        let Some(cycle) = history::cycle(&edges, spans) else { return Ok(()) };
        let named =
            |order: &u32| spans.iter().find(|span| span.order == *order).map(|span| span.name.to_string());
        let names: Vec<String> = cycle.iter().filter_map(named).collect();
        let why = format!(
            "each of these comes before the next, and the last before the first: {}",
            names.join(", ")
        );
        Err(Broken::safety("I4 StrictlySerialisable", why))
    }

    /// L3: a transaction over every key commits, so no lock is left.
    fn judge_probe(&mut self) -> Result<(), Broken> {
        let probe = self.names.iter().filter(|(id, _)| id.serial >= 1_000);
        if self.probes && !probe.clone().any(|(_, told)| told.told_committed) {
            return Err(Broken::liveness("L3 NoLockIsLeft", "the probe over every key has not committed"));
        }
        self.counts.probes += u64::from(self.probes);
        Ok(())
    }
}
