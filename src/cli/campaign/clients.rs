//! Clients who want something of a cluster that is being killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stormglass::NodeId;
use stormglass::commit::{Action, Key, Op};
use stormglass::runtime::{Client, ClientOptions, Settled};
use tokio::time::sleep;

use crate::cli::cluster::Dice;

/// One transaction that was tried, and what its client knows of it.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// The mark that it leaves.
    pub(super) mark: Key,
    /// Where.
    pub(super) nodes: Vec<NodeId>,
    /// `None` if it was never asked.
    pub(super) settled: Option<Settled>,
}

/// Accounts on each node: few, so that transactions meet.
const ACCOUNTS: usize = 3;

/// Lives until it is `over`, one wish after another.
pub(super) async fn live(
    number: u32,
    cluster: String,
    addresses: Vec<String>,
    mut dice: Dice,
    think: Duration,
    over: Arc<AtomicBool>,
) -> Vec<Wish> {
    let mut connections: Vec<Option<Client>> = addresses.iter().map(|_| None).collect();
    let mut wishes = Vec::new();
    // A client's number is good for one coordinator: no two connections share a name.
    let mut next_number = u64::from(number) << 20;
    while !over.load(Ordering::Relaxed) {
        sleep(think / 2 + think * (dice.below(1000) as u32) / 1000).await;
        let coordinator = dice.below(addresses.len());
        if connections[coordinator].is_none() {
            next_number += 1;
            let options = ClientOptions {
                cluster: cluster.clone(),
                number: Some(next_number),
                patience: Duration::from_secs(3),
                ask_again: Duration::from_millis(250),
                attempts: 50,
            };
            // Down: somebody else may be up.
            connections[coordinator] = Client::connect(&addresses[coordinator], options).await.ok();
        }
        let Some(client) = &mut connections[coordinator] else { continue };
        let (mark, ops) = transfer(number, wishes.len(), &mut dice, addresses.len());
        let mut nodes: Vec<NodeId> = ops.iter().map(|op| op.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let settled = client.transact(ops).await.ok();
        wishes.push(Wish { mark, nodes, settled });
    }
    wishes
}

fn transfer(client: u32, wish: usize, dice: &mut Dice, nodes: usize) -> (Key, Vec<Op>) {
    let mark = Key::new(&format!("m{client}.{wish}")).expect("short");
    let first = dice.below(nodes);
    let places = 2 + dice.below((nodes - 1).min(2));
    let amount = 1 + dice.below(30) as i64;
    let mut ops = Vec::new();
    for place in 0..places {
        let node = NodeId(((first + place) % nodes) as u16);
        let account = Key::new(&format!("a{}", dice.below(ACCOUNTS))).expect("short");
        let by = if place == 0 { -amount * (places as i64 - 1) } else { amount };
        ops.push(Op { node, key: account, action: Action::Add { by, at_least: -1_000 } });
        ops.push(Op { node, key: mark, action: Action::Add { by: 1, at_least: 0 } });
    }
    (mark, ops)
}

/// Every account of every node.
pub(super) fn accounts(nodes: usize) -> Vec<Op> {
    let key = |account: usize| Key::new(&format!("a{account}")).expect("short");
    let of = |node: usize| {
        (0..ACCOUNTS).map(move |account| Op {
            node: NodeId(node as u16),
            key: key(account),
            action: Action::Get,
        })
    };
    (0..nodes).flat_map(of).collect()
}
