//! What must hold when nobody is killed any more.

use std::fmt;
use std::time::Duration;

use stormglass::commit::{Action, Op, Record, State};
use stormglass::runtime::{Client, ClientOptions, Settled, Survived};
use stormglass::wal;
use tokio::time::{Instant, sleep};

use super::clients::{Wish, accounts};
use crate::cli::Complaint;
use crate::cli::cluster::Cluster;

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Reckoning {
    pub(super) committed: u64,
    aborted: u64,
    never_asked: u64,
    /// Clients did not get an answer in time; asked for later, they were one or the other.
    resolved: u64,
    lost: Vec<String>,
    disagree: Vec<String>,
    blocked: Vec<String>,
    total: i64,
    logs: Vec<String>,
    exits: Vec<String>,
}

impl Reckoning {
    pub(super) fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.disagree.is_empty()
            && self.blocked.is_empty()
            && self.total == 0
            && self.logs.is_empty()
            && self.exits.is_empty()
    }
}

impl fmt::Display for Reckoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} committed, {} aborted, {} never asked; {} of them answered only when asked for again",
            self.committed, self.aborted, self.never_asked, self.resolved
        )?;
        writeln!(f, "{} acknowledged commits lost or done twice", self.lost.len())?;
        writeln!(f, "{} disagreements", self.disagree.len())?;
        writeln!(f, "{} blocked", self.blocked.len())?;
        writeln!(f, "accounts add up to {}", self.total)?;
        write!(f, "{} logs that do not verify", self.logs.len())?;
        let all =
            self.lost.iter().chain(&self.disagree).chain(&self.blocked).chain(&self.logs).chain(&self.exits);
        for complaint in all.take(20) {
            write!(f, "\n  {complaint}")?;
        }
        Ok(())
    }
}

pub(super) async fn reckon(
    cluster: &mut Cluster,
    wishes: Vec<Wish>,
    nodes: usize,
    patience: Duration,
) -> Result<Reckoning, Complaint> {
    let mut reckoning = Reckoning::default();
    await_calm(cluster, patience, &mut reckoning).await?;
    let mut clients = Vec::new();
    for node in 0..nodes {
        let options = ClientOptions { patience: Duration::from_secs(30), ..ClientOptions::default() };
        clients.push(cluster.client(node, options).await?);
    }
    let wishes = resolve(&mut clients, wishes, &mut reckoning).await?;
    for chunk in wishes.chunks(500) {
        check_marks(&mut clients[0], chunk, &mut reckoning).await?;
    }
    for value in read(&mut clients[0], accounts(nodes)).await? {
        reckoning.total += value.unwrap_or(0);
    }
    drop(clients);
    await_calm(cluster, patience, &mut reckoning).await?;
    for exit in cluster.terminate_all()?.iter().filter(|exit| !exit.success()) {
        reckoning.exits.push(format!("a node did not end cleanly: {exit}"));
    }
    for node in 0..nodes {
        if let Err(complaint) = verify(cluster, node) {
            reckoning.logs.push(format!("n{node}: {complaint}"));
        }
    }
    Ok(reckoning)
}

/// Waits until no node has anything under way, and says who still does.
async fn await_calm(
    cluster: &Cluster,
    patience: Duration,
    reckoning: &mut Reckoning,
) -> Result<(), Complaint> {
    let deadline = Instant::now() + patience;
    loop {
        let mut busy = Vec::new();
        for status in cluster.statuses().await? {
            let view = &status.view;
            let open = view.collecting + view.deciding + view.committing + view.waiting;
            if open > 0 || !view.idle || !view.locks.is_empty() {
                let doubts: Vec<String> = view.in_doubt.iter().map(|doubt| doubt.tx.to_string()).collect();
                let (node, locks) = (status.node, view.locks.len());
                busy.push(format!("{node} has {open} open, {locks} locks, in doubt: {}", doubts.join(" ")));
            }
        }
        if busy.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            reckoning.blocked.extend(busy);
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Asks for what clients did not hear. By now everything is decided.
async fn resolve(
    clients: &mut [Client],
    mut wishes: Vec<Wish>,
    reckoning: &mut Reckoning,
) -> Result<Vec<Wish>, Complaint> {
    for wish in &mut wishes {
        if let Some(Settled::Unknown { name, .. }) = wish.settled {
            let settled = clients[usize::from(name.node.0)].outcome(name).await?;
            reckoning.resolved += u64::from(!matches!(settled, Settled::Unknown { .. }));
            wish.settled = Some(settled);
        }
        match wish.settled {
            Some(Settled::Committed { .. }) => reckoning.committed += 1,
            Some(Settled::Aborted { .. }) => reckoning.aborted += 1,
            Some(Settled::Unknown { .. }) | None => reckoning.never_asked += 1,
        }
    }
    Ok(wishes)
}

async fn check_marks(
    client: &mut Client,
    wishes: &[Wish],
    reckoning: &mut Reckoning,
) -> Result<(), Complaint> {
    let get = |wish: &Wish| {
        let mark = wish.mark;
        wish.nodes.clone().into_iter().map(move |node| Op { node, key: mark, action: Action::Get })
    };
    let found = read(client, wishes.iter().flat_map(get).collect()).await?;
    let mut found = found.into_iter();
    for wish in wishes {
        let marks: Vec<Option<i64>> = found.by_ref().take(wish.nodes.len()).collect();
        check(wish, &marks, reckoning);
    }
    Ok(())
}

/// Holds what is there against what the client was told.
fn check(wish: &Wish, marks: &[Option<i64>], reckoning: &mut Reckoning) {
    let all = |mark: Option<i64>| marks.iter().all(|found| *found == mark);
    let story =
        || format!("{} at {:?} is {marks:?}; its client was told {:?}", wish.mark, wish.nodes, wish.settled);
    match &wish.settled {
        Some(Settled::Committed { .. }) if !all(Some(1)) => reckoning.lost.push(story()),
        // A client that was told an error was told that nothing was done and nothing will be.
        Some(Settled::Aborted { .. }) | None if !all(None) => reckoning.disagree.push(story()),
        Some(Settled::Unknown { .. }) if !all(None) && !all(Some(1)) => reckoning.disagree.push(story()),
        Some(_) | None => {}
    }
}

async fn read(client: &mut Client, ops: Vec<Op>) -> Result<Vec<Option<i64>>, Complaint> {
    match client.transact(ops).await? {
        Settled::Committed { reads: Some(reads), .. } => Ok(reads.to_vec()),
        other @ (Settled::Committed { .. } | Settled::Aborted { .. } | Settled::Unknown { .. }) => {
            Err(format!("the values could not be read: {other:?}").into())
        }
    }
}

fn verify(cluster: &Cluster, node: usize) -> Result<(), Complaint> {
    let survived = Survived::read(&cluster.data(node))?;
    let recovered = wal::recover::<State, Record>(&survived)?;
    match recovered.torn {
        None => Ok(()),
        Some(torn) => Err(format!("{torn} after a clean end").into()),
    }
}

#[cfg(test)]
mod tests {
    use stormglass::commit::{Key, No, Why};
    use stormglass::runtime::{Doubt, Name};
    use stormglass::{Incarnation, NodeId, RequestId};

    use super::*;

    const NAME: Name =
        Name { node: NodeId(0), life: Incarnation(1), id: RequestId { client: 1, serial: 1, attempt: 0 } };

    /// How many complaints there are about acknowledged commits and about disagreements.
    fn complaints(settled: Option<Settled>, marks: [Option<i64>; 2]) -> (usize, usize) {
        let mark = Key::new("m1.1").expect("short");
        let wish = Wish { mark, nodes: vec![NodeId(0), NodeId(1)], settled };
        let mut reckoning = Reckoning::default();
        check(&wish, &marks, &mut reckoning);
        (reckoning.lost.len(), reckoning.disagree.len())
    }

    #[test]
    fn what_a_client_was_told_is_what_is_there() {
        let committed = || Some(Settled::Committed { name: NAME, reads: None });
        let why = Why::Refused { by: NodeId(1), no: No::Aborted };
        let aborted = || Some(Settled::Aborted { name: NAME, why });
        let unknown = || Some(Settled::Unknown { name: NAME, doubt: Doubt::Silence });
        let (nothing, done, half, twice) = ([None; 2], [Some(1); 2], [Some(1), None], [Some(2); 2]);
        for (settled, marks, found) in [
            (committed(), done, (0, 0)),
            (committed(), nothing, (1, 0)),
            (committed(), twice, (1, 0)),
            (aborted(), nothing, (0, 0)),
            (aborted(), half, (0, 1)),
            (unknown(), nothing, (0, 0)),
            (unknown(), done, (0, 0)),
            (unknown(), half, (0, 1)),
            (None, nothing, (0, 0)),
            (None, done, (0, 1)),
        ] {
            assert_eq!(complaints(settled.clone(), marks), found, "{settled:?} {marks:?}");
        }
    }
}
