//! Clients of a cluster whose nodes are being killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stormglass::client::{Client, ClientOptions, TxResult};
use stormglass::commit::{Action, Key, Op};
use stormglass_node::NodeId;
use tokio::time::sleep;

use crate::cluster::Rng;

/// One attempted transaction, and the result that its client knows.
#[derive(Clone, Debug)]
pub(super) struct AttemptedTx {
    /// The key of its mark.
    pub mark: Key,
    /// The nodes that take part.
    pub nodes: Vec<NodeId>,
    /// `None` if it was never sent.
    pub result: Option<TxResult>,
}

/// Accounts on each node: few, so that transactions meet.
const ACCOUNTS: usize = 3;

/// Runs one transaction after another until `stop` is set.
pub(super) async fn run_client(
    number: u32,
    cluster: String,
    addresses: Vec<String>,
    mut rng: Rng,
    think: Duration,
    stop: Arc<AtomicBool>,
) -> Vec<AttemptedTx> {
    let mut connections: Vec<Option<Client>> = addresses.iter().map(|_| None).collect();
    let mut transactions = Vec::new();
    // A client's number is used for one coordinator: no two connections share a request id.
    let mut next_number = u64::from(number) << 20;
    while !stop.load(Ordering::Relaxed) {
        sleep(think / 2 + think * (rng.below(1000) as u32) / 1000).await;
        let coordinator = rng.below(addresses.len());
        if connections[coordinator].is_none() {
            next_number += 1;
            let options = ClientOptions {
                cluster: cluster.clone(),
                number: Some(next_number),
                // Far longer than a victim is down.
                request_timeout: Duration::from_secs(3),
                resend_after: Duration::from_millis(250),
                attempts: 50,
                ..ClientOptions::default()
            };
            // This node is down; another one may be up.
            connections[coordinator] = Client::connect(&addresses[coordinator], options).await.ok();
        }
        let Some(client) = &mut connections[coordinator] else { continue };
        let (mark, ops) = transfer(number, transactions.len(), &mut rng, addresses.len());
        let mut nodes: Vec<NodeId> = ops.iter().map(|op| op.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let result = client.transact(ops).await.ok();
        transactions.push(AttemptedTx { mark, nodes, result });
    }
    transactions
}

fn transfer(client: u32, tx: usize, rng: &mut Rng, nodes: usize) -> (Key, Vec<Op>) {
    let mark = Key::new(&format!("m{client}.{tx}")).expect("short");
    let first = rng.below(nodes);
    // Two or three nodes: at least one participant besides the first.
    let places = 2 + rng.below((nodes - 1).min(2));
    let amount = 1 + rng.below(30) as i64;
    let mut ops = Vec::new();
    for place in 0..places {
        let node = NodeId(((first + place) % nodes) as u16);
        let account = Key::new(&format!("a{}", rng.below(ACCOUNTS))).expect("short");
        let by = if place == 0 { -amount * (places as i64 - 1) } else { amount };
        // With a bound, so that a participant may vote No.
        ops.push(Op { node, key: account, action: Action::Add { by, at_least: -1_000 } });
        // Add and not put: a transaction that is applied twice leaves a 2.
        ops.push(Op { node, key: mark, action: Action::Add { by: 1, at_least: 0 } });
    }
    (mark, ops)
}

/// Every account of every node.
pub(super) fn accounts(nodes: usize) -> Vec<Op> {
    let mut ops = Vec::new();
    for node in 0..nodes {
        for account in 0..ACCOUNTS {
            let key = Key::new(&format!("a{account}")).expect("short");
            ops.push(Op { node: NodeId(node as u16), key, action: Action::Get });
        }
    }
    ops
}
