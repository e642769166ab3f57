//! What is said, judged at the moment of saying it: W1, W2, W3, W5, W10, W11, AC4.

use stormglass::commit::{Decision, Ended, Message, No, Outcome, Reads, Response, Said, Vote, Why};
use stormglass::{NodeId, RequestId, TxId};

use super::{Aborts, Ledger};
use crate::commit::row::Mark;
use crate::oracle::Broken;

impl Ledger {
    pub(super) fn on_send(&mut self, at_us: u64, node: NodeId, message: &Message) -> Result<(), Broken> {
        let tx = message.tx();
        match message {
            Message::Prepare { part, .. } => {
                let row = self.rows.row(tx);
                row.know(part.participants().iter().copied());
                row.name.get_or_insert(message.name());
                if row.begun_us == 0 {
                    row.begun_us = at_us;
                }
                Ok(())
            }
            Message::Vote { vote: Vote::Yes { reads }, .. } => self.on_yes(node, tx, reads),
            Message::Vote { vote: Vote::No(no), .. } => self.on_no(node, tx, *no),
            Message::Commit { .. } => self.on_commit_said(node, tx),
            Message::Abort { .. } => self.on_abort_said(node, tx),
            Message::Ack { .. } => self.on_ack_said(node, tx),
            Message::Inquire { .. } => {
                self.counts.inquiries += 1;
                Ok(())
            }
            Message::Tell { said, .. } => self.on_told(node, tx, *said),
        }
    }

    /// W1: the operations are durable before Yes is said; AC2: nothing was aborted before; I4: the reads are of the last
    /// writes.
    fn on_yes(&mut self, node: NodeId, tx: TxId, reads: &stormglass::commit::Reads) -> Result<(), Broken> {
        let row = self.rows.row(tx);
        if row.prepared(node) != Mark::Durable {
            let why = format!("{node} says Yes to {tx}, and a power cut now would make it forget");
            return Err(Broken::safety("W1 PreparedIsDurableBeforeYes", why));
        }
        if row.terminal(node).is_some_and(|(decision, _)| decision == Decision::Aborted) {
            let why = format!("{node} says Yes to {tx}, which it has aborted");
            return Err(Broken::safety("AC2 NoDecisionIsReversed", why));
        }
        match self.track(node).expected.get(tx) {
            Some(expected) if expected != reads => {
                let why =
                    format!("{node} read {:?} for {tx}, where {:?} was written", &reads[..], &expected[..]);
                Err(Broken::safety("I4 ReadsAreOfTheLastWrites", why))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// AC4, I3: a conflict is with somebody who is undecided here.
    fn on_no(&mut self, node: NodeId, tx: TxId, no: No) -> Result<(), Broken> {
        let No::Conflict { holder } = no else { return Ok(()) };
        let row = self.rows.row(holder);
        if let Some((decision, _)) = row.terminal(node) {
            let why = format!("{node} refuses {tx} for a lock of {holder}, which is {decision:?} there");
            return Err(Broken::safety("I3 NoLockOutlivesItsTransaction", why));
        }
        // A coordinator holds the locks of its own part from the first Prepare until it says what it has decided.
        let leads = holder.coordinator == node && row.begun_us > 0 && !row.commit_said && !row.abort_said;
        if leads || row.prepared(node) != Mark::Absent {
            return Ok(());
        }
        let why = format!("{node} refuses {tx} for a lock of {holder}, which holds none there");
        Err(Broken::safety("AC4 ConflictsHaveAHolder", why))
    }

    /// W2: COMMIT is durable before anything shows it.
    fn on_commit_said(&mut self, node: NodeId, tx: TxId) -> Result<(), Broken> {
        let row = self.rows.row(tx);
        if tx.coordinator != node || row.commit != Mark::Durable {
            let why = format!("{node} says Commit of {tx}, and a power cut now would make it forget");
            return Err(Broken::safety("W2 CommitIsDurableFirst", why));
        }
        row.commit_said = true;
        Ok(())
    }

    /// W5: "Abort" comes from the transaction's own coordinator, never with a COMMIT in its log unless W4 has allowed END.
    fn on_abort_said(&mut self, node: NodeId, tx: TxId) -> Result<(), Broken> {
        let row = self.rows.row(tx);
        if tx.coordinator != node {
            let why = format!("{node} says that {tx} is aborted, which is not its own");
            return Err(Broken::safety("W5 PresumptionIsTheCoordinators", why));
        }
        if (row.committed || row.commit != Mark::Absent) && row.subordinates & !row.acked != 0 {
            let why = format!("{node} says that {tx} is aborted, and has COMMIT in its log");
            return Err(Broken::safety("W5 NoAbortWhileUndecided", why));
        }
        if row.commit == Mark::Absent && !row.committed {
            row.abort_said = true;
        }
        Ok(())
    }

    /// W3: the terminal record is durable before Ack; who has no record may acknowledge what has ended.
    fn on_ack_said(&mut self, node: NodeId, tx: TxId) -> Result<(), Broken> {
        let row = self.rows.row(tx);
        let durable = row.terminal(node) == Some((Decision::Committed, Mark::Durable));
        let over = row.decided(Decision::Committed) >> node.0 & 1 == 1 && row.subordinates & !row.acked == 0;
        if durable || over {
            return Ok(());
        }
        let why = format!("{node} acknowledges {tx}, and a power cut now would make it forget");
        Err(Broken::safety("W3 OutcomeIsDurableBeforeAck", why))
    }

    /// W10: what is told to a peer is durable, and true.
    fn on_told(&mut self, node: NodeId, tx: TxId, said: Said) -> Result<(), Broken> {
        let decision = match said {
            Said::Uncertain => return Ok(()),
            Said::Committed => Decision::Committed,
            Said::Aborted => Decision::Aborted,
        };
        if self.rows.row(tx).terminal(node) == Some((decision, Mark::Durable)) {
            return Ok(());
        }
        let why = format!("{node} tells a peer that {tx} is {decision:?}, and has no durable record of it");
        Err(Broken::safety("W10 NothingUndurableIsTold", why))
    }

    pub(super) fn on_message(&mut self, node: NodeId, from: NodeId, message: &Message) {
        let tx = message.tx();
        if let Some(word) = message.word().filter(|_| tx.coordinator == from) {
            let heard = &mut self.track(node).heard;
            match heard.iter_mut().find(|ended| ended.coordinator == from) {
                Some(ended) => {
                    ended.absorb(word);
                }
                None => {
                    let mut ended = Ended::nothing(from);
                    ended.absorb(word);
                    heard.push(ended);
                }
            }
        }
        match message {
            Message::Ack { .. } if tx.coordinator == node => self.rows.row(tx).acked |= 1 << from.0,
            Message::Vote { vote: Vote::Yes { .. }, .. } if tx.coordinator == node => {
                self.rows.row(tx).yes |= 1 << from.0;
            }
            Message::Tell { said: Said::Committed | Said::Aborted, .. } => {
                let in_doubt = self.track(node).recovered_in_doubt(tx);
                self.counts.resolved_by_peer += u64::from(in_doubt);
            }
            Message::Commit { .. } | Message::Abort { .. } => {
                let in_doubt = self.track(node).recovered_in_doubt(tx);
                self.counts.resolved_by_coordinator += u64::from(in_doubt);
            }
            Message::Prepare { .. }
            | Message::Vote { .. }
            | Message::Ack { .. }
            | Message::Inquire { .. }
            | Message::Tell { .. } => {}
        }
    }

    /// W2, W11: a client is told what is durable, and nothing else ever after.
    pub(super) fn on_reply(
        &mut self,
        node: NodeId,
        id: RequestId,
        response: &Response,
    ) -> Result<(), Broken> {
        let told = self.names.or_default(id);
        match &response.outcome {
            Outcome::Unknown => Ok(()),
            Outcome::Committed { reads } => {
                told.told_committed = true;
                let mut durable = |tx| {
                    let row = self.rows.row(tx);
                    row.commit == Mark::Durable || row.committed
                };
                let Some(tx) = told.committed.filter(|tx| durable(*tx)) else {
                    let why = format!(
                        "{node} tells the client that {id} is committed, and its COMMIT is not durable"
                    );
                    return Err(Broken::safety("W2 CommitIsDurableFirst", why));
                };
                match reads {
                    Some(reads) if !reads.is_empty() => self.claim_reads(id, tx, reads),
                    Some(_) | None => Ok(()),
                }
            }
            Outcome::Aborted { why } => {
                if !std::mem::replace(&mut told.told_aborted, true) {
                    self.counts.aborts.count(why);
                }
                let committed = told.committed;
                self.claim_calm_commits(node, id, why)?;
                match committed {
                    Some(tx) => {
                        let why =
                            format!("{node} tells the client that {id} is aborted, and {tx} committed it");
                        Err(Broken::safety("W11 CommittedIsForEver", why))
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// I4: what a client is told to have read are the last writes at each node, as of the locks there.
    fn claim_reads(&self, id: RequestId, tx: TxId, reads: &Reads) -> Result<(), Broken> {
        let ops = self.names.get(id).and_then(|told| told.reads.as_deref()).unwrap_or_default();
        let gets = || ops.iter().filter(|op| !op.writes());
        for (at, op) in gets().enumerate() {
            let nth = gets().take(at).filter(|other| other.node == op.node).count();
            // A node that has lost its memory since was judged when it voted.
            let expected = self.nodes[usize::from(op.node.0)].expected.get(tx).and_then(|all| all.get(nth));
            let read = reads.get(at);
            if expected.is_some() && read != expected {
                let why = format!("{id} read {read:?} at {op}, where {expected:?} was written");
                return Err(Broken::safety("I4 ReadsAreOfTheLastWrites", why));
            }
        }
        Ok(())
    }

    /// W11: one request commits at most once, and never after its client was told "aborted".
    pub(super) fn on_committed_name(
        &mut self,
        node: NodeId,
        tx: TxId,
        name: Option<RequestId>,
    ) -> Result<(), Broken> {
        let Some(name) = name else { return Ok(()) };
        let told = self.names.or_default(name);
        if let Some(other) = told.committed.filter(|other| *other != tx) {
            let why = format!("{node} commits {name} as {tx}, after {other}");
            return Err(Broken::safety("W11 ExactlyOnce", why));
        }
        if told.told_aborted {
            let why = format!("{node} commits {name} as {tx}, after its client was told that it is aborted");
            return Err(Broken::safety("W11 CommittedIsForEver", why));
        }
        told.committed = Some(tx);
        Ok(())
    }
}

impl Aborts {
    fn count(&mut self, why: &Why) {
        *match why {
            Why::Refused { no: No::Bound { .. }, .. } => &mut self.bound,
            Why::Refused { no: No::Overflow { .. }, .. } => &mut self.overflow,
            Why::Refused { no: No::Conflict { .. }, .. } => &mut self.conflict,
            Why::Refused { no: No::Aborted, .. } => &mut self.aborted_earlier,
            Why::TimedOut { .. } => &mut self.timed_out,
            Why::Restarted => &mut self.restarted,
            Why::Invalid(_) => &mut self.invalid,
        } += 1;
    }
}
