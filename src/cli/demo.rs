//! `stormglass demo`: nodes in one process, and the crash of a participant in the middle of a
//! transaction.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use stormglass::client::{Client, ClientOptions, TxResult};
use stormglass::commit::view::View;
use stormglass::commit::{Action, Body, CommitNode, Config, Key, Message, Op, Vote};
use stormglass_node::runtime::{
    Continuation, Ending, Observer, RunningNode, Settings, Status, SurvivingFiles, start,
};
use stormglass_node::{Effect, Input, Micros, NodeId, Time};

use super::say::say;
use super::{CliError, Exit};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stormglass demo\n  stormglass demo --data logs --ports 4000..=4005 --transactions 20"
)]
pub(super) struct Demo {
    /// Where the nodes keep their data: DIR/n0, DIR/n1 and so on. Run again, it continues
    #[arg(long, value_name = "DIR", default_value = "logs")]
    data: PathBuf,
    /// 2 to 64 ports on this machine, one for each node
    #[arg(long, value_name = "FROM..=TO", default_value = "3000..=3003", value_parser = ports)]
    ports: Ports,
    /// How many transactions, 0 or more
    #[arg(long, default_value_t = 8)]
    transactions: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    from: u16,
    count: u16,
}

/// Why a text is not a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ParsePortsError {
    #[error("expected FROM..=TO, like 3000..=3003")]
    NotARange,
    #[error("ports go up to 65535")]
    AboveMax,
    #[error("2 to 64 ports are needed, one for each node, like 3000..=3003")]
    WrongCount,
}

fn ports(text: &str) -> Result<Ports, ParsePortsError> {
    let (from, to) = text
        .split_once("..=")
        .or_else(|| text.split_once('-'))
        .ok_or(ParsePortsError::NotARange)?;
    // Wider than a port, so that 70000 is reported as too high and not as no number.
    let from: u64 = from.parse().map_err(|_| ParsePortsError::NotARange)?;
    let to: u64 = to.parse().map_err(|_| ParsePortsError::NotARange)?;
    let from = u16::try_from(from).map_err(|_| ParsePortsError::AboveMax)?;
    let to = u16::try_from(to).map_err(|_| ParsePortsError::AboveMax)?;
    let count = to.checked_sub(from).map_or(0, |more| more.saturating_add(1));
    if from == 0 || !(2..=64).contains(&count) {
        return Err(ParsePortsError::WrongCount);
    }
    Ok(Ports { from, count })
}

/// Without one of the nodes that existed before, its account is missing from the sum, and its
/// transactions may stay open. Additional nodes are fine: their accounts are empty.
fn check_all_nodes_have_ports(demo: &Demo) -> Result<(), CliError> {
    // The greatest first: the message names how many nodes there were.
    let mut missing = (demo.ports.count..64).rev();
    let Some(last) = missing.find(|node| demo.data.join(NodeId(*node).to_string()).exists()) else {
        return Ok(());
    };
    let data = demo.data.display();
    let count = last + 1;
    let asked = demo.ports.count;
    Err(format!(
        "{data} holds the data of {count} nodes, and there are ports for {asked}; give {count}, or another --data"
    )
    .into())
}

const CLUSTER: &str = "stormglass-demo";

pub(super) async fn run(demo: &Demo) -> Result<Exit, CliError> {
    check_all_nodes_have_ports(demo)?;
    let mut cluster = Cluster::start(demo).await?;
    say!(
        "{} nodes on 127.0.0.1:{}..={}, data in {}",
        cluster.count,
        demo.ports.from,
        demo.ports.from + (demo.ports.count - 1),
        demo.data.display()
    )?;
    for (node, running) in &mut cluster.nodes {
        let incarnation = running.ready().await.ok_or_else(|| format!("{node} did not start"))?;
        // Also shows that the data of an earlier run is continued: the incarnation is not 1 then.
        say!("  {node} {incarnation}")?;
    }
    say!("\ntransactions, coordinators in turn")?;
    for count in 0..demo.transactions {
        cluster
            .transfer(
                NodeId(u16::try_from(count % u32::from(cluster.count))?),
                i64::from(count) + 1,
            )
            .await?;
    }
    let result = cluster.crash_participant().await?;
    say!("\nfinal state")?;
    let balanced = cluster.print_accounts().await?;
    cluster.stop().await;
    let agreed = matches!(result, TxResult::Committed { .. }) && balanced;
    if agreed { Ok(Exit::Success) } else { Ok(Exit::Violation) }
}

struct Cluster {
    settings: BTreeMap<NodeId, Settings>,
    config: Config,
    nodes: BTreeMap<NodeId, RunningNode>,
    count: u16,
}

impl Cluster {
    async fn start(demo: &Demo) -> Result<Cluster, CliError> {
        let ids: Vec<NodeId> = (0..demo.ports.count).map(NodeId).collect();
        let mut peers = BTreeMap::new();
        for id in &ids {
            let port = u32::from(demo.ports.from) + u32::from(id.0);
            peers.insert(*id, format!("127.0.0.1:{port}"));
        }
        let mut settings = BTreeMap::new();
        for (id, address) in &peers {
            settings.insert(
                *id,
                Settings {
                    node: *id,
                    cluster: CLUSTER.to_owned(),
                    listen: address.clone(),
                    peers: peers.clone(),
                    data: demo.data.join(id.to_string()),
                    shutdown_timeout: Duration::from_secs(5),
                },
            );
        }
        // Short, so that the demo does not wait.
        // The recovering node asks for the outcome after this time.
        let retry_first = Micros::from_millis(100);
        let config = Config {
            retry_first,
            retry_max: Micros::from_millis(500),
            ..Config::new(ids.iter().copied())
        };
        let mut cluster =
            Cluster { settings, config, nodes: BTreeMap::new(), count: demo.ports.count };
        for id in ids {
            cluster.start_node(id, None).await?;
        }
        Ok(cluster)
    }

    async fn start_node(
        &mut self,
        id: NodeId,
        observer: Option<Box<dyn Observer<CommitNode>>>,
    ) -> Result<(), CliError> {
        let running =
            start::<CommitNode>(self.settings[&id].clone(), &self.config, observer).await?;
        self.nodes.insert(id, running);
        Ok(())
    }

    async fn client(&self, id: NodeId) -> Result<Client, CliError> {
        let options = ClientOptions { cluster: CLUSTER.to_owned(), ..ClientOptions::default() };
        Ok(Client::connect(&self.settings[&id].listen, options).await?)
    }

    /// Moves an amount from this node to the next two.
    fn ops(&self, from: NodeId, amount: i64) -> Vec<Op> {
        let next = |by: u16| NodeId((from.0 + by) % self.count);
        let add = |node, by| Op {
            node,
            key: Key::new("account").expect("short"),
            // Low enough that no transfer of the demo is refused; the demo shows crashes, not
            // bounds.
            action: Action::Add { by, at_least: -1_000_000_000 },
        };
        // The sum of the amounts is zero, which the end of the demo checks.
        vec![add(from, -2 * amount), add(next(1), amount), add(next(2), amount)]
    }

    async fn transfer(&self, from: NodeId, amount: i64) -> Result<(), CliError> {
        let ops = self.ops(from, amount);
        let result = self.client(from).await?.transact(ops.clone()).await?;
        say!("  {}", describe(&result, &ops))?;
        Ok(())
    }

    /// A participant votes Yes, the Commit arrives, and the participant crashes before it handles
    /// it.
    async fn crash_participant(&mut self) -> Result<TxResult, CliError> {
        let coordinator = NodeId(1);
        let victim = NodeId(2 % self.count);
        say!("\n{victim} crashes during a transaction coordinated by {coordinator}")?;
        // Stopped cleanly and started with an observer: only that can end a node at an exact point.
        self.stop_one(victim).await;
        self.start_node(victim, Some(Box::new(TerminateBeforeCommit { voted: false }))).await?;
        let incarnation = self.nodes.get_mut(&victim).ok_or("just started")?.ready().await;
        let incarnation = incarnation.ok_or_else(|| format!("{victim} did not start"))?;
        say!(
            "  {victim} is restarted as {incarnation}, which crashes when it receives a decision"
        )?;
        let ops = self.ops(coordinator, 1);
        // The client is answered although the participant is down: COMMIT is durable at the
        // coordinator.
        let result = self.client(coordinator).await?.transact(ops.clone()).await?;
        say!("  {}", describe(&result, &ops))?;
        let mut running = self.nodes.remove(&victim).ok_or("just started")?;
        match tokio::time::timeout(Duration::from_secs(5), running.ended()).await {
            Ok(Ending::Terminated) => {
                say!("  {victim} voted Yes and crashed before it received the decision")?
            }
            Ok(other) => {
                return Err(
                    format!("{victim} should have crashed, but stopped with {other:?}").into()
                );
            }
            Err(_) => {
                return Err(format!("{victim} should have crashed, but is still running").into());
            }
        }
        self.start_node(victim, Some(Box::new(PrintRecovery { over: false }))).await?;
        let incarnation = self.nodes.get_mut(&victim).ok_or("just started")?.ready().await;
        let incarnation = incarnation.ok_or_else(|| format!("{victim} did not start again"))?;
        self.until_idle(victim).await?;
        say!("  {victim} is in {incarnation}, with no transaction in doubt")?;
        Ok(result)
    }

    async fn until_idle(&self, id: NodeId) -> Result<Status<View>, CliError> {
        let mut client = self.client(id).await?;
        // Five seconds in steps of 20 ms.
        for _ in 0..250 {
            let status = client.status().await?;
            if status.view.in_doubt.is_empty() && status.view.committing == 0 {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("{id} is still in doubt after 5 s").into())
    }

    /// Prints every node's account; returns whether they add up to zero.
    async fn print_accounts(&self) -> Result<bool, CliError> {
        let key = Key::new("account")?;
        let ops: Vec<Op> =
            self.nodes.keys().map(|node| Op { node: *node, key, action: Action::Get }).collect();
        let mut total = 0;
        let TxResult::Committed { reads: Some(reads), .. } =
            self.client(NodeId(0)).await?.transact(ops).await?
        else {
            return Err("the accounts could not be read".into());
        };
        for (id, value) in self.nodes.keys().zip(reads.iter()) {
            // Before its log is shown: an acknowledgement may still be on its way.
            let status = self.until_idle(*id).await?;
            let value = value.unwrap_or(0);
            total += value;
            say!(
                "  {id}  account = {value:>5}   {}, {} records in its log, {} locks",
                status.view.incarnation,
                status.view.log.appended,
                status.view.locks.len()
            )?;
        }
        say!("  sum of all accounts: {total}")?;
        Ok(total == 0)
    }

    async fn stop_one(&mut self, id: NodeId) {
        if let Some(mut running) = self.nodes.remove(&id) {
            running.stop();
            running.ended().await;
        }
    }

    /// All at once: each may still have to receive messages of another.
    async fn stop(mut self) {
        self.nodes.values().for_each(RunningNode::stop);
        for (_, mut running) in std::mem::take(&mut self.nodes) {
            running.ended().await;
        }
    }
}

fn describe(result: &TxResult, ops: &[Op]) -> String {
    let ops: Vec<String> = ops
        .iter()
        .map(|op| match op.action {
            Action::Add { by, .. } => format!("{} {by:+}", op.node),
            Action::Put(_) | Action::Delete | Action::Get => op.to_string(),
        })
        .collect();
    let ops = ops.join(", ");
    match result {
        TxResult::Committed { handle, .. } => {
            format!("{}  {ops:<24} committed  ({handle})", handle.node)
        }
        TxResult::Aborted { handle, reason } => {
            format!("{}  {ops:<24} aborted    ({handle}): {reason}", handle.node)
        }
        TxResult::Unknown { handle, .. } => {
            format!("{}  {ops:<24} unknown    ({handle})", handle.node)
        }
    }
}

/// Terminates a participant between its Yes and the decision.
struct TerminateBeforeCommit {
    voted: bool,
}

impl Observer<CommitNode> for TerminateBeforeCommit {
    fn boot(&mut self, _: NodeId, _: &SurvivingFiles) -> io::Result<()> {
        Ok(())
    }

    fn input(&mut self, _: Time, input: &Input<CommitNode>, _: u64) -> io::Result<Continuation> {
        let commit = matches!(
            input,
            Input::Message { message: Message { body: Body::Commit { .. }, .. }, .. }
        );
        // Before the input, so that the decision reaches the process but not its log.
        Ok(if self.voted && commit { Continuation::Terminate } else { Continuation::Proceed })
    }

    fn effect(
        &mut self,
        _: Time,
        effect: &Effect<CommitNode>,
        _: &[u8],
        _: u64,
    ) -> io::Result<Continuation> {
        // Only a Yes leaves the participant in doubt, which is what the demo shows.
        self.voted |= matches!(
            effect,
            Effect::Send { message: Message { body: Body::Vote(Vote::Yes { .. }), .. }, .. }
        );
        Ok(Continuation::Proceed)
    }

    fn stopped(&mut self, _: Time) -> io::Result<()> {
        Ok(())
    }
}

/// Prints the messages of a recovering node until it knows the outcome. A failure to print shows at
/// the demo's next line.
struct PrintRecovery {
    over: bool,
}

impl Observer<CommitNode> for PrintRecovery {
    fn boot(&mut self, node: NodeId, _: &SurvivingFiles) -> io::Result<()> {
        // The output may be closed; the demo itself finds that at its next line.
        let _ = say!("  {node} starts again");
        Ok(())
    }

    fn input(&mut self, _: Time, input: &Input<CommitNode>, _: u64) -> io::Result<Continuation> {
        if !self.over
            && let Input::Message {
                from,
                message: message @ Message { body: Body::Commit { .. } | Body::Abort { .. }, .. },
            } = input
        {
            self.over = true;
            let _ = say!("  {from} answers: {}", stormglass_node::Label::kind(message));
        }
        Ok(Continuation::Proceed)
    }

    fn effect(
        &mut self,
        _: Time,
        effect: &Effect<CommitNode>,
        _: &[u8],
        _: u64,
    ) -> io::Result<Continuation> {
        if !self.over
            && let Effect::Send { to, message: Message { tx, body: Body::Inquire, .. } } = effect
        {
            let _ = say!("  {tx} is prepared without a decision: sends Inquire to {to}");
        }
        Ok(Continuation::Proceed)
    }

    fn stopped(&mut self, _: Time) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_range_for_2_to_64_nodes_and_end_where_ports_do() {
        let count = |text| ports(text).map(|ports| ports.count);
        assert_eq!(count("3000..=3003"), Ok(4));
        assert_eq!(count("65472-65535"), Ok(64));
        for (text, words) in [
            ("3000", "expected FROM..=TO"),
            ("3000..=x", "expected FROM..=TO"),
            ("3000..=3000", "2 to 64"),
            ("3001..=3000", "2 to 64"),
            ("0..=3", "2 to 64"),
            ("1..=65535", "2 to 64"),
            ("65534..=65537", "up to 65535"),
        ] {
            let error = count(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
