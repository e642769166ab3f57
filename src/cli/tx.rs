//! `tx`, `outcome`, `get`: the commands of a client.

use std::time::Duration;

use clap::Args;
use stormglass::client::{Client, ClientOptions, RequestHandle, TxResult};
use stormglass::commit::{Action, KeyAtNode, Op, Reads};

use super::address::host_and_port;
use super::{CliError, Exit, say};

/// The default name of a cluster.
// Also the default of `serve`, so that neither side has to name a cluster.
const CLUSTER: &str = "stormglass";

/// The node to connect to.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// The address of the node
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    at: String,
    /// The name of the cluster
    #[arg(long, default_value = CLUSTER)]
    cluster: String,
    /// How long to wait for an answer, in seconds, 1 to 86400
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience_s: u64,
    /// The greatest number of attempts of a transaction that was refused for a conflict or timed
    /// out, 1 to 65535
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    attempts: u16,
}

impl TargetArgs {
    pub(super) async fn connect(&self) -> Result<Client, CliError> {
        self.connect_as(false).await
    }

    /// For the status alone.
    pub(super) async fn connect_as_operator(&self) -> Result<Client, CliError> {
        self.connect_as(true).await
    }

    async fn connect_as(&self, operator: bool) -> Result<Client, CliError> {
        let request_timeout = Duration::from_secs(self.patience_s);
        let options = ClientOptions {
            cluster: self.cluster.clone(),
            request_timeout,
            attempts: self.attempts,
            operator,
            ..ClientOptions::default()
        };
        Ok(Client::connect(&self.at, options).await?)
    }

    /// The command that queries this outcome.
    fn outcome_command(&self, handle: RequestHandle) -> String {
        let cluster = match &*self.cluster {
            CLUSTER => String::new(),
            // Quoted: the line is meant to be pasted into a shell.
            other => format!(" --cluster {other:?}"),
        };
        format!("stormglass outcome --at {}{cluster} {handle}", self.at)
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stormglass tx --at 127.0.0.1:3000 'put a=1 @0' 'add b=-5>=0 @2'\n\
    \nExit codes: 0 committed, 3 aborted, 4 unknown (run `outcome`), 1 request not sent"
)]
pub(super) struct Tx {
    #[command(flatten)]
    at: TargetArgs,
    /// Operations: 'put KEY=VALUE @NODE', 'add KEY=CHANGE[>=BOUND] @NODE', 'get KEY @NODE',
    /// 'delete KEY @NODE'
    #[arg(required = true, value_name = "OPERATION")]
    ops: Vec<Op>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stormglass outcome --at 127.0.0.1:3000 n0.3.9f3a01c2#57:c17.1/0\n\
    \nExit codes: 0 committed, 3 aborted, 4 unknown, 1 not asked at all"
)]
pub(super) struct OutcomeArgs {
    #[command(flatten)]
    at: TargetArgs,
    /// The request handle, as printed by `tx`
    handle: RequestHandle,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stormglass get --at 127.0.0.1:3000 a@0 b@2")]
pub(super) struct Get {
    #[command(flatten)]
    at: TargetArgs,
    /// Keys of nodes
    #[arg(required = true, value_name = "KEY@NODE")]
    keys: Vec<KeyAtNode>,
}

pub(super) async fn run(tx: &Tx) -> Result<Exit, CliError> {
    let ops = tx.ops.clone();
    let result = tx.at.connect().await?.transact(ops.clone()).await?;
    show(&result, &ops, &tx.at)
}

pub(super) async fn outcome(outcome: &OutcomeArgs) -> Result<Exit, CliError> {
    let result = outcome.at.connect().await?.outcome(outcome.handle).await?;
    show(&result, &[], &outcome.at)
}

pub(super) async fn get(get: &Get) -> Result<Exit, CliError> {
    let mut ops = Vec::new();
    for KeyAtNode { key, node } in &get.keys {
        ops.push(Op { node: *node, key: *key, action: Action::Get });
    }
    let result = get.at.connect().await?.transact(ops.clone()).await?;
    match &result {
        TxResult::Committed { reads: Some(reads), .. } => {
            say::result(&found(reads, &ops, ""), Exit::Success)
        }
        // Reads that were forgotten in a restart have no result.
        TxResult::Committed { .. } | TxResult::Aborted { .. } | TxResult::Unknown { .. } => {
            show(&result, &ops, &get.at)
        }
    }
}

fn show(result: &TxResult, ops: &[Op], at: &TargetArgs) -> Result<Exit, CliError> {
    let (text, exit) = match result {
        TxResult::Committed { handle, reads: Some(reads) } if ops.iter().any(|op| !op.writes()) => {
            (format!("committed {handle}\n{}", found(reads, ops, "  ")), Exit::Success)
        }
        TxResult::Committed { handle, .. } => (format!("committed {handle}"), Exit::Success),
        TxResult::Aborted { handle, reason } => {
            (format!("aborted {handle}: {reason}"), Exit::Aborted)
        }
        TxResult::Unknown { handle, reason } => (
            format!("unknown {handle}: {reason}; ask again with `{}`", at.outcome_command(*handle)),
            Exit::Unknown,
        ),
    };
    say::result(&text, exit)
}

/// The values read, one key a line.
fn found(reads: &Reads, ops: &[Op], indent: &str) -> String {
    let mut lines = Vec::new();
    // The values come in the order of the reads among the operations.
    for (op, value) in ops.iter().filter(|op| !op.writes()).zip(reads.iter()) {
        let value = value.map_or("-".to_owned(), |value| value.to_string());
        lines.push(format!("{indent}{} @{} = {value}", op.key, op.node.0));
    }
    lines.join("\n")
}
