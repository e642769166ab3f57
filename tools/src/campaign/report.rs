//! The checks after the last kill.

use std::fmt;
use std::time::Duration;

use stormglass::client::{Client, ClientOptions, TxResult};
use stormglass::commit::{Action, Op, Record, State};
use stormglass_node::runtime::SurvivingFiles;
use stormglass_node::wal;
use tokio::time::{Instant, sleep};

use super::clients::{AttemptedTx, accounts};
use crate::CliError;
use crate::cluster::Cluster;

/// The results.
#[derive(Debug, Default)]
pub(super) struct CampaignReport {
    pub(super) committed: u64,
    aborted: u64,
    never_asked: u64,
    /// Transactions without an answer in time that were committed or aborted when queried later.
    resolved: u64,
    lost_commits: Vec<String>,
    disagreements: Vec<String>,
    blocked: Vec<String>,
    total: i64,
    logs: Vec<String>,
    exits: Vec<String>,
}

impl CampaignReport {
    pub(super) fn is_clean(&self) -> bool {
        self.lost_commits.is_empty()
            && self.disagreements.is_empty()
            && self.blocked.is_empty()
            // Every transfer adds up to zero, and all keys start without a value.
            && self.total == 0
            && self.logs.is_empty()
            && self.exits.is_empty()
    }
}

impl fmt::Display for CampaignReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} committed, {} aborted, {} never sent; {} of them resolved by a later outcome query",
            self.committed, self.aborted, self.never_asked, self.resolved
        )?;
        writeln!(f, "{} acknowledged commits lost or applied twice", self.lost_commits.len())?;
        writeln!(f, "{} results that disagree with the stored marks", self.disagreements.len())?;
        writeln!(f, "{} nodes still blocked", self.blocked.len())?;
        writeln!(f, "accounts add up to {}", self.total)?;
        write!(f, "{} logs that do not verify", self.logs.len())?;
        let all = self
            .lost_commits
            .iter()
            .chain(&self.disagreements)
            .chain(&self.blocked)
            .chain(&self.logs)
            .chain(&self.exits);
        // Enough to see the kind of failure; one lost node can produce thousands.
        for error in all.take(20) {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

pub(super) async fn check_cluster(
    cluster: &mut Cluster,
    transactions: Vec<AttemptedTx>,
    nodes: usize,
    idle_timeout: Duration,
) -> Result<CampaignReport, CliError> {
    let mut report = CampaignReport::default();
    wait_until_idle(cluster, idle_timeout, &mut report).await?;
    let mut clients = Vec::new();
    for node in 0..nodes {
        let options =
            ClientOptions { request_timeout: Duration::from_secs(30), ..ClientOptions::default() };
        clients.push(cluster.client(node, options).await?);
    }
    let transactions = resolve(&mut clients, transactions, &mut report).await?;
    // The marks of a long campaign would exceed the operations of one request.
    for chunk in transactions.chunks(500) {
        check_marks(&mut clients[0], chunk, &mut report).await?;
    }
    for value in read(&mut clients[0], accounts(nodes)).await? {
        report.total += value.unwrap_or(0);
    }
    drop(clients);
    wait_until_idle(cluster, idle_timeout, &mut report).await?;
    for exit in cluster.terminate_all()?.iter().filter(|exit| !exit.success()) {
        report.exits.push(format!("a node did not shut down cleanly: {exit}"));
    }
    for node in 0..nodes {
        if let Err(error) = verify(cluster, node) {
            report.logs.push(format!("n{node}: {error}"));
        }
    }
    Ok(report)
}

/// Waits until no node has work in progress, and reports those that still have.
async fn wait_until_idle(
    cluster: &Cluster,
    idle_timeout: Duration,
    report: &mut CampaignReport,
) -> Result<(), CliError> {
    let deadline = Instant::now() + idle_timeout;
    loop {
        let mut busy = Vec::new();
        for status in cluster.statuses().await? {
            let view = &status.view;
            let open = view.collecting + view.deciding + view.committing + view.waiting;
            if open > 0 || !view.idle || !view.locks.is_empty() {
                let doubts: Vec<String> =
                    view.in_doubt.iter().map(|doubt| doubt.tx.to_string()).collect();
                let node = status.node;
                let locks = view.locks.len();
                busy.push(format!(
                    "{node} has {open} open, {locks} locks, in doubt: {}",
                    doubts.join(" ")
                ));
            }
        }
        if busy.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            report.blocked.extend(busy);
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Queries the outcomes that clients did not receive. By now everything is decided.
async fn resolve(
    clients: &mut [Client],
    mut transactions: Vec<AttemptedTx>,
    report: &mut CampaignReport,
) -> Result<Vec<AttemptedTx>, CliError> {
    for tx in &mut transactions {
        if let Some(TxResult::Unknown { handle, .. }) = tx.result {
            let result = clients[usize::from(handle.node.0)].outcome(handle).await?;
            report.resolved += u64::from(!matches!(result, TxResult::Unknown { .. }));
            tx.result = Some(result);
        }
        match tx.result {
            Some(TxResult::Committed { .. }) => report.committed += 1,
            Some(TxResult::Aborted { .. }) => report.aborted += 1,
            Some(TxResult::Unknown { .. }) | None => report.never_asked += 1,
        }
    }
    Ok(transactions)
}

async fn check_marks(
    client: &mut Client,
    transactions: &[AttemptedTx],
    report: &mut CampaignReport,
) -> Result<(), CliError> {
    let mut gets = Vec::new();
    for tx in transactions {
        gets.extend(tx.nodes.iter().map(|node| Op {
            node: *node,
            key: tx.mark,
            action: Action::Get,
        }));
    }
    let mut found = read(client, gets).await?.into_iter();
    for tx in transactions {
        let marks: Vec<Option<i64>> = found.by_ref().take(tx.nodes.len()).collect();
        check(tx, &marks, report);
    }
    Ok(())
}

/// Compares the marks with the result that the client received.
fn check(tx: &AttemptedTx, marks: &[Option<i64>], report: &mut CampaignReport) {
    let all_once = marks.iter().all(|mark| *mark == Some(1));
    let all_absent = marks.iter().all(Option::is_none);
    let failures = match &tx.result {
        Some(TxResult::Committed { .. }) if !all_once => &mut report.lost_commits,
        // An error means that nothing was executed and nothing will be.
        Some(TxResult::Aborted { .. }) | None if !all_absent => &mut report.disagreements,
        Some(TxResult::Unknown { .. }) if !all_absent && !all_once => &mut report.disagreements,
        Some(_) | None => return,
    };
    failures.push(format!(
        "{} at {:?} is {marks:?}; the client received {:?}",
        tx.mark, tx.nodes, tx.result
    ));
}

async fn read(client: &mut Client, ops: Vec<Op>) -> Result<Vec<Option<i64>>, CliError> {
    match client.transact(ops).await? {
        TxResult::Committed { reads: Some(reads), .. } => Ok(reads.to_vec()),
        other @ (TxResult::Committed { .. }
        | TxResult::Aborted { .. }
        | TxResult::Unknown { .. }) => {
            Err(format!("the values could not be read: {other:?}").into())
        }
    }
}

fn verify(cluster: &Cluster, node: usize) -> Result<(), CliError> {
    let surviving = SurvivingFiles::read(&cluster.data(node))?;
    let recovered = wal::recover::<State, Record>(&surviving)?;
    match recovered.torn {
        None => Ok(()),
        Some(torn) => Err(format!("{torn} after a clean shutdown").into()),
    }
}

#[cfg(test)]
mod tests {
    use stormglass::client::{RequestHandle, UnknownReason};
    use stormglass::commit::{AbortReason, Key, Position, Refusal};
    use stormglass_node::{Incarnation, NodeId, RequestId};

    use super::*;

    const HANDLE: RequestHandle = RequestHandle {
        node: NodeId(0),
        addressed: Position { incarnation: Incarnation::numbered(1), serial: 0 },
        id: RequestId { client: 1, serial: 1, attempt: 0 },
    };

    /// The numbers of lost acknowledged commits and of disagreements.
    fn failure_counts(result: Option<TxResult>, marks: [Option<i64>; 2]) -> (usize, usize) {
        let mark = Key::new("m1.1").expect("short");
        let tx = AttemptedTx { mark, nodes: vec![NodeId(0), NodeId(1)], result };
        let mut report = CampaignReport::default();
        check(&tx, &marks, &mut report);
        (report.lost_commits.len(), report.disagreements.len())
    }

    #[test]
    fn marks_agree_with_the_result_reported_to_the_client() {
        let committed = Some(TxResult::Committed { handle: HANDLE, reads: None });
        let reason = AbortReason::Refused { by: NodeId(1), refusal: Refusal::Aborted };
        let aborted = Some(TxResult::Aborted { handle: HANDLE, reason });
        let unknown = Some(TxResult::Unknown { handle: HANDLE, reason: UnknownReason::NoAnswer });
        let nothing = [None; 2];
        let done = [Some(1); 2];
        let half = [Some(1), None];
        let twice = [Some(2); 2];
        for (result, marks, found) in [
            (&committed, done, (0, 0)),
            (&committed, nothing, (1, 0)),
            (&committed, twice, (1, 0)),
            (&aborted, nothing, (0, 0)),
            (&aborted, half, (0, 1)),
            (&unknown, nothing, (0, 0)),
            (&unknown, done, (0, 0)),
            (&unknown, half, (0, 1)),
            (&None, nothing, (0, 0)),
            (&None, done, (0, 1)),
        ] {
            assert_eq!(failure_counts(result.clone(), marks), found, "{result:?} {marks:?}");
        }
    }
}
